"""The embedder that asks a provider: good vectors, or one line in time, and soon no more questions."""

import asyncio
import base64
import contextlib
import gzip
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from sidecar.cache.meaning.embedding import MAX_ANSWER_BYTES, EmbedderError
from sidecar.cache.meaning.endpoint_embedder import MAX_FAILURES, OPEN_S, Circuit, EndpointEmbedder, closest
from sidecar.config.addresses import Url
from sidecar.config.cache import Semantic
from sidecar.config.model import Endpoint, Locality, Provider
from sidecar.config.secrets import Secret
from sidecar.upstream.tls import client_context
from tests.support.certificates import Authority
from tests.support.manual_clock import ManualClock
from tests.support.raw import RawProvider, raw_provider
from tests.support.web import serving

pytest.importorskip("numpy", reason="numpy is not installed: pip install 'ai-sidecar[semantic]'")

KEY = "sk-embedding-secret"
TEXT = "How do I boil a very private egg?"
LONG_S = 20.0  # no test takes so long: what ends before has not waited for it


class Server:
    """A provider's /v1/embeddings; `asked` has what came."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.good
        self.values: list[Any] = [3.0, 4.0]
        self.url = ""

    async def good(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"index": 0, "embedding": self.values}], "usage": {}})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.method == "POST"
        assert request.path_qs == "/v1/embeddings"
        fields = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((fields, orjson.loads(await request.read())))
        return await self.answer(request)

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer so from now on."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.answer = answer


@contextlib.asynccontextmanager
async def embeddings(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    one = Server()
    async with serving(one.handle, tls) as one.url:
        yield one


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with embeddings() as one:
        yield one


@contextlib.asynccontextmanager
async def embedding(
    url: str,
    *,
    timeout_s: float = LONG_S,
    clock: ManualClock | None = None,
    tls: ssl.SSLContext | None = None,
    **provider: Any,
) -> AsyncIterator[EndpointEmbedder]:
    one = EndpointEmbedder(
        Semantic(embedder="endpoint", provider="p", model="m-embed", timeout_s=timeout_s),
        Provider(**{"endpoints": (Endpoint(url=Url.parse(url)),), "api_key": Secret(KEY), **provider}),
        Locality(),
        tls,
        clock or ManualClock(),
    )
    try:
        yield one
    finally:
        await one.close()


async def fails(embedder: EndpointEmbedder) -> str:
    """What one failure says."""
    with pytest.raises(EmbedderError) as raised:
        await embedder.embed(TEXT)
    said = str(raised.value)
    assert "\n" not in said
    assert KEY not in said and "private" not in said
    assert said.startswith("p: m-embed")
    return said


# --- what is asked, what is given ---


async def test_gives_a_unit_vector(server: Server) -> None:
    async with embedding(server.url) as embedder:
        vector = await embedder.embed(TEXT)
        assert vector.dtype == "float32"
        assert vector.tolist() == pytest.approx([0.6, 0.8])
        assert embedder.identity == "endpoint-p-m-embed"


async def test_asks_with_the_providers_key_and_headers_and_nothing_more(server: Server) -> None:
    async with embedding(server.url, headers={"x-team": "platform", "User-Agent": "ours"}) as embedder:
        await embedder.embed(TEXT)
    ((fields, body),) = server.asked
    assert body == {"model": "m-embed", "input": TEXT, "encoding_format": "float"}
    assert fields["authorization"] == f"Bearer {KEY}"
    assert (fields["x-team"], fields["user-agent"]) == ("platform", "ours")
    assert fields["accept-encoding"] == "identity"
    assert "cookie" not in fields


async def test_without_a_key_none_is_sent(server: Server) -> None:
    async with embedding(server.url, api_key=None) as embedder:
        await embedder.embed(TEXT)
    assert "authorization" not in server.asked[0][0]


async def test_cookies_are_not_kept(server: Server) -> None:
    async with embedding(server.url) as embedder:
        body = orjson.dumps({"data": [{"embedding": [1.0, 2.0]}]})
        server.answers(200, body, **{"set-cookie": "who=you; Path=/"})
        for _ in range(2):
            await embedder.embed(TEXT)
    assert all("cookie" not in fields for fields, _ in server.asked)


async def test_many_at_once(server: Server) -> None:
    async with embedding(server.url) as embedder:
        vectors = await asyncio.gather(*(embedder.embed(f"{n}") for n in range(50)))
    assert [vector.tolist() for vector in vectors] == [pytest.approx([0.6, 0.8])] * 50


async def test_a_verified_provider_is_asked_over_tls_and_another_is_not(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "other.pem")
    async with embeddings(authority.server("localhost")) as server:
        async with embedding(server.url, tls=client_context(authority.ca_file)) as embedder:
            assert len(await embedder.embed(TEXT)) == 2
        async with embedding(server.url, tls=client_context(stranger.ca_file)) as embedder:
            assert "not reached" in await fails(embedder)
    assert len(server.asked) == 1


def endpoint(zone: str | None, region: str | None) -> Endpoint:
    return Endpoint(url=Url.parse(f"http://{zone}.{region}/v1"), zone=zone, region=region)


@pytest.mark.parametrize(
    ("zone", "region", "index"),
    [
        (None, None, 0),
        ("z9", "r9", 0),
        ("z1", "r1", 1),
        ("z2", "r1", 2),
        ("z9", "r1", 1),
        (None, "r2", 3),
    ],
)
def test_the_closest_endpoint_is_asked(zone: str | None, region: str | None, index: int) -> None:
    endpoints = (
        endpoint(None, None),
        endpoint("z1", "r1"),
        endpoint("z2", "r1"),
        endpoint("z3", "r2"),
    )
    provider = Provider(endpoints=endpoints)
    assert closest(provider, Locality(region=region, zone=zone)) is endpoints[index]
    semantic = Semantic(embedder="endpoint", provider="p", model="m")
    embedder = EndpointEmbedder(semantic, provider, Locality(region=region, zone=zone), None)
    assert embedder.region == endpoints[index].region


# --- answers that are no good ---


@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 404, 429, 500, 503])
async def test_any_status_but_200_is_a_failure(server: Server, status: int) -> None:
    server.answers(status, f'{{"error": "{KEY}"}}'.encode() if status != 204 else b"")
    async with embedding(server.url) as embedder:
        assert f"answered {status}" in await fails(embedder)


async def test_the_key_does_not_follow_a_redirect(server: Server) -> None:
    async with embeddings() as other:
        server.answers(307, location=f"{other.url}/embeddings")
        async with embedding(server.url) as embedder:
            assert "answered 307" in await fails(embedder)
    assert other.asked == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>busy</html>", "not JSON"),
        (b'{"data": [{"embedding": [NaN, NaN]}]}', "not JSON"),
        (b'{"data": [{"embedding": [0, 0]}]}', "without a direction"),
        (b'{"error": {"message": "no"}}', "without one embedding"),
        (orjson.dumps({"data": [{"embedding": base64.b64encode(bytes(8)).decode()}]}), "not a list"),
        (gzip.compress(b'{"data": [{"embedding": [1.0]}]}'), "not JSON"),
    ],
)
async def test_garbage_is_a_failure(server: Server, body: bytes, reason: str) -> None:
    server.answers(200, body)
    async with embedding(server.url) as embedder:
        assert reason in await fails(embedder)


async def test_an_answer_that_unfolds_is_not_unfolded(server: Server) -> None:
    server.answers(200, gzip.compress(b" " * 10_000_000), **{"content-encoding": "gzip"})
    async with embedding(server.url) as embedder:
        assert "not JSON" in await fails(embedder)


async def test_other_dimensions_than_before_are_refused_and_the_old_ones_stay_good(server: Server) -> None:
    async with embedding(server.url) as embedder:
        await embedder.embed(TEXT)
        server.values = [1.0, 2.0, 3.0]
        assert "3 numbers, after 2 before" in await fails(embedder)
        server.values = [1.0, 2.0]
        assert len(await embedder.embed(TEXT)) == 2


async def test_a_bad_first_answer_does_not_fix_the_dimensions(server: Server) -> None:
    async with embedding(server.url) as embedder:
        server.values = [0.0, 0.0, 0.0]
        await fails(embedder)
        server.values = [1.0, 2.0]
        assert len(await embedder.embed(TEXT)) == 2


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_huge_answer_is_left_unread(is_told: bool) -> None:
    length = b"content-length: 1000000000000" if is_told else b"transfer-encoding: chunked"
    head = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % length
    piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    sent = 0
    left = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await provider.read_request(reader)
        writer.write(head)
        try:
            while not writer.transport.is_closing():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
        finally:
            left.set()

    async with raw_provider(pour) as provider, embedding(provider.url) as embedder:
        assert f"more than {MAX_ANSWER_BYTES} bytes" in await fails(embedder)
        await asyncio.wait_for(left.wait(), 10)
    # What the sockets hold may have been sent besides.
    assert sent < 64 * MAX_ANSWER_BYTES


# --- slow, dead, gone ---


async def test_a_dead_provider_is_a_failure() -> None:
    async with embedding("http://127.0.0.1:1/v1") as embedder:
        assert re.search(r"not reached for an embedding: .*refused", await fails(embedder))


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say a little again and again, without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"data": [{"embedding": [1.0, ')
    await writer.drain()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("script", [hang, drip])
async def test_a_slow_provider_is_given_up_in_time(script: Callable[..., Awaitable[None]]) -> None:
    async with raw_provider(script) as provider, embedding(provider.url, timeout_s=0.05) as embedder:
        assert "no embedding within 0.05 s" in await fails(embedder)


@pytest.mark.parametrize("script", [break_off, reset, no_http])
async def test_a_provider_that_breaks_off_is_a_failure(script: Callable[..., Awaitable[None]]) -> None:
    async with raw_provider(script) as provider, embedding(provider.url) as embedder:
        assert "not reached" in await fails(embedder)


async def test_a_caller_that_leaves_half_way_takes_the_question_back() -> None:
    async with raw_provider(hang) as provider, embedding(provider.url) as embedder:
        asking = asyncio.create_task(embedder.embed(TEXT))
        while not provider.received:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await _until_closed(provider)
        # That is nobody's failure: the next is asked as if nothing had been.
        provider.script = answer_well(provider)
        assert len(await embedder.embed(TEXT)) == 2


def answer_well(provider: RawProvider) -> Callable[..., Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        body = orjson.dumps({"data": [{"embedding": [3, 4]}]})
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await reader.read()

    return answer


async def _until_closed(provider: RawProvider) -> None:
    async with asyncio.timeout(10):
        while provider.closed == 0:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("has_asked", [False, True])
async def test_once_closed_it_asks_nobody(server: Server, has_asked: bool) -> None:
    async with embedding(server.url) as embedder:
        if has_asked:
            await embedder.embed(TEXT)
        await embedder.close()
        await embedder.close()
        assert "is closed" in await fails(embedder)
    assert len(server.asked) == has_asked


async def test_who_is_asking_when_it_is_closed_gets_an_error() -> None:
    async with raw_provider(hang) as provider, embedding(provider.url) as embedder:
        asking = asyncio.create_task(fails(embedder))
        while not provider.received:
            await asyncio.sleep(0.001)
        await embedder.close()
        assert "not reached" in await asking


# --- the circuit ---


async def test_after_three_failures_nobody_asks_for_30_seconds_then_one_probes(server: Server) -> None:
    clock = ManualClock()
    async with embedding(server.url, clock=clock) as embedder:
        server.answers(500)
        for _ in range(MAX_FAILURES):
            assert "answered 500" in await fails(embedder)
        assert "left alone for 30 s" in await fails(embedder)
        clock.now_s += OPEN_S - 0.1
        assert "left alone" in await fails(embedder)
        assert len(server.asked) == MAX_FAILURES
        clock.now_s += 0.2
        said = [await fails(embedder) for _ in range(3)]
        assert ["left alone" in one for one in said] == [False, True, True]
        clock.now_s += OPEN_S
        server.answer = server.good
        assert len(await embedder.embed(TEXT)) == 2
        assert len(await embedder.embed(TEXT)) == 2
    assert len(server.asked) == MAX_FAILURES + 3


async def test_a_probe_that_leaves_half_way_lets_the_next_one_probe() -> None:
    clock = ManualClock()
    async with raw_provider(reset) as provider, embedding(provider.url, clock=clock) as embedder:
        for _ in range(MAX_FAILURES):
            await fails(embedder)
        clock.now_s += OPEN_S
        provider.script = hang
        seen = len(provider.received)
        probe = asyncio.create_task(embedder.embed(TEXT))
        while len(provider.received) == seen:
            await asyncio.sleep(0.001)
        assert "left alone" in await fails(embedder)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        provider.script = answer_well(provider)
        assert len(await embedder.embed(TEXT)) == 2


def test_failures_that_are_not_in_a_row_do_not_open_the_circuit() -> None:
    circuit = Circuit()
    for _ in range(10):
        for _ in range(MAX_FAILURES - 1):
            circuit.failed(0.0)
        circuit.succeeded()
    assert circuit.allows(0.0)


def test_a_probe_that_is_never_heard_of_again_is_followed_by_another() -> None:
    circuit = Circuit()
    for _ in range(MAX_FAILURES):
        circuit.failed(0.0)
    allowed = [second for second in range(100) if circuit.allows(float(second))]
    assert allowed == [30, 60, 90]


def test_a_failed_probe_keeps_it_open_as_long_again() -> None:
    circuit = Circuit()
    for _ in range(MAX_FAILURES):
        circuit.failed(0.0)
    assert circuit.allows(30.0)
    circuit.failed(35.0)
    assert not circuit.allows(64.9)
    assert circuit.allows(65.0)


def test_an_answer_that_was_on_its_way_closes_it() -> None:
    circuit = Circuit()
    for _ in range(MAX_FAILURES):
        circuit.failed(0.0)
    circuit.succeeded()
    assert circuit.allows(1.0) and circuit.allows(1.0)


def test_one_that_leaves_while_it_is_closed_changes_nothing() -> None:
    circuit = Circuit()
    circuit.failed(0.0)
    circuit.abandoned(1.0)
    assert circuit.allows(1.0)
