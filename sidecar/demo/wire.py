"""What the dialects of a simulated provider share on the wire: events, error bodies, request fields.

It builds bytes and values; it sends nothing and knows no faults.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from .answers import Ask, Turn
from .scenario import Scenario

Json = dict[str, Any]


class Kind(enum.Enum):
    """What an event is to the pacing and to the faults."""

    TOKEN = "token"  # waits for its turn  # noqa: S105
    NOTE = "note"  # goes out at once
    TERMINATOR = "terminator"  # the end that `no_done` withholds


class Event(NamedTuple):
    """One server-sent event, complete with its blank line."""

    data: bytes
    kind: Kind = Kind.NOTE


class Dialect(NamedTuple):
    """One API: how its requests are read and its answers are written."""

    parse: Callable[[Json], Ask]
    plain: Callable[[Turn, Json], Json]
    events: Callable[[Turn, Json, Scenario], Iterator[Event]]
    error: Callable[[int, Json], Json]  # (status, OpenAI's error object) -> the dialect's own body
    error_event: Callable[[Json], Event]


class RequestError(Exception):
    """A request the API refuses, with the status and error object to answer."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status  # what the client is told
        self.error = error_object(status, message, code=code, param=param)


_COUNT_MAX = 10_000_000

# The types and codes that OpenAI sends with these statuses.
_ERROR_TYPES = {
    400: ("invalid_request_error", None, "The request is malformed."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country not supported."),
    404: ("invalid_request_error", None, "Not found."),
    405: ("invalid_request_error", "method_not_supported", "Not allowed to use this method on this URL."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    502: ("server_error", None, "Bad gateway."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
    504: ("server_error", None, "The server took too long to answer."),
    529: ("overloaded_error", None, "Overloaded."),
}


def error_object(
    status: int,
    message: str | None = None,
    *,
    code: str | None = None,
    type_: str | None = None,
    param: str | None = None,
) -> Json:
    """OpenAI's error object for a status; what is given replaces the usual."""
    fallback = _ERROR_TYPES[500 if status >= 500 else 400]
    usual_type, usual_code, usual_message = _ERROR_TYPES.get(status, fallback)
    return {
        "message": message or usual_message,
        "type": type_ or usual_type,
        "param": param,
        "code": code or usual_code,
    }


def openai_error(_status: int, error: Json) -> Json:
    """The error body of every OpenAI endpoint."""
    return {"error": error}


def sse(data: object, kind: Kind = Kind.NOTE, *, event: str | None = None) -> Event:
    """An event with a JSON payload, and an `event:` line where the dialect has one."""
    name = b"" if event is None else b"event: %b\n" % event.encode()
    return Event(b"%bdata: %b\n\n" % (name, orjson.dumps(data)), kind)


def field_of(body: Json, name: str, expected: type, default: Any = None) -> Any:
    """A request field of the expected type, or the 400 that OpenAI answers."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        message = f"Invalid type for '{name}': expected {expected.__name__}, got {type(value).__name__}."
        raise RequestError(400, message, code="invalid_type", param=name)
    return value


def count_of(body: Json, name: str, default: int | None = None) -> int | None:
    """A request field that counts something: at least 1, or the 400 that OpenAI answers."""
    value: int | None = field_of(body, name, int, default)
    if value is not None and not 1 <= value <= _COUNT_MAX:
        message = f"Invalid value for '{name}': expected 1 to {_COUNT_MAX}, got {value}."
        raise RequestError(400, message, code="invalid_value", param=name)
    return value


def choices_of(body: Json) -> int:
    """How many answers `n` asks for; OpenAI allows 128."""
    n = count_of(body, "n", 1) or 1
    if n > 128:
        raise RequestError(400, "Invalid value for 'n': at most 128.", code="invalid_value", param="n")
    return n


def model_of(body: Json) -> str:
    """The model asked for; a 400 without one."""
    model: str = field_of(body, "model", str, "")
    if not model:
        raise RequestError(400, "you must provide a model parameter", param="model")
    return model


def text_of(content: object) -> str:
    """The text of a message's content, whether it is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(part for part in parts if isinstance(part, str))


def messages_of(body: Json, name: str = "messages") -> list[Json]:
    """The conversation; a 400 unless it is a list of objects with something in it."""
    messages: list[Json] = field_of(body, name, list, [])
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise RequestError(400, f"'{name}' must be a list of at least one message.", param=name)
    return messages


def ask_messages(body: Json, messages: list[Json], *, limit: int | None, system: str = "") -> Ask:
    """What a conversation asks for. An assistant's message at its end is a prefill."""
    texts = [text_of(message.get("content")) for message in messages]
    asked = [text for text, message in zip(texts, messages, strict=True) if message.get("role") == "user"]
    return Ask(
        model=model_of(body),
        prompt="\n".join([system, *texts] if system else texts),
        question=asked[-1] if asked else texts[-1],
        limit=limit,
        n=choices_of(body),
        prefill=texts[-1] if messages[-1].get("role") == "assistant" else None,
        tool=_first_tool(body),
    )


def _first_tool(body: Json) -> str | None:
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools or not isinstance(tools[0], dict):
        return None
    inner = tools[0].get("function")
    name = inner.get("name") if isinstance(inner, dict) else tools[0].get("name")
    return name if isinstance(name, str) else None
