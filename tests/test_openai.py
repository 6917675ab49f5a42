"""The wire format: which call a body is, its usage, the asking for usage, and what a stream's events are."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.exchange import Reply, Usage
from sidecar.large_body import LARGE_BYTES
from sidecar.openai import (
    CONTENT,
    DECISIVE_KEYS,
    EXTRA,
    GARBAGE,
    QUIET,
    Call,
    StreamReader,
    ask_for_usage,
    read_call,
    usage_from,
    usage_of,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from(["", "x", "usage", "stream_options", "include_usage", '{"', "\\", "\u2028", "é"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "usage", "stream_options", "include_usage", "messages"]),
            children,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def call_of(body: bytes) -> Call:
    call = read_call(body)
    assert isinstance(call, Call)
    return call


def figures(usage: Usage | None) -> tuple[int, int, int, int] | None:
    return None if usage is None else (usage.input, usage.output, usage.cached, usage.reasoning)


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
    text = "word, " * 400_000
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
RESPONSES_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 15,
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
    ],
)
def test_a_report_that_makes_no_sense_is_none(report: Any) -> None:
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


# --- streams --------------------------------------------------------------------------------------------


def event(document: object, eol: bytes = b"\n") -> bytes:
    return b"data: " + (document if isinstance(document, bytes) else orjson.dumps(document)) + eol * 2


def chunk(delta: Any = None, *, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}]}


def is_complete(reader: StreamReader) -> bool:
    return reader.is_complete


CHUNK_USAGE = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


@pytest.mark.parametrize(
    ("delta", "verdict"),
    [
        ({"content": "Hi"}, CONTENT),
        ({"reasoning_content": "hm"}, CONTENT),
        ({"tool_calls": [{"index": 0}]}, CONTENT),
        ({"refusal": "no"}, CONTENT),
        ({"role": "assistant"}, QUIET),
        ({"role": "assistant", "content": ""}, QUIET),
        ({"role": "assistant", "content": None, "refusal": None, "tool_calls": None}, QUIET),
        ({}, QUIET),
    ],
)
def test_what_counts_as_content(delta: Any, verdict: int) -> None:
    reader = StreamReader("chat")
    assert reader.read(event(chunk(delta))) == verdict
    assert not is_complete(reader)


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        (b": ping\n\n", QUIET),
        (b"event: ping\n\n", QUIET),
        (b"\n\n", QUIET),
        (b"data: {}\n\n", QUIET),
        (b"data: 1\n\n", QUIET),
        (b"data: null\n\n", QUIET),
        (b'data: {"choices":null}\n\n', QUIET),
        (b'data: {"choices":[null,7,{"delta":7}]}\n\n', QUIET),
        (b"data: <html>\n\n", GARBAGE),
        (b"data: {\n\n", GARBAGE),
        (b"data: \xff\n\n", GARBAGE),
        (b"data: [DONE\n\n", GARBAGE),
        (b"data: done\n\n", GARBAGE),
    ],
)
def test_what_is_quiet_and_what_is_garbage(raw: bytes, verdict: int) -> None:
    reader = StreamReader("chat")
    assert reader.read(raw) == verdict
    assert not is_complete(reader)
    assert not reader.failed


@pytest.mark.parametrize("raw", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE] \r\r"])
def test_done_ends_a_stream(raw: bytes) -> None:
    reader = StreamReader("chat")
    assert reader.read(raw) == CONTENT
    assert is_complete(reader)


def test_a_finish_reason_for_every_choice_ends_a_stream() -> None:
    reader = StreamReader("chat", 2)
    assert reader.read(event(chunk(finish="stop", index=1))) == CONTENT
    reader.read(event(chunk(finish="stop", index=1)))
    assert not is_complete(reader)
    reader.read(event(chunk(finish="length", index=0)))
    assert is_complete(reader)


def test_completions_have_text_in_place_of_a_delta() -> None:
    reader = StreamReader("completions", 2)
    assert reader.read(event({"choices": [{"index": 0, "text": ""}]})) == QUIET
    assert reader.read(event({"choices": [{"index": 0, "text": "a"}]})) == CONTENT
    both = [{"index": i, "text": "", "finish_reason": "stop"} for i in (0, 1)]
    assert reader.read(event({"choices": both})) == CONTENT
    assert is_complete(reader)


def test_usage_comes_in_its_own_event_or_with_the_last_one() -> None:
    reader = StreamReader("chat")
    assert reader.read(event(CHUNK_USAGE)) == QUIET
    assert figures(reader.usage) == (1, 2, 0, 0)
    reader.read(event({**chunk(finish="stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
    assert figures(reader.usage) == (3, 4, 0, 0)


def test_the_usage_nobody_asked_for_is_extra_and_the_rest_is_not() -> None:
    reader = StreamReader("chat", strip_usage=True)
    assert reader.read(event({**chunk({"content": "a"}), "usage": None})) == CONTENT
    assert reader.read(event({**chunk(finish="stop"), "usage": {"prompt_tokens": 1}})) == CONTENT
    assert reader.read(event({"choices": []})) == QUIET
    assert reader.read(event(CHUNK_USAGE)) == EXTRA
    assert figures(reader.usage) == (1, 2, 0, 0)


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages"])
def test_an_error_event_is_the_providers_own_end(kind: str) -> None:
    reader = StreamReader(kind)
    raw = b"event: error\n" + event({"type": "error", "error": {"message": "overloaded"}})
    assert reader.read(raw) == CONTENT
    assert reader.failed


def test_a_null_error_is_none() -> None:
    reader = StreamReader("chat")
    assert reader.read(event({**chunk({"content": "a"}), "error": None})) == CONTENT
    assert not reader.failed


def test_responses_events() -> None:
    reader = StreamReader("responses")
    assert reader.read(b"event: x\n" + event({"type": "response.created", "response": {}})) == QUIET
    assert reader.read(event({"type": "response.output_text.delta", "delta": "a"})) == CONTENT
    assert reader.read(event({"type": "response.output_text.done"})) == QUIET
    assert not is_complete(reader)
    completed = {"type": "response.completed", "response": {"usage": RESPONSES_USAGE}}
    assert reader.read(event(completed)) == CONTENT
    assert is_complete(reader)
    assert not reader.failed
    assert figures(reader.usage) == (10, 5, 4, 3)


@pytest.mark.parametrize(("name", "failed"), [("incomplete", False), ("failed", True)])
def test_other_ends_of_a_response(name: str, failed: bool) -> None:
    reader = StreamReader("responses")
    reader.read(event({"type": f"response.{name}", "response": None}))
    assert is_complete(reader)
    assert reader.failed is failed
    assert reader.usage is None


def test_message_events() -> None:
    reader = StreamReader("messages")
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}
    assert reader.read(b"event: message_start\n" + event(start)) == QUIET
    assert reader.read(event({"type": "ping"})) == QUIET
    assert reader.read(event({"type": "content_block_start", "content_block": {}})) == QUIET
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}
    assert reader.read(event(delta)) == CONTENT
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}
    reader.read(event(end))
    assert not is_complete(reader)
    assert reader.read(event({"type": "message_stop"})) == CONTENT
    assert is_complete(reader)
    assert figures(reader.usage) == (9, 7, 0, 0)


@given(JSON, st.sampled_from(["chat", "completions", "responses", "messages", "embeddings"]))
def test_any_json_is_read_without_a_failure(document: Any, kind: str) -> None:
    assert StreamReader(kind).read(event(document)) != GARBAGE
