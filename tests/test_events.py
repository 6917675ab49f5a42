"""What a stream's events are: content or not, usage, and the end."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.events import CONTENT, EXTRA, GARBAGE, QUIET, StreamReader, both
from sidecar.sse import LargeEvent
from tests.support.documents import JSON, RESPONSES_USAGE, figures


def event(document: object, eol: bytes = b"\n") -> bytes:
    return b"data: " + (document if isinstance(document, bytes) else orjson.dumps(document)) + eol * 2


def chunk(delta: Any = None, *, finish: object = None, index: int = 0) -> dict[str, Any]:
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
    reader.read(event(chunk({"content": "a"})))
    assert reader.read(raw) == CONTENT
    assert is_complete(reader)


@pytest.mark.parametrize("kind", ["chat", "completions", "images"])
def test_done_alone_is_no_content(kind: str) -> None:
    reader = StreamReader(kind)
    assert reader.read(b"data: [DONE]\n\n") == QUIET


def test_a_finish_reason_for_every_choice_ends_a_stream() -> None:
    reader = StreamReader("chat", 2)
    assert reader.read(event(chunk(finish="stop", index=1))) == CONTENT
    reader.read(event(chunk(finish="stop", index=1)))
    assert not is_complete(reader)
    reader.read(event(chunk(finish="length", index=0)))
    assert is_complete(reader)


@pytest.mark.parametrize("finish", ["", "null", False, 0, [], {}, True, 1, ["stop"]])
def test_what_stands_for_no_finish_reason_ends_nothing(finish: object) -> None:
    reader = StreamReader("chat")
    assert reader.read(event(chunk({"role": "assistant", "content": ""}, finish=finish))) == QUIET
    assert reader.read(event(chunk({"content": "one "}, finish=finish))) == CONTENT
    assert not is_complete(reader)
    reader.read(event(chunk(finish="stop")))
    assert is_complete(reader)


def test_text_behind_a_finish_reason_means_that_it_was_none() -> None:
    reader = StreamReader("chat")
    reader.read(event(chunk({"content": "a"}, finish="stop")))
    assert is_complete(reader)
    assert reader.read(event(chunk({"content": "b"}))) == CONTENT
    assert not is_complete(reader)
    reader.read(event(chunk(finish="stop")))
    assert is_complete(reader)


def test_more_choices_than_were_asked_for_are_waited_for() -> None:
    reader = StreamReader("chat", 1)
    reader.read(event(chunk(finish="stop", index=0)))
    reader.read(event(chunk({"content": "b"}, index=1)))
    assert not is_complete(reader)
    reader.read(event(chunk(finish="stop", index=1)))
    assert is_complete(reader)


@pytest.mark.parametrize("late", [chunk({"content": ""}), chunk({}), {"choices": []}, chunk(finish="stop")])
def test_what_shows_nothing_behind_a_finish_reason_changes_nothing(late: dict[str, Any]) -> None:
    reader = StreamReader("chat")
    reader.read(event(chunk(finish="stop")))
    reader.read(event(late))
    assert is_complete(reader)


@pytest.mark.parametrize("asked", [{"strip_usage": True}, {"expects_usage": True}], ids=str)
def test_a_stream_whose_usage_was_asked_for_is_over_with_it_or_with_done(asked: dict[str, bool]) -> None:
    for last in (event(CHUNK_USAGE), b"data: [DONE]\n\n"):
        reader = StreamReader("chat", **asked)
        reader.read(event(chunk(finish="stop")))
        assert (reader.is_complete, reader.is_over) == (True, False)
        reader.read(event({"choices": [], "usage": None}))
        assert not reader.is_over
        reader.read(last)
        assert reader.is_over


def test_a_stream_is_over_with_its_finish_reason_where_no_usage_is_to_come() -> None:
    unasked = StreamReader("chat")
    unasked.read(event(chunk(finish="stop")))
    assert unasked.is_over
    told = StreamReader("chat", expects_usage=True)
    told.read(event({**chunk(finish="stop"), "usage": CHUNK_USAGE["usage"]}))
    assert told.is_over


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


@pytest.mark.parametrize("nothing", [None, {}, "", False])
def test_an_empty_error_is_none(nothing: object) -> None:
    reader = StreamReader("chat")
    assert reader.read(event({**chunk({"content": "a"}), "error": nothing})) == CONTENT
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


# --- images, speech, and what is not known --------------------------------------------------------------

TOKENS = {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}
STREAMS = {
    "images": ("image_generation.partial_image", "image_generation.completed"),
    "edits": ("image_edit.partial_image", "image_edit.completed"),
    "speech": ("speech.audio.delta", "speech.audio.done"),
    "transcriptions": ("transcript.text.delta", "transcript.text.done"),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("is_named", [False, True], ids=["type", "event field"])
def test_images_and_speech_end_with_their_last_event(kind: str, is_named: bool) -> None:
    def told(name: str, **rest: Any) -> bytes:
        if is_named:
            return f"event: {name}\n".encode() + event(rest)
        return event({"type": name, **rest})

    part, end = STREAMS[kind]
    reader = StreamReader(kind)
    assert reader.read(told(part, b64_json="QUJD")) == CONTENT
    assert not is_complete(reader)
    assert not reader.ends_well(is_amid_event=False)
    assert reader.read(told(end, usage=TOKENS)) == CONTENT
    assert (reader.is_complete, reader.is_over) == (True, True)
    assert reader.ends_well(is_amid_event=False)
    assert figures(reader.usage) == (10, 100, 0, 0)
    assert reader.events == 2


def test_several_images_end_with_the_last_one() -> None:
    reader = StreamReader("images", 2)
    reader.read(event({"type": "image_generation.completed"}))
    assert not is_complete(reader)
    reader.read(event({"type": "image_generation.partial_image"}))
    assert not reader.ends_well(is_amid_event=False)
    reader.read(event({"type": "image_generation.completed"}))
    assert is_complete(reader)


def test_one_event_may_close_several_images_where_the_body_ends_with_it() -> None:
    reader = StreamReader("images", 2)
    for _ in range(2):
        reader.read(event({"type": "image_generation.partial_succeeded"}))
    reader.read(event({"type": "image_generation.completed", "usage": TOKENS}))
    assert not is_complete(reader)
    assert reader.ends_well(is_amid_event=False)
    assert is_complete(reader)


@pytest.mark.parametrize("document", [{"audio": "QUJD"}, {"type": None}, {"type": "chunk"}, {}])
def test_a_stream_that_names_no_end_ends_with_its_body_unless_amid_an_event(document: Any) -> None:
    reader = StreamReader("speech")
    assert not reader.ends_well(is_amid_event=False)
    assert reader.read(event(document)) == CONTENT
    assert not is_complete(reader)
    assert not reader.ends_well(is_amid_event=True)
    assert reader.ends_well(is_amid_event=False)
    assert is_complete(reader)


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages"])
def test_a_stream_that_has_an_end_does_not_end_with_its_body(kind: str) -> None:
    reader = StreamReader(kind)
    reader.read(event(chunk({"content": "a"})))
    reader.read(event({"type": "response.output_text.delta", "delta": "a"}))
    assert not reader.ends_well(is_amid_event=False)


@pytest.mark.parametrize("document", [{"type": "error"}, {"error": {"message": "no"}}])
def test_an_error_event_among_images(document: Any) -> None:
    reader = StreamReader("images")
    assert reader.read(event(document)) == CONTENT
    assert reader.failed
    assert not is_complete(reader)


# --- events too long to be held -------------------------------------------------------------------------


def large(raw: bytes, step: int = 100_000) -> LargeEvent:
    made = LargeEvent()
    for start in range(0, len(raw), step):
        made.add(raw[start : start + step])
    return made


@pytest.mark.parametrize("kind", ["images", "responses"])
@pytest.mark.parametrize("is_named", [False, True], ids=["type", "event field"])
def test_a_long_last_event_is_known_by_its_name_and_has_its_usage(kind: str, is_named: bool) -> None:
    if kind == "images":
        name, rest = "image_generation.completed", {"b64_json": "x" * 300_000, "usage": TOKENS}
    else:
        output = [{"type": "image_generation_call", "result": "x" * 300_000}]
        response = {"id": "r", "output": output, "usage": TOKENS, "user": None, "metadata": {"a": "b"}}
        name, rest = "response.completed", {"response": response}
    raw = f"event: {name}\n".encode() + event(rest) if is_named else event({"type": name, **rest})
    reader = StreamReader(kind)
    assert reader.read_large(large(raw)) == CONTENT
    assert (reader.is_complete, reader.failed) == (True, False)
    assert figures(reader.usage) == (10, 100, 0, 0)


def test_a_long_part_leaves_its_stream_open() -> None:
    reader = StreamReader("images")
    raw = event({"type": "image_generation.partial_image", "b64_json": "x" * 300_000})
    assert reader.read_large(large(raw)) == CONTENT
    assert not reader.ends_well(is_amid_event=False)


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages", "speech"])
@pytest.mark.parametrize(
    "tail", [b'"usage"', b'"usage":', b'"usage":{', b'"usage":"', b'"usage":' + b"[" * 9000, b"\xff", b""]
)
def test_a_long_event_of_any_kind_and_shape_is_content(kind: str, tail: bytes) -> None:
    reader = StreamReader(kind)
    assert reader.read_large(large(b"data: " + b"x" * 300_000 + tail)) == CONTENT
    assert reader.usage is None
    assert not is_complete(reader)


# --- whatever else --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chat", "responses", "messages", "images"])
@pytest.mark.parametrize("name", [b"", b"event: x\n"], ids=["plain", "named"])
def test_an_event_nested_deeply_is_judged_and_nothing_breaks(kind: str, name: bytes) -> None:
    def nested(depth: int) -> bytes:
        deep = b"[" * depth + b"]" * depth
        return name + b'data: {"choices":[{"delta":{"content":"a"}}],"type":"x.delta","x":%b}\n\n' % deep

    reader = StreamReader(kind)
    assert reader.read(nested(300)) in (CONTENT, QUIET)
    assert reader.read(nested(5000)) == GARBAGE
    assert not reader.failed


class Notes(list[dict[str, Any]]):
    """A listener."""

    def note(self, document: dict[str, Any]) -> None:
        self.append(document)


def test_listeners_are_told_of_every_event_errors_included() -> None:
    one, other = Notes(), Notes()
    for listeners in ((one, None), (None, one), (one, other)):
        reader = StreamReader("chat")
        reader.tap = both(*listeners)
        reader.read(event(chunk({"content": "a"})))
        reader.read(b": ping\n\n")
        reader.read(event({"error": {"message": "no"}}))
    assert len(one) == 6
    assert [sorted(document) for document in other] == [["choices"], ["error"]]
    assert both(None, None) is None


KINDS = ["chat", "completions", "responses", "messages", "embeddings", "images", "speech"]


@given(JSON, st.sampled_from(KINDS), st.sampled_from([b"", b"event: error\n", b"id: 7\n"]))
def test_any_json_is_read_without_a_failure(document: Any, kind: str, before: bytes) -> None:
    assert StreamReader(kind).read(before + event(document)) != GARBAGE
