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
from typing import NoReturn, Protocol

import httptools

from sidecar.clock import NEVER, Ticker
from sidecar.downstream.chunked import BadTrailer, ChunkReader, TooLarge
from sidecar.downstream.writer import AnswerWriter
from sidecar.errors import bad_request, refuse
from sidecar.exchange import Exchange, Reply, RequestHead
from sidecar.flow import Flow
from sidecar.headers import (
    LARGE_HEAD,
    MAX_TOTAL_BYTES,
    read_request_head,
    recall_request_head,
    remember_request_head,
)

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


# Looking a member up on its class costs 0.1 µs each time (Python 3.11), a global a tenth of it.
HEAD, BODY, ANSWERING, CLOSING, HANDED_OVER = State


class Gate(Protocol):
    """What a listener asks of its owner."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is read whole."""

    def admit(self, x: Exchange) -> Reply | None:
        """Judge a request by its head: a refusal, or None to go on."""

    def wants_lane(self, x: Exchange) -> bool:
        """Whether the aiohttp lane serves this request."""

    async def serve(self, x: Exchange) -> None:
        """Answer a whole request, count it and log it, however it ends."""

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
        self.state = HEAD
        self.deadline_s = NEVER
        self._parser = httptools.HttpRequestParser(self)
        self._ahead = b""  # bytes behind the request that is being answered
        self._flow: Flow | None = None
        self._begin()

    def _begin(self) -> None:
        self._x: Exchange | None = None
        self._raw = b""  # the head so far, for the lane and for finding its end
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._length = 0
        self._rest = b""
        self._chunks: ChunkReader | None = None
        self._refusal: Reply | None = None
        self._is_whole = False
        self._is_recalled = False  # the head is one llhttp has accepted before, so it is left out

    # --- asyncio's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.writer = AnswerWriter(self.transport, self._answered)
        self.deadline_s = self._ticker.now_s + IDLE_S
        self._ticker.arm(self)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        if self.state is ANSWERING or self._ahead:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD_BYTES:
                self.transport.pause_reading()
        elif self.state is not CLOSING and not (self.state is HEAD and self._read_at_once(data)):
            self._read(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSING
        self._ticker.disarm(self)
        self._on_closed(self)
        flow, x = self._flow, self._x
        if flow is not None and x is not None:
            x.client.lost(x, flow)

    def pause_writing(self) -> None:
        self.writer.set_full(True)

    def resume_writing(self) -> None:
        self.writer.set_full(False)

    # --- calls from the listener ----------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.state in (BODY, ANSWERING) or bool(self._raw)

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
        if self.state is not CLOSING:
            self._close()

    def on_deadline(self) -> None:
        """The ticker's call: idle or reading for too long, or a client that does not take its answer."""
        self.deadline_s = NEVER
        if self.state is BODY or (self.state is HEAD and self._raw):
            self._refuse(_SLOW)
        elif self.state in (HEAD, CLOSING):
            self.transport.abort()

    # --- reading --------------------------------------------------------------------------------------

    def _read_at_once(self, data: bytes) -> bool:
        """Begin a request whose head is known and whose body is here whole, as nearly all are; False: it is
        none of these, and nothing has happened."""
        if self._raw:
            return False
        end = data.find(b"\r\n\r\n") + 4
        known = recall_request_head(data, end) if end > 3 else None
        if known is None:
            return False
        head, length = known
        if not length or length != len(data) - end or length > self._gate.max_body_bytes:
            return False
        x = Exchange(self.writer, time.monotonic(), head)
        if self._gate.admit(x) is not None or not x.kind:
            return False
        self._x = x
        x.body = data[end:]
        self.state = ANSWERING
        self.deadline_s = NEVER
        self._flow = Flow(self._gate.serve(x), self._flow_ended)
        self._flow.resume()
        return True

    def _read(self, data: bytes) -> None:
        """Parse up to the end of one request and start it; what is behind it waits."""
        try:
            while data and not self._is_whole:
                data = self._read_body(data) if self.state is BODY else self._read_head(data)
        except _Stop:
            pass
        except TooLarge:
            self._refusal = _too_large(self._gate.max_body_bytes)
        except BadTrailer:
            self._refusal = bad_request("The trailers of the request are malformed.", close=True)
        except httptools.HttpParserError as error:
            if self._refusal is None and self.state is not HANDED_OVER:
                self._refusal = bad_request(f"This is not valid HTTP/1.1: {error}.", close=True)
        if self.state is HANDED_OVER:
            self._ticker.disarm(self)
            self._on_closed(self)
            self._hand_over(self.transport, self._raw + self._rest)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._is_whole:
            self._ahead = data
            self._start()

    def _read_head(self, data: bytes) -> bytes:
        before = len(self._raw)
        if not before:
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112 section 2.2)
            if not data:
                return b""
            self.deadline_s = self._ticker.now_s + REQUEST_S
            end = data.find(b"\r\n\r\n") + 4
            if end > 3 and (known := recall_request_head(data, end)) is not None:
                self._raw, self._rest = data[:end], data[end:]
                self._is_recalled = True
                self._begin_body(*known)
                return self._rest
        self._raw += data
        # The blank line may have begun in an earlier segment.
        end = self._raw.find(b"\r\n\r\n", max(0, before - 3))
        part, rest = data, b""
        if end >= 0:
            part, rest = data[: end + 4 - before], data[end + 4 - before :]
            self._raw = self._raw[: end + 4]
        if len(self._raw) > MAX_TOTAL_BYTES:
            self._stop(LARGE_HEAD)
        self._rest = rest
        self._feed(part)
        return rest

    def _begin_body(self, head: RequestHead, length: int | None) -> None:
        """The head is read: let the request in or not."""
        x = self._x = Exchange(self.writer, time.monotonic(), head)
        if (refusal := self._gate.admit(x)) is not None:
            self._stop(refusal)
        if not x.kind and self._gate.wants_lane(x):
            self.state = HANDED_OVER
            raise _Stop
        limit = self._gate.max_body_bytes
        if length is None:
            self._chunks = ChunkReader(limit)
        elif length > limit:
            self._stop(_too_large(limit))
        else:
            self._length = length
            self._is_whole = self._is_recalled and not length
        self.state = BODY
        if b"expect" in head.fields and not self._rest:
            self.writer.send_continue()

    def _read_body(self, data: bytes) -> bytes:
        if self._chunks is not None:
            part, rest = self._chunks.take(data)
        else:
            left = self._length - self._body_bytes
            part, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
        before = self._body_bytes
        if self._is_recalled:
            # llhttp was not shown this head, so it is not shown the body either: the length is all there is.
            self.on_body(part)
            self._is_whole = self._body_bytes == self._length
        else:
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

    def on_headers_complete(self) -> None:
        read = read_request_head(self._raw)
        if isinstance(read, Reply):
            self._stop(read)
        head, length = read
        head.keep_alive = self._parser.should_keep_alive()
        remember_request_head(self._raw, head)
        self._begin_body(head, length)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._is_whole = True

    # --- inside ---------------------------------------------------------------------------------------

    def _stop(self, refusal: Reply) -> NoReturn:
        self._refusal = refusal
        raise _Stop

    def _start(self) -> None:
        x = self._x
        if x is None:
            return
        x.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        x.whole_s = time.monotonic()
        self.state = ANSWERING
        self.deadline_s = NEVER
        self._flow = Flow(self._gate.serve(x), self._flow_ended)
        self._flow.resume()

    def _flow_ended(self, error: BaseException | None) -> None:
        self._flow = None
        if error is not None:
            # A bug of ours: one line here, an honest 500 there, and never a connection that hangs.
            _log.error("request failed: %s: %s", type(error).__name__, error)
        if self._x is not None and self._x.is_open:
            if self.writer.is_begun:
                self.writer.cut(self._x, b"")
            else:
                self._refuse(_INTERNAL)

    def _answered(self, keep_alive: bool) -> None:
        """The writer finished an answer."""
        self._flow = None
        if self.state is CLOSING:
            return
        if not keep_alive or self.transport.is_closing():
            return self._close(unread=self._refusal is not None or bool(self._ahead))
        self._begin()
        self.state = HEAD
        self.deadline_s = self._ticker.now_s + IDLE_S
        if self._ahead:
            asyncio.get_running_loop().call_soon(self._read_ahead)

    def _read_ahead(self) -> None:
        """Go on with what was sent ahead; from the loop, so that a thousand requests are not a deep stack."""
        if self.state is HEAD and self._ahead:
            data, self._ahead = self._ahead, b""
            self.transport.resume_reading()
            self._read(data)

    def _refuse(self, reply: Reply) -> None:
        """Answer with a refusal and close; what the client still sends is not read."""
        x = self._x = self._x or Exchange(self.writer, time.monotonic(), _NO_HEAD)
        self._refusal = reply
        x.keep_alive, x.is_open = False, True
        self.state = ANSWERING
        self.writer.reply(x, reply)
        if reply is not _INTERNAL:  # `serve` has counted its own
            self._gate.refused(x)

    def _close(self, *, unread: bool = False) -> None:
        """Close once all is written. With `unread` bytes of the client on their way that would reset our
        answer too: then only the sending side is closed, and the rest by the client or the deadline."""
        self.state = CLOSING
        self._ahead = b""  # nobody reads it any more, and it must not hold up the client's own end
        self.deadline_s = self._ticker.now_s + LINGER_S
        if unread and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()


def _too_large(limit: int) -> Reply:
    message = f"The body is over the limit of {limit} bytes (listen.max_body)."
    return refuse(413, "request_too_large", message, close=True)


_NO_HEAD = RequestHead()
_SLOW = refuse(408, "request_timeout", "The request did not arrive in time.", flag="SI", close=True)
_INTERNAL = refuse(500, "internal_error", "The sidecar failed on this request; see its log.", close=True)
