"""What goes through comes out as it went in: bodies byte for byte, headers all but those that end here."""

import asyncio
import hashlib
import json
import random
import time
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM
from tests.support.http1 import Answer, ask, client
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running

# One provider and one sidecar serve all examples; nothing of one stays for the next.
many = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
BODY = orjson.dumps(QUESTION)
MIB = 1 << 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cut(data: bytes, seed: int, pieces: int) -> list[bytes]:
    """The data in so many pieces, at places of the seed's own."""
    draw = random.Random(seed)
    places = sorted({0, len(data), *(draw.randrange(len(data)) for _ in range(pieces - 1))})
    return [data[start:end] for start, end in pairwise(places)]


def as_chunks(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def last_request(provider: DemoProvider) -> dict[str, list[str]]:
    """The headers of the provider's last request: values by lower-case name."""
    found: dict[str, list[str]] = {}
    for name, value in provider.requests[-1].headers:
        found.setdefault(name.lower(), []).append(value)
    return found


# --- requests ---

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@many
@given(
    extra=st.dictionaries(st.text(), values, max_size=5),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" , ", " : "), (",\t", ":\n")]),
)
async def test_any_json_body_arrives_byte_for_byte(
    sidecar: Running,
    provider: DemoProvider,
    extra: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    separators: tuple[str, str],
) -> None:
    document = {**extra, "stream": False, "model": "m"}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only, separators=separators)
    body = text.encode("utf-8", "replace")
    await ask(sidecar.port, post(body))
    assert provider.requests[-1].body == body


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_request_cut_anywhere_arrives_whole(
    sidecar: Running, provider: DemoProvider, seed: int, is_chunked: bool
) -> None:
    body = orjson.dumps({**QUESTION, "note": "naïve 河流 🌊" * 2000})
    request = post(body, close=False)
    if is_chunked:
        head = request.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
        request = head + as_chunks(cut(body, seed + 100, 30))
    async with client(sidecar.port) as caller:
        for piece in cut(request, seed, 60):
            caller.send(piece)
            await asyncio.sleep(0)
        assert (await caller.answer()).status == 200
    assert sha256(provider.requests[-1].body) == sha256(body)
    assert last_request(provider)["content-length"] == [str(len(body))]


async def test_the_callers_own_headers_and_query_go_on_unchanged(
    sidecar: Running, provider: DemoProvider
) -> None:
    headers = (
        "OpenAI-Beta: assistants=v2\r\nX-Stainless-Retry-Count: 1\r\nUser-Agent: legacy/1.0 (x; y)\r\n"
        "X-Twice: a\r\nX-Twice: b\r\nx-request-id: caller-17\r\ntraceparent: 00-ab-cd-01\r\nX-Empty:\r\n"
    )
    await ask(sidecar.port, post(BODY, "/v1/chat/completions?api-version=2026-01-01&x=%2F", headers=headers))
    received = provider.requests[-1]
    assert received.path == "/v1/chat/completions?api-version=2026-01-01&x=%2F"
    names = [name for name, _ in received.headers]
    for line in headers.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        assert value.strip() in last_request(provider)[name.lower()]
        assert name in names
    assert last_request(provider)["x-twice"] == ["a", "b"]
    assert last_request(provider)["content-type"] == ["application/json"]


@pytest.mark.parametrize(
    "line",
    [
        "Proxy-Authorization: Basic eA==",
        "Proxy-Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Trailer: X-Sum",
        "Cookie: session=secret",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Anything: 1",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "X-Sidecar-Importance: critical",
        "X-Sidecar-Cost-Center: 17",
        "X-Original-URL: /v1/files",
        "X-HTTP-Method-Override: DELETE",
    ],
)
async def test_a_header_that_ends_here_does_not_reach_the_provider(
    sidecar: Running, provider: DemoProvider, line: str
) -> None:
    assert (await ask(sidecar.port, post(BODY, headers=f"{line}\r\nX-Kept: 1\r\n"))).status == 200
    headers = last_request(provider)
    assert line.partition(":")[0].lower() not in headers
    assert headers["x-kept"] == ["1"]


@pytest.mark.parametrize(
    "connection",
    [
        "Connection: close, X-Hop-One, x-hop-two\r\n",
        "Connection: x-hop-one\r\nConnection: close, x-hop-two\r\n",
    ],
)
async def test_headers_named_by_connection_end_here(
    sidecar: Running, provider: DemoProvider, connection: str
) -> None:
    named = "X-Hop-One: 1\r\nX-Hop-Two: 2\r\nX-Kept: 3\r\n"
    await ask(sidecar.port, post(BODY, headers=connection + named, close=False))
    headers = last_request(provider)
    assert {"x-hop-one", "x-hop-two", "x-kept"} & set(headers) == {"x-kept"}


async def test_the_providers_key_replaces_every_credential_of_the_caller(
    sidecar: Running, provider: DemoProvider
) -> None:
    given_by_caller = "Authorization: Bearer sk-caller\r\nx-api-key: sk-caller\r\napi-key: sk-caller\r\n"
    await ask(sidecar.port, post(BODY, headers=given_by_caller))
    assert last_request(provider)["authorization"] == ["Bearer sk-provider-secret"]
    assert "sk-caller" not in str(provider.requests[-1].headers)


@pytest.mark.parametrize(
    "line", ["Authorization: Bearer sk-caller", "X-Api-Key: sk-caller", "Api-Key: sk-caller"]
)
async def test_without_a_key_of_its_own_the_callers_goes_to_the_provider(
    provider: DemoProvider, line: str
) -> None:
    async with running(config_for(provider.url, provider={"api_key": None})) as sidecar:
        await ask(sidecar.port, post(BODY, headers=f"{line}\r\n"))
    name, _, value = line.partition(": ")
    sent = {n: v for n, v in last_request(provider).items() if n in ("authorization", "x-api-key", "api-key")}
    assert sent == {name.lower(): [value]}


async def test_configured_headers_are_added_and_win_over_the_callers(provider: DemoProvider) -> None:
    tree = config_for(provider.url, provider={"headers": {"X-Team": "platform", "X-New": "1"}})
    async with running(tree) as sidecar:
        await ask(sidecar.port, post(BODY, headers="x-team: mallory\r\n"))
    headers = last_request(provider)
    assert (headers["x-team"], headers["x-new"]) == (["platform"], ["1"])


# --- usage that was not asked for ---


async def test_the_usage_event_is_asked_for_and_taken_out_again(provider: DemoProvider) -> None:
    # Spaces and order are the caller's own, and must stay so around what is put in.
    body = b'{ "stream" : true, "model":"demo" ,"messages":[{"role":"user","content":"caf\\u00e9"}] }'
    provider.scenario.update({"usage_null": False})
    async with running(config_for(provider.url, provider={"capabilities": ["stream_usage"]})) as sidecar:
        answer = await ask(sidecar.port, post(body))
    async with running(config_for(provider.url)) as plain:
        unasked = await ask(plain.port, post(body))
    asked, as_sent = provider.requests
    assert as_sent.body == body
    inserted = b'"stream_options":{"include_usage":true},'
    assert asked.body.replace(inserted, b"") == body
    assert asked.body.count(inserted) == 1
    assert b"usage" not in answer.body
    assert len(answer.body.split(b"\n\n")) == len(unasked.body.split(b"\n\n"))


async def test_the_usage_event_stays_for_a_caller_that_asks(provider: DemoProvider) -> None:
    body = orjson.dumps({**STREAM, "stream_options": {"include_usage": True}})
    async with running(config_for(provider.url, provider={"capabilities": ["stream_usage"]})) as sidecar:
        answer = await ask(sidecar.port, post(body))
    assert provider.requests[-1].body == body
    assert answer.body.count(b'"completion_tokens":') == 1


# --- answers ---


class Player:
    """A provider's script: answers each request with the pieces of `parts`, each in a write of its own."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.provider: RawProvider

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self.provider.read_request(reader)
            for part in self.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    async def ask(self, request: bytes) -> Answer:
        async with raw_provider(self) as self.provider, running(config_for(self.provider.url)) as sidecar:
            return await ask(sidecar.port, request)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("kind", ["stream", "plain", "unread"])
async def test_an_answer_cut_anywhere_arrives_whole(seed: int, framing: str, kind: str) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"na\xc3\xafve \xe6\xb2\xb3"}}]}\n\n'
    body = (b": hi\n\n" + event) * 300 + b"data: [DONE]\n\n" if kind == "stream" else event * 300
    type_ = b"text/event-stream" if kind == "stream" else b"application/octet-stream"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n" % type_
    if framing == "length":
        data = head + b"content-length: %d\r\n\r\n" % len(body) + body
    else:
        data = head + b"transfer-encoding: chunked\r\n\r\n" + as_chunks(cut(body, seed + 50, 40))
    player = Player()
    player.parts = cut(data, seed, 80)
    request = post(orjson.dumps(STREAM if kind == "stream" else QUESTION))
    if kind == "unread":
        request = b"GET /v1/files/file-1/content HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await player.ask(request)
    assert answer.is_whole
    assert sha256(answer.body) == sha256(body)


async def test_five_megabytes_go_through_both_ways() -> None:
    sent = orjson.dumps({**QUESTION, "note": "x" * (5 * MIB)})
    body = orjson.dumps({"choices": [], "note": "y" * (5 * MIB)})
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    player = Player()
    player.parts = [head, *cut(body, 7, 50)]
    answer = await player.ask(post(sent))
    assert sha256(answer.body) == sha256(body)
    assert sha256(player.provider.requests[0].partition(b"\r\n\r\n")[2]) == sha256(sent)


async def test_the_providers_headers_come_back_and_the_sidecars_are_added() -> None:
    player = Player()
    player.parts = [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nX-Request-Id: req_1\r\n"
        b"x-ratelimit-remaining-requests: 17\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
        b"server-timing: db;dur=1\r\n"
        b"x-sidecar-model: forged\r\nx-sidecar-other: forged\r\naccess-control-allow-origin: *\r\n"
        b'alt-svc: h3=":443"\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\r\n{}'
    ]
    head = (await player.ask(post(BODY))).head
    assert head.get("x-request-id") == "req_1"
    assert head.get("x-ratelimit-remaining-requests") == "17"
    assert head.all("set-cookie") == ["a=1", "b=2"]
    assert head.get("x-sidecar-model") == "demo"
    assert (head.get("x-sidecar-provider"), head.get("x-sidecar-attempts")) == ("p", "1")
    own_timing = next(value for value in head.all("server-timing") if "sidecar;dur=" in value)
    assert "provider;dur=" in own_timing
    dropped = {
        "x-sidecar-other",
        "access-control-allow-origin",
        "alt-svc",
        "keep-alive",
        "proxy-authenticate",
    }
    assert not dropped & {name for name, _ in head.fields}


async def test_answer_headers_named_by_the_providers_connection_end_here() -> None:
    player = Player()
    player.parts = [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: keep-alive, x-hop\r\n"
        b"x-hop: 1\r\nx-kept: 2\r\ncontent-length: 2\r\n\r\n{}"
    ]
    head = (await player.ask(post(BODY))).head
    assert (head.get("x-hop"), head.get("x-kept")) == (None, "2")


async def test_the_region_of_the_endpoint_is_told(provider: DemoProvider) -> None:
    tree = config_for(provider.url)
    tree["providers"]["p"]["endpoints"][0]["region"] = "eu-west-1"
    async with running(tree) as sidecar:
        answer = await ask(sidecar.port, post(BODY))
    assert answer.head.get("x-sidecar-region") == "eu-west-1"


# --- other clients ---


@pytest.mark.parametrize("question", [QUESTION, STREAM], ids=["plain", "stream"])
async def test_an_http_1_0_client_gets_a_body_without_chunks(
    sidecar: Running, question: dict[str, Any]
) -> None:
    body = orjson.dumps(question)
    head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with client(sidecar.port) as old:
        old.send(head + body)
        answer = await old.answer()
        assert answer.head.get("transfer-encoding") is None
        assert await old.has_ended()
    assert answer.body.endswith(b"data: [DONE]\n\n" if question is STREAM else b"}")


async def test_head_has_the_length_and_no_body_and_the_connection_goes_on(sidecar: Running) -> None:
    async with client(sidecar.port) as caller:
        caller.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        length = len((await caller.answer()).body)
        caller.send(b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await caller.answer(bodiless=True)
        assert (answer.status, answer.head.get("content-length")) == (200, str(length))
        caller.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert len((await caller.answer()).body) == length


async def test_a_path_prefix_of_the_endpoint_stands_for_v1() -> None:
    async with raw_provider() as provider:
        async with running(config_for(provider.url.replace("/v1", "/openai/deploy"))) as sidecar:
            await ask(sidecar.port, post(BODY))
        assert provider.requests[0].startswith(b"POST /openai/deploy/chat/completions HTTP/1.1\r\n")


async def test_the_time_a_caller_takes_for_its_body_is_not_the_sidecars_own(sidecar: Running) -> None:
    head, _, body = post(BODY).partition(b"\r\n\r\n")
    async with client(sidecar.port) as caller:
        caller.send(head + b"\r\n\r\n" + body[:1])
        began_s = time.monotonic()
        await asyncio.sleep(0.3)
        waited_ms = (time.monotonic() - began_s) * 1e3
        caller.send(body[1:])
        answer = await caller.answer()
    timing = answer.head.get("server-timing")
    assert timing is not None
    assert 0 < float(timing.removeprefix("sidecar;dur=").partition(",")[0]) < waited_ms / 2
