"""The lane: uploads of any size and WebSockets, passed on by aiohttp with the provider's key put in."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from socket import socket as Socket

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web

from sidecar.downstream import upload as upload_module
from sidecar.errors import ProxyError
from tests.support.demo import QUESTION, demo_provider
from tests.support.descriptors import no_descriptor_left
from tests.support.http1 import Client, ask, client
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

FILE = bytes(range(256)) * 4096
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n%b\r\n--b--\r\n'
FORM = PART % FILE


UPGRADE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a provider that nobody can connect to: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            dial = stack.enter_context(Socket())
            dial.setblocking(False)
            dial.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def upload(body: bytes, framing: str = "length", headers: str = "") -> bytes:
    """A multipart POST to /v1/files."""
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"{headers}"
    )
    if framing == "length":
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(body[i : i + 7777]), body[i : i + 7777]) for i in range(0, len(body), 7777)
    )
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n"


# --- uploads ---


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_upload_over_max_body_arrives_whole_with_the_providers_key(framing: str) -> None:
    async with (
        demo_provider() as provider,
        running(config_for(provider.url, listen={"max_body": "1KiB"})) as sidecar,
    ):
        request = upload(
            FORM, framing, "Authorization: Bearer sk-caller\r\nX-Sidecar-Importance: critical\r\n"
        )
        answer = await ask(sidecar.port, request)
    received = provider.requests[0]
    assert orjson.loads(answer.body)["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert received.header("authorization") == "Bearer sk-provider-secret"
    assert received.header("x-sidecar-importance") is None
    assert received.header("content-type") == "multipart/form-data; boundary=b"
    assert received.header("content-length") == (str(len(FORM)) if framing == "length" else None)


async def test_an_upload_may_follow_a_request_of_the_fast_path_on_its_connection() -> None:
    async with (
        demo_provider() as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        caller.send(post(orjson.dumps(QUESTION), close=False) + upload(FORM))
        assert (await caller.answer()).status == 200
        second = await caller.answer()
        assert await caller.has_ended()
    assert orjson.loads(second.body)["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert [request.path for request in provider.requests] == ["/v1/chat/completions", "/v1/files"]


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on() -> None:
    async with (
        demo_provider() as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        head, _, body = upload(FORM, headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        caller.send(head + b"\r\n\r\n")
        assert (await caller.head()).status == 100
        caller.send(body)
        assert (await caller.answer()).status == 200


async def test_an_upload_cancelled_half_way_closes_the_providers_side() -> None:
    async def take(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            provider.received[-1] += data

    async with raw_provider(take) as provider, running(config_for(provider.url)) as sidecar:
        caller = await Client.connect(sidecar.port)
        caller.send(upload(FORM)[:-1000])
        await until(lambda: provider.received and len(provider.received[0]) > len(FORM) // 2)
        caller.abort()
        await until(lambda: provider.closed == 1, within_s=1.0)


async def test_a_provider_that_is_down_makes_an_upload_a_503() -> None:
    async with raw_provider() as provider:
        url = provider.url
    async with running(config_for(url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM))
    assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (503, "upstream_unreachable")


async def test_an_answer_that_is_cut_is_not_passed_off_as_whole() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()

    async with raw_provider(cut) as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM))
    assert (answer.status, answer.is_whole) == (200, False)


async def test_the_providers_status_and_headers_come_back_and_the_connection_ends() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        writer.write(
            b"HTTP/1.1 413 Too Big\r\nx-request-id: req_9\r\nx-sidecar-model: forged\r\n"
            b"content-length: 2\r\n\r\n{}"
        )

    async with raw_provider(refuse) as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM))
    assert (answer.status, answer.body) == (413, b"{}")
    assert answer.head.get("x-request-id") == "req_9"
    assert answer.head.get("x-sidecar-model") is None
    assert answer.head.get("connection") == "close"


async def test_an_upload_is_counted_as_a_request() -> None:
    async with demo_provider() as provider, running(config_for(provider.url)) as sidecar:
        await ask(sidecar.port, upload(FORM))
        metrics = sidecar.sidecar.metrics
        await until(lambda: metrics.requests == 1)
        labels = {"team": "test", "model": "", "provider": "p", "region": "", "code": "200"}
        assert await sidecar.metric("sidecar_requests_total", **labels) == 1


# --- whose fault it is ---


HEAD = upload(b"", "chunked").removesuffix(b"0\r\n\r\n")


async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take whatever comes and say nothing."""
    while await reader.read(65536):
        pass


def code_of(body: bytes) -> str:
    return str(orjson.loads(body)["error"]["code"])


def charged(sidecar: Running) -> tuple[int, float]:
    """What the endpoint was charged with: failures counted, and their share for the breaker."""
    endpoint = sidecar.endpoint()
    return endpoint.failures, endpoint.breaker.failure_share(asyncio.get_running_loop().time())


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_malformed_upload_is_a_400_and_nothing_against_the_endpoint(at_once: bool) -> None:
    async with raw_provider(swallow) as provider, running(config_for(provider.url)) as sidecar:
        for _ in range(10):
            async with client(sidecar.port) as caller:
                caller.send(HEAD + (b"5\r\nhello\r\nZZ\r\n" if at_once else b"5\r\nhello\r\n"))
                if not at_once:
                    await until(lambda: len(provider.received) > provider.closed)
                    caller.send(b"ZZ\r\n")
                answer = await caller.answer()
            assert (answer.status, code_of(answer.body)) == (400, "bad_request")
            assert answer.head.get("connection") == "close"
            await until(lambda: len(provider.received) == provider.closed)
        assert charged(sidecar) == (0, 0)
        assert sidecar.endpoint().in_flight == 0


async def test_a_stalled_upload_is_a_408_and_nothing_against_the_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_module, "REQUEST_S", 0.1)
    async with raw_provider(swallow) as provider, running(config_for(provider.url)) as sidecar:
        answers = await asyncio.gather(*[ask(sidecar.port, upload(FORM)[:-1000]) for _ in range(10)])
        assert {(answer.status, code_of(answer.body)) for answer in answers} == {(408, "request_timeout")}
        await until(lambda: provider.closed == 10)
        assert charged(sidecar) == (0, 0)


async def test_a_stalled_upload_that_meets_the_end_of_all_time_is_the_callers_fault_too() -> None:
    tree = config_for("http://x", provider={"timeouts": {"total": "100ms"}})
    async with raw_provider(swallow) as provider:
        tree["providers"]["p"]["endpoints"] = [{"url": provider.url}]
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, upload(FORM)[:-1000])
            assert (answer.status, code_of(answer.body)) == (408, "request_timeout")
            assert charged(sidecar) == (0, 0)


async def test_a_provider_that_does_not_take_an_upload_is_charged_with_its_silence() -> None:
    async def take_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    tree = config_for("http://x", provider={"timeouts": {"total": "300ms"}})
    async with raw_provider(take_nothing) as provider:
        tree["providers"]["p"]["endpoints"] = [{"url": provider.url}]
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, upload(bytes(20_000_000)))
            assert (answer.status, code_of(answer.body)) == (504, "upstream_timeout")
            assert charged(sidecar) == (1, 1.0)


async def test_a_provider_that_is_silent_after_a_whole_upload_is_charged() -> None:
    tree = config_for("http://x", provider={"timeouts": {"answer": "100ms"}})
    async with raw_provider(swallow) as provider:
        tree["providers"]["p"]["endpoints"] = [{"url": provider.url}]
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, upload(FORM))
            assert (answer.status, code_of(answer.body)) == (504, "upstream_timeout")
            assert charged(sidecar) == (1, 1.0)


async def test_a_provider_that_hangs_up_on_an_upload_may_be_right_to() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with raw_provider(hang_up) as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM)[:-1000])
        assert (answer.status, code_of(answer.body)) == (503, "upstream_reset")
        assert charged(sidecar) == (0, 0)


async def test_a_provider_that_cannot_be_reached_is_charged_with_that() -> None:
    async with raw_provider() as provider:
        url = provider.url
    async with running(config_for(url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM)[:-1000])
        assert (answer.status, code_of(answer.body)) == (503, "upstream_unreachable")
        assert charged(sidecar) == (1, 1.0)


async def test_an_answer_in_the_middle_of_an_upload_is_passed_on() -> None:
    async def refuse_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Big\r\ncontent-length: 2\r\n\r\n{}")
        await swallow(reader, writer)

    async with raw_provider(refuse_early) as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, upload(FORM)[:-1000])
        assert (answer.status, answer.body) == (413, b"{}")
        assert charged(sidecar) == (0, 0)


async def test_without_a_descriptor_to_dial_with_an_upload_is_a_503_that_says_so() -> None:
    async with raw_provider(swallow) as provider, running(config_for(provider.url)) as sidecar:
        async with client(sidecar.port) as caller:
            with no_descriptor_left():
                caller.send(upload(FORM))
                answer = await caller.answer()
        error = orjson.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (503, "overloaded")
        assert "EMFILE" in error["message"]
        assert (answer.head.get("retry-after"), answer.head.get("x-should-retry")) == ("1", None)
        assert charged(sidecar) == (0, 0)


# --- WebSockets ---


class Sockets:
    """A provider's WebSocket server: echoes, and does what it is told by the message `do ...`."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.close_codes: list[int | None] = []
        self.pings: list[bytes] = []
        self.url = ""
        self.refuse_with = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Sockets"]:
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        if self.refuse_with:
            return web.json_response({"error": {"message": "no"}}, status=self.refuse_with)
        socket = web.WebSocketResponse(protocols=("realtime",), autoping=False, max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.PING:
                self.pings.append(message.data)
                await socket.pong(message.data)
            elif message.data == "do close":
                await socket.close(code=4002, message=b"enough")
            elif message.data == "do vanish":
                assert request.transport is not None
                request.transport.abort()
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.close_codes.append(socket.close_code)
        return socket


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    async with Sockets().serving() as server:
        yield server


@pytest.fixture
async def sidecar(sockets: Sockets) -> AsyncIterator[Running]:
    async with running(config_for(sockets.url)) as started:
        yield started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        yield made


async def test_messages_of_both_kinds_come_back_from_the_provider(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    headers = {"authorization": "Bearer sk-caller", "openai-beta": "realtime=v1", "cookie": "a=b"}
    url = f"{sidecar.url}/realtime?model=gpt-realtime"
    async with session.ws_connect(url, headers=headers, protocols=["realtime", "other"]) as socket:
        for _ in range(3):
            await socket.send_str("naïve 河流")
            assert await socket.receive_str(timeout=5) == "naïve 河流"
            await socket.send_bytes(FILE)
            assert await socket.receive_bytes(timeout=5) == FILE
        assert socket.protocol == "realtime"
    (request,) = sockets.requests
    assert request.path_qs == "/v1/realtime?model=gpt-realtime"
    assert request.headers["authorization"] == "Bearer sk-provider-secret"
    assert request.headers["openai-beta"] == "realtime=v1"
    assert "cookie" not in request.headers


async def test_a_ping_reaches_the_provider_and_its_pong_comes_back(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(f"{sidecar.url}/realtime", autoping=False) as socket:
        await socket.ping(b"17")
        message = await socket.receive(timeout=5)
        assert (message.type, message.data) == (WSMsgType.PONG, b"17")
    assert sockets.pings == [b"17"]


async def test_the_clients_close_code_reaches_the_provider(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(f"{sidecar.url}/realtime") as socket:
        await socket.close(code=4001)
    await until(lambda: sockets.close_codes == [4001])


async def test_the_providers_close_code_and_reason_reach_the_client(
    sidecar: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(f"{sidecar.url}/realtime") as socket:
        await socket.send_str("do close")
        message = await socket.receive(timeout=5)
    assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4002, "enough")


async def test_a_client_that_vanishes_takes_the_providers_side_with_it(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    socket = await session.ws_connect(f"{sidecar.url}/realtime")
    transport = socket.get_extra_info("socket")
    assert transport is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]
    await until(lambda: len(sockets.close_codes) == 1, within_s=1.0)


async def test_a_provider_that_vanishes_is_no_normal_close(
    sidecar: Running, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(f"{sidecar.url}/realtime") as socket:
        await socket.send_str("do vanish")
        message = await socket.receive(timeout=5)
    # Either no close frame at all, or one that says the server failed; 1006 must never be on the wire.
    if message.type is WSMsgType.CLOSE:
        assert message.data in (1011, 1012, 1013, 1014)
    else:
        assert message.type is WSMsgType.CLOSED, message


@pytest.mark.parametrize(
    ("timeouts", "is_reached", "status", "code"),
    [
        ({"connect": "100ms"}, False, 503, "upstream_unreachable"),
        ({"answer": "100ms"}, True, 504, "upstream_timeout"),
        ({"total": "100ms"}, True, 504, "upstream_timeout"),
    ],
    ids=["connect", "answer", "total"],
)
async def test_a_handshake_is_waited_for_as_long_as_the_providers_timeouts_say(
    timeouts: dict[str, str], is_reached: bool, status: int, code: str
) -> None:
    with black_hole() as hole:
        async with raw_provider(swallow) as provider:
            url = provider.url if is_reached else hole
            async with running(config_for(url, provider={"timeouts": timeouts})) as sidecar:
                answer = await ask(sidecar.port, UPGRADE)
                assert (answer.status, code_of(answer.body)) == (status, code)
                assert charged(sidecar) == (1, 1.0)


async def test_no_timeout_of_a_request_ends_a_conversation(
    sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    limits = {"connect": "200ms", "answer": "200ms", "total": "200ms"}
    async with (
        running(config_for(sockets.url, provider={"timeouts": limits})) as sidecar,
        session.ws_connect(f"{sidecar.url}/realtime") as socket,
    ):
        await asyncio.sleep(0.5)
        await socket.send_str("still here")
        assert await socket.receive_str(timeout=5) == "still here"


async def test_a_conversation_is_a_request_in_progress_until_it_is_over(
    sidecar: Running, session: aiohttp.ClientSession
) -> None:
    metrics, endpoint = sidecar.sidecar.metrics, sidecar.endpoint()
    async with session.ws_connect(f"{sidecar.url}/realtime") as socket:
        await socket.send_str("x")
        await socket.receive_str(timeout=5)
        assert (metrics.in_flight, endpoint.in_flight) == (1, 1)
    await until(lambda: (metrics.in_flight, endpoint.in_flight) == (0, 0))


@pytest.mark.parametrize("status", [401, 404, 429])
async def test_a_refused_upgrade_passes_the_providers_status_on(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession, status: int
) -> None:
    sockets.refuse_with = status
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await session.ws_connect(f"{sidecar.url}/realtime")
    assert raised.value.status == status


async def test_many_sockets_are_open_at_once(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession
) -> None:
    count = 120
    async with asyncio.timeout(10):
        opened = [await session.ws_connect(f"{sidecar.url}/realtime") for _ in range(count)]
    assert len(sockets.requests) == count
    for socket in opened:
        await socket.send_str("x")
        assert await socket.receive_str(timeout=5) == "x"
    await asyncio.gather(*[socket.close() for socket in opened])


# --- the end of a drain ---


LEAVING = ProxyError("DR", 503, "draining", "leaving")


def leave(sidecar: Running) -> None:
    sidecar.sidecar._lane.interrupt(LEAVING)


async def flags_at_the_end(sidecar: Running, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Leave, and say with which status and flag each request was settled."""
    settled: list[tuple[int, str]] = []
    lane = sidecar.sidecar._lane
    monkeypatch.setattr(lane, "_settle", lambda x: settled.append((x.status, x.flag)))
    expected = len(lane._in_progress)
    leave(sidecar)
    await until(lambda: len(settled) == expected)
    return settled


async def test_both_sides_of_a_conversation_are_told_that_the_sidecar_goes_away(
    sidecar: Running, sockets: Sockets, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [await session.ws_connect(f"{sidecar.url}/realtime") for _ in range(5)]
    await until(lambda: len(sockets.requests) == 5)
    leaving = asyncio.ensure_future(flags_at_the_end(sidecar, monkeypatch))
    for socket in opened:
        message = await socket.receive(timeout=5)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert message.extra is not None and "shutting down" in message.extra
    await until(lambda: sockets.close_codes == [1001] * 5)
    assert await leaving == [(101, "DR")] * 5


async def test_a_caller_that_takes_no_goodbye_does_not_hold_up_the_exit(
    sidecar: Running, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(sidecar.port) as deaf:
        deaf.send(UPGRADE)
        assert (await deaf.head()).status == 101
        # aiohttp's own patience with a close that is not answered is 10 s.
        async with asyncio.timeout(5):
            assert await flags_at_the_end(sidecar, monkeypatch) == [(101, "DR")]
        assert sockets.close_codes == [1001]


async def test_an_upload_that_has_no_answer_yet_is_told_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        raw_provider(swallow) as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        caller.send(upload(FORM)[:-1000])
        await until(lambda: len(provider.received) > 0)
        assert await flags_at_the_end(sidecar, monkeypatch) == [(503, "DR")]
        answer = await caller.answer()
        assert (answer.status, code_of(answer.body)) == (503, "draining")
        await until(lambda: provider.closed == 1)
        assert charged(sidecar) == (0, 0)


async def test_an_answer_that_has_begun_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await swallow(reader, writer)

    async with (
        raw_provider(begin) as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        caller.send(upload(FORM))
        head = await caller.head()
        assert head.status == 200
        assert await flags_at_the_end(sidecar, monkeypatch) == [(200, "DR")]
        assert (await caller.body(head))[1] is False


async def test_an_upgrade_to_anything_else_is_answered_as_a_plain_request() -> None:
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        answer = await ask(sidecar.port, request)
    assert answer.status == 200
    assert_no_upgrade(provider)


def assert_no_upgrade(provider: RawProvider) -> None:
    assert b"upgrade" not in provider.requests[0].lower()
