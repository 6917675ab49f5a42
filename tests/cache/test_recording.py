"""Which answers are kept: one complete text that ended by itself, and nothing a replay could not repeat."""

import json
from typing import Any

import orjson
import pytest

from sidecar.cache.recording import MAX_TEXT_CHARS, Record, Recording, Unfit, record_of
from tests.cache.support import USAGE, Json, chunk, plain, streamed


def end_of(events: list[Json], kind: str = "chat") -> Record | Unfit:
    recording = Recording(kind)
    for event in events:
        recording.note(event)
    return recording.end()


def why_not_stream(*events: Json, kind: str = "chat") -> str:
    found = end_of(list(events), kind)
    return found.reason if isinstance(found, Unfit) else ""


def why_not_plain(answer: Any, kind: str = "chat") -> str:
    found = record_of(kind, answer if isinstance(answer, bytes) else orjson.dumps(answer))
    return found.reason if isinstance(found, Unfit) else ""


def message(**members: Any) -> Json:
    return {"role": "assistant", "content": "Six.", **members}


STOP = chunk({}, "stop")
TOOL_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_a_complete_answer_is_kept() -> None:
    assert why_not_plain(plain()) == ""
    assert why_not_stream(*streamed("Six", " minutes.")) == ""


def test_usage_is_told_where_there_is_any() -> None:
    with_usage, without = end_of(streamed("Six.")), end_of(streamed("Six.", usage=None))
    assert isinstance(with_usage, Record) and with_usage.has_usage
    assert isinstance(without, Record) and not without.has_usage
    found = record_of("chat", orjson.dumps(plain() | {"usage": None}))
    assert isinstance(found, Record) and not found.has_usage


def test_a_stream_and_a_plain_answer_of_one_piece_are_the_same_text() -> None:
    one, other = end_of(streamed("Six.")), record_of("chat", orjson.dumps(plain("Six.")))
    assert isinstance(one, Record) and isinstance(other, Record)
    assert orjson.loads(one.content)[0] == orjson.loads(other.content)[0] == [["content", ["Six."]]]


@pytest.mark.parametrize(
    "finish", ["length", "content_filter", "tool_calls", "function_call", "error", "", 1]
)
def test_only_what_ended_by_itself_is_kept(finish: Any) -> None:
    assert why_not_plain(plain(finish_reason=finish)) == "finish"
    assert why_not_stream(*streamed("Six.")[:-2], chunk({}, finish)) == "finish"


def test_a_stream_without_its_end_is_not_kept() -> None:
    assert why_not_stream(*streamed("Six", " minutes.")[:-2]) == "finish"
    assert why_not_stream() == "finish"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "shape"),
        (b"<html>", "shape"),
        (b"[]", "error"),
        ({"error": {"message": "no"}}, "error"),
        (plain() | {"error": {"message": "late"}}, "error"),
        (plain() | {"choices": []}, "choices"),
        (plain() | {"choices": None}, "choices"),
        (plain() | {"choices": plain()["choices"] * 2}, "choices"),
        (plain() | {"choices": ["Six."]}, "choices"),
        (plain(index=1), "shape"),
        (plain(message=None), "shape"),
        (plain(message=message(content=None)), "empty"),
        (plain(message=message(content="")), "empty"),
        (plain(message=message(content="", reasoning_content="Hm.")), "empty"),
        (plain(message=message(content=[{"type": "text", "text": "Six."}])), "shape"),
        (plain(message=message(tool_calls=[TOOL_CALL])), "tools"),
        (plain(message=message(function_call={"name": "f"})), "tools"),
        (plain(message=message(refusal="I cannot.")), "refusal"),
        (plain(message=message(annotations=[{"type": "url_citation"}])), "shape"),
        (plain(message=message(audio={"id": "a"})), "shape"),
        (plain(logprobs={"content": [{}]}), "logprobs"),
        (plain() | {"citations": ["https://a.example"]}, "shape"),
        (plain() | {"x": "y" * MAX_TEXT_CHARS}, "size"),
    ],
)
def test_plain_answers_that_are_not_kept(answer: Any, why: str) -> None:
    assert why_not_plain(answer) == why


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (chunk({"tool_calls": [TOOL_CALL]}), "tools"),
        (chunk({"function_call": {"name": "f"}}), "tools"),
        (chunk({"refusal": "I cannot."}), "shape"),
        (chunk({"annotations": [{}]}), "shape"),
        (chunk({"content": [{"type": "text"}]}), "shape"),
        (chunk({"content": 7}), "shape"),
        (chunk({}) | {"choices": [{"index": 1, "delta": {"content": "x"}}]}, "choices"),
        (chunk({}) | {"choices": [{"delta": {}}, {"delta": {}}]}, "choices"),
        (chunk({}) | {"choices": ["x"]}, "choices"),
        (chunk({}) | {"choices": "x"}, "choices"),
        (chunk({}) | {"choices": [{"index": 0, "delta": "x"}]}, "shape"),
        (chunk({}) | {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": []}}]}, "logprobs"),
        (chunk({}, citations=["https://a.example"]), "shape"),
        ({"error": {"message": "no"}}, "error"),
    ],
)
def test_one_strange_event_makes_a_stream_unfit(event: Json, why: str) -> None:
    events = streamed("Six", " minutes.")
    assert why_not_stream(*events[:2], event, *events[2:]) == why


def test_nothing_may_follow_the_end() -> None:
    assert why_not_stream(*streamed("Six."), chunk({"content": " And"})) == "shape"


def test_a_stream_that_grows_without_end_is_let_go() -> None:
    recording = Recording("chat")
    for _ in range(30):
        recording.note(chunk({"content": "x" * 50_000}))
    assert recording._runs == []
    recording.note(STOP)
    found = recording.end()
    assert isinstance(found, Unfit) and found.reason == "size"


def test_what_was_spoilt_stays_so_for_its_first_reason() -> None:
    recording = Recording("chat")
    recording.spoil("resumed")
    for event in streamed("Six."):
        recording.note(event)
    recording.spoil("size")
    found = recording.end()
    assert isinstance(found, Unfit) and found.reason == "resumed"


def test_notes_of_how_an_answer_came_to_be_do_not_matter() -> None:
    filtered = {"hate": {"filtered": False}}
    events = streamed("Six.")
    events[1] |= {"obfuscation": "xyz", "x_groq": {"id": "r"}, "prompt_filter_results": [filtered]}
    events[2] |= {
        "timings": {"prompt_ms": 1.0},
        "time_info": {"total_time": 1.0},
        "metadata": {"version": "1"},
    }
    events[1]["choices"][0]["content_filter_results"] = filtered
    assert why_not_stream(*events) == ""
    assert why_not_plain(plain(content_filter_results=filtered) | {"prompt_filter_results": [filtered]}) == ""


def test_the_last_figures_count() -> None:
    events = streamed("Six", " minutes.", usage=USAGE)
    events[1]["usage"] = {"prompt_tokens": 7, "completion_tokens": 1}
    found = end_of(events)
    assert isinstance(found, Record)
    assert orjson.loads(found.content)[1] == USAGE


def test_completions_are_kept_alike() -> None:
    choice = {"index": 0, "text": "Six.", "logprobs": None, "finish_reason": "stop"}
    answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    assert why_not_plain(answer, "completions") == ""
    assert why_not_plain(answer | {"choices": [choice | {"text": ""}]}, "completions") == "empty"
    assert (
        why_not_plain(answer | {"choices": [choice | {"finish_reason": "length"}]}, "completions") == "finish"
    )
    events = [
        answer | {"choices": [choice | {"finish_reason": None}]},
        answer | {"choices": [choice | {"text": ""}]},
    ]
    assert why_not_stream(*events, kind="completions") == ""
    assert why_not_stream(events[0], kind="completions") == "finish"


def test_figures_nested_too_deeply_to_be_written_make_an_answer_unfit() -> None:
    deep: Any = 1
    for _ in range(253):
        deep = [deep]
    answer = plain("Six.")
    answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "x": deep}
    found = record_of("chat", json.dumps(answer).encode())
    assert isinstance(found, Unfit) and found.reason == "shape"
