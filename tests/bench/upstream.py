"""The provider behind every proxy: ready-made bytes for plain answers, paced events for streams.

`python -m tests.bench.upstream PORT`; ends when its standard input closes, so it cannot outlive the bench.

A raw protocol, because the upstream shares a core with the load generator and must not be the bottleneck. It
checks that the request arrived byte for byte; what it does not know gets a 400, which ends the run.
"""

import asyncio
import functools
import gc
import sys
from typing import cast

import httptools
import orjson
import uvloop

from tests.bench import traffic

_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 44\r\n\r\n"
    b"bench upstream: the request body was altered"
)


@functools.cache
def _stream_writes(events: int) -> tuple[bytes, ...]:
    """What one stream writes, one entry per tick; [DONE] follows the last event at once, as providers do."""
    return tuple(traffic.chunk(event) for event in traffic.stream_events(events))


_STREAM_END = traffic.chunk(traffic.DONE_EVENT) + b"0\r\n\r\n"


def _events_wanted(body: bytes) -> int:
    """How many events the request asks for, 0 when it is no stream request of ours."""
    try:
        events = int(orjson.loads(body)["max_tokens"])
    except (ValueError, KeyError, TypeError):
        return 0
    return events if body == traffic.stream_request(events) else 0


class Upstream(asyncio.Protocol):
    """One connection from a proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._body: list[bytes] = []
        # The stream being sent.
        self._writes: tuple[bytes, ...] = ()
        self._next = 0
        self._started_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # httptools

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if body == traffic.PLAIN_REQUEST:
            self._transport.write(traffic.PLAIN_RESPONSE)
        elif events := _events_wanted(body):
            self._start_stream(events)
        else:
            self._transport.write(_REFUSAL)

    # A stream

    def _start_stream(self, events: int) -> None:
        self._writes = _stream_writes(events)
        self._next = 0
        self._started_s = self._loop.time()
        self._transport.write(traffic.STREAM_HEAD)
        self._write_event()

    def _write_event(self) -> None:
        # One write per event, so that each reaches the proxy as a read of its own.
        self._transport.write(self._writes[self._next])
        self._next += 1
        if self._next == len(self._writes):
            self._transport.write(_STREAM_END)
            self._timer = None
            return
        # From the start, not from now: otherwise lateness adds up and the rate falls.
        due_s = self._started_s + self._next * traffic.EVENT_INTERVAL_S
        self._timer = self._loop.call_at(due_s, self._write_event)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(loop), "127.0.0.1", port, backlog=1024)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input closes."""
    gc.disable()  # a collection in mid-run would be charged to the proxy's latency
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
