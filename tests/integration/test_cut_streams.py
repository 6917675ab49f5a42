"""A stream that does not come to its end is a failure, however it ended: in the log, the metrics and the
breaker; and nobody takes it for whole, or hangs.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import openai
import orjson
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from tests.support.http1 import Client, ask, ask_midway
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ASK = post(b'{"model":"m","stream":true,"messages":[]}', close=False)
LABELS = {"team": "test", "model": "m", "provider": "p", "region": ""}


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + b"\n\n"


LAST = piece(b"")
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"message":"the engine died","type":"server_error","code":500}}\n\n'


class Stage:
    """A provider's script: two tokens; once these have arrived, what it says `then`; and an end."""

    def __init__(self) -> None:
        self.provider: RawProvider
        self.begins = piece(token("one ") + token("two "))
        self.goes_on = asyncio.Event()
        self.then = b""
        self.end = "close"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self.provider.read_request(reader)
            writer.write(STREAM_HEAD + self.begins)
            await self.goes_on.wait()
            writer.write(self.then)
            await writer.drain()
            if self.end == "close":
                return
            if self.end == "reset":
                # SO_LINGER 0: the close is a reset.
                writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
                return writer.transport.abort()
            if self.end == "silent":
                await reader.read()


class World(NamedTuple):
    """A provider on its stage, the sidecar in front of it, and its access log."""

    stage: Stage
    sidecar: Running
    log: Path

    async def logged(self) -> dict[str, Any]:
        """The one line of the log."""
        await until(lambda: self.log.exists() and self.log.read_bytes())
        (line,) = self.log.read_bytes().splitlines()
        return orjson.loads(line)  # type: ignore[no-any-return]

    async def errors(self) -> int:
        """How many requests failed, as availability counts them."""
        url = f"{self.sidecar.admin_url}/stats?format=json"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return int((await response.json())["http.errors_total"])

    async def cut(self) -> float | None:
        return await self.sidecar.metric("sidecar_streams_cut_total", **LABELS)

    async def failed(self, reason: str) -> float | None:
        place = {"provider": "p", "region": "", "endpoint": self.stage.provider.url, "reason": reason}
        return await self.sidecar.metric("sidecar_failed_attempts_total", **place)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    stage, log = Stage(), tmp_path / "log"
    async with raw_provider(stage) as stage.provider:
        tree = config_for(
            stage.provider.url,
            provider={"timeouts": {"idle": "300ms"}, "circuit_breaker": {"consecutive_failures": 1}},
            telemetry={"access_log": str(log)},
        )
        async with running(tree) as sidecar:
            yield World(stage, sidecar, log)


@pytest.mark.parametrize(
    ("end", "then", "flag", "reason"),
    [
        ("close", LAST, "SD", "cut"),
        ("close", b"", "UC", "cut"),
        ("reset", b"", "UC", "cut"),
        ("close", b"ZZZ\r\n", "UPE", "cut"),
        ("silent", b"", "UT", "timeout"),
        ("close", piece(b"data: <html>\n\n"), "SE", "cut"),
        ("close", piece(FAILED) + LAST, "SE", "cut"),
    ],
    ids=["in order", "close", "reset", "bad chunk", "silence", "garbage", "its own error"],
)
async def test_a_cut_stream_is_a_failure_of_its_endpoint_and_of_the_request(
    world: World, end: str, then: bytes, flag: str, reason: str
) -> None:
    world.stage.end, world.stage.then = end, then
    answer = await ask_midway(world.sidecar.port, ASK, world.stage.goes_on)
    assert (answer.status, answer.is_whole) == (200, FAILED in then)
    assert answer.body.startswith(token("one ") + token("two ") + b'data: {"error":')
    assert answer.body.count(b'"error"') == 1
    line = await world.logged()
    assert (line["status"], line["flags"], line["tries"][0]["reason"]) == (200, flag, reason)
    assert line["tries"][0]["error"]
    assert await world.errors() == 1
    assert await world.cut() == 1
    assert await world.failed(reason) == 1
    assert not world.sidecar.endpoint().is_well


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_stream_that_was_whole_is_none_however_the_provider_hangs_up(world: World, end: str) -> None:
    world.stage.end, world.stage.then = end, piece(STOP)
    answer = await ask_midway(world.sidecar.port, ASK, world.stage.goes_on)
    assert answer.is_whole
    assert (await world.logged())["flags"] == "-"
    assert (await world.errors(), await world.cut()) == (0, 0)
    assert world.sidecar.endpoint().is_well


async def test_a_caller_that_leaves_is_nobodys_failure(world: World) -> None:
    world.stage.end = "silent"
    caller = await Client.connect(world.sidecar.port)
    caller.send(ASK)
    await caller.head()
    assert await caller.chunk()
    caller.abort()
    assert (await world.logged())["flags"] == "DC"
    assert (await world.errors(), await world.cut()) == (0, 0)
    assert world.sidecar.endpoint().is_well


async def test_a_stream_that_never_began_is_a_failure_but_no_cut_stream(world: World) -> None:
    world.stage.begins = b""
    world.stage.goes_on.set()
    assert (await ask(world.sidecar.port, ASK)).status == 502
    assert await world.errors() == 1
    assert not await world.cut()


async def test_an_error_event_before_any_content_is_a_failure_too(world: World) -> None:
    world.stage.begins, world.stage.then = piece(FAILED), LAST
    world.stage.goes_on.set()
    answer = await ask(world.sidecar.port, ASK)
    assert answer.body == FAILED
    line = await world.logged()
    assert line["flags"] == "SE"
    assert line["tries"][0]["error"] == "an error event in its stream"
    assert await world.errors() == 1


# --- going on from elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "then"),
    [
        (piece(token("one ")), piece(STOP + DONE) + LAST),
        (piece(token("one ")), piece(DONE) + LAST),
        (piece(token("one ") + STOP + DONE), LAST),
        (piece(token("another")), piece(STOP + DONE) + LAST),
        (piece(FAILED), LAST),
    ],
    ids=["bit by bit", "no finish reason", "at once", "other words", "its own error"],
)
async def test_a_second_stream_that_does_not_fit_ends_the_answer_at_once(begins: bytes, then: bytes) -> None:
    first, second = Stage(), Stage()
    second.begins, second.then, second.end = begins, then, "kept"
    second.goes_on.set()
    async with raw_provider(first) as first.provider, raw_provider(second) as second.provider:
        tree = config_for(
            first.provider.url,
            second.provider.url,
            provider={"retry": {"attempts": 2}},
            locality={"region": "us"},
            models={"*": {"provider": "p", "on_stream_cut": "resume"}},
        )
        for region, endpoint in zip(("us", "eu"), tree["providers"]["p"]["endpoints"], strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            async with asyncio.timeout(5):
                answer = await ask_midway(sidecar.port, ASK, first.goes_on)
            assert len(second.provider.requests) == 1
            assert [sidecar.endpoint(index).in_flight for index in (0, 1)] == [0, 0]
    assert not answer.is_whole
    assert answer.body.startswith(token("one ") + token("two ") + b'data: {"error":')


# --- the last word on trying again ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"), [(500, openai.InternalServerError), (429, openai.RateLimitError)]
)
async def test_a_provider_that_says_to_try_again_does_not_multiply_the_tries(
    provider: DemoProvider, status: int, expected: type[openai.APIStatusError]
) -> None:
    provider.scenario.update(
        {"error_ratio": 1.0, "error_status": status, "response_headers": {"x-should-retry": "true"}}
    )
    async with (
        running(config_for(provider.url)) as sidecar,
        AsyncOpenAI(base_url=sidecar.url, api_key="sk", max_retries=2) as caller,
    ):
        with pytest.raises(expected) as raised:
            await caller.chat.completions.create(model="m", messages=[])
    assert raised.value.response.headers.get_list("x-should-retry") == ["false"]
    assert provider.attempts == 1
