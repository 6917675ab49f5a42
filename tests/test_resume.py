"""Resuming a stream: what the caller reads is what was delivered and what follows, never a second copy."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.exchange import Usage
from sidecar.openai import Call
from sidecar.resume import MAX_TEXT_BYTES, Delivered, Joiner, Mode, total
from sidecar.sse import data_of

DONE = b"data: [DONE]\n\n"
PREFILL, RESTART = Mode

# What breaks a comparison of text: characters of two UTF-16 units, joined emoji, combining marks, a letter in
# its two normal forms, line ends, quotes, and few different letters, so that texts repeat themselves.
CHARACTERS = [
    "a",
    "b",
    " ",
    "\n",
    "\r\n",
    '"',
    "\\",
    "é",
    "e\u0301",
    "🌊",
    "👩\u200d🚀",
    "\u2028",
    "中",
    "\x00",
]
TEXT = st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=12).map("".join)


@st.composite
def tokenised(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


# --- providers and callers, as small as they can be -----------------------------------------------------


def event(document: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + orjson.dumps(document) + b"\n\n"


def chunk(delta: object = None, *, id_: str = "1", finish: object = None, **rest: object) -> bytes:
    choice = {"index": 0, "delta": {} if delta is None else delta, "logprobs": None, "finish_reason": finish}
    return event(
        {"id": id_, "object": "chat.completion.chunk", "model": f"m{id_}", "choices": [choice], **rest}
    )


def chat(tokens: Iterable[str], id_: str = "1", channel: str = "content") -> list[bytes]:
    """A whole chat, and the events that show nothing."""
    role = chunk({"role": "assistant", "content": ""}, id_=id_)
    text = [chunk({channel: token}, id_=id_) for token in tokens]
    return [role, b": ping\n\n", *text, chunk(id_=id_, finish="stop"), DONE]


def completions(tokens: Iterable[str], id_: str = "1") -> list[bytes]:
    text = [event({"id": id_, "choices": [{"index": 0, "text": t, "finish_reason": None}]}) for t in tokens]
    return [*text, event({"id": id_, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}), DONE]


def messages(tokens: Iterable[str], id_: str = "1") -> list[bytes]:
    start = {"id": id_, "content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}
    steps: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in tokens
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [event(step, step["type"]) for step in steps]


def responses(tokens: Sequence[str], id_: str = "1") -> list[bytes]:
    at = {"item_id": id_, "output_index": 0, "content_index": 0}
    item = {"id": id_, "type": "message"}
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": id_}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at},
        *({"type": "response.output_text.delta", **at, "delta": token, "logprobs": []} for token in tokens),
        {"type": "response.output_text.done", **at, "text": "".join(tokens)},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": id_}},
    ]
    return [event(step, step["type"]) for step in steps]


STREAMS: dict[str, Callable[[Sequence[str], str], list[bytes]]] = {
    "chat": chat,
    "completions": completions,
    "messages": messages,
    "responses": responses,
}


def parsed(raw: bytes) -> dict[str, Any] | None:
    data = data_of(raw)
    if data is None or data == b"[DONE]":
        return None
    document = orjson.loads(data)
    assert isinstance(document, dict)
    return document


def text_of(raw: bytes) -> str:
    """What a caller reads in an event, in any of the formats; reasoning does not count."""
    document = parsed(raw) or {}
    if document.get("type") == "content_block_delta":
        return str(document["delta"]["text"])
    if document.get("type") == "response.output_text.delta":
        return str(document["delta"])
    choices = document.get("choices") or [{}]
    return str(choices[0].get("text") or choices[0].get("delta", {}).get("content") or "")


def read(events: Iterable[bytes]) -> str:
    return "".join(map(text_of, events))


def deliver(kind: str, events: Iterable[bytes], request: dict[str, Any] | None = None) -> Delivered:
    """A stream that was passed on and then broke off."""
    delivered = Delivered(kind, Call(request or {}, "m", True))
    for raw in events:
        if (document := parsed(raw)) is not None:
            delivered.note(document)
    return delivered


def join(joiner: Joiner, events: Iterable[bytes]) -> list[bytes] | None:
    """What the second stream's events become; None at a mismatch."""
    passed = []
    for raw in events:
        if (document := parsed(raw)) is not None:
            joiner.note(document)
        taken = joiner.take(raw)
        if taken is None:
            return None
        if taken:
            passed.append(taken)
    return passed


def types_of(events: Iterable[bytes]) -> list[str]:
    return [(parsed(raw) or {}).get("type", "") for raw in events]


# --- joining --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
@settings(max_examples=150)
@given(data=st.data(), text=TEXT, rest=TEXT)
def test_never_a_second_copy(kind: str, data: st.DataObject, text: str, rest: str) -> None:
    """Every cut, every tokenisation of both streams: the caller reads the answer once."""
    whole = text + rest
    first = STREAMS[kind](data.draw(tokenised(whole)), "1")
    first = first[: data.draw(st.integers(1, len(first)))]
    delivered = deliver(kind, first)
    if not delivered.is_resumable:
        assert not read(first) or any(b"stop" in raw or b"completed" in raw for raw in first)
        return
    second = STREAMS[kind](data.draw(tokenised(whole)), "2")
    joiner = Joiner(delivered, RESTART)
    passed = join(joiner, second)
    assert passed is not None
    assert joiner.is_settled
    assert read(first) + read(passed) == whole
    # All but the event at the join are the provider's bytes, and nothing of them is missing.
    assert passed[1:] == second[len(second) - len(passed) + 1 :]
    assert not delivered.is_resumable


@settings(max_examples=150)
@given(data=st.data(), whole=TEXT)
def test_streams_that_break_off_again_and_again_make_one_answer(data: st.DataObject, whole: str) -> None:
    first = chat(data.draw(tokenised(whole)))
    passed = first[: data.draw(st.integers(1, len(first) - 2))]
    delivered = deliver("chat", passed)
    while delivered.is_resumable:
        assert delivered.text == read(passed)
        second = chat(data.draw(tokenised(whole)), "2")
        joiner = Joiner(delivered, RESTART)
        more = join(joiner, second[: data.draw(st.integers(0, len(second)))])
        assert more is not None
        passed = passed + more
        assert whole.startswith(read(passed))
    assert read(passed) in ("", whole)


@settings(max_examples=300)
@given(data=st.data(), text=TEXT, other=TEXT)
def test_another_answer_is_a_mismatch_and_nothing_of_it_is_passed_on(
    data: st.DataObject, text: str, other: str
) -> None:
    """At whatever character it differs, also where it is only shorter."""
    if other.startswith(text):
        return
    delivered = deliver("chat", chat(data.draw(tokenised(text)))[:-2])
    joiner = Joiner(delivered, RESTART)
    second = chat(data.draw(tokenised(other)), "2")
    taken: list[bytes | None] = []
    for raw in second:
        if (document := parsed(raw)) is not None:
            joiner.note(document)
        taken.append(joiner.take(raw))
        if taken[-1] is None:
            break
    assert taken[-1] is None
    assert not any(taken)
    assert not joiner.is_joined
    assert delivered.text == text


@pytest.mark.parametrize("position", range(5))
def test_one_different_character_is_enough(position: int) -> None:
    text = "abcde"
    other = f"{text[:position]}X{text[position + 1 :]}fgh"
    delivered = deliver("chat", chat(["abc", "de"])[:-2])
    assert join(Joiner(delivered, RESTART), chat([other])) is None
    assert join(Joiner(delivered, RESTART), chat(other)) is None
    assert join(Joiner(delivered, RESTART), chat(["abcdefgh"])) is not None


def test_the_same_word_in_another_normal_form_is_a_mismatch() -> None:
    delivered = deliver("chat", chat(["caf\u00e9"])[:-2])
    assert join(Joiner(delivered, RESTART), chat(["cafe\u0301 au lait"])) is None


def test_only_the_event_at_the_join_is_rebuilt() -> None:
    first = chat(["Hel", "lo w"])[:4]
    second = chat(["Hello", " world", "!"], "2")
    passed = join(Joiner(deliver("chat", first), RESTART), second)
    assert passed == [chunk({"content": "orld"}, id_="2"), *second[4:]]


def test_a_join_between_two_tokens_changes_no_byte() -> None:
    second = chat(["Hello", " world"], "2")
    assert join(Joiner(deliver("chat", chat(["Hel", "lo"])[:4]), RESTART), second) == second[3:]


def test_a_rebuilt_event_keeps_its_other_lines() -> None:
    joiner = Joiner(deliver("chat", [chunk({"content": "a"})]), RESTART)
    raw = (
        b"event: e\r\nid: 5\r\ndata: "
        + orjson.dumps({"choices": [{"delta": {"content": "ab"}}]})
        + b"\r\n\r\n"
    )
    expected = b'event: e\nid: 5\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n'
    assert join(joiner, [raw]) == [expected]


def test_a_last_token_that_comes_with_the_finish_reason() -> None:
    last = chunk({"content": "lo"}, finish="stop")
    delivered = deliver("chat", chat(["Hello"])[:3])
    assert join(Joiner(delivered, RESTART), [chunk({"content": "Hel"}), last, DONE]) == [
        chunk({"content": ""}, finish="stop"),
        DONE,
    ]


def test_an_answer_that_was_whole_but_for_its_end() -> None:
    delivered = deliver("chat", chat(["Hello"])[:3])
    assert join(Joiner(delivered, RESTART), chat(["Hel", "lo"], "2")) == chat([], "2")[2:]
    without_finish = [chunk({"content": "Hello"}), DONE]
    assert join(Joiner(deliver("chat", chat(["Hello"])[:3]), RESTART), without_finish) == [DONE]


def test_an_end_that_comes_too_early_is_a_mismatch() -> None:
    delivered = deliver("chat", chat(["Hello"])[:3])
    assert join(Joiner(delivered, RESTART), chat(["Hel"])) is None
    assert join(Joiner(delivered, RESTART), [chunk({"content": "Hel"}), DONE]) is None
    joiner = Joiner(delivered, RESTART)
    assert join(joiner, [chunk({"content": "Hel"})]) == []
    assert not joiner.is_joined


@pytest.mark.parametrize("nothing", ["", "null", False])
def test_a_finish_reason_that_says_nothing_ends_no_answer(nothing: Any) -> None:
    def tokens(*texts: str) -> list[bytes]:
        return [chunk({"content": text}, finish=nothing) for text in texts]

    delivered = deliver("chat", tokens("Hel", "lo"))
    assert delivered.is_resumable
    second = [*tokens("Hello", " world"), *chat([])[-2:]]
    assert join(Joiner(delivered, RESTART), second) == second[1:]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("chat", {"error": {"message": "no"}}),
        ("completions", {"error": {"message": "no"}}),
        ("messages", {"type": "error", "error": {"message": "no"}}),
        ("responses", {"type": "error", "message": "no"}),
    ],
)
def test_an_answer_is_not_gone_on_with_once_the_caller_has_read_that_it_failed(
    kind: str, error: dict[str, Any]
) -> None:
    delivered = deliver(kind, STREAMS[kind](["Hel", "lo"], "1")[: 2 if kind == "completions" else 4])
    assert delivered.is_resumable
    delivered.note(error)
    assert not delivered.is_resumable


def test_a_join_that_cannot_be_written_is_a_mismatch_and_leaves_what_was_delivered() -> None:
    """Read is what is nested a thousand deep, written 254."""
    delivered = deliver("chat", chat(["Hello"])[:3])
    deep = b"[" * 300 + b"]" * 300
    choices = orjson.dumps([{"delta": {"role": "assistant", "content": "Hello world"}}])
    joiner = Joiner(delivered, RESTART)
    assert join(joiner, [b'data: {"choices":%b,"x":%b}\n\n' % (choices, deep)]) is None
    assert not joiner.is_joined
    assert delivered.text == "Hello"


def test_a_sum_of_tokens_that_cannot_be_written_is_a_mismatch() -> None:
    joiner = Joiner(deliver("chat", chat(["Hello"])[:3]), RESTART, Usage(1, 1))
    usage = {"prompt_tokens": 2**64 - 1, "completion_tokens": 1}
    second = [*chat(["Hello"])[:-1], event({"choices": [], "usage": usage})]
    assert join(joiner, second) is None


def test_a_tool_call_in_place_of_the_text_is_a_mismatch_and_after_it_is_not() -> None:
    call = chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})
    assert join(Joiner(deliver("chat", chat(["Hi"])[:3]), RESTART), [call]) is None
    delivered = deliver("chat", chat(["Hi"])[:3])
    assert join(Joiner(delivered, RESTART), [chunk({"content": "Hi"}), call]) == [call]
    assert not delivered.is_resumable


# --- prefill --------------------------------------------------------------------------------------------


@given(data=st.data(), text=TEXT, rest=TEXT)
def test_a_prefilled_answer_goes_on(data: st.DataObject, text: str, rest: str) -> None:
    first = chat(data.draw(tokenised(text)))[:-2]
    delivered = deliver("chat", first)
    assert delivered.can_prefill
    assert delivered.text == text
    second = chat(data.draw(tokenised(rest)), "2")
    passed = join(Joiner(delivered, PREFILL), second)
    assert passed is not None
    assert read(first) + read(passed) == text + rest
    assert passed == second[-len(passed) :]
    assert all(b"role" not in raw for raw in passed)


def test_a_prefilled_message_does_not_open_its_block_again() -> None:
    first = messages(["Hel"])[:4]
    delivered = deliver("messages", first)
    assert delivered.can_prefill
    second = messages(["lo", "!"], "2")
    passed = join(Joiner(delivered, PREFILL), second)
    assert passed == second[3:]


def test_the_role_is_not_told_twice() -> None:
    second = [chunk({"role": "assistant", "content": "lo"}, id_="2"), *chat(["!"], "2")[2:]]
    passed = join(Joiner(deliver("chat", chat(["Hel"])[:3]), PREFILL), second)
    assert passed == [chunk({"content": "lo"}, id_="2"), *second[1:]]


def test_nothing_more_to_say() -> None:
    assert join(Joiner(deliver("chat", chat(["Hello"])[:3]), PREFILL), chat([], "2")) == chat([], "2")[2:]


# --- structure ------------------------------------------------------------------------------------------


def test_a_block_that_was_closed_is_not_closed_again() -> None:
    first = messages(["Hello"])
    passed = join(Joiner(deliver("messages", first[:5]), RESTART), messages(["Hel", "lo"], "2"))
    assert passed is not None
    assert types_of(passed) == ["message_delta", "message_stop"]
    done = responses(["Hello"])[:6]
    passed = join(Joiner(deliver("responses", done), RESTART), responses(["Hello"], "2"))
    assert passed is not None
    assert types_of(passed) == ["response.completed"]


def test_a_ping_is_not_the_join() -> None:
    first = [raw for raw in messages(["Hel"])[:4] if b"ping" not in raw]
    second = [messages([])[2], *messages(["lo"], "2")]
    assert join(Joiner(deliver("messages", first), PREFILL), second) == second[4:]


def test_an_empty_piece_of_another_block_says_nothing() -> None:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": ""}}
    second = [event(delta), *messages(["Hello"], "2")]
    assert join(Joiner(deliver("messages", messages(["Hel"])[:4]), RESTART), second) is not None


def test_the_text_of_another_block_is_a_mismatch() -> None:
    delta = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}}
    assert join(Joiner(deliver("messages", messages(["Hel"])[:4]), RESTART), [event(delta)]) is None


def test_reasoning_is_repeated_before_the_text_is() -> None:
    thought = [chunk({"reasoning_content": token}) for token in ("hm", "m")]
    delivered = deliver("chat", [*thought, chunk({"content": "Hel"})])
    assert delivered.is_resumable
    assert not delivered.can_prefill
    again = chunk({"reasoning_content": "hmm"})
    second = [again, chunk({"content": "Hello"}), DONE]
    assert join(Joiner(delivered, RESTART), second) == [chunk({"content": "lo"}), DONE]


@pytest.mark.parametrize("thought", ["hm", "hmmm", "oh!", ""])
def test_other_reasoning_is_a_mismatch(thought: str) -> None:
    delivered = deliver("chat", [chunk({"reasoning_content": "hmm"}), chunk({"content": "Hel"})])
    second = [chunk({"reasoning_content": thought}), chunk({"content": "Hello"})]
    assert join(Joiner(delivered, RESTART), second) is None


def test_reasoning_that_broke_off_goes_on() -> None:
    delivered = deliver("chat", chat(["hm"], channel="reasoning_content")[:3])
    second = [chunk({"reasoning_content": "hmm"}), chunk({"content": "Hello"})]
    assert join(Joiner(delivered, RESTART), second) == [chunk({"reasoning_content": "m"}), second[1]]


def test_reasoning_told_under_two_names_is_compared_under_each() -> None:
    delivered = deliver("chat", [chunk({"reasoning": t, "reasoning_content": t}) for t in ("h", "mm")])
    second = chunk({"reasoning": "hmm!", "reasoning_content": "hmm!"})
    assert join(Joiner(delivered, RESTART), [second]) == [chunk({"reasoning": "!", "reasoning_content": "!"})]


# --- what is not resumed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [{"n": 2}, {"logprobs": True}, {"logprobs": 0}, {"top_logprobs": 3}, {"prompt": ["a", "b"]}],
    ids=str,
)
def test_some_requests_are_never_resumed(request_: dict[str, Any]) -> None:
    assert not deliver("chat", chat(["Hel"])[:3], request_).is_resumable


@pytest.mark.parametrize("request_", [{}, {"n": 1}, {"logprobs": False}, {"logprobs": None}], ids=str)
def test_text_is_resumed(request_: dict[str, Any]) -> None:
    delivered = deliver("chat", chat(["Hel"])[:3], request_)
    assert delivered.is_resumable
    assert delivered.text == "Hel"


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "delta": {"tool_calls": [{"index": 0}]}},
        {"index": 0, "delta": {"function_call": {"name": "f"}}},
        {"index": 0, "delta": {"refusal": "no"}},
        {"index": 0, "delta": {"audio": {"data": "AA=="}}},
        {"index": 0, "delta": {"content": [{"type": "text", "text": "a"}]}},
        {"index": 0, "delta": {"content": "lo"}, "logprobs": {"content": []}},
        {"index": 0, "delta": {}, "finish_reason": "length"},
        {"index": 1, "delta": {"content": "lo"}},
    ],
    ids=lambda choice: "-".join(choice.get("delta") or choice),
)
def test_some_chunks_end_it(choice: dict[str, Any]) -> None:
    delivered = deliver("chat", [*chat(["Hel"])[:3], event({"choices": [choice]}), chunk({"content": "lo"})])
    assert not delivered.is_resumable
    assert not delivered.can_prefill


@pytest.mark.parametrize(
    "step",
    [
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}},
        {"type": "content_block_delta", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ],
    ids=str,
)
def test_some_steps_of_a_message_end_it(step: dict[str, Any]) -> None:
    assert not deliver("messages", [*messages(["Hel"])[:4], event(step)]).is_resumable


@pytest.mark.parametrize(
    "step",
    [
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call"}},
        {"type": "response.function_call_arguments.delta", "delta": "{"},
        {"type": "response.refusal.delta", "delta": "no"},
        {"type": "response.output_text.delta", "delta": "lo", "logprobs": [{"token": "lo"}]},
        {"type": "response.completed"},
    ],
    ids=str,
)
def test_some_steps_of_a_response_end_it(step: dict[str, Any]) -> None:
    assert not deliver("responses", [*responses(["Hel"])[:4], event(step)]).is_resumable


@pytest.mark.parametrize("kind", [*STREAMS, "embeddings"])
@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": 1},
        {"choices": [None, {"delta": 1, "text": 2}]},
        {"type": 1, "index": []},
        {"type": "content_block_delta", "index": [], "delta": {"type": [], "text": 1}},
        {"type": "content_block_start", "content_block": 1},
        {"type": "response.output_text.delta", "output_index": {}, "delta": 1},
        {"type": "message_start", "message": {"usage": {"input_tokens": "x"}}},
        {"choices": [], "usage": {"prompt_tokens": "x"}},
    ],
    ids=str,
)
def test_nothing_a_provider_sends_breaks_it(kind: str, document: dict[str, Any]) -> None:
    assert not deliver(kind, [event(document)]).is_resumable
    join(Joiner(deliver(kind, []), RESTART, Usage(1, 1)), [event(document)])


def test_before_the_first_text_there_is_nothing_to_resume() -> None:
    assert not deliver("chat", chat(["Hel"])[:2]).is_resumable


def test_what_went_on_unread_ends_it() -> None:
    delivered = deliver("chat", chat(["Hel"])[:3])
    delivered.spoil()
    assert not delivered.is_resumable


@pytest.mark.parametrize("character", ["a", "é", "🌊"])
def test_up_to_a_megabyte_is_kept(character: str) -> None:
    piece = character * (MAX_TEXT_BYTES // 4 // len(character.encode()))
    delivered = deliver("chat", [chunk({"content": piece})] * 4)
    assert delivered.text == piece * 4
    delivered.note({"choices": [{"delta": {"content": "a"}}]})
    assert not delivered.is_resumable
    assert delivered.text == ""


# --- usage ----------------------------------------------------------------------------------------------

REPORT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
}
SUM = {
    "prompt_tokens": 17,
    "completion_tokens": 7,
    "total_tokens": 24,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
EARLIER = Usage(7, 2, 1, 1)


def chat_with_usage(*tokens: str) -> list[bytes]:
    stream = chat(tokens, "2")
    return [*stream[:-1], event({"id": "2", "choices": [], "usage": REPORT}), DONE]


def test_the_caller_is_told_the_sum() -> None:
    passed = join(Joiner(deliver("chat", chat(["Hel"])[:3]), RESTART, EARLIER), chat_with_usage("Hello"))
    assert passed is not None
    assert parsed(passed[-2]) == {"id": "2", "choices": [], "usage": SUM}
    assert passed[1] == chunk(id_="2", finish="stop")


def test_a_usage_event_that_is_right_is_left_alone() -> None:
    second = chat_with_usage("Hel", "lo")
    assert join(Joiner(deliver("chat", chat(["Hel"])[:3]), RESTART), second) == second[3:]


def test_usage_that_comes_with_the_finish_reason_and_not_the_running_count() -> None:
    running = chunk({"content": "lo"}, usage=REPORT)
    second = [running, chunk(finish="stop", usage=REPORT), DONE]
    passed = join(Joiner(deliver("chat", chat(["Hel"])[:3]), PREFILL, EARLIER), second)
    assert passed == [running, chunk(finish="stop", usage=SUM), DONE]


def test_usage_without_a_finish_reason_before_it() -> None:
    second = [chunk({"content": "Hel"}), event({"choices": [], "usage": REPORT}), DONE]
    passed = join(Joiner(deliver("chat", chat(["Hel"])[:3]), RESTART, EARLIER), second)
    assert passed == [event({"choices": [], "usage": SUM}), DONE]


def test_a_message_is_told_the_input_of_both() -> None:
    passed = join(Joiner(deliver("messages", messages(["Hel"])[:4]), RESTART, EARLIER), messages(["Hello"]))
    assert passed is not None
    end = parsed(passed[-2])
    assert end is not None
    assert end["usage"] == {"input_tokens": 14, "output_tokens": 7}


def test_totals() -> None:
    assert total(None, None) is None
    assert total(EARLIER, None) is EARLIER
    assert total(None, EARLIER) is EARLIER
    both = total(EARLIER, Usage(10, 5, 4, 3))
    assert both is not None
    assert (both.input, both.output, both.cached, both.reasoning) == (17, 7, 5, 4)
