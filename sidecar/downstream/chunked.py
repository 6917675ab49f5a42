"""Follows the framing of a chunked request beside llhttp, for three things llhttp does not offer.

It tells a chunk's size before its data is there, so that a chunk that could never fit is refused at once; it
takes trailers out, because llhttp reads them as if they were header fields (RFC 9112 section 7.1.2 wants them
kept apart; here they are dropped); and it says where the body ends, so that a request sent ahead is left for
later. llhttp still judges every other byte: where this reader cannot follow, it passes all on and llhttp
refuses.
"""

import re

_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*")
_MAX_LINE_BYTES = 1024
_MAX_TRAILER_BYTES = 8192


class TooLarge(Exception):
    """The body, or what stands around it, is over the limit."""


class BadTrailer(Exception):
    """The trailer section is not made of header lines."""


class ChunkReader:
    """State of one chunked body: inside a size line, inside data, or inside the trailers."""

    __slots__ = ("_line", "_max_body_bytes", "_skip", "_total_bytes", "_trailers")

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._total_bytes = 0
        self._line = b""  # the size line so far
        self._skip = 0  # bytes of chunk data, and its CRLF, still to come
        self._trailers: bytes | None = None

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What llhttp is to read, and what stands behind the body. Raises TooLarge or BadTrailer."""
        if self._trailers is not None:
            return self._end_trailers(data)
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            line_end = data.find(b"\n", position) + 1
            self._line += data[position : line_end or end]
            position = line_end or end
            if len(self._line) > _MAX_LINE_BYTES:
                raise TooLarge
            if not line_end:
                break
            size = self._size()
            if size is None:
                break  # not a size line: llhttp says what is wrong with it
            if size == 0:
                passed, rest = self._end_trailers(data[position:])
                return data[:position] + passed, rest
        return data, b""

    def _size(self) -> int | None:
        found = _SIZE.match(self._line)
        self._line = b""
        if found is None:
            return None
        digits = found.group(0).lstrip(b"0")
        if len(digits) > 8:
            raise TooLarge
        size = int(digits or b"0", 16)
        self._total_bytes += size
        if self._total_bytes > self._max_body_bytes:
            raise TooLarge
        self._skip = size + 2
        return size

    def _end_trailers(self, data: bytes) -> tuple[bytes, bytes]:
        """Swallow trailer lines; only the blank line that ends them goes on."""
        held = (self._trailers or b"") + data
        if held.startswith(b"\r\n"):
            return b"\r\n", held[2:]
        end = held.find(b"\r\n\r\n")
        if end > _MAX_TRAILER_BYTES or (end < 0 and len(held) > _MAX_TRAILER_BYTES):
            raise TooLarge
        lines = (held if end < 0 else held[:end]).split(b"\r\n")
        if end < 0:
            if any(_is_bad_line(line) for line in lines[:-1]) or b"\n" in lines[-1]:
                raise BadTrailer
            self._trailers = held
            return b"", b""
        if any(_is_bad_line(line) for line in lines):
            raise BadTrailer
        return b"\r\n", held[end + 4 :]


def _is_bad_line(line: bytes) -> bool:
    return _TRAILER.fullmatch(line) is None
