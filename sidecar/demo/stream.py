"""Sends an answer at the pace of a model, with the faults that strike in the middle of it.

Knobs are read live: a cut or a stall that is switched on reaches the streams that are already open. Each
event leaves in one write, unless `split_bytes` says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from random import Random

import orjson
from aiohttp import web

from .faults import close_connection, reset_connection
from .scenario import Scenario
from .wire import Dialect, Event, Kind, error_object

Sleep = Callable[[float], Awaitable[None]]

EVENT_STREAM = "text/event-stream; charset=utf-8"
_HEARTBEAT = b": keep-alive\n\n"
_DRIPS_PER_S = 20


class Pace:
    """Waits as the scenario says, through the sleep it was given."""

    def __init__(self, scenario: Scenario, sleep: Sleep, draw: Random) -> None:
        self.scenario = scenario
        self.sleep = sleep
        self._draw = draw

    async def wait(self, seconds: float) -> None:
        """Wait about that long. Even no time at all gives the loop a turn, so that writes stay apart."""
        jitter = self.scenario.jitter
        await self.sleep(seconds * self._draw.uniform(1 - jitter, 1 + jitter) if jitter else seconds)

    async def answer_time(self, tokens: int) -> None:
        """Wait as long as a plain answer of that many tokens takes."""
        scenario = self.scenario
        await self.wait(
            scenario.head_s + scenario.first_token_s + max(0, tokens - 1) * scenario.token_interval_s
        )


class _Stream:
    """One open event stream."""

    def __init__(self, request: web.Request, pace: Pace, faults: Scenario) -> None:
        self._request = request
        self._pace = pace
        self._scenario = pace.scenario
        self._faults = faults
        self._response = web.StreamResponse(
            headers={"content-type": EVENT_STREAM, "cache-control": "no-cache"}
        )

    async def send(self, events: Iterator[Event], dialect: Dialect) -> web.StreamResponse:
        if self._scenario.head_s:
            await self._pace.wait(self._scenario.head_s)
        await self._response.prepare(self._request)
        faults, count, tokens = self._faults, 0, 0
        for event in events:
            if faults.stall_after_events == count:
                await self._keep_waiting(faults.stall_s)
            if self._is_cut(count):
                return await self._cut(event.data)
            if event.kind is Kind.TERMINATOR and faults.no_done:
                break
            if event.kind is Kind.TOKEN:
                scenario = self._scenario
                await self._keep_waiting(scenario.token_interval_s if tokens else scenario.first_token_s)
                tokens += 1
            if faults.error_at_event == count:
                await self._write(dialect.error_event(_stream_error(faults)).data)
                return self._response
            if faults.garbage_at_event == count:
                await self._write(b"data: {%b\n\n" % (b"x" * (faults.garbage_bytes - 1)))
            await self._write(event.data)
            count += 1
        if self._is_cut(count):
            return await self._cut(b"")
        return self._response

    def _is_cut(self, count: int) -> bool:
        # Not ==: a cut switched on late still reaches the streams that are past it.
        limit = self._faults.cut_after_events
        return limit is not None and count >= limit

    async def _cut(self, next_event: bytes) -> web.StreamResponse:
        if self._faults.cut_mid_event:
            await self._response.write(next_event[: len(next_event) // 2])
        _break(self._request, self._faults)
        return self._response

    async def _keep_waiting(self, seconds: float) -> None:
        """Wait, with comments in between where the provider sends them."""
        beat = self._scenario.heartbeat_s
        while beat is not None and seconds > beat:
            await self._pace.sleep(beat)
            await self._response.write(_HEARTBEAT)
            seconds -= beat
        await self._pace.wait(seconds)

    async def _write(self, data: bytes) -> None:
        size = self._scenario.split_bytes
        if size is None:
            await self._response.write(data)
            return
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            await self._pace.sleep(0)


async def send_events(
    request: web.Request, events: Iterator[Event], dialect: Dialect, pace: Pace, faults: Scenario
) -> web.StreamResponse:
    """Send a stream, to its end or to its fault."""
    return await _Stream(request, pace, faults).send(events, dialect)


async def send_plain(
    request: web.Request, payload: object, pace: Pace, faults: Scenario
) -> web.StreamResponse:
    """Send an answer in one piece, or in drips, or only the beginning of it."""
    body = orjson.dumps(payload)
    rate, cut_at = pace.scenario.slow_body_bytes_per_s, faults.cut_after_bytes
    if rate is None and cut_at is None:
        return web.Response(body=body, headers={"content-type": "application/json"})
    response = web.StreamResponse(headers={"content-type": "application/json"})
    if cut_at is None or faults.cut_mode != "end":
        response.content_length = len(body)
    await response.prepare(request)
    sent = body if cut_at is None else body[:cut_at]
    size = len(sent) if rate is None else max(1, round(rate / _DRIPS_PER_S))
    for start in range(0, len(sent), max(1, size)):
        await response.write(sent[start : start + size])
        await pace.sleep(0 if rate is None else size / rate)
    if cut_at is not None:
        _break(request, faults)
    return response


def _break(request: web.Request, faults: Scenario) -> None:
    if faults.cut_mode == "reset":
        reset_connection(request)
    elif faults.cut_mode == "close":
        close_connection(request)


def _stream_error(faults: Scenario) -> dict[str, object]:
    return error_object(
        faults.error_status, faults.error_message, code=faults.error_code, type_=faults.error_type
    )
