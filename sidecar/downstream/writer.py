"""Writes answers to one client connection: heads, framing, and the back-pressure on whoever feeds it.

Framing follows what the body allows: Content-Length when it is known, chunked for HTTP/1.1 otherwise, and for
HTTP/1.0 the end of the connection (RFC 9112 section 6.3). A body that cannot be finished is cut so that the
client cannot take it for whole.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from http import HTTPStatus

from sidecar.errors import ClientGone
from sidecar.exchange import Exchange, Pausable, Reply
from sidecar.flow import Flow
from sidecar.headers import own_lines

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}".encode() for s in HTTPStatus}
_BODILESS = frozenset((204, 304))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close"
_KEEP = b"connection: keep-alive"
_CHUNKED = b"transfer-encoding: chunked"
_JSON = b"content-type: application/json"


class AnswerWriter:
    """The `Downstream` of a connection's exchanges. `on_finished(keep_alive)` follows each whole answer."""

    def __init__(self, transport: asyncio.Transport, on_finished: Callable[[bool], None]) -> None:
        self._transport = transport
        self._on_finished = on_finished
        self._source: Pausable | None = None
        self._is_full = False
        self._is_chunked = False
        self._is_bodiless = False
        self._is_until_close = False
        self.is_begun = False  # a head is out, its body is not whole
        self.must_close = False  # the listener is draining

    # --- whole answers --------------------------------------------------------------------------------

    def reply(self, x: Exchange, reply: Reply) -> None:
        if reply.close:
            x.keep_alive = False
        x.status, x.flag = reply.status, reply.flag
        parts = [_STATUS_LINES.get(reply.status) or status_line(reply.status), _JSON, *reply.lines]
        self._send_whole(x, reply.status, parts, reply.body)

    def respond(self, x: Exchange, status: int, lines: Sequence[bytes], body: bytes) -> None:
        parts = [_STATUS_LINES.get(status) or status_line(status), *lines, own_lines(x)]
        self._send_whole(x, status, parts, body)

    def _send_whole(self, x: Exchange, status: int, parts: list[bytes], body: bytes) -> None:
        if self.must_close or x.minor == 0 or not x.keep_alive:
            self._add_connection_line(x, parts)
        if status not in _BODILESS:
            parts.append(b"content-length: %d" % len(body))
        if x.method == b"HEAD" or status in _BODILESS:
            body = b""
        x.bytes_sent += len(body)
        parts += (b"", body)
        self._transport.write(b"\r\n".join(parts))
        self._finish(x)

    # --- answers in pieces ----------------------------------------------------------------------------

    def begin(self, x: Exchange, status: int, lines: Sequence[bytes], length: int | None) -> None:
        self.is_begun = True
        self._is_bodiless = x.method == b"HEAD" or status in _BODILESS
        self._is_chunked = False
        parts = [status_line(status), *lines, own_lines(x)]
        self._is_until_close = False
        if status == 204:
            pass  # RFC 9110 section 8.6: no Content-Length
        elif length is not None:
            parts.append(b"content-length: %d" % length)
        elif self._is_bodiless:
            pass
        elif x.minor == 0:
            self._is_until_close = True
            x.keep_alive = False
        else:
            self._is_chunked = True
            parts.append(_CHUNKED)
        self._add_connection_line(x, parts)
        parts += (b"", b"")
        self._transport.write(b"\r\n".join(parts))

    def write(self, data: bytes) -> None:
        if self._is_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif not self._is_bodiless:
            self._transport.write(data)

    def end(self, x: Exchange) -> None:
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._finish(x)

    def cut(self, x: Exchange, last: bytes) -> None:
        if last:
            self.write(last)
        elif self._is_until_close:
            self._reset()
        x.keep_alive = False
        self._finish(x)

    def _reset(self) -> None:
        """Where the end of the connection may be the end of the body, only a reset says that it is not."""
        socket_ = self._transport.get_extra_info("socket")
        if socket_ is not None:
            socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def send_continue(self) -> None:
        """Tell a client that waits with its body to send it (RFC 9110 section 10.1.1)."""
        self._transport.write(_CONTINUE)

    # --- back-pressure --------------------------------------------------------------------------------

    def feed_from(self, source: Pausable | None) -> None:
        self._source = source
        if source is not None and self._is_full:
            source.pause_reading()

    def set_full(self, is_full: bool) -> None:
        """The transport's buffer passed its high-water mark, or fell under its low one."""
        self._is_full = is_full
        if self._source is not None:
            if is_full:
                self._source.pause_reading()
            else:
                self._source.resume_reading()

    def drop(self) -> None:
        self._reset()

    def lost(self, x: Exchange, flow: Flow) -> None:
        x.is_open = False
        flow.cancel(ClientGone())

    # --- inside ---------------------------------------------------------------------------------------

    def _add_connection_line(self, x: Exchange, lines: list[bytes]) -> None:
        if self.must_close:
            x.keep_alive = False
        if not x.keep_alive:
            lines.append(_CLOSE)
        elif x.minor == 0:
            lines.append(_KEEP)

    def _finish(self, x: Exchange) -> None:
        self.is_begun = False
        self._source = None
        x.is_open = False
        self._on_finished(x.keep_alive)


def status_line(status: int) -> bytes:
    """The status line, with a reason of our own: a provider's reason is never copied."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown" % status
