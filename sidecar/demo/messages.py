"""Anthropic's Messages API, plain and streamed, and its error bodies."""

from __future__ import annotations

from collections.abc import Iterator

from .answers import Ask, Choice, Turn
from .scenario import Scenario
from .wire import Dialect, Event, Json, Kind, RequestError, ask_messages, count_of, messages_of, sse, text_of

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _parse(body: Json) -> Ask:
    limit = count_of(body, "max_tokens")
    if limit is None:
        raise RequestError(400, "max_tokens: Field required", param="max_tokens")
    ask = ask_messages(body, messages_of(body), limit=limit, system=text_of(body.get("system")))
    ask.n = 1
    return ask


def _usage(turn: Turn, output_tokens: int) -> Json:
    if turn.omit_usage:
        return {}
    return {
        "usage": {
            "input_tokens": turn.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }
    }


def _message(turn: Turn, content: list[Json], stop_reason: str | None, output_tokens: int) -> Json:
    return {
        "id": f"msg_{turn.id}",
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        **_usage(turn, output_tokens),
    }


def _stop_reason(choice: Choice) -> str:
    return _STOP_REASONS.get(choice.finish, choice.finish)


def _thinking(choice: Choice) -> Json:
    return {"type": "thinking", "thinking": "".join(choice.reasoning), "signature": "ZGVtbw=="}


def _plain(turn: Turn, body: Json) -> Json:
    choice = turn.choices[0]
    blocks = [_thinking(choice)] if choice.reasoning else []
    if choice.tool is None:
        blocks.append({"type": "text", "text": choice.text})
    else:
        # As a stream brings it: cut by max_tokens the arguments are no longer JSON.
        arguments = {"city": "Zürich", "unit": "celsius"} if choice.finish != "length" else {}
        blocks.append({"type": "tool_use", "id": f"toolu_{turn.id}", "name": choice.tool, "input": arguments})
    return _message(turn, blocks, _stop_reason(choice), turn.completion_tokens)


def _events(turn: Turn, _body: Json, _scenario: Scenario) -> Iterator[Event]:
    for name, fields, kind in _steps(turn):
        yield sse({"type": name, **fields}, kind, event=name)


def _steps(turn: Turn) -> Iterator[tuple[str, Json, Kind]]:
    choice = turn.choices[0]
    yield "message_start", {"message": _message(turn, [], None, 1)}, Kind.NOTE
    index = 0
    if choice.reasoning:
        opening: Json = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": token} for token in choice.reasoning]
        yield from _block(index, opening, deltas)
        index += 1
    if choice.tool is None:
        opening = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": token} for token in choice.tokens]
    else:
        opening = {"type": "tool_use", "id": f"toolu_{turn.id}", "name": choice.tool, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": token} for token in choice.tokens]
    yield from _block(index, opening, deltas)
    delta = {"stop_reason": _stop_reason(choice), "stop_sequence": None}
    usage = {} if turn.omit_usage else {"usage": {"output_tokens": turn.completion_tokens}}
    yield "message_delta", {"delta": delta, **usage}, Kind.NOTE
    yield "message_stop", {}, Kind.TERMINATOR


def _block(index: int, opening: Json, deltas: list[Json]) -> Iterator[tuple[str, Json, Kind]]:
    yield "content_block_start", {"index": index, "content_block": opening}, Kind.NOTE
    if index == 0:
        yield "ping", {}, Kind.NOTE
    for delta in deltas:
        yield "content_block_delta", {"index": index, "delta": delta}, Kind.TOKEN
    yield "content_block_stop", {"index": index}, Kind.NOTE


def _error(status: int, error: Json) -> Json:
    usual = "api_error" if status >= 500 else "invalid_request_error"
    return {
        "type": "error",
        "error": {"type": _ERROR_TYPES.get(status, usual), "message": error["message"]},
    }


def _error_event(error: Json) -> Event:
    return sse(_error(529 if error["type"] == "overloaded_error" else 500, error), event="error")


MESSAGES = Dialect(_parse, _plain, _events, _error, _error_event)
