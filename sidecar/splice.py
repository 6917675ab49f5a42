"""Changes one spot of a request's JSON and leaves every other byte as the caller wrote it.

The body is known to be valid JSON with an object on top (`openai.read_call` parsed it); `document` is that
parse. What the parse cannot say is where in the bytes a top-level key stands, and whether it does so twice.

Theory of operation. In valid JSON the bytes `"model"` are the key, a value, a key further in, or the end of a
longer string (`"a \\"model"`). Nearly always they stand there once, and nothing in the body is written with
`\\u00..` escapes that could spell a key in another way: then that place is the one, since the parse says that
there is one. Otherwise all places are found by one regex and each is judged by its depth:

- `_mask` overwrites every escaped backslash and quote in place, after which each `"` begins or ends a string;
- between two candidates the text outside of strings is every second piece of a split at `"`, and the depth
  changes there by the brackets it holds.

That is a handful of passes in C, and Python code only per candidate: 200 ms for 37 MB with 800,000 escaped
quotes and a decoy (its parse takes 50), 15 ms for 250 KB of nothing but decoys. Of the usual 4 KB (16
messages; the parse takes 3.3 µs) replace_model takes 1 to 2 µs with `is_unique` and 6 without, duplicates 6,
either one 20 where there is a decoy; of 500 bytes 0.8, 1.9 and 1.5.
"""

import re
from functools import cache
from typing import Any

import orjson

# A letter written as an escape, which no encoder does: \u0041 to \u007a.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_SIMPLE_VALUE = re.compile(rb'\s*:\s*("[^"\\]*"|[^\s"{}\[\],]+)')
# The first member of the object; and a member that only simple ones follow, to the very end. The bound keeps
# a body of a hundred thousand members from filling the regex's stack.
_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*("[^"\\]*")')
_AMONG_LAST = re.compile(
    rb'"model"\s*:\s*("[^"\\]*")(?:\s*,\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[^\s"{}\[\],]+)){0,32}\s*\}\s*'
)
# On masked bytes.
_VALUE = re.compile(rb'"[^"]*"|[^\s"{}\[\],]+')
_TOKEN = re.compile(rb'"[^"]*"|[{}\[\]]')


def duplicates(
    body: bytes, document: dict[str, Any], keys: tuple[str, ...] = ("model", "stream")
) -> list[str]:
    """Those of `keys` that stand at the top of the object more than once, in whatever spelling.

    A parser takes the last one and the provider's may take the first: what was judged here would not be what
    is served there. Such a request is refused before anything else is done with it.
    """
    is_escaped = _has_escaped_letter(body)
    return [
        key
        for key in keys
        if key in document
        and (is_escaped or body.count(_quoted(key)) > 1)
        and len(_value_starts(_mask(body), key)) > 1
    ]


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
    starts = _value_starts(masked, key)
    return (starts[0], _value_end(masked, starts[0])) if len(starts) == 1 else None


def replace_model(
    body: bytes, document: dict[str, Any], model: str, *, is_unique: bool = False
) -> bytes | None:
    """The body with another top-level `model`; None if there is none to replace, or more than one.

    `is_unique` says that `duplicates` was asked already: it need not be found out a second time.
    """
    span = _span_at_an_edge(body) if is_unique else None
    span = span or top_level_span(body, document, "model")
    if span is None:
        return None
    return b"%b%b%b" % (body[: span[0]], orjson.dumps(model), body[span[1] :])


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
    return b"%b%b%b%b" % (body[:end], b"," if messages else b"", message, body[end:])


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
    return b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _mask(body: bytes) -> bytes:
    """The body, of the same length, with every remaining `"` the begin or the end of a string."""
    if b"\\" not in body:
        return body
    # In this order: once the pairs of backslashes are gone, a backslash before a quote escapes it.
    return body.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _value_starts(masked: bytes, key: str) -> list[int]:
    """Where the values of all top-level members called `key` begin."""
    starts: list[int] = []
    depth = position = 0
    for found in _spelled(key).finditer(masked):
        outside = b"".join(masked[position : found.start()].split(b'"')[::2])
        depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
        position = found.end()
        if depth == 1:
            starts.append(position)
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
def _spelled(key: str) -> re.Pattern[bytes]:
    """The key in every spelling JSON allows, with its colon."""
    letters = "".join(rf"(?:{re.escape(letter)}|{_escape_of(letter)})" for letter in key)
    return re.compile(rf'"{letters}"\s*:\s*'.encode())


def _escape_of(letter: str) -> str:
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{ord(letter):04x}")
    return rf"\\u{digits}"
