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
from sidecar.exchange import Header
from sidecar.headers import MAX_TOTAL_BYTES

_BODILESS = frozenset((204, 304))
_MAX_TRAILERS = 64


class State(enum.Enum):
    """What the connection is doing."""

    IDLE = 0
    BUSY = 1
    CLOSED = 2


class Sink(Protocol):
    """Who takes the answer. `on_end` or `on_error` is the last call, and comes exactly once."""

    def on_head(self, status: int, headers: list[Header]) -> None: ...
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
        self.state = State.IDLE
        self.is_reused = False
        self.idle_limit_s: float | None = None  # the provider's own `Keep-Alive: timeout`
        self.idle_since_s = 0.0
        self.is_session_kept = False
        self._parser = httptools.HttpResponseParser(self)

        # Per-request state.
        self._sink: Sink | None = None
        self._is_head_request = False
        self._begin()

    def _begin(self) -> None:
        self._headers: list[Header] = []
        self._status = 0
        self._pieces: list[bytes] = []
        self._head_bytes = 0
        self._trailers = 0
        self._has_length = False
        self._coding = b""
        self._head_done = False
        self._head_told = False
        self._complete = False
        self._may_reuse = True
        self._got_bytes = False

    # --- the request ----------------------------------------------------------------------------------

    def send(self, request: bytes, sink: Sink, *, is_head_request: bool = False) -> None:
        """Write a whole request; its answer goes to `sink`."""
        self.state = State.BUSY
        self._sink = sink
        self._is_head_request = is_head_request
        self._begin()
        self.transport.write(request)

    def cancel(self) -> None:
        """Drop the request: the provider sees the connection close at once. The sink hears nothing more."""
        self._sink = None
        self.close()

    def close(self) -> None:
        """Close without waiting for unsent bytes."""
        self.state = State.CLOSED
        self.transport.abort()

    def pause_reading(self) -> None:
        """Stop taking the provider's bytes; TCP holds it back."""
        if self.state is State.BUSY:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self.state is State.BUSY:
            self.transport.resume_reading()

    # --- asyncio's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.state is not State.BUSY:
            self.close()  # bytes nobody asked for: an answer that would be taken for the next request's
            return
        self._got_bytes = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError) as error:
            if not self._complete:
                return self._fail(f"broke HTTP ({_reason(error)})")
            self._may_reuse = False  # the answer was whole; what came behind it spoils the connection only
        if not self._head_done and self._head_bytes > MAX_TOTAL_BYTES:
            return self._fail("sent a header block over 64 KiB")
        self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        was_idle = self.state is State.IDLE
        self.state = State.CLOSED
        sink, self._sink = self._sink, None
        if sink is not None:
            if self._head_done and not self._has_length and not self._coding and exc is None:
                sink.on_end()  # a body that ends with the connection (RFC 9112 section 6.3, item 8)
            else:
                sink.on_error(self._lost_error())
        self._on_closed(was_idle)

    # --- httptools' calls -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._may_reuse = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            self._trailers += 1
            if self._trailers > _MAX_TRAILERS:
                raise ValueError("too many trailers")
            return
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._has_length = True
        elif size == 17 and name.lower() == b"transfer-encoding":
            self._coding = value
        elif size == 10 and name.lower() == b"keep-alive":
            self.idle_limit_s = _keep_alive_timeout(value)
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100:
                raise ValueError(f"status {status}")
            self._headers = []  # interim answers are ours to swallow: we did not ask for them
            self._coding, self._has_length = b"", False
            return
        if status > 599:
            raise ValueError(f"status {status}")
        if self._coding and self._coding.lower() != b"chunked":
            raise ValueError("an unknown transfer coding")
        self._status = status
        self._head_done = True
        if self._is_bodiless():
            self._finish(framed=self._has_length or bool(self._coding))

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._finish(framed=False)

    # --- inside ---------------------------------------------------------------------------------------

    def _is_bodiless(self) -> bool:
        return self._is_head_request or self._status in _BODILESS

    def _finish(self, framed: bool) -> None:
        """The answer is whole. `framed`: the parser still waits for a body that will not come."""
        self._complete = True
        if framed or not self._parser.should_keep_alive():
            self._may_reuse = False

    def _deliver(self) -> None:
        sink = self._sink
        if sink is None:
            return
        if self._head_done and not self._head_told:
            self._head_told = True
            sink.on_head(self._status, self._headers)
        if self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            sink.on_data(data)
        if self._complete and self._sink is not None:
            self._sink = None
            self._release()
            sink.on_end()

    def _release(self) -> None:
        if self._may_reuse:
            self.state = State.IDLE
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
        if self._head_done:
            return ProxyError(
                "UC", 502, "upstream_cut", "The provider closed the connection in the middle of its answer."
            )
        retry = Retry.REUSED_ONLY if self.is_reused and not self._got_bytes else Retry.YES
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


def _keep_alive_timeout(value: bytes) -> float | None:
    """Seconds of `Keep-Alive: timeout=5, max=100`."""
    for part in value.split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.lower() == b"timeout" and number.isdigit():
            return float(number)
    return None
