"""OpenAI's chat completions and the older completions, plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator

from .answers import Ask, Choice, Turn
from .scenario import Scenario
from .wire import (
    Dialect,
    Event,
    Json,
    Kind,
    RequestError,
    ask_messages,
    choices_of,
    count_of,
    messages_of,
    model_of,
    openai_error,
    sse,
)

_DONE = Event(b"data: [DONE]\n\n", Kind.TERMINATOR)


def usage_of(turn: Turn) -> Json:
    """The usage object of chat completions, with its details."""
    return {
        "prompt_tokens": turn.prompt_tokens,
        "completion_tokens": turn.completion_tokens,
        "total_tokens": turn.prompt_tokens + turn.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": turn.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _error_event(error: Json) -> Event:
    return sse({"error": error})


def _wants_usage(body: Json) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _fingerprint(turn: Turn) -> str:
    # One build per model, as providers report it; not a random figure.
    return f"fp_{sum(turn.model.encode()):010x}"


def _stream(
    turn: Turn, head: Json, deltas: Iterator[tuple[list[Json], Kind]], body: Json, scenario: Scenario
) -> Iterator[Event]:
    """Chunks with their usage field, then the usage chunk if asked for, then [DONE]."""
    wants_usage = _wants_usage(body) and not turn.omit_usage
    says_null = wants_usage if scenario.usage_null is None else scenario.usage_null
    null_usage: Json = {"usage": None} if says_null else {}
    for choices, kind in deltas:
        yield sse({**head, "choices": choices, **null_usage}, kind)
    if wants_usage:
        yield sse({**head, "choices": [], "usage": usage_of(turn)})
    yield _DONE


# Chat completions


def _parse_chat(body: Json) -> Ask:
    limit = count_of(body, "max_completion_tokens", count_of(body, "max_tokens"))
    return ask_messages(body, messages_of(body), limit=limit)


def _plain_chat(turn: Turn, _body: Json) -> Json:
    answer: Json = {
        "id": f"chatcmpl-{turn.id}",
        "object": "chat.completion",
        "created": turn.created,
        "model": turn.model,
        "choices": [
            {"index": i, "message": _message(turn, i, c), "logprobs": None, "finish_reason": c.finish}
            for i, c in enumerate(turn.choices)
        ],
        "service_tier": "default",
        "system_fingerprint": _fingerprint(turn),
    }
    return answer if turn.omit_usage else {**answer, "usage": usage_of(turn)}


def _message(turn: Turn, index: int, choice: Choice) -> Json:
    message: Json = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.tool is not None:
        message["content"] = None
        function = {"name": choice.tool, "arguments": choice.text}
        message["tool_calls"] = [{"id": _call_id(turn, index), "type": "function", "function": function}]
    return message


def _call_id(turn: Turn, index: int) -> str:
    return f"call_{turn.id}{index}"


def _chat_events(turn: Turn, body: Json, scenario: Scenario) -> Iterator[Event]:
    head: Json = {
        "id": f"chatcmpl-{turn.id}",
        "object": "chat.completion.chunk",
        "created": turn.created,
        "model": turn.model,
        "system_fingerprint": _fingerprint(turn),
    }
    return _stream(turn, head, _chat_deltas(turn, scenario.role_first), body, scenario)


def _chat_deltas(turn: Turn, role_first: bool) -> Iterator[tuple[list[Json], Kind]]:
    role: Json = {"role": "assistant", "content": "", "refusal": None}
    if role_first:
        for index in range(len(turn.choices)):
            yield [_chunk_choice(index, role)], Kind.NOTE
    # Several choices take turns, token by token, as they do at OpenAI.
    lanes = [list(_choice_deltas(turn, index, choice)) for index, choice in enumerate(turn.choices)]
    for position in range(max((len(lane) for lane in lanes), default=0)):
        for index, lane in enumerate(lanes):
            if position < len(lane):
                delta = lane[position]
                if position == 0 and not role_first:
                    delta = {"role": "assistant", **delta}
                yield [_chunk_choice(index, delta)], Kind.TOKEN
    for index, choice in enumerate(turn.choices):
        yield [_chunk_choice(index, {}, choice.finish)], Kind.NOTE


def _choice_deltas(turn: Turn, index: int, choice: Choice) -> Iterator[Json]:
    for token in choice.reasoning:
        yield {"reasoning_content": token}
    for position, token in enumerate(choice.tokens):
        if choice.tool is None:
            yield {"content": token}
        elif position == 0:
            function = {"name": choice.tool, "arguments": token}
            yield {
                "tool_calls": [
                    {"index": 0, "id": _call_id(turn, index), "type": "function", "function": function}
                ]
            }
        else:
            yield {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}


def _chunk_choice(index: int, delta: Json, finish: str | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


# Completions


def _parse_completion(body: Json) -> Ask:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestError(400, "you must provide a prompt parameter", param="prompt")
    return Ask(
        model=model_of(body),
        prompt=prompt,
        question=prompt,
        limit=count_of(body, "max_tokens"),
        n=choices_of(body),
        text_only=True,
    )


def _completion_choice(index: int, text: str, finish: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _completion_head(turn: Turn) -> Json:
    return {
        "id": f"cmpl-{turn.id}",
        "object": "text_completion",
        "created": turn.created,
        "model": turn.model,
        "system_fingerprint": _fingerprint(turn),
    }


def _plain_completion(turn: Turn, _body: Json) -> Json:
    choices = [_completion_choice(i, c.text, c.finish) for i, c in enumerate(turn.choices)]
    answer = {**_completion_head(turn), "choices": choices}
    return answer if turn.omit_usage else {**answer, "usage": usage_of(turn)}


def _completion_events(turn: Turn, body: Json, scenario: Scenario) -> Iterator[Event]:
    return _stream(turn, _completion_head(turn), _completion_deltas(turn), body, scenario)


def _completion_deltas(turn: Turn) -> Iterator[tuple[list[Json], Kind]]:
    for index, choice in enumerate(turn.choices):
        for token in choice.tokens:
            yield [_completion_choice(index, token, None)], Kind.TOKEN
        yield [_completion_choice(index, "", choice.finish)], Kind.NOTE


CHAT = Dialect(_parse_chat, _plain_chat, _chat_events, openai_error, _error_event)
COMPLETIONS = Dialect(_parse_completion, _plain_completion, _completion_events, openai_error, _error_event)
