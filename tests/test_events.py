"""What a stream's events are: content or not, usage, and the end."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.events import CONTENT, EXTRA, GARBAGE, QUIET, StreamReader
from tests.support.documents import JSON, RESPONSES_USAGE, figures


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
