"""The lane: uploads of any size and WebSockets, passed on by aiohttp with the provider's key put in."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web

from tests.support.demo import QUESTION, demo_provider
from tests.support.http1 import Client, ask, client
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

FILE = bytes(range(256)) * 4096
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n%b\r\n--b--\r\n'
FORM = PART % FILE


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


async def test_an_upgrade_to_anything_else_is_answered_as_a_plain_request() -> None:
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        answer = await ask(sidecar.port, request)
    assert answer.status == 200
    assert_no_upgrade(provider)


def assert_no_upgrade(provider: RawProvider) -> None:
    assert b"upgrade" not in provider.requests[0].lower()
