"""Changes one spot of a request's JSON and leaves every other byte as the caller wrote it.

The body is known to be valid JSON with an object on top (`openai.read_call` parsed it); `document` is that
parse. What the parse cannot say is where in the bytes a top-level key stands, and whether it does so twice:
`duplicates` says the latter, and such a body is refused before anything is changed in it.

Theory of operation. In valid JSON the bytes `"model"` are the key, a value, a key further in, or the end of a
longer string (`"a \\"model"`). Nearly always they stand there once, and nothing in the body is written with
`\\u00..` escapes that could spell a key in another way: then that place is the one, since the parse says that
there is one. Otherwise all places are found by one regex and each is judged by its depth:

- `_mask` overwrites every escaped backslash and quote in place, after which each `"` begins or ends a string;
- between two candidates the text outside of strings is every second piece of a split at `"`, and the depth
  changes there by the brackets it holds.

That is a handful of passes in C, and Python code only per candidate, of which MAX_PLACES are looked at:
200 ms for 37 MB with 800,000 escaped quotes and a decoy, 15 ms for nothing but decoys. Of 4 KB with 16
messages, whose parse takes 3.3 µs, replace_model takes 0.6 µs, is_usual 2.5 and duplicates 10, which is why
the last is asked only where is_usual says no.
"""

import re
from functools import cache
from itertools import islice
from typing import Any

import msgspec
import orjson

# Objects that have keys of these names more often than this, all in all, are no request to a model.
MAX_PLACES = 20_000
# A letter written as an escape, which no encoder does: \u0041 to \u007a.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_SIMPLE_VALUE = re.compile(rb'\s*:\s*("[^"\\]*"|[^\s"{}\[\],]+)')
# The first member of the object; and a member that only simple ones follow, to the very end. The bound keeps
# a body of a hundred thousand members from filling the regex's stack.
_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*("[^"\\]*")')
_AMONG_LAST = re.compile(
    rb'"model"\s*:\s*("[^"\\]*")(?:\s*,\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[^\s"{}\[\],]+)){0,32}\s*\}\s*'
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# From here on it pays to copy a body once, through a view (15 ms for 32 MiB), instead of twice (31).
_COPIED_ONCE_BYTES = 16 * 1024
# On masked bytes.
_VALUE = re.compile(rb'"[^"]*"|[^\s"{}\[\],]+')
_TOKEN = re.compile(rb'"[^"]*"|[{}\[\]]')


def is_usual(body: bytes, document: dict[str, Any]) -> bool:
    """Whether the body is, byte for byte, what a dictionary looks like as JSON: then no key stands twice.

    Written anew without blanks it is what most SDKs send (0.14 µs for 400 bytes). Others write a blank behind
    each comma and colon, as Python's json does: then it is put together again from its members as they are.
    """
    try:
        if orjson.dumps(document) == body:
            return True
        members = _members(body)
    except (orjson.JSONEncodeError, msgspec.DecodeError, RecursionError):
        return False  # nested too deeply to be usual
    written = [b'"%b": %b' % (key.encode(), value) for key, value in members.items()]
    return b"{%b}" % b", ".join(written) == body


def duplicates(body: bytes, document: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """Those of `keys` that stand at the top of the object more than once, in whatever spelling.

    A parser takes the last one and the provider's may take the first: what was judged here would not be what
    is served there. Where keys called so stand in the body MAX_PLACES times and more, at whatever depth, they
    are refused too: to tell would take too long.
    """
    is_escaped = _has_escaped_letter(body)
    suspects = tuple(key for key in keys if key in document and (is_escaped or body.count(_quoted(key)) > 1))
    if not suspects:
        return []
    starts = _value_starts(_mask(body), suspects)
    return [key for key in suspects if len(starts[key]) > 1]


def top_level_span(body: bytes, document: dict[str, Any], key: str) -> tuple[int, int] | None:
    """Where the value of the top-level `key` begins and ends; None if it is absent or stands there twice."""
    if key not in document:
        return None
    quoted = _quoted(key)
    at = body.find(quoted)
    if at >= 0 and body.find(quoted, at + 1) < 0 and not _has_escaped_letter(body):
        simple = _SIMPLE_VALUE.match(body, at + len(quoted))
        if simple is not None:
            return simple.span(1)
    masked = _mask(body)
    starts = _value_starts(masked, (key,))[key]
    return (starts[0], _value_end(masked, starts[0])) if len(starts) == 1 else None


def replace_model(body: bytes, document: dict[str, Any], model: str) -> bytes | None:
    """The body with another top-level `model`; None if there is none to replace.

    It must not stand there twice: `duplicates` was asked before.
    """
    span = _span_at_an_edge(body) or top_level_span(body, document, "model")
    if span is None:
        return None
    return _put(body, span[0], span[1], orjson.dumps(model))


def with_prefill(body: bytes, document: dict[str, Any], text: str) -> bytes | None:
    """The body with the assistant's turn begun: `text` as one more message at the end of `messages`.

    None where that cannot be said: no list of messages, or the caller has begun the assistant's turn itself
    (two such turns in a row are refused by some providers and joined by others, with or without a space).
    """
    messages = document.get("messages")
    if type(messages) is not list:
        return None
    if messages and (type(messages[-1]) is not dict or messages[-1].get("role") == "assistant"):
        return None
    span = top_level_span(body, document, "messages")
    if span is None:
        return None
    message = orjson.dumps({"role": "assistant", "content": text})
    end = span[1] - 1  # before the closing bracket
    return _put(body, end, end, b"," + message if messages else message)


def _put(body: bytes, start: int, end: int, written: bytes) -> bytes:
    """The body with `written` in place of what stands from `start` to `end`."""
    if len(body) < _COPIED_ONCE_BYTES:
        return body[:start] + written + body[end:]
    view = memoryview(body)
    return b"".join((view[:start], written, view[end:]))


# --- finding ------------------------------------------------------------------------------------------


def _span_at_an_edge(body: bytes) -> tuple[int, int] | None:
    """The value of `model` where it is seen at once to be at the top: at the start, or near the end.

    SDKs write it first, or behind the messages with nothing but simple members after it.
    """
    found = _FIRST.match(body)
    if found is None:
        at = body.rfind(b'"model"')
        # Behind a backslash it is the end of a longer string.
        if at <= 0 or body[at - 1] == 0x5C:
            return None
        found = _AMONG_LAST.fullmatch(body, at)
    return None if found is None else found.span(1)


def _has_escaped_letter(body: bytes) -> bool:
    # A single byte is found 20 times faster than several, and most short bodies have no backslash.
    return b"\\" in body and b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _mask(body: bytes) -> bytes:
    """The body, of the same length, with every remaining `"` the begin or the end of a string."""
    if b"\\" not in body:
        return body
    # In this order: once the pairs of backslashes are gone, a backslash before a quote escapes it.
    return body.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _value_starts(masked: bytes, keys: tuple[str, ...]) -> dict[str, list[int]]:
    """Where the values of all top-level members called so begin; [0, 0] for each if there are too many."""
    starts: dict[str, list[int]] = {key: [] for key in keys}
    depth = position = 0
    places = list(islice(_spelled(keys).finditer(masked), MAX_PLACES))
    if len(places) == MAX_PLACES:
        return {key: [0, 0] for key in keys}
    for found in places:
        outside = b"".join(masked[position : found.start()].split(b'"')[::2])
        depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
        position = found.end()
        if depth == 1:
            starts[keys[(found.lastindex or 1) - 1]].append(position)
    return starts


def _value_end(masked: bytes, start: int) -> int:
    simple = _VALUE.match(masked, start)
    if simple is not None:
        return simple.end()
    depth = 0
    for token in _TOKEN.finditer(masked, start):
        first = masked[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if not depth:
                return token.end()
    raise ValueError("the body is not valid JSON")


@cache
def _quoted(key: str) -> bytes:
    return b'"%b"' % key.encode()


@cache
def _spelled(keys: tuple[str, ...]) -> re.Pattern[bytes]:
    """Any of the keys in every spelling JSON allows, with its colon; a group for each."""
    spellings = ("".join(rf"(?:{re.escape(letter)}|{_escape_of(letter)})" for letter in key) for key in keys)
    return re.compile(rf'"(?:{"|".join(f"({spelling})" for spelling in spellings)})"\s*:\s*'.encode())


def _escape_of(letter: str) -> str:
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{ord(letter):04x}")
    return rf"\\u{digits}"
