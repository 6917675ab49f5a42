"""A stored answer given again: the same text, figures and end, however it was stored and is asked for."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.cache.recording import Record, Recording, record_of
from sidecar.cache.replay import DONE, MAX_EVENTS, Answer
from sidecar.events import StreamReader
from sidecar.sse import data_of, split
from tests.cache.support import USAGE, Json, chunk, plain, streamed

ID, CREATED_S = "chatcmpl-ours", 1_800_000_000


def recorded(events: list[Json], kind: str = "chat") -> Answer:
    recording = Recording(kind)
    for event in events:
        recording.note(event)
    record = recording.end()
    assert isinstance(record, Record)
    return Answer(kind, record.content)


def stored(answer: Json | bytes, kind: str = "chat") -> Answer:
    record = record_of(kind, answer if isinstance(answer, bytes) else orjson.dumps(answer))
    assert isinstance(record, Record)
    return Answer(kind, record.content)


def json_of(answer: Answer) -> Json:
    document = orjson.loads(answer.as_json(ID, CREATED_S))
    assert isinstance(document, dict)
    return document


def events_of(answer: Answer, *, include_usage: bool = True) -> list[Json]:
    """The events, read as from the wire."""
    events = answer.as_events(ID, CREATED_S, include_usage=include_usage)
    assert split(b"".join(events)) == (events, b"")
    assert events[-1] == DONE
    return [orjson.loads(data_of(event) or b"") for event in events[:-1]]


def facts(answer: Answer) -> tuple[str, Json | None, str, str]:
    """Text, usage, finish reason and model of the plain answer."""
    document = json_of(answer)
    choice = document["choices"][0]
    return choice["message"]["content"], document.get("usage"), choice["finish_reason"], document["model"]


def test_a_plain_answer_comes_back_as_it_was_but_for_its_id_and_time() -> None:
    answer = plain("Six minutes.")
    assert json_of(stored(answer)) == answer | {"id": ID, "created": CREATED_S}


def test_a_reasoning_model_s_answer_comes_back_as_it_was() -> None:
    answer = plain(
        message={"role": "assistant", "content": "Six.", "reasoning_content": "Hm.", "tool_calls": None}
    )
    assert json_of(stored(answer)) == answer | {"id": ID, "created": CREATED_S}


def test_a_stream_comes_back_event_by_event_but_for_its_id_and_time() -> None:
    events = streamed("Six", " minu", "tes.")
    fresh = {"id": ID, "created": CREATED_S}
    shown = events_of(recorded(events))
    # What a role says besides is OpenAI's affair; the figures are null until the end.
    expected = [event | fresh | {"usage": event.get("usage")} for event in events]
    expected[0]["choices"][0]["delta"].pop("refusal")
    assert shown == expected


def test_the_framing_is_openai_s_byte_by_byte() -> None:
    answer = recorded([chunk({"content": "Sí\n\u2028"}), chunk({}, "stop")])
    head = (
        b'data: {"id":"chatcmpl-ours","object":"chat.completion.chunk","created":1800000000,'
        b'"model":"m-2026","system_fingerprint":"fp_1","choices":['
    )
    tail = b',"logprobs":null,"finish_reason":'
    assert answer.as_events(ID, CREATED_S, include_usage=False) == [
        head + b'{"index":0,"delta":{"role":"assistant","content":""}' + tail + b"null}]}\n\n",
        head + '{"index":0,"delta":{"content":"Sí\\n\u2028"}'.encode() + tail + b"null}]}\n\n",
        head + b'{"index":0,"delta":{}' + tail + b'"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]


def test_usage_comes_only_to_who_asked() -> None:
    answer = recorded(streamed("Six."))
    asked, unasked = events_of(answer), events_of(answer, include_usage=False)
    assert asked[-1]["usage"] == USAGE and asked[-1]["choices"] == []
    assert all(event["usage"] is None for event in asked[:-1])
    assert len(unasked) == len(asked) - 1
    assert not any("usage" in event for event in unasked)


def test_what_was_stored_whole_streams_as_one_piece() -> None:
    contents = [
        event["choices"][0]["delta"].get("content") for event in events_of(stored(plain("Six minutes.")))[:-1]
    ]
    assert contents == ["", "Six minutes.", None]


def test_a_stream_serves_a_plain_request() -> None:
    document = json_of(recorded(streamed("Six", " minutes.")))
    assert document == {
        "id": ID,
        "object": "chat.completion",
        "created": CREATED_S,
        "model": "m-2026",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None, "content": "Six minutes."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def test_ids_are_new_each_time() -> None:
    answer = stored(plain())
    ids = {answer.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(id_.startswith("chatcmpl-") for id_ in ids)


@pytest.mark.parametrize("include_usage", [True, False])
def test_the_relay_s_own_reader_takes_it_for_a_complete_stream(include_usage: bool) -> None:
    reader = StreamReader("chat")
    for event in recorded(streamed("Six", " minutes.")).as_events(ID, CREATED_S, include_usage=include_usage):
        reader.read(event)
    assert reader.is_complete and not reader.failed
    assert (reader.usage is not None) is include_usage
    assert reader.usage is None or (reader.usage.input, reader.usage.output) == (7, 3)


def test_completions_come_back_in_their_own_shape() -> None:
    choice: Json = {"text": "Six", "index": 0, "logprobs": None, "finish_reason": None}
    head: Json = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    events = [
        head | {"choices": [choice]},
        head | {"choices": [choice | {"text": " minutes."}]},
        head | {"choices": [choice | {"text": "", "finish_reason": "stop"}]},
        head | {"choices": [], "usage": USAGE},
    ]
    fresh = {"id": ID, "created": CREATED_S}
    answer = recorded(events, "completions")
    assert events_of(answer) == [event | fresh | {"usage": event.get("usage")} for event in events]
    whole = head | {"choices": [choice | {"text": "Six minutes.", "finish_reason": "stop"}], "usage": USAGE}
    assert json_of(answer) == whole | fresh
    assert json_of(stored(whole, "completions")) == whole | fresh
    assert answer.text == "Six minutes."
    assert answer.new_id().startswith("cmpl-")


PIECES = st.lists(
    st.tuples(st.sampled_from(["content", "reasoning_content"]), st.text(min_size=1, max_size=12)),
    min_size=1,
    max_size=12,
).filter(lambda pieces: any(channel == "content" for channel, _ in pieces))
FIGURES = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 10**9), "completion_tokens": st.integers(0, 10**9)}
)


@settings(max_examples=150)
@given(PIECES, FIGURES, st.booleans())
def test_text_usage_and_end_survive_every_way_there_and_back(
    pieces: list[tuple[str, str]], usage: Json | None, stops_with_text: bool
) -> None:
    events = [chunk({"role": "assistant"}), *(chunk({channel: text}) for channel, text in pieces)]
    if stops_with_text:
        # Some providers name the reason in the event with the last text.
        events[-1]["choices"][0]["finish_reason"] = "stop"
    else:
        events.append(chunk({}, "stop"))
    if usage is not None:
        events[-1]["usage"] = usage
    text = "".join(piece for channel, piece in pieces if channel == "content")

    first = recorded(events)
    again = recorded(events_of(first, include_usage=usage is not None))
    whole = stored(first.as_json(ID, CREATED_S))
    from_whole = recorded(events_of(whole, include_usage=usage is not None))
    for answer in (first, again, whole, from_whole):
        assert facts(answer) == (text, usage, "stop", "m-2026")
        assert answer.text == text
    assert first._runs == again._runs


def _shown(events: list[Json]) -> list[Any]:
    return [event["choices"][0]["delta"] for event in events if event["choices"]]


@settings(max_examples=50)
@given(PIECES)
def test_the_text_is_cut_as_it_came(pieces: list[tuple[str, str]]) -> None:
    events = [*(chunk({channel: text}) for channel, text in pieces), chunk({}, "stop")]
    shown = _shown(events_of(recorded(events), include_usage=False))
    assert shown[1:-1] == [{channel: text} for channel, text in pieces]


def test_very_many_pieces_are_given_in_fewer() -> None:
    recording = Recording("chat")
    words = [f"w{index} " for index in range(4 * MAX_EVENTS + 1)]
    for event in streamed(*words):
        recording.note(event)
    record = recording.end()
    assert isinstance(record, Record)
    events = Answer("chat", record.content).as_events("id", 0, include_usage=False)
    assert len(events) <= MAX_EVENTS + 3
    texts = [orjson.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(texts) == "".join(words)
