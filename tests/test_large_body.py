"""Large bodies: what is cut, what is refused, and that no step is long."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import large_body
from sidecar.exchange import Reply
from sidecar.large_body import abridge

# Small, so that small bodies have many slices and little room.
SLICE_BYTES = 64
LONG_TEXT_BYTES = 24
TEXT = st.text('a"\\/\n é字🌊', max_size=90) | st.text(max_size=40)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(large_body, "_SLICE_BYTES", SLICE_BYTES)
    patch.setattr(large_body, "LONG_TEXT_BYTES", LONG_TEXT_BYTES)
    patch.setattr(large_body, "ROOM_BYTES", 0)
    yield
    patch.undo()


def run(body: bytes) -> tuple[bytes | Reply, int]:
    """What comes of it, and in how many steps."""
    steps = 1
    reading = abridge(body)
    while True:
        try:
            next(reading)
            steps += 1
        except StopIteration as end:
            return end.value, steps


def abridged(body: bytes) -> Any:
    result, _ = run(body)
    assert isinstance(result, bytes)
    return orjson.loads(result)


def escaped(value: Any) -> bytes:
    """JSON in which every character of a text that is not ASCII is an escape."""
    return json.dumps(value).encode()


def same_but_cut(short: Any, whole: Any) -> bool:
    """Whether `short` is `whole` with some of its texts cut."""
    if isinstance(whole, str):
        beginning, backspace, length = short.rpartition("\b")
        is_cut = bool(backspace) and length.isdigit() and whole.startswith(beginning)
        return short == whole or (is_cut and int(length) > LONG_TEXT_BYTES)
    if isinstance(whole, list):
        return len(short) == len(whole) and all(map(same_but_cut, short, whole))
    if isinstance(whole, dict):
        return all(
            same_but_cut(a, b) and same_but_cut(short[a], whole[b]) for a, b in zip(short, whole, strict=True)
        )
    return bool(short == whole)


@given(VALUE, st.sampled_from([orjson.dumps, escaped]))
@settings(max_examples=300)
def test_only_long_texts_are_cut(value: Any, write: Any) -> None:
    assert same_but_cut(abridged(write(value)), value)


@given(st.binary(max_size=200), st.integers(0, 200), VALUE)
@settings(max_examples=300)
def test_what_is_no_json_does_not_become_any(junk: bytes, at: int, value: Any) -> None:
    body = orjson.dumps(value)
    body = body[:at] + junk + body[at:]
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        result, _ = run(body)
        if isinstance(result, Reply):
            assert result.status in (400, 413)
            return
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(result)
    else:
        abridged(body)


@pytest.mark.parametrize(
    "text",
    [
        b"a" * 100 + b"\xff" + b"a" * 100,
        b"a" * 200 + b"\xf0\x9f\x8c",
        b"a" * 100 + b"\n" + b"a" * 100,
        b"a" * 100 + b"\\x41" + b"a" * 100,
        b"a" * 100 + b"\\ud83c" + b"a" * 100,
        b"a" * 200 + b"\\u00",
    ],
    ids=["byte", "half a character", "control", "escape", "half a pair", "half an escape"],
)
def test_a_broken_text_is_named(text: bytes) -> None:
    reply, _ = run(b'{"x":"%b"}' % text)
    assert isinstance(reply, Reply)
    assert reply.status == 400
    assert "the text at byte 6 is broken" in orjson.loads(reply.body)["error"]["message"]


def test_a_text_without_an_end_is_refused_before_it_is_parsed() -> None:
    reply, _ = run(b'{"x":"' + b"a" * 1000)
    assert isinstance(reply, Reply)
    assert reply.status == 400
    assert "byte 6 has no end" in orjson.loads(reply.body)["error"]["message"]


@pytest.mark.parametrize("unit", ["é", "字", "🌊", "\\n", '\\"', "\\\\", "\\u5b57", "\\ud83c\\udf0a"])
@pytest.mark.parametrize("shift", range(12))
def test_no_character_is_cut_in_the_middle(unit: str, shift: int) -> None:
    body = f'{{"x":"{"a" * shift}{unit * 100}"}}'.encode()
    whole = orjson.loads(body)["x"]
    beginning, _, length = abridged(body)["x"].rpartition("\b")
    assert whole.startswith(beginning)
    assert beginning
    assert int(length) == len(body) - 8


def test_long_texts_stay_whole_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_body, "ROOM_BYTES", 250)
    texts = abridged(orjson.dumps(["a" * 100, "b" * 100, "short", "c" * 100]))
    assert texts == ["a" * 100, "b" * 100, "short", "c" * 24 + "\b100"]


def test_a_body_with_nothing_cut_is_itself() -> None:
    body = b'{"model":"m","x":[1,2,"a"]}'
    assert run(body)[0] is body


# --- structure, with the limits as they are ---------------------------------------------------------------

N = 600_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * N,
        b"[%b0]" % (b"[]," * N),
        b'{"a":' * N + b"1" + b"}" * N,
        b"[%b0]" % (b"0," * N),
        b"[%b0]" % (b'"",' * N),
        b"{%b}" % b",".join(b'"k%d":0' % i for i in range(N // 3)),
        b"9" * 32 * N,
        b" " * 32 * N,
    ],
    ids=["open", "lists", "objects", "numbers", "texts", "keys", "digits", "blanks"],
)
def test_refuses_structure_that_no_request_has_without_parsing_it(body: bytes) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(large_body, "_SLICE_BYTES", 256 * 1024)
    try:
        reply, _ = run(body)
    finally:
        patch.undo()
    assert isinstance(reply, Reply)
    assert reply.status == 413
    assert reply.code == "request_too_complex"


@pytest.mark.parametrize(
    "document",
    [
        {"input": [list(range(1000, 2000))] * 300},
        {"messages": [{"role": "user", "content": 'a, {b} [c] "d"\n' * 500}] * 2000},
        {"messages": [{"role": "user", "content": "hi"}] * 30_000},
    ],
    ids=["token ids", "long messages", "many messages"],
)
def test_what_requests_do_have_passes(document: Any) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(large_body, "_SLICE_BYTES", 256 * 1024)
    patch.setattr(large_body, "ROOM_BYTES", 2**40)
    try:
        assert abridged(orjson.dumps(document)) == document
    finally:
        patch.undo()


def test_goes_in_steps_of_a_slice() -> None:
    _, steps = run(b'{"x":"%b"}' % (b"a" * 100 * SLICE_BYTES))
    assert steps > 190  # once to look for the end of the text, and once to check it
