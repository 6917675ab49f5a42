"""Server-sent events as bytes: where an event ends and what its data is (WHATWG HTML, section 9.2).

Nothing is decoded or rebuilt: an event is the very bytes the provider sent, its closing blank line included.
Line ends are LF, CRLF or CR, and only those; U+2028 and friends are text.
"""

import re

# A blank line: two line ends in a row. A CR that is followed by LF is no line end of its own.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")

MAX_HELD_BYTES = 256 * 1024
# How much of a longer event is remembered at either end.
EDGE_BYTES = 16 * 1024


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """The whole events in `buffer` and the rest that is not whole yet; joined they are `buffer`."""
    if b"\r" not in buffer:
        # What providers send: LF only, and mostly exactly one event in a read.
        end = buffer.find(b"\n\n")
        if end < 0:
            return [], buffer
        if end + 2 == len(buffer):
            return [buffer], b""
        pieces = buffer.split(b"\n\n")
        rest = pieces.pop()
        return [piece + b"\n\n" for piece in pieces], rest
    events: list[bytes] = []
    start = 0
    for blank in _BLANK_LINE.finditer(buffer):
        events.append(buffer[start : blank.end()])
        start = blank.end()
    return events, buffer[start:]


def data_of(event: bytes) -> bytes | None:
    """The event's data, its data lines joined by LF; None for an event without (a comment, say)."""
    if event.startswith(b"data: ") and b"\r" not in event and event.find(b"\n") >= len(event) - 2:
        return event[6:].rstrip(b"\n")
    found: list[bytes] = []
    for line in _LINE_END.split(event):
        field, colon, value = line.partition(b":")
        if field == b"data":
            found.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(found) if found else None


class LargeEvent:
    """An event too long to be held, on its way in pieces: its first bytes and its last."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first = b""
        self.last = b""

    def add(self, piece: bytes) -> "LargeEvent":
        """The next piece of it; returns itself."""
        if not self.first:
            self.first = piece[:EDGE_BYTES]
        self.last = (self.last + piece[-EDGE_BYTES:])[-EDGE_BYTES:]
        return self
