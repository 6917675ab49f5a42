"""One HTTP/1.1 connection to a provider's endpoint: sends a request, hands the answer on as it comes.

It knows HTTP framing and nothing of AI. The answer goes to a sink by plain calls from `data_received`, with
no task and no queue between. llhttp (by httptools) refuses ambiguous framing; what it lets pass and a proxy
must not (an unknown transfer coding, bytes after the answer, floods of trailers) is refused here.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Protocol

import httptools

from sidecar.errors import ProxyError, Retry
from sidecar.headers import MAX_TOTAL_BYTES, ResponseHead

_BODILESS = frozenset((204, 304))
_MAX_INTERIM = 100


class State(enum.Enum):
    """What the connection is doing."""

    IDLE = 0
    BUSY = 1
    CLOSED = 2


# Looking a member up on its class costs 0.1 µs each time (Python 3.11), a global a tenth of it.
IDLE, BUSY, CLOSED = State


class Sink(Protocol):
    """Who takes the answer. `on_end` or `on_error` is the last call, and comes exactly once."""

    def on_head(self, status: int, head: ResponseHead, lines: list[bytes]) -> None: ...
    def on_data(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...
    def on_error(self, error: ProxyError) -> None: ...


class Connection(asyncio.Protocol):
    """A connection and at most one request on it. `on_idle`/`on_closed` tell the pool."""

    def __init__(self, on_idle: Callable[["Connection"], None], on_closed: Callable[[bool], None]):
        self._on_idle = on_idle
        self._on_closed = on_closed

        # Per-connection state.
        self.transport: asyncio.Transport
        self.state = IDLE
        self.is_reused = False
        self.idle_limit_s: float | None = None  # the provider's own `Keep-Alive: timeout`
        self.idle_since_s = 0.0
        self.is_session_kept = False
        self._is_paused = False

        # Per-request state.
        self._sink: Sink | None = None
        self._is_head_request = False
        self._pieces: list[bytes] = []  # of the body, from one read
        self.on_body = self._pieces.append  # httptools' call, without a Python frame between
        self._begin()
        self._parser = httptools.HttpResponseParser(self)

    def _begin(self) -> None:
        self._raw = b""  # the head so far
        self._head: ResponseHead | None = None
        self._status = 0
        self._pieces.clear()
        self._interim = 0
        self._framing_bytes = 0
        self._head_told = False
        self._complete = False
        self._last_piece = 0
        self._may_reuse = True

    # --- the request ----------------------------------------------------------------------------------

    def send(self, request: bytes, sink: Sink, *, is_head_request: bool = False) -> None:
        """Write a whole request; its answer goes to `sink`."""
        self.state = BUSY
        self._sink = sink
        self._is_head_request = is_head_request
        self._begin()
        if self.transport.is_closing():
            # Reset since it was dialled or given back; what is written now would be lost without a word.
            self._sink = None
            self.state = CLOSED
            sink.on_error(self._lost_error())
            return
        self.transport.write(request)

    def cancel(self) -> None:
        """Drop the request: the provider sees the connection close at once. The sink hears nothing more."""
        self._sink = None
        self.close()

    def close(self) -> None:
        """Close without waiting for unsent bytes."""
        self.state = CLOSED
        self.transport.abort()

    def pause_reading(self) -> None:
        """Stop taking the provider's bytes; TCP holds it back."""
        if self.state is BUSY:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    # --- asyncio's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.state is not BUSY:
            self.close()  # bytes nobody asked for: an answer that would be taken for the next request's
            return
        if self._head is None:
            self._raw += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            if not self._complete:
                return self._fail(f"broke HTTP ({_reason(error)})")
            self._may_reuse = False  # the answer was whole; what came behind it spoils the connection only
        pieces = self._pieces
        if self._head_told and pieces and not self._complete and len(data) < MAX_TOTAL_BYTES:
            # In the middle of a body: the path of nearly every event of a stream.
            data = b"".join(pieces) if len(pieces) > 1 else pieces[0]
            pieces.clear()
            self._framing_bytes = 0
            if self._sink is not None:
                self._sink.on_data(data)
        elif self._head is None:
            if len(self._raw) > MAX_TOTAL_BYTES:
                self._fail("sent a header block over 64 KiB")
        elif (not pieces or len(data) >= MAX_TOTAL_BYTES) and self._is_mostly_framing(len(data)):
            self._fail("sent more framing than body")
        else:
            self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        was_idle = self.state is IDLE
        self.state = CLOSED
        sink, self._sink = self._sink, None
        if sink is not None:
            head = self._head
            if head is not None and head.length is None and not head.coding and exc is None:
                sink.on_end()  # a body that ends with the connection (RFC 9112 section 6.3, item 8)
            else:
                sink.on_error(self._lost_error())
        self._on_closed(was_idle)

    # --- httptools' calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._may_reuse = False

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        end = self._raw.index(b"\r\n\r\n") + 4
        if status < 200:
            if status < 100 or self._interim >= _MAX_INTERIM:
                raise ValueError(f"status {status}")
            self._interim += 1  # interim answers are ours to swallow: we did not ask for them
            self._raw = self._raw[end:]
            return
        if status > 599:
            raise ValueError(f"status {status}")
        self._raw = self._raw[:end]
        head = ResponseHead(self._raw)
        if head.coding and head.coding != b"chunked":
            raise ValueError("an unknown transfer coding")
        self._head = head
        self._status = status
        if self._is_head_request or status in _BODILESS:
            self._finish(framed=head.length is not None or bool(head.coding))

    def on_message_complete(self) -> None:
        if self._head is not None and not self._complete:
            self._finish(framed=False)

    # --- inside ---------------------------------------------------------------------------------------

    def _is_mostly_framing(self, read_bytes: int) -> bool:
        """Trailers and chunk extensions are dropped, so nothing else bounds them."""
        pieces = self._pieces
        self._framing_bytes += read_bytes - sum(map(len, pieces)) - 16 * len(pieces)
        return self._framing_bytes > MAX_TOTAL_BYTES

    def _finish(self, framed: bool) -> None:
        """The answer is whole. `framed`: the parser still waits for a body that will not come."""
        self._complete = True
        self._last_piece = len(self._pieces)
        if not self.is_reused and self._head is not None:
            self.idle_limit_s = self._head.idle_limit_s
        if framed or not self._parser.should_keep_alive():
            self._may_reuse = False

    def _deliver(self) -> None:
        sink = self._sink
        if sink is None:
            return
        if self._head is not None and not self._head_told:
            self._head_told = True
            sink.on_head(self._status, self._head, self._head.returned_lines(self._raw))
        if self._pieces:
            # What stands behind a whole answer is not part of it.
            data = b"".join(self._pieces[: self._last_piece] if self._complete else self._pieces)
            self._pieces.clear()
            if data:
                sink.on_data(data)
        if self._complete and self._sink is not None:
            self._sink = None
            self._release()
            sink.on_end()

    def _release(self) -> None:
        if self._may_reuse:
            if self._is_paused:
                self.resume_reading()
            self.state = IDLE
            self.is_reused = True
            self._on_idle(self)
        else:
            self.close()

    def _fail(self, what: str) -> None:
        sink, self._sink = self._sink, None
        self.close()
        if sink is not None:
            sink.on_error(_protocol_error(what))

    def _lost_error(self) -> ProxyError:
        if self._head is not None:
            return ProxyError(
                "UC", 502, "upstream_cut", "The provider closed the connection in the middle of its answer."
            )
        retry = Retry.REUSED_ONLY if self.is_reused and not (self._raw or self._interim) else Retry.YES
        return ProxyError(
            "UC",
            503,
            "upstream_reset",
            "The provider closed the connection before it answered. Try again in a moment.",
            retry,
        )


def _protocol_error(what: str) -> ProxyError:
    return ProxyError("UPE", 502, "upstream_protocol_error", f"The provider {what}. Try again in a moment.")


def _reason(error: Exception) -> str:
    if isinstance(error, httptools.HttpParserUpgrade):
        return "it switched protocols unasked"
    return str(error.__context__ or error)
