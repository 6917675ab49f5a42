"""The wire format: which call a body is, its usage, and the asking for usage."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.exchange import Reply
from sidecar.large_body import LARGE_BYTES
from sidecar.openai import (
    DECISIVE_KEYS,
    Call,
    ask_for_usage,
    read_call,
    usage_from,
    usage_of,
)
from tests.support.documents import JSON, RESPONSES_USAGE, figures


def call_of(body: bytes) -> Call:
    call = read_call(body)
    assert isinstance(call, Call)
    return call


# --- calls ----------------------------------------------------------------------------------------------


def test_reads_model_and_stream() -> None:
    call = call_of(b'{"model":"m","stream":true}')
    assert (call.model, call.stream) == ("m", True)


@pytest.mark.parametrize("stream", [b"", b',"stream":false', b',"stream":null'])
def test_no_stream_unless_asked(stream: bytes) -> None:
    assert not call_of(b'{"model":"m"%b}' % stream).stream


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"m"', None),
        (b"null", None),
        (b"\xef\xbb\xbf{}", None),
        (b'{"model":"m"} x', None),
        (b'{"model":"m","x":NaN}', None),
        (b'{"model":"\xff"}', None),
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":null}', "model"),
        (b'{"model":["m"]}', "model"),
        (b'{"model":7}', "model"),
        (b'{"model":"a\\r\\nb: c"}', "model"),
        (b'{"model":"%b"}' % (b"m" * 257), "model"),
        (b'{"model":"m","stream":"true"}', "stream"),
        (b'{"model":"m","stream":1}', "stream"),
    ],
)
def test_refuses_a_body_that_is_no_call(body: bytes, param: str | None) -> None:
    reply = read_call(body)
    assert isinstance(reply, Reply)
    assert reply.status == 400
    error = orjson.loads(reply.body)["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize("filler", [b"[],", b"{},", b"0,"])
def test_refuses_structure_that_would_stop_the_loop(filler: bytes) -> None:
    reply = read_call(b'{"model":"m","x":[%b0]}' % (filler * 600_000))
    assert isinstance(reply, Reply)
    assert reply.status == 413


def test_a_long_text_is_no_structure() -> None:
    assert call_of(b'{"model":"m","x":"%b"}' % (b"word " * 400_000)).model == "m"


@pytest.mark.parametrize("key", DECISIVE_KEYS)
@pytest.mark.parametrize("written", [b'"%b":1,"%b":1', b'"%b":1,"x":{},\n"%b":1', b'"\\u00%02x%b":1,"%b":1'])
@pytest.mark.parametrize("size", [0, LARGE_BYTES], ids=["small", "large"])
def test_refuses_what_decides_something_and_stands_twice(key: str, written: bytes, size: int) -> None:
    name = key.encode()
    twice = written % ((name[0], name[1:], name) if written.count(b"%") == 3 else (name, name))
    rest = b"" if key == "model" else b'"model":"m",'
    reply = read_call(b'{%b%b,"y":"%b"}' % (rest, twice, b"a" * size))
    assert isinstance(reply, Reply)
    assert reply.status == 400
    error = orjson.loads(reply.body)["error"]
    assert error["param"] == key
    assert "more than once" in error["message"]


@pytest.mark.parametrize("size", [0, LARGE_BYTES], ids=["small", "large"])
@pytest.mark.parametrize(
    "rest",
    [
        b'"tools":[{"model":"a","stream":1},{"model":"b","model":"c"}]',
        b'"metadata":{"model":"a"}',
        b'"user":"model","stop":["model","stream"]',
        b'"x":"\\",\\"model\\":\\"b"',
        b'"x":1,"x":2',
    ],
)
def test_what_stands_twice_further_in_or_decides_nothing_is_let_through(rest: bytes, size: int) -> None:
    call = call_of(b'{"model":"m",%b,"stream":true,"y":"%b"}' % (rest, b"a" * size))
    assert (call.model, call.stream) == ("m", True)


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        (b"", "model"),
        (b'"model":7,', "model"),
        (b'"model":"%b",' % (b"m" * 9_000_000), "model"),
        (b'"model":"m","stream":1,', "stream"),
        (b'"model":"m","t":1e999,', None),
        (b'"model":"m",,', None),
    ],
)
def test_judges_a_large_body_like_a_small_one(rest: bytes, param: str | None) -> None:
    reply = read_call(b'{%b"x":"%b"}' % (rest, b"a" * LARGE_BYTES))
    assert isinstance(reply, Reply)
    assert reply.status == 400
    assert orjson.loads(reply.body)["error"]["param"] == param


def test_a_large_list_is_no_call() -> None:
    reply = read_call(b'["%b"]' % (b"a" * LARGE_BYTES))
    assert isinstance(reply, Reply)
    assert reply.status == 400


def test_a_large_prompt_is_read_whole_and_many_images_are_not() -> None:
    text = "word, " * 250_000
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
    call = call_of(body)
    assert not call.is_abridged
    assert call.document["messages"][0]["content"] == text
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000_000}}
    call = call_of(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": [image] * 3}]}))
    assert call.is_abridged
    assert [part["type"] for part in call.document["messages"][0]["content"]] == ["image_url"] * 3


@pytest.mark.parametrize(
    ("rest", "choices"),
    [
        (b"", 1),
        (b',"n":3', 3),
        (b',"n":null', 1),
        (b',"n":0', 1),
        (b',"n":true', 1),
        (b',"prompt":"a"', 1),
        (b',"prompt":["a","b"]', 2),
        (b',"prompt":["a","b"],"n":2', 4),
        (b',"prompt":[1,2,3]', 1),
        (b',"prompt":[[1,2],[3]]', 2),
        (b',"prompt":[]', 1),
    ],
)
def test_counts_the_answers_it_asks_for(rest: bytes, choices: int) -> None:
    assert call_of(b'{"model":"m"%b}' % rest).choices == choices


@pytest.mark.parametrize(
    ("rest", "generated"),
    [
        (b"", 1),
        (b',"n":3', 3),
        (b',"n":2,"best_of":5', 5),
        (b',"best_of":5', 5),
        (b',"n":5,"best_of":2', 5),
        (b',"best_of":null', 1),
        (b',"best_of":-1,"n":2', 2),
        (b',"prompt":["a","b"],"n":2,"best_of":3', 6),
    ],
)
def test_counts_the_answers_that_are_made_for_it(rest: bytes, generated: int) -> None:
    call = call_of(b'{"model":"m"%b}' % rest)
    call.kind = "completions"
    assert call.generated == generated
    assert call.max_output is None


CHAT_LIMITS = {"max_tokens": 7, "max_completion_tokens": 9}


@pytest.mark.parametrize(
    ("kind", "asked", "most"),
    [
        ("chat", {}, None),
        ("chat", {"max_tokens": 7}, 7),
        ("chat", {"max_completion_tokens": 9}, 9),
        ("chat", CHAT_LIMITS, 9),
        ("chat", {"max_tokens": 4000, "max_completion_tokens": 1}, 4000),
        ("chat", {"max_tokens": 7, "n": 3}, 21),
        ("chat", {"max_output_tokens": 1}, None),
        ("chat", {"max_tokens": 4000, "max_output_tokens": 1}, 4000),
        ("completions", {"max_tokens": 7, "n": 2, "best_of": 5}, 35),
        ("completions", {"max_tokens": 7, "prompt": ["a", "b"]}, 14),
        ("completions", {"max_completion_tokens": 1, "max_output_tokens": 1}, None),
        ("messages", CHAT_LIMITS, 7),
        ("responses", {**CHAT_LIMITS, "max_output_tokens": 8}, 8),
        ("responses", CHAT_LIMITS, None),
        ("images", {**CHAT_LIMITS, "max_output_tokens": 1}, None),
        ("speech", {**CHAT_LIMITS, "max_output_tokens": 1}, None),
        ("embeddings", {"max_tokens": 7}, 0),
        ("moderations", {}, 0),
        ("", {**CHAT_LIMITS, "max_output_tokens": 8}, 9),
    ],
)
def test_only_what_its_api_knows_bounds_an_answer(kind: str, asked: dict[str, Any], most: int | None) -> None:
    call = call_of(orjson.dumps({"model": "m", **asked}))
    call.kind = kind
    assert call.max_output == most


@pytest.mark.parametrize("value", [0, -1, "4000", True, [], 0.0])
def test_a_bound_that_is_no_number_of_tokens_bounds_nothing(value: Any) -> None:
    call = call_of(orjson.dumps({"model": "m", "max_tokens": value, "max_completion_tokens": 1}))
    call.kind = "chat"
    assert call.max_output is None


def test_a_bound_may_be_written_as_a_fraction() -> None:
    call = call_of(b'{"model":"m","max_tokens":4e3,"n":2}')
    call.kind = "chat"
    assert call.max_output == 8000


@pytest.mark.parametrize(
    ("rest", "is_replayable"),
    [(b"", True), (b',"store":false', True), (b',"store":true', False), (b',"background":true', False)],
)
def test_what_leaves_something_behind_is_not_replayed(rest: bytes, is_replayable: bool) -> None:
    assert call_of(b'{"model":"m"%b}' % rest).is_replayable is is_replayable


# --- usage ----------------------------------------------------------------------------------------------

CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (CHAT_USAGE, (10, 5, 4, 3)),
        (RESPONSES_USAGE, (10, 5, 4, 3)),
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0, 0)),
        ({"input_tokens": 7, "output_tokens": 2}, (7, 2, 0, 0)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": None}, (1, 2, 0, 0)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": "x"}, (1, 2, 0, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, 0, 0)),
        ({"completion_tokens": 5}, (0, 5, 0, 0)),
        ({"output_tokens": 5}, (0, 5, 0, 0)),
        ({"input_tokens": 7, "completion_tokens": None}, (7, 0, 0, 0)),
    ],
)
def test_usage_of_each_format(report: Any, expected: tuple[int, int, int, int]) -> None:
    assert figures(usage_from(report)) == expected


@pytest.mark.parametrize(
    "report",
    [
        None,
        [],
        "x",
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": "1", "completion_tokens": 2},
        {"prompt_tokens": 1.5, "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
        {},
        {"total_tokens": 2000},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 9},
        {"cache_read_input_tokens": 9},
    ],
)
def test_a_report_that_makes_no_sense_or_says_nothing_is_none(report: Any) -> None:
    assert usage_from(report) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"content": "Hi"}}], "usage": CHAT_USAGE},
        {"usage": CHAT_USAGE, "choices": []},
        {"choices": [{"message": {"content": 'my "usage" is "usage": {}'}}], "usage": CHAT_USAGE},
        {"choices": [{"message": {"content": "usage"}}], "usage": CHAT_USAGE},
        {"output": [], "usage": RESPONSES_USAGE, "user": None, "metadata": {}},
        {"usage": RESPONSES_USAGE, "metadata": {"usage": "billing"}},
        {"usage": CHAT_USAGE, "choices": [{"message": {"content": "usage"}}]},
    ],
    ids=["last", "first", "quoted", "word before", "responses", "key behind", "word behind"],
)
@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2], ids=["compact", "indented"])
def test_usage_of_a_whole_answer(answer: Any, indent: int) -> None:
    assert figures(usage_of(orjson.dumps(answer, option=indent))) == (10, 5, 4, 3)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"usage":null}', b'{"usage":{', b"<html>", b'"usage"'])
def test_no_usage_where_there_is_none(body: bytes) -> None:
    assert usage_of(body) is None


# --- asking for usage -----------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from(["a", "messages", "metadata", "include_usage"]), JSON, max_size=3),
    st.none()
    | st.just("absent")
    | st.dictionaries(st.sampled_from(["include_usage", "include_obfuscation"]), st.none() | st.just(False)),
    st.sampled_from([0, orjson.OPT_INDENT_2]),
    st.booleans(),
)
@settings(max_examples=400)
def test_asking_changes_nothing_else(rest: dict[str, Any], options: Any, style: int, is_last: bool) -> None:
    document: dict[str, Any] = {"model": "m", "stream": True}
    if is_last:
        document |= rest
    if options != "absent":
        document["stream_options"] = options
    if not is_last:
        document |= rest
    body = orjson.dumps(document, option=style)
    asked = ask_for_usage(body, call_of(body))
    if asked == body:
        assert options != "absent"  # there is never a doubt where to put what is not there
        return
    wanted = {
        **document,
        "stream_options": {**(options if type(options) is dict else {}), "include_usage": True},
    }
    assert orjson.loads(asked) == wanted
    # Every other byte: what was there is still there, before and behind one place.
    head = next((i for i, (a, b) in enumerate(zip(asked, body, strict=False)) if a != b), len(body))
    tail = next(i for i, (a, b) in enumerate(zip(asked[::-1], body[::-1], strict=False)) if a != b)
    assert len(asked) - head - tail <= len(b'"stream_options":{"include_usage":true},')


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b' {\n"model": "m"}', b' {"stream_options":{"include_usage":true},\n"model": "m"}'),
        (
            b'{"model":"m","stream_options":null}',
            b'{"model":"m","stream_options":{"include_usage":true}}',
        ),
        (
            b'{"model":"m","stream_options": { } }',
            b'{"model":"m","stream_options":{"include_usage":true} }',
        ),
        (
            b'{"model":"m","stream_options":{"include_usage": false}}',
            b'{"model":"m","stream_options":{"include_usage":true}}',
        ),
        (
            b'{"model":"m","stream_options":{"x":1}}',
            b'{"model":"m","stream_options":{"include_usage":true,"x":1}}',
        ),
    ],
)
def test_where_the_asking_goes(body: bytes, asked: bytes) -> None:
    assert ask_for_usage(body, call_of(body)) == asked


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","stream_options":{},"metadata":{"stream_options":{}}}',
        b'{"model":"m","stream_options":{},"user":"stream_options"}',
        b'{"model":"m","stream\\u005foptions":{}}',
        b'{"model":"m","stream_options":{},"metadata":{"include_usage":false}}',
    ],
)
def test_stays_as_it_is_where_the_place_is_in_doubt(body: bytes) -> None:
    asked = ask_for_usage(body, call_of(body))
    metadata = orjson.loads(body).get("metadata")
    assert orjson.loads(asked).get("metadata") == metadata
    if asked != body:
        assert orjson.loads(asked)["stream_options"] == {"include_usage": True}
