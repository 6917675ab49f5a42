"""One client connection on the fast path: reads a request whole, has it answered, reads the next.

llhttp (by httptools) parses. What it lets pass and a proxy must not is refused here or by the gate: a coding
that is not exactly `chunked`, doubled fields, oversized heads, a slow body. A request refused while it is
read gets its 4xx and the connection is closed, since what follows cannot be trusted.

The parser is fed one message at a time: bytes behind it wait until it is answered. So pipelined requests are
answered in order, at most 64 KiB of them are held, and a request the fast path does not serve (an upload, a
WebSocket) can be handed to the aiohttp lane with exactly its own bytes.

It knows nothing of AI: `gate` decides on heads, `serve` is the request's coroutine (proxy.handle).
"""

import asyncio
import enum
import logging
import time
from collections.abc import Callable
from typing import Protocol

import httptools

from sidecar.clock import NEVER, Ticker
from sidecar.downstream.chunked import BadTrailer, ChunkReader, TooLarge
from sidecar.downstream.writer import AnswerWriter
from sidecar.errors import ClientGone, bad_request, refuse
from sidecar.exchange import Exchange, Header, Reply
from sidecar.flow import Flow
from sidecar.headers import MAX_TOTAL_BYTES, over_limit, read_fields

IDLE_S = 75.0  # nginx's keepalive_timeout
REQUEST_S = 30.0  # for a head, and for each STEP_BYTES of a body: a drip slower than 2 KiB/s is refused
STEP_BYTES = 65536
LINGER_S = 10.0  # for a client to take the last bytes of an answer
MAX_AHEAD_BYTES = 65536

_log = logging.getLogger("sidecar")


class State(enum.Enum):
    """What the connection is doing."""

    HEAD = 0
    BODY = 1
    ANSWERING = 2
    CLOSING = 3
    HANDED_OVER = 4


class Gate(Protocol):
    """What a listener asks of its owner."""

    max_body_bytes: int

    def admit(self, x: Exchange) -> Reply | None:
        """Judge a request by its head: a refusal, or None to go on."""

    def wants_lane(self, x: Exchange) -> bool:
        """Whether the aiohttp lane serves this request."""

    async def serve(self, x: Exchange) -> None:
        """Answer a whole request."""

    def refused(self, x: Exchange) -> None:
        """Count and log a request that was refused while it was read."""


class _Stop(Exception):
    """Leaves the parser from inside a callback; `_refusal` or `_state` says why."""


class Connection(asyncio.Protocol):
    """One client connection. `hand_over(transport, bytes)` gives it to the aiohttp lane."""

    def __init__(
        self,
        gate: Gate,
        ticker: Ticker,
        hand_over: Callable[[asyncio.Transport, bytes], None],
        on_open: Callable[["Connection"], None],
        on_closed: Callable[["Connection"], None],
    ) -> None:
        # Per-listener.
        self._gate = gate
        self._ticker = ticker
        self._hand_over = hand_over
        self._on_open = on_open
        self._on_closed = on_closed

        # Per-connection state.
        self.transport: asyncio.Transport
        self.writer: AnswerWriter
        self.state = State.HEAD
        self.deadline_s = NEVER
        self._parser = httptools.HttpRequestParser(self)
        self._ahead = b""  # bytes behind the request that is being answered
        self._flow: Flow | None = None
        self._begin()

    def _begin(self) -> None:
        self._x: Exchange | None = None
        self._url = b""
        self._headers: list[Header] = []
        self._raw = b""  # the head so far, for the lane and for finding its end
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._left = 0
        self._rest = b""
        self._chunks: ChunkReader | None = None
        self._refusal: Reply | None = None
        self._is_whole = False

    # --- asyncio's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.writer = AnswerWriter(self.transport, self._answered)
        self.deadline_s = self._ticker.now_s + IDLE_S
        self._ticker.arm(self)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        if self.state is State.ANSWERING:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD_BYTES:
                self.transport.pause_reading()
        elif self.state is not State.CLOSING:
            self._read(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = State.CLOSING
        self._ticker.disarm(self)
        self._on_closed(self)
        flow, x = self._flow, self._x
        if flow is not None and x is not None:
            x.is_open = False
            flow.cancel(ClientGone())

    def pause_writing(self) -> None:
        self.writer.set_full(True)

    def resume_writing(self) -> None:
        self.writer.set_full(False)

    # --- calls from the listener ----------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.state in (State.BODY, State.ANSWERING) or bool(self._raw)

    def drain(self) -> None:
        """Close after the answer in progress, or now."""
        self.writer.must_close = True
        if not self.is_busy:
            self._close()

    def interrupt(self, reason: BaseException) -> None:
        """End the request in progress with `reason`, raised in its flow, and close."""
        self.writer.must_close = True
        if self._flow is not None:
            self._flow.cancel(reason)
        if self.state is not State.CLOSING:
            self._close()

    def on_deadline(self) -> None:
        """The ticker's call: idle or reading for too long, or a client that does not take its answer."""
        self.deadline_s = NEVER
        if self.state is State.BODY or (self.state is State.HEAD and self._raw):
            self._refuse(_SLOW)
        elif self.state in (State.HEAD, State.CLOSING):
            self.transport.abort()

    # --- reading --------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        """Parse up to the end of one request and start it; what is behind it waits."""
        try:
            while data and not self._is_whole:
                data = self._read_body(data) if self.state is State.BODY else self._read_head(data)
        except _Stop:
            pass
        except TooLarge:
            self._refusal = _too_large(self._gate.max_body_bytes)
        except BadTrailer:
            self._refusal = bad_request("The trailers of the request are malformed.", close=True)
        except httptools.HttpParserError as error:
            if self._refusal is None and self.state is not State.HANDED_OVER:
                self._refusal = bad_request(f"This is not valid HTTP/1.1: {error}.", close=True)
        if self.state is State.HANDED_OVER:
            self._ticker.disarm(self)
            self._on_closed(self)
            self._hand_over(self.transport, self._raw + data)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._is_whole:
            self._ahead = data
            self._start()

    def _read_head(self, data: bytes) -> bytes:
        before = len(self._raw)
        if not before:
            self.deadline_s = self._ticker.now_s + REQUEST_S
        self._raw += data
        # The blank line may have begun in an earlier segment.
        end = self._raw.find(b"\r\n\r\n", max(0, before - 3))
        part, rest = data, b""
        if end >= 0:
            part, rest = data[: end + 4 - before], data[end + 4 - before :]
            self._raw = self._raw[: end + 4]
        if len(self._raw) > MAX_TOTAL_BYTES:
            self._refusal = _LARGE_HEAD
            raise _Stop
        self._rest = rest
        self._feed(part)
        return rest

    def _read_body(self, data: bytes) -> bytes:
        if self._chunks is not None:
            part, rest = self._chunks.take(data)
        else:
            part, rest = data[: self._left], data[self._left :]
            self._left -= len(part)
        before = self._body_bytes
        self._feed(part)
        if before // STEP_BYTES != self._body_bytes // STEP_BYTES:
            self.deadline_s = self._ticker.now_s + REQUEST_S
        return rest

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An upgrade not meant for the lane is ignored (RFC 9110 section 7.8). llhttp reads no further
            # after one; the connection does.
            self._parser = httptools.HttpRequestParser(self)

    # --- httptools' calls -----------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if over_limit(self._headers, self._url):
            self._stop(_LARGE_HEAD)
        read = read_fields(self._headers)
        if isinstance(read, Reply):
            self._stop(read)
        x = self._x = Exchange(self.writer, time.monotonic())
        x.fields, x.forward_lines = read
        x.headers = self._headers
        x.method = self._parser.get_method()
        version = self._parser.get_http_version()
        x.minor = 0 if version == "1.0" else 1
        x.keep_alive = self._parser.should_keep_alive()
        x.path, _, query = self._url.decode("latin-1").partition("?")
        x.query = query.encode("latin-1")
        refusal = _refuse_framing(x, version) or self._gate.admit(x)
        if refusal is not None:
            self._stop(refusal)
        if self._gate.wants_lane(x):
            self.state = State.HANDED_OVER
            raise _Stop
        self._expect_body(x)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._is_whole = True

    # --- inside ---------------------------------------------------------------------------------------

    def _expect_body(self, x: Exchange) -> None:
        limit = self._gate.max_body_bytes
        if b"transfer-encoding" in x.fields:
            self._chunks = ChunkReader(limit)
        elif length := x.fields.get(b"content-length"):
            self._left = int(length)
            if self._left > limit:
                self._stop(_too_large(limit))
        self.state = State.BODY
        if b"expect" in x.fields and not self._rest:
            self.writer.send_continue()

    def _stop(self, refusal: Reply) -> None:
        self._refusal = refusal
        raise _Stop

    def _start(self) -> None:
        x = self._x
        assert x is not None
        body = self._body
        x.body = body[0] if len(body) == 1 else b"".join(body)
        self.state = State.ANSWERING
        self.deadline_s = NEVER
        self._flow = Flow(self._gate.serve(x), self._flow_ended)
        self._flow.resume()

    def _flow_ended(self, error: BaseException | None) -> None:
        self._flow = None
        if error is not None:
            # A bug of ours: one line here, an honest 500 there, and never a connection that hangs.
            _log.error("request failed: %s: %s", type(error).__name__, error)
        if self._x is not None and self._x.is_open:
            self._refuse(_INTERNAL)

    def _answered(self, keep_alive: bool) -> None:
        """The writer finished an answer."""
        self._flow = None
        if self.state is State.CLOSING:
            return
        if not keep_alive or self.transport.is_closing():
            self._close(unread=self._refusal is not None or bool(self._ahead))
            return
        self._begin()
        self.state = State.HEAD
        self.deadline_s = self._ticker.now_s + IDLE_S
        if self._ahead:
            asyncio.get_running_loop().call_soon(self._read_ahead)

    def _read_ahead(self) -> None:
        """Go on with what was sent ahead; from the loop, so that a thousand requests are not a deep stack."""
        data, self._ahead = self._ahead, b""
        if self.state is State.HEAD and data:
            self.transport.resume_reading()
            self._read(data)

    def _refuse(self, reply: Reply) -> None:
        """Answer with a refusal and close; what the client still sends is not read."""
        x = self._x or Exchange(self.writer, time.monotonic())
        self._x = x
        self._refusal = reply
        x.keep_alive = False
        x.is_open = True
        self.state = State.ANSWERING
        self.writer.reply(x, reply)
        self._gate.refused(x)

    def _close(self, *, unread: bool = False) -> None:
        """Close once all is written. With `unread` bytes of the client on their way, closing at once would
        reset the connection and take our answer with it: the sending side is closed first, what still comes
        is dropped, and the client closes (or the deadline does)."""
        self.state = State.CLOSING
        self.deadline_s = self._ticker.now_s + LINGER_S
        if unread and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()


def _refuse_framing(x: Exchange, version: str) -> Reply | None:
    """What llhttp accepts in a head and we do not."""
    if version not in ("1.1", "1.0"):
        return refuse(400, "bad_request", f"HTTP/{version} is not served here; use HTTP/1.1.", close=True)
    coding = x.fields.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or x.minor == 0):
        return bad_request("The only Transfer-Encoding understood is `chunked`, in HTTP/1.1.", close=True)
    if x.minor == 1 and b"host" not in x.fields:
        return bad_request("HTTP/1.1 needs a Host header.", close=True)
    expect = x.fields.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return refuse(417, "expectation_failed", "The only Expect understood is 100-continue.", close=True)
    return None


def _too_large(limit: int) -> Reply:
    message = f"The body is over the limit of {limit} bytes (listen.max_body)."
    return refuse(413, "request_too_large", message, close=True)


_LARGE_HEAD = refuse(
    431, "headers_too_large", "The request head is over 256 headers, 8190 bytes a line or 64 KiB.", close=True
)
_SLOW = refuse(408, "request_timeout", "The request did not arrive in time.", flag="SI", close=True)
_INTERNAL = refuse(500, "internal_error", "The sidecar failed on this request; see its log.", close=True)
