"""Replacing the model and adding a message: the right spot, however the JSON is written, and nothing else."""

import json
import string
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.splice import MAX_PLACES, duplicates, is_usual, replace_model, top_level_span, with_prefill
from tests.support.vectors import Vector, ident, load, raw_of

# Keys and texts that look like what is sought, or end like it, or would break a scanner of quotes.
NAMES = ["model", "stream", "messages", "a", 'x "model', "\\", '\\"', '"model":', "model\\", "[{", "}]", "é"]
TEXT = st.sampled_from(NAMES) | st.text(max_size=8)
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(TEXT.filter(lambda name: name != "model"), JSON, max_size=4)


def write(value: Any, draw: Random) -> str:
    """JSON with blanks and escapes as nobody would write it."""
    if isinstance(value, str):
        return f'"{"".join(write_character(character, draw) for character in value)}"'
    if isinstance(value, list):
        return f"[{blank(draw)}{','.join(padded(write(item, draw), draw) for item in value)}]"
    if isinstance(value, dict):
        return write_object(list(value.items()), draw)
    return orjson.dumps(value).decode()


def write_object(members: list[tuple[str, Any]], draw: Random) -> str:
    written = [
        f"{padded(write(key, draw), draw)}:{padded(write(value, draw), draw)}" for key, value in members
    ]
    return f"{{{blank(draw)}{','.join(written)}}}"


def write_character(character: str, draw: Random) -> str:
    if draw.random() < 0.8 and character not in '"\\' and character >= " ":
        return character
    if character in '"\\/' and draw.random() < 0.5:
        return f"\\{character}"
    units = character.encode("utf-16-be")
    style = draw.choice(["{:04x}", "{:04X}"])
    return "".join(f"\\u{style.format(int.from_bytes(units[i : i + 2]))}" for i in range(0, len(units), 2))


def blank(draw: Random) -> str:
    return "".join(draw.choices(" \t\n\r", k=draw.choice([0, 0, 0, 1, 3])))


def padded(text: str, draw: Random) -> str:
    return f"{blank(draw)}{text}{blank(draw)}"


def document_of(body: bytes) -> dict[str, Any]:
    document = orjson.loads(body)
    assert isinstance(document, dict)
    return document


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A valid body with one top-level model, at any place."""
    members = list(draw(MEMBERS).items())
    members.insert(draw(st.integers(0, len(members))), ("model", draw(TEXT)))
    random = draw(st.randoms(use_true_random=False))
    return padded(write_object(members, random), random).encode()


# --- the model ------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(requests(), TEXT)
def test_only_the_model_changes(body: bytes, model: str) -> None:
    document = document_of(body)
    span = top_level_span(body, document, "model")
    assert span is not None
    assert orjson.loads(body[slice(*span)]) == document["model"]
    replaced = replace_model(body, document, model)
    assert replaced == body[: span[0]] + orjson.dumps(model) + body[span[1] :]
    assert list(orjson.loads(replaced).items()) == list({**document, "model": model}.items())


@given(requests())
def test_every_member_is_found(body: bytes) -> None:
    document = document_of(body)
    for key in [name for name in document if name.isalpha() and name.isascii()]:
        span = top_level_span(body, document, key)
        assert span is not None
        assert orjson.loads(body[slice(*span)]) == document[key]


@pytest.mark.parametrize(
    ("body", "replaced"),
    [
        (b'{"model":"m"}', b'{"model":"new"}'),
        (b' {\n\t"model" :\r\n"m" }\n', b' {\n\t"model" :\r\n"new" }\n'),
        (b'{"mod\\u0065l":"m"}', b'{"mod\\u0065l":"new"}'),
        (b'{"\\u006D\\u006fdel":"m","a":"model"}', b'{"\\u006D\\u006fdel":"new","a":"model"}'),
        (b'{"model":"a\\"b\\\\"}', b'{"model":"new"}'),
        (b'{"x":{"model":"d"},"model":"m"}', b'{"x":{"model":"d"},"model":"new"}'),
        (b'{"model":"m","x":{"model":"d"}}', b'{"model":"new","x":{"model":"d"}}'),
        (b'{"mod\\u0065l":"m","x":{"model":"d"}}', b'{"mod\\u0065l":"new","x":{"model":"d"}}'),
        (b'{"x":[{"model":"d"}],"model":"m"}', b'{"x":[{"model":"d"}],"model":"new"}'),
        (b'{"x":"\\"model\\":\\"d\\"","model":"m"}', b'{"x":"\\"model\\":\\"d\\"","model":"new"}'),
        (b'{"x \\"model":"d","model":"m"}', b'{"x \\"model":"d","model":"new"}'),
        (b'{"model":"m","x \\"model":"d"}', b'{"model":"new","x \\"model":"d"}'),
        (b'{"a":1,"model":"m","x \\"model":"d"}', b'{"a":1,"model":"new","x \\"model":"d"}'),
        (b'{"x":"\\\\","model":"m","y":"model"}', b'{"x":"\\\\","model":"new","y":"model"}'),
        (b'{"x":"}{[","model":"m","y":{"model":1}}', b'{"x":"}{[","model":"new","y":{"model":1}}'),
        (b'{"x":"\\\\u006dodel","model":"m"}', b'{"x":"\\\\u006dodel","model":"new"}'),
        (b'{"role":"model","model":"model"}', b'{"role":"model","model":"new"}'),
        (b'{"models":"a","supermodel":"b","model":"m"}', b'{"models":"a","supermodel":"b","model":"new"}'),
        (b'{"model":"m","seed":12345678901234567890123}', b'{"model":"new","seed":12345678901234567890123}'),
        (b'{"t":0.10000000000000000555,"model":"m"}', b'{"t":0.10000000000000000555,"model":"new"}'),
    ],
)
def test_where_the_model_stands(body: bytes, replaced: bytes) -> None:
    assert replace_model(body, document_of(body), "new") == replaced


@pytest.mark.parametrize("model", ["", 'a"b', "a\\b", "é", "Pro/🌊", "\n"])
def test_the_new_model_is_written_as_json(model: str) -> None:
    replaced = replace_model(b'{"model":"m"}', {"model": "m"}, model)
    assert replaced is not None
    assert orjson.loads(replaced) == {"model": model}


@pytest.mark.parametrize("body", [b"{}", b'{"x":{"model":"m"}}', b'{"x":"model"}'])
def test_no_model_no_replacement(body: bytes) -> None:
    assert replace_model(body, document_of(body), "new") is None


def test_any_value_has_a_span() -> None:
    body = b'{"a": [1,[2,"]"],{"b":"}"}] ,"b":-1.5e3,"c":null,"d":{},"e":"x\\"y","f":true }'
    document = document_of(body)
    spans = {key: top_level_span(body, document, key) for key in document}
    assert {key: orjson.loads(body[slice(*span)]) for key, span in spans.items() if span} == document


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_the_model_of_a_usual_body_changes_wherever_it_stands(place: str, indent: int | None) -> None:
    parts: dict[str, Any] = {"messages": [{"role": "user", "content": 'a "model": "b"'}], "stream": True}
    at = {"first": 0, "middle": 1, "last": 2}[place]
    members = list(parts.items())
    members.insert(at, ("model", "m"))
    body = json.dumps(dict(members), indent=indent).encode()
    replaced = replace_model(body, document_of(body), "new")
    assert replaced == json.dumps({**dict(members), "model": "new"}, indent=indent).encode()


# --- duplicates -----------------------------------------------------------------------------------------

KEYS = ("model", "stream")
STYLES: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}]


@given(MEMBERS, st.sampled_from(STYLES), st.booleans())
def test_a_usual_body_names_nothing_twice(members: dict[str, Any], style: Any, is_ascii: bool) -> None:
    body = json.dumps(members, ensure_ascii=is_ascii, **style).encode()
    assert duplicates(body, document_of(body), tuple(members)) == []
    doubled = body[:-1] + b"," + body[1:] if members else body
    if members:
        assert not is_usual(doubled, document_of(doubled))


@pytest.mark.parametrize("style", STYLES[:2])
def test_sees_at_once_what_sdks_write(style: Any) -> None:
    document = {"model": "m", "messages": [{"role": "user", "content": "a, b: c"}], "n": 1, "stop": None}
    body = json.dumps(document, **style).encode()
    assert is_usual(body, document_of(body))


@given(requests(), st.sampled_from(KEYS), JSON, st.randoms(use_true_random=False))
def test_no_body_that_names_something_twice_is_usual(body: bytes, key: str, value: Any, draw: Random) -> None:
    if key not in document_of(body):
        return
    member = f"{write(key, draw)}{draw.choice([':', ': '])}{write(value, draw)}".encode()
    at = body.index(b"{") + 1
    body = body[:at] + member + draw.choice([b",", b", "]) + body[at:]
    assert not is_usual(body, document_of(body))


@pytest.mark.parametrize(
    "body",
    [
        # A body that grows as it is written anew, by as much as the second `n` takes.
        b'{"t":1e5,"n":1,"n":1}',
        b'{"n": 1, "n": 1}',
        b'{"n": 1, "\\u006e": 1}',
        b'{"n":2,"x":{"n":1},"n":2}',
    ],
)
def test_is_not_fooled_by_length(body: bytes) -> None:
    assert not is_usual(body, document_of(body))


def test_too_many_places_to_judge_are_refused() -> None:
    body = b'{"model":"m","x":[%b]}' % b",".join([b'{"model":1}'] * (MAX_PLACES - 2))
    assert duplicates(body, document_of(body), KEYS) == []
    body = b'{"model":"m","x":[%b]}' % b",".join([b'{"model":1}'] * MAX_PLACES)
    assert duplicates(body, document_of(body), KEYS) == ["model"]


def test_nesting_deeper_than_can_be_written_is_not_usual() -> None:
    body = b'{"model":"m","x":%b%b}' % (b"[" * 1000, b"]" * 1000)
    assert not is_usual(body, document_of(body))
    assert duplicates(body, document_of(body), KEYS) == []


@given(requests(), st.sampled_from(["model", "stream"]), JSON, st.randoms(use_true_random=False))
def test_a_key_that_stands_twice_is_found_in_any_spelling(
    body: bytes, key: str, value: Any, draw: Random
) -> None:
    is_double = key in document_of(body)
    member = f"{padded(write(key, draw), draw)}:{padded(write(value, draw), draw)}".encode()
    at = body.index(b"{") + 1
    body = body[:at] + member + b"," + body[at:]
    document = document_of(body)
    assert duplicates(body, document, KEYS) == ([key] if is_double else [])
    if key == "model":
        assert top_level_span(body, document, "model") is None


@given(requests())
def test_no_duplicates_where_there_are_none(body: bytes) -> None:
    assert duplicates(body, document_of(body), KEYS) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"model":"a","model":"a"}', ["model"]),
        (b'{"model":"a","x":{"model":"b"}}', []),
        (b'{"model":"a","x":[{"model":"b"},{"model":"c"}]}', []),
        (b'{"model":"a","x":{},"model":"b"}', ["model"]),
        (b'{"model":"model","stream":true,"stream":true}', ["stream"]),
        (b'{"model":"a","stream":true,"strea\\u006D":false,"\\u006dodel":"b"}', ["model", "stream"]),
        (b'{"model":"a","x":"\\",\\"model\\":\\"b"}', []),
        (b'{"model":"a","\\\\u006dodel":"b"}', []),
    ],
)
def test_duplicates_at_the_top_only(body: bytes, found: list[str]) -> None:
    assert duplicates(body, document_of(body), KEYS) == found


VECTORS = [v for v in load("json_body_vectors") if v["id"] not in ("lone-surrogate", "cesu", "jsonl")]


def is_object(vector: Vector) -> bool:
    try:
        return isinstance(orjson.loads(raw_of(vector)), dict)
    except orjson.JSONDecodeError:
        return False


@pytest.mark.parametrize("vector", [v for v in VECTORS if is_object(v)], ids=ident)
def test_vectors(vector: Vector) -> None:
    body = raw_of(vector)
    document = document_of(body)
    is_refused = vector["id"] in ("dup-model-esc", "dup-stream")
    assert bool(duplicates(body, document, KEYS)) is is_refused
    if vector["id"] == "dup-model-esc":
        return
    replaced = replace_model(body, document, "new")
    if "model" not in document:
        assert replaced is None
        return
    assert replaced is not None
    assert orjson.loads(replaced) == {**document, "model": "new"}
    span = top_level_span(body, document, "model")
    assert span is not None
    assert replaced == body[: span[0]] + b'"new"' + body[span[1] :]


# --- the begun turn -------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": JSON}), max_size=3
)


@given(requests(), MESSAGES, TEXT, st.randoms(use_true_random=False), st.booleans())
def test_a_begun_turn_is_added_and_nothing_else(
    body: bytes, messages: list[Any], text: str, draw: Random, is_first: bool
) -> None:
    if "messages" in document_of(body):
        return
    member = f"{write('messages', draw)}{blank(draw)}:{padded(write(messages, draw), draw)}".encode()
    at = body.index(b"{") + 1 if is_first else body.rindex(b"}")
    body = body[:at] + (member + b"," if is_first else b"," + member) + body[at:]
    document = document_of(body)
    begun = with_prefill(body, document, text)
    assert begun is not None
    turn = {"role": "assistant", "content": text}
    assert orjson.loads(begun) == {**document, "messages": [*messages, turn]}
    added = (b"," if messages else b"") + orjson.dumps(turn)
    assert begun.replace(added, b"", 1) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":"a"}',
        b'{"messages":null}',
        b'{"messages":"a"}',
        b'{"messages":["a"]}',
        b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}',
        b'{"messages":[],"messag\\u0065s":[]}',
    ],
)
def test_no_turn_is_begun_where_it_makes_no_sense(body: bytes) -> None:
    assert with_prefill(body, document_of(body), "text") is None


def test_the_turn_goes_behind_nested_brackets() -> None:
    body = b'{"messages":[{"role":"user","content":[{"text":"]}"}]} ] ,"model":"m"}'
    begun = with_prefill(body, document_of(body), "so")
    turn = b',{"role":"assistant","content":"so"}'
    assert begun == body.replace(b" ] ,", b" %b] ," % turn)


# --- size -----------------------------------------------------------------------------------------------


def test_a_large_body_takes_a_few_passes() -> None:
    """No recursion and no per-character work; the time is in the benchmark, here it is only bounded."""
    text = (string.printable + "🌊\\") * 20_000
    document = {"messages": [{"role": "user", "content": text}], "model": "m", "metadata": {"model": text}}
    body = orjson.dumps(document)
    assert replace_model(body, document, "new") == orjson.dumps({**document, "model": "new"})
