"""The lane for what the fast path does not serve: streamed uploads and WebSockets, on plain aiohttp.

Here a request body of any size goes through as it comes, and a WebSocket is joined message by message. One
provider (that of the "*" model), its first endpoint, the key put in, nothing replayed. Each answer ends its
connection, so that the client's next request is back on the fast path.

An endpoint is charged with what it did alone. While an upload is under way that is silence when it is its
turn, and nothing else: it may well be right to hang up on what it does not want.
"""

import asyncio
import errno
import time
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from sidecar.accounts import Accounts
from sidecar.attempt import Attempt
from sidecar.clock import Ticker
from sidecar.config.model import Timeouts
from sidecar.downstream.upload import TOO_SLOW, LaneConnection, Upload
from sidecar.errors import Exhausted, ProxyError, no_healthy_upstream, refuse
from sidecar.exchange import Exchange, Reply, RequestHead
from sidecar.headers import ResponseHead, own_lines, read_request_head
from sidecar.runtime import Snapshot
from sidecar.tasks import spawn
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.provider import Provider
from sidecar.upstream.shortage import SHORTAGE, lack_of

_NOT_THERE = "No endpoint for this is in the regions of this key."
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_COPY_BYTES = 64 * 1024
# How long both sides of a WebSocket have to take our goodbye, when its drain is over.
_GOODBYE_S = 0.25


class Lane:
    """An aiohttp handler. `settle(exchange)` counts and logs each request at its end."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        accounts: Accounts,
        settle: Callable[[Exchange], None],
        ticker: Ticker,
        metrics: Metrics,
    ) -> None:
        self._snapshot = snapshot
        self._accounts = accounts
        self._settle = settle
        self._ticker = ticker
        self._metrics = metrics
        self._connector: aiohttp.TCPConnector | None = None
        self._sessions: dict[Timeouts, aiohttp.ClientSession] = {}
        self._in_progress: set[asyncio.Task[Any]] = set()
        self._leaving: ProxyError | None = None

    def interrupt(self, reason: ProxyError) -> None:
        """End what is still in progress: who has no answer yet gets `reason`, an answer that has begun is
        cut, and both sides of a WebSocket are told that we go away (1001)."""
        self._leaving = reason
        for task in self._in_progress:
            task.cancel()

    async def close(self) -> None:
        """Close the connections to providers."""
        for session in self._sessions.values():
            await session.close()
        if self._connector is not None:
            await self._connector.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass one request on to its provider."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # aiohttp makes one for each request
        x = _exchange(request)
        self._in_progress.add(task)
        self._metrics.in_flight += 1
        try:
            return await self._serve(request, x)
        except asyncio.CancelledError:
            if self._leaving is None:
                x.flag = "DC"
                raise
            if not x.status:
                return _answer(x, self._leaving.reply(is_final=False))
            x.flag = self._leaving.flag
            _abort(request)
            raise
        finally:
            self._in_progress.discard(task)
            self._metrics.in_flight -= 1
            self._settle(x)

    async def _serve(self, request: web.BaseRequest, x: Exchange) -> web.StreamResponse:
        snapshot = self._snapshot()
        provider = snapshot.default
        if provider is None or isinstance(x.refusal, Reply):
            return _answer(x, x.refusal or refuse(404, "unknown_url", "No such URL here.", flag="NR"))
        caller = snapshot.callers.identify(x.head, time.time())
        if isinstance(caller, Reply):
            return _answer(x, caller)
        x.team, x.regions = caller.team, caller.regions
        endpoint = provider.closest(x, x.started_s)
        if endpoint is None:
            return _answer(x, no_healthy_upstream(_NOT_THERE).reply(is_final=True))
        attempt = Attempt()
        if self._accounts.is_on and snapshot.unread is not None:
            now_s = time.monotonic()
            soon = self._accounts.limits_refill(x, caller, None, snapshot.unread, now_s)
            if soon is not None:
                await soon
            now_s = time.monotonic()
            refusal = self._accounts.admit(x, attempt, caller, None, snapshot.unread, now_s, soon)
            if refusal is not None:
                return _answer(x, refusal)
        x.provider, x.region, x.endpoint, x.attempts = provider.name, endpoint.region, endpoint.url, 1
        upload = Upload(request.content, self._ticker) if request.body_exists else None
        endpoint.requests += 1
        endpoint.in_flight += 1
        try:
            if request.headers.get("upgrade", "").lower() == "websocket":
                return await self._join(request, x, provider, endpoint)
            return await self._pass(request, x, provider, endpoint, upload)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return _answer(x, self._failure(x, endpoint, upload, error))
        finally:
            endpoint.in_flight -= 1

    async def _pass(
        self,
        request: web.BaseRequest,
        x: Exchange,
        provider: Provider,
        endpoint: Endpoint,
        upload: Upload | None,
    ) -> web.StreamResponse:
        """An upload: both bodies are streamed, neither is held."""
        headers = _headers(provider.header_lines(x))
        if b"expect" in x.fields and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (length := request.headers.get("content-length")) is not None:
            headers["content-length"] = length
        if upload is not None and isinstance(request.protocol, LaneConnection):
            request.protocol.watch(upload)
        sent_s = time.monotonic()
        async with self._client(provider.timeouts).request(
            request.method,
            _url(x, endpoint),
            headers=headers,
            data=None if upload is None else upload.pieces(),
            allow_redirects=False,
            ssl=endpoint.pool.address.tls or True,
        ) as upstream:
            raw = b"\r\n".join((b"-", *(b": ".join(pair) for pair in upstream.raw_headers), b"", b""))
            x.upstream_s = time.monotonic() - sent_s
            x.overhead_s = sent_s - x.started_s
            lines = b"\r\n".join((*ResponseHead(raw).returned_lines(raw), own_lines(x))).split(b"\r\n")
            response = web.StreamResponse(status=upstream.status, headers=_headers(lines))
            response.force_close()
            response.content_length = upstream.content_length
            x.status = upstream.status
            endpoint.breaker.record(upstream.status < 500, time.monotonic(), began_s=x.started_s)
            await response.prepare(request)
            try:
                async for piece in upstream.content.iter_chunked(_COPY_BYTES):
                    x.bytes_sent += len(piece)
                    await response.write(piece)
            except (aiohttp.ClientError, TimeoutError):
                # Too late for an error of ours: break the connection, so that nobody takes it for whole.
                fault = upload.fault if upload is not None else None
                x.flag = "UC" if fault is None else fault.flag
                _abort(request)
                return response
            await response.write_eof()
            return response

    async def _join(
        self, request: web.BaseRequest, x: Exchange, provider: Provider, endpoint: Endpoint
    ) -> web.StreamResponse:
        """A WebSocket. A refused upgrade passes the provider's status on."""
        offered = [
            p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",") if p.strip()
        ]
        lines = [line for line in provider.header_lines(x) if not line.lower().startswith(b"sec-websocket-")]
        try:
            upstream = await self._client(provider.timeouts).ws_connect(
                _url(x, endpoint),
                headers=_headers(lines),
                protocols=offered,
                autoping=False,
                autoclose=False,
                max_msg_size=MAX_MESSAGE_BYTES,
                ssl=endpoint.pool.address.tls or True,
            )
        except aiohttp.WSServerHandshakeError as error:
            message = "The provider refused the WebSocket upgrade."
            return _answer(x, refuse(error.status, "upgrade_refused", message))
        async with upstream:
            chosen = (upstream.protocol,) if upstream.protocol else ()
            client = web.WebSocketResponse(
                autoping=False, autoclose=False, max_msg_size=MAX_MESSAGE_BYTES, protocols=chosen
            )
            await client.prepare(request)
            x.status = 101
            both = {
                spawn(_copy(client, upstream), "websocket up"),
                spawn(_copy(upstream, client), "websocket down"),
            }
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if self._leaving is None:
                    raise
                x.flag = self._leaving.flag
                await _say_goodbye(both, client, upstream)
            finally:
                for task in both:
                    task.cancel()
            return client

    def _failure(self, x: Exchange, endpoint: Endpoint, upload: Upload | None, error: Exception) -> Reply:
        """What the caller is told; the endpoint is charged if it is to blame."""
        lack = lack_of(getattr(error, "os_error", error))
        if lack is not None:
            SHORTAGE.tell(lack, self._ticker.now_s)
            return Exhausted(errno.errorcode[lack]).reply(is_final=False)
        is_silence = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
        is_under_way = upload is not None and upload.has_begun and not upload.is_whole
        if upload is not None and is_under_way:
            if upload.fault is not None:
                return upload.fault
            if is_silence and upload.is_awaited:
                return TOO_SLOW
        # With a status it had answered: it is the caller that did not take it.
        if not x.status and (is_silence or not is_under_way):
            endpoint.observe(type(error).__name__)
            endpoint.breaker.record(False, time.monotonic(), began_s=x.started_s)
        if is_silence:
            return refuse(504, "upstream_timeout", "The provider did not answer in time.", flag="UT")
        if is_under_way:
            message = "The provider closed the connection in the middle of the upload; try again."
            return refuse(503, "upstream_reset", message, flag="UC")
        return refuse(503, "upstream_unreachable", "The provider could not be reached; try again.", flag="UF")

    def _client(self, timeouts: Timeouts) -> aiohttp.ClientSession:
        """With these timeouts: the handshake of a WebSocket knows none but its session's."""
        session = self._sessions.get(timeouts)
        if session is None:
            if self._connector is None:
                self._connector = aiohttp.TCPConnector(limit=0)
            session = self._sessions[timeouts] = aiohttp.ClientSession(
                connector=self._connector,
                connector_owner=False,
                timeout=aiohttp.ClientTimeout(
                    total=timeouts.total_s, sock_connect=timeouts.connect_s, sock_read=timeouts.answer_s
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
                trust_env=False,
            )
        return session


async def _copy(source: Any, sink: Any) -> None:
    """Messages of one direction, control frames included, until it closes; then the other closes alike."""
    while True:
        message = await source.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type is aiohttp.WSMsgType.PONG:
            await sink.pong(message.data)
        elif message.type is aiohttp.WSMsgType.CLOSE and message.data not in _NEVER_SENT:
            await sink.close(code=message.data or 1000, message=str(message.extra or "").encode())
            await source.close(code=message.data or 1000)
            return
        else:
            await sink.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR)
            return


# Codes that stand for "no close frame came" and must not be in one (RFC 6455 section 7.4.1).
_NEVER_SENT = frozenset((1005, 1006, 1015))


async def _say_goodbye(copying: set["asyncio.Task[None]"], *sides: Any) -> None:
    """Tell both sides of a WebSocket that we go away, as soon as nobody reads them any more."""
    for task in copying:
        task.cancel()
    await asyncio.wait(copying, timeout=_GOODBYE_S)
    code, message = aiohttp.WSCloseCode.GOING_AWAY, b"The sidecar is shutting down; connect again."
    closing = [spawn(side.close(code=code, message=message), "websocket end") for side in sides]
    _, late = await asyncio.wait(closing, timeout=_GOODBYE_S)
    for task in late:
        task.cancel()


def _exchange(request: web.BaseRequest) -> Exchange:
    """The facts of a lane request, for the log; its bytes are aiohttp's."""
    # aiohttp has parsed the head by now; read again from the same lines, it is judged as on the fast path.
    version = f"HTTP/{request.version.major}.{request.version.minor}"
    first = f"{request.method} {request.raw_path} {version}".encode()
    raw = b"\r\n".join((first, *(b": ".join(pair) for pair in request.raw_headers), b"", b""))
    read = read_request_head(raw)
    head = RequestHead() if isinstance(read, Reply) else read[0]
    x = Exchange(cast(Any, None), time.monotonic(), head)
    x.refusal = read if isinstance(read, Reply) else None
    x.keep_alive = False
    return x


def _url(x: Exchange, endpoint: Endpoint) -> URL:
    scheme = "https" if endpoint.pool.address.tls is not None else "http"
    authority = endpoint.host_line[6:].decode()
    return URL(f"{scheme}://{authority}{endpoint.prefix.decode()}{x.target[3:].decode()}", encoded=True)


def _headers(lines: list[bytes]) -> CIMultiDict[str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return CIMultiDict((name, value.strip()) for name, _, value in pairs)


def _answer(x: Exchange, reply: Reply) -> web.Response:
    x.status, x.flag = reply.status, reply.flag
    response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
    response.headers.extend(_headers(reply.lines))
    response.force_close()
    return response


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
