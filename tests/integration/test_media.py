"""Images and speech as the public SDK asks for them: streamed or not, small or large, whole or broken off."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from tests.support.http1 import Client, ask, ask_midway
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running

TOKENS = {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}
PICTURE = base64.b64encode(bytes(range(256)) * 4096).decode()  # 1.4 MB
EVENTS = b"text/event-stream"
SOUND = b"audio/mpeg"
SPEAK = post(b'{"model":"m","input":"hi","voice":"alloy"}', "/v1/audio/speech", close=False)
DRAW = post(b'{"model":"m","prompt":"x","stream":true}', "/v1/images/generations", close=False)


def head(content_type: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content_type


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = piece(b"")


def event(name: str, **rest: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + orjson.dumps({"type": name, **rest}) + b"\n\n"


def images(picture: str = "QUJD") -> list[bytes]:
    return [
        event("image_generation.partial_image", b64_json=picture, partial_image_index=0),
        event("image_generation.completed", b64_json=picture, usage=TOKENS),
    ]


SPOKEN = [
    event("speech.audio.delta", audio="QUJD"),
    event("speech.audio.delta", audio="REVG"),
    event("speech.audio.done", usage=TOKENS),
]


class Stage:
    """A provider's script: each answer is what it says, to the end or to where it is cut."""

    def __init__(self) -> None:
        self.provider: RawProvider
        self.says: list[bytes] = []
        self.goes_on = asyncio.Event()  # after the first of them
        self.goes_on.set()
        self.end = "whole"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self.provider.read_request(reader)
            for said in self.says[:1]:
                writer.write(said)
            await self.goes_on.wait()
            for said in self.says[1:]:
                writer.write(said)
            await writer.drain()
            if self.end == "cut":
                return
            if self.end == "silent":
                await reader.read()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    async with raw_provider(stage) as stage.provider:
        yield stage


@pytest.fixture
async def sidecar(stage: Stage) -> AsyncIterator[Running]:
    """With the retries and the breaker that a provider has by default."""
    changes = {"retry": {}, "circuit_breaker": {}, "timeouts": {"idle": "300ms", "first_token": "300ms"}}
    async with running(config_for(stage.provider.url, provider=changes)) as started:
        yield started


@contextlib.asynccontextmanager
async def sdk(sidecar: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=sidecar.url, api_key="sk-caller", max_retries=0) as caller:
        yield caller


async def tokens_out(sidecar: Running) -> float | None:
    labels = {"team": "test", "model": "m", "provider": "p", "region": "", "direction": "output"}
    return await sidecar.metric("sidecar_tokens_total", **labels)


# --- whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", ["QUJD", PICTURE], ids=["small", "large"])
async def test_streamed_images_come_once_and_whole_with_their_usage(
    stage: Stage, sidecar: Running, picture: str
) -> None:
    stage.says = [head(EVENTS), *map(piece, images(picture)), LAST]
    async with sdk(sidecar) as caller:
        stream = await caller.images.generate(model="m", prompt="x", stream=True, partial_images=1)
        got = [shown async for shown in stream]
    assert [shown.type for shown in got] == ["image_generation.partial_image", "image_generation.completed"]
    assert [shown.b64_json for shown in got] == [picture] * 2
    assert len(stage.provider.requests) == 1
    assert await tokens_out(sidecar) == 100


async def test_streamed_images_take_no_endpoint_out(stage: Stage, sidecar: Running) -> None:
    stage.says = [head(EVENTS) + piece(b"".join(images())) + LAST]
    for _ in range(6):
        assert (await ask(sidecar.port, DRAW)).is_whole
    assert sidecar.endpoint().failures == 0
    assert len(stage.provider.requests) == 6


async def test_streamed_speech_comes_once_and_whole_with_its_usage(stage: Stage, sidecar: Running) -> None:
    stage.says = [head(EVENTS), *map(piece, SPOKEN), LAST]
    async with (
        sdk(sidecar) as caller,
        caller.audio.speech.with_streaming_response.create(
            model="m", voice="alloy", input="hi", stream_format="sse"
        ) as answer,
    ):
        assert b"".join([part async for part in answer.iter_bytes()]) == b"".join(SPOKEN)
    assert len(stage.provider.requests) == 1
    assert await tokens_out(sidecar) == 100


async def test_sound_is_heard_before_it_is_whole(stage: Stage, sidecar: Running) -> None:
    stage.says = [head(SOUND) + piece(b"first"), piece(b"second") + LAST]
    stage.goes_on.clear()
    async with (
        sdk(sidecar) as caller,
        caller.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="hi") as answer,
    ):
        parts = answer.iter_bytes()
        async with asyncio.timeout(5):
            assert await anext(parts) == b"first"
        stage.goes_on.set()
        assert b"".join([part async for part in parts]) == b"second"


# --- broken ---------------------------------------------------------------------------------------------


async def read_to_its_end(stage: Stage, sidecar: Running, request: bytes) -> tuple[bytes, bool]:
    """The body, and whether it was whole; the provider goes on once the caller has what it began with."""
    stage.goes_on.clear()
    answer = await ask_midway(sidecar.port, request, stage.goes_on)
    assert answer.status == 200
    return answer.body, answer.is_whole


@pytest.mark.parametrize(
    ("end", "last", "code"),
    [
        ("whole", LAST, "upstream_cut"),
        ("cut", b"", "upstream_cut"),
        ("silent", b"", "upstream_timeout"),
        ("whole", piece(b"data: <html>\n\n") + LAST, "upstream_garbage"),
    ],
)
async def test_an_image_stream_that_breaks_off_never_looks_whole(
    stage: Stage, sidecar: Running, end: str, last: bytes, code: str
) -> None:
    part = images()[0]
    stage.says, stage.end = [head(EVENTS) + piece(part), last], end
    body, is_whole = await read_to_its_end(stage, sidecar, DRAW)
    assert not is_whole
    assert body.startswith(part)
    assert orjson.loads(body[len(part) :].removeprefix(b"data: "))["error"]["code"] == code
    assert len(stage.provider.requests) == 1
    assert sidecar.endpoint().failures == 1


async def test_an_image_stream_cut_within_a_large_event_never_looks_whole(
    stage: Stage, sidecar: Running
) -> None:
    part, whole = images(PICTURE)
    stage.says, stage.end = [head(EVENTS) + piece(part + whole[:900_000])], "cut"
    body, is_whole = await read_to_its_end(stage, sidecar, DRAW)
    assert not is_whole
    delivered, _, error = body.rpartition(b"\n\ndata: ")
    assert (part + whole).startswith(delivered)
    assert orjson.loads(error)["error"]["code"] == "upstream_cut"


async def test_the_providers_own_error_reaches_the_sdk_and_counts(stage: Stage, sidecar: Running) -> None:
    failed = b'event: error\ndata: {"type":"error","error":{"message":"not this picture"}}\n\n'
    stage.says = [head(EVENTS) + piece(images()[0]), piece(failed) + LAST]
    stage.goes_on.clear()
    async with sdk(sidecar) as caller:
        stream = await caller.images.generate(model="m", prompt="x", stream=True)
        with pytest.raises(openai.APIError, match="not this picture"):
            async for _ in stream:
                stage.goes_on.set()
    assert sidecar.endpoint().failures == 1
    assert len(stage.provider.requests) == 1


@pytest.mark.parametrize("end", ["cut", "silent"])
async def test_sound_that_breaks_off_does_so_for_the_caller_and_is_asked_for_once(
    stage: Stage, sidecar: Running, end: str
) -> None:
    stage.says, stage.end = [head(SOUND) + piece(b"first")], end
    assert await read_to_its_end(stage, sidecar, SPEAK) == (b"first", False)
    assert len(stage.provider.requests) == 1
    assert sidecar.endpoint().failures == 1


@pytest.mark.parametrize("said", [b"", head(SOUND), head(SOUND) + LAST], ids=["nothing", "a head", "no byte"])
async def test_sound_that_breaks_off_before_its_first_byte_comes_from_elsewhere(said: bytes) -> None:
    near, far = Stage(), Stage()
    near.says, near.end = [said], "cut"
    far.says = [head(SOUND) + piece(b"all") + LAST]
    async with raw_provider(near) as near.provider, raw_provider(far) as far.provider:
        tree = config_for(
            near.provider.url,
            far.provider.url,
            locality={"region": "us"},
            provider={"retry": {"attempts": 2}},
        )
        for region, endpoint in zip(("us", "eu"), tree["providers"]["p"]["endpoints"], strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, SPEAK)
    assert (answer.status, answer.body, answer.is_whole) == (200, b"all", True)
    assert answer.head.get("x-sidecar-region") == "eu"


async def test_who_leaves_amid_sound_or_images_takes_the_request_along(
    stage: Stage, sidecar: Running
) -> None:
    for request, begun in ((SPEAK, head(SOUND) + piece(b"first")), (DRAW, head(EVENTS) + piece(images()[0]))):
        stage.says, stage.end = [begun], "silent"
        closed = stage.provider.closed
        caller = await Client.connect(sidecar.port)
        caller.send(request)
        await caller.head()
        assert await caller.chunk()
        caller.abort()
        async with asyncio.timeout(5):
            while stage.provider.closed == closed or sidecar.endpoint().in_flight:
                await asyncio.sleep(0)
    assert sidecar.endpoint().failures == 0
