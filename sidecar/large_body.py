"""Reads a JSON body of a megabyte or more in steps, none of which keeps the other streams waiting for long.

orjson needs 57 ms for a body of 32 MiB that is one text, 110 ms and 128 MiB where the text has one emoji, and
over a second for 10 MB of "[],[],...", in which no stream moves. So a large body is not parsed as it stands:

- It is walked through in slices. Outside of strings the elements are counted, and what no request to a model
  has is refused. Inside, `_mask`ed bytes tell where each text ends: when every escaped backslash and quote is
  overwritten, a `"` is the end.
- Long texts (images, mostly) stay whole as long as there is room for them, some 500,000 tokens. Then
  each is checked piece by piece by orjson itself and cut: what is left for the parser has its beginning, a
  backspace and its length. Nothing else is changed, so names, numbers and the order are the caller's.

What is left takes 1.7 ms a MiB to parse: 7 ms, and up to 30 where there are megabytes of short texts. What is
sent on is never this, but the caller's bytes.
"""

from collections.abc import Generator

import orjson

from sidecar.errors import bad_request, refuse
from sidecar.exchange import Reply

# Up to here a body is parsed in one go: at worst ("[],[],...") 7 ms.
LARGE_BYTES = 512 * 1024
LONG_TEXT_BYTES = 512  # no name of a model is longer
ROOM_BYTES = 2 * 1024 * 1024

_SLICE_BYTES = 256 * 1024
# A comma weighs 1, a string 2, an array or object 3; so many bytes of numbers and blanks, or of texts that
# stay whole, 1: each about 20 to 60 ns of parsing. 300,000 token ids, the most that OpenAI's embeddings take,
# weigh 350,000; 10,000 messages 130,000.
_MAX_WEIGHT = 500_000
_WEIGHTY_BYTES = 32
_WEIGHTY_TEXT_BYTES = 64
# The longest that cannot be cut in the middle: two \uXXXX that are one character.
_MAX_UNIT_BYTES = 12


def abridge(body: bytes) -> Generator[None, None, bytes | Reply]:
    """`body` with its long texts cut, itself if nothing is; or 400 for a broken text, 413 for its structure.

    Whether the rest of it is JSON remains to be found out by its parser.
    """
    room = ROOM_BYTES
    kept: list[bytes] = []
    copied = at = begin = weight = 0
    is_inside = False
    while at < len(body):
        piece = _slice(body, at)
        masked = _mask(piece)
        weight += masked.count(b'"')
        if weight > _MAX_WEIGHT:
            return _TOO_COMPLEX
        parts = masked.split(b'"')
        outside = b"".join(parts[is_inside::2])
        weight += outside.count(b",") + 3 * (outside.count(b"[") + outside.count(b"{"))
        weight += len(outside) // _WEIGHTY_BYTES
        if weight > _MAX_WEIGHT:
            return _TOO_COMPLEX
        end = at - 1
        for part in parts[:-1]:
            end += len(part) + 1
            if not is_inside:
                begin = end + 1
            elif end - begin > LONG_TEXT_BYTES and (room := room - (end - begin)) < 0:
                beginning = yield from _check(body, begin, end)
                if beginning is None:
                    return bad_request(f"The body is not valid JSON: the text at byte {begin} is broken.")
                kept += (body[copied:begin], beginning, b"\\b%d" % (end - begin))
                copied = end
            else:
                weight += (end - begin) // _WEIGHTY_TEXT_BYTES
            is_inside = not is_inside
        at += len(piece)
        yield
    if is_inside:
        return bad_request(f"The body is not valid JSON: the text at byte {begin} has no end.")
    if not kept:
        return body
    kept.append(body[copied:])
    return b"".join(kept)


def _slice(body: bytes, at: int) -> bytes:
    """The next slice, which does not end between a backslash and what it escapes."""
    piece = body[at : at + _SLICE_BYTES]
    if piece.endswith(b"\\") and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        return body[at : at + _SLICE_BYTES + 1]
    return piece


def _mask(piece: bytes) -> bytes:
    if b"\\" not in piece:
        return piece
    # In this order: once the pairs of backslashes are gone, a backslash before a quote escapes it.
    return piece.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _check(body: bytes, begin: int, end: int) -> Generator[None, None, bytes | None]:
    """The beginning of a text; None if any of it is not what may stand in a JSON string.

    Texts that are valid each for itself are valid in a row, and a valid one has a place to cut in any
    _MAX_UNIT_BYTES bytes.
    """
    at = _valid_end(body, begin, begin + LONG_TEXT_BYTES)
    if at is None:
        return None
    beginning = body[begin:at]
    while at < end:
        if end - at > _SLICE_BYTES:
            yield
        at = _valid_end(body, at, min(end, at + _SLICE_BYTES))
        if at is None:
            return None
    return beginning


def _valid_end(body: bytes, begin: int, end: int) -> int | None:
    for stop in range(end, max(begin, end - _MAX_UNIT_BYTES), -1):
        try:
            orjson.loads(b'"%b"' % body[begin:stop])
        except orjson.JSONDecodeError:
            continue
        return stop
    return None


_TOO_COMPLEX = refuse(
    413,
    "request_too_complex",
    "The JSON body has more structure than a request to a model has: some hundred thousand elements, or "
    "megabytes of numbers or blanks. Send less.",
)
