"""OpenAI's Responses API, plain and streamed, with the event sequence of the real one."""

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
    count_of,
    field_of,
    model_of,
    openai_error,
    sse,
)


def _parse(body: Json) -> Ask:
    limit = count_of(body, "max_output_tokens")
    system = field_of(body, "instructions", str, "")
    given = body.get("input")
    if isinstance(given, str):
        return ask_messages(body, [{"role": "user", "content": given}], limit=limit, system=system)
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        raise RequestError(400, "'input' must be a text or a list of items.", param="input")
    model_of(body)
    return ask_messages(body, given, limit=limit, system=system)


def _usage(turn: Turn) -> Json:
    return {
        "input_tokens": turn.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": turn.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": turn.reasoning_tokens},
        "total_tokens": turn.prompt_tokens + turn.completion_tokens,
    }


def _item_id(turn: Turn, choice: Choice) -> str:
    return f"{'msg' if choice.tool is None else 'fc'}_{turn.id}"


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(turn: Turn, choice: Choice, status: str, text: str | None) -> Json:
    """The output item, with its text so far; None: no content part yet."""
    item: Json = {"id": _item_id(turn, choice), "status": status}
    if choice.tool is None:
        return {
            **item,
            "type": "message",
            "role": "assistant",
            "content": [] if text is None else [_part(text)],
        }
    return {
        **item,
        "type": "function_call",
        "call_id": f"call_{turn.id}",
        "name": choice.tool,
        "arguments": text or "",
    }


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish == "length" else "completed"


def _response(turn: Turn, body: Json, status: str, output: list[Json]) -> Json:
    is_final = status != "in_progress"
    return {
        "id": f"resp_{turn.id}",
        "object": "response",
        "created_at": turn.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": turn.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(turn) if is_final and not turn.omit_usage else None,
        "metadata": body.get("metadata") or {},
    }


def _plain(turn: Turn, body: Json) -> Json:
    choice = turn.choices[0]
    status = _status(choice)
    return _response(turn, body, status, [_item(turn, choice, status, choice.text)])


def _events(turn: Turn, body: Json, _scenario: Scenario) -> Iterator[Event]:
    for number, (name, fields, kind) in enumerate(_steps(turn, body)):
        yield sse({"type": name, "sequence_number": number, **fields}, kind, event=name)


def _steps(turn: Turn, body: Json) -> Iterator[tuple[str, Json, Kind]]:
    choice = turn.choices[0]
    status = _status(choice)
    at: Json = {"item_id": _item_id(turn, choice), "output_index": 0}
    opened = _response(turn, body, "in_progress", [])
    yield "response.created", {"response": opened}, Kind.NOTE
    yield "response.in_progress", {"response": opened}, Kind.NOTE
    item = _item(turn, choice, "in_progress", None)
    yield "response.output_item.added", {"output_index": 0, "item": item}, Kind.NOTE
    yield from _text_steps(choice, at) if choice.tool is None else _tool_steps(choice, at)
    item = _item(turn, choice, status, choice.text)
    yield "response.output_item.done", {"output_index": 0, "item": item}, Kind.NOTE
    yield f"response.{status}", {"response": _response(turn, body, status, [item])}, Kind.TERMINATOR


def _text_steps(choice: Choice, at: Json) -> Iterator[tuple[str, Json, Kind]]:
    at = {**at, "content_index": 0}
    yield "response.content_part.added", {**at, "part": _part("")}, Kind.NOTE
    for token in choice.tokens:
        yield "response.output_text.delta", {**at, "delta": token, "logprobs": []}, Kind.TOKEN
    yield "response.output_text.done", {**at, "text": choice.text, "logprobs": []}, Kind.NOTE
    yield "response.content_part.done", {**at, "part": _part(choice.text)}, Kind.NOTE


def _tool_steps(choice: Choice, at: Json) -> Iterator[tuple[str, Json, Kind]]:
    for token in choice.tokens:
        yield "response.function_call_arguments.delta", {**at, "delta": token}, Kind.TOKEN
    done = {**at, "name": choice.tool, "arguments": choice.text}
    yield "response.function_call_arguments.done", done, Kind.NOTE


def _error_event(error: Json) -> Event:
    fields = {"code": error["code"], "message": error["message"], "param": error["param"]}
    return sse({"type": "error", "sequence_number": 0, **fields}, event="error")


RESPONSES = Dialect(_parse, _plain, _events, openai_error, _error_event)
