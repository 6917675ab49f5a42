"""What the events of a stream say: whether a user would see something, the usage, and whether it is over.

Events are read, never rebuilt. The formats are OpenAI's chat completions, completions and responses, and
Anthropic's messages (their API references, 2026).
"""

from collections.abc import Callable
from typing import Any

import orjson

from sidecar.exchange import Usage
from sidecar.openai import usage_from
from sidecar.sse import data_of

# What an event is to the relay.
QUIET = 0  # comments, roles, progress: nothing a user would see
CONTENT = 1  # text, reasoning, a tool call, a refusal; or the end of an answer
EXTRA = 2  # the usage event the caller did not ask for
GARBAGE = 3  # neither JSON nor a terminator


Tap = Callable[[dict[str, Any]], None]  # is told of each event, parsed


def both(one: Tap, other: Tap) -> Tap:
    """A tap for two listeners."""

    def tap(event: dict[str, Any]) -> None:
        one(event)
        other(event)

    return tap


class StreamReader:
    """Reads the events of one stream: first content, usage, and whether the answer came to its end.

    `is_complete`: the stream may end here, after a terminator ([DONE], message_stop, response.completed) or a
    finish reason for every choice. `failed`: the provider sent an error event.
    """

    __slots__ = (
        "_choices",
        "_finished",
        "_has_content",
        "_is_chat",
        "_is_response",
        "_strip_usage",
        "events",
        "failed",
        "is_complete",
        "response_id",
        "tap",
        "usage",
    )

    def __init__(self, kind: str, choices: int = 1, *, strip_usage: bool = False) -> None:
        self._choices = choices
        self._strip_usage = strip_usage
        self._is_chat = kind not in ("responses", "messages")
        self._is_response = kind == "responses"
        self._finished: set[int] = set()
        self._has_content = False
        self.is_complete = False
        self.failed = False
        self.usage: Usage | None = None
        self.response_id = ""  # of the Responses API
        self.events = 0  # with content
        self.tap: Tap | None = None

    def read(self, event: bytes) -> int:
        """Take in one whole event; returns a"""
        try:
            # Nearly every event is one line `data: {...}`; JSON does not mind the line ends behind it.
            document = orjson.loads(event[6:] if event.startswith(b"data: ") else b"")
        except orjson.JSONDecodeError:
            return self._read_unusual(event)
        if type(document) is not dict:
            return QUIET
        if document.get("error") is not None:
            self.failed = True
            return CONTENT
        if self.tap is not None:
            self.tap(document)
        if not self._is_chat:
            if self._is_response:
                return self._read_response_event(document)
            return self._read_message_event(document)
        # A chunk of a chat or completion, in line: this runs for every event.
        report = document.get("usage")
        if report is not None:
            self.usage = usage_from(report) or self.usage
        choices = document.get("choices")
        if type(choices) is not list or not choices:
            return EXTRA if self._strip_usage and report is not None else QUIET
        for choice in choices:
            if type(choice) is not dict:
                continue
            if choice.get("finish_reason") is not None:
                self._finish_choice(choice.get("index"))
            elif not self._has_content and _has_content(choice):
                self._has_content = True
        if not self._has_content:
            return QUIET
        self.events += 1
        return CONTENT

    def _read_unusual(self, event: bytes) -> int:
        """An event with several lines, a comment, [DONE], or garbage."""
        data = data_of(event)
        if data is None:
            return QUIET
        if data.strip() == b"[DONE]":
            self.is_complete = True
            return CONTENT
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return GARBAGE
        return self.read(b"data: " + orjson.dumps(document)) if type(document) is dict else QUIET

    def _finish_choice(self, index: object) -> None:
        self._has_content = True
        self._finished.add(index if type(index) is int else 0)
        if len(self._finished) >= self._choices:
            self.is_complete = True

    def _read_response_event(self, event: dict[str, Any]) -> int:
        """An event of the Responses API."""
        name = event.get("type", "")
        if name == "response.created":
            response = event.get("response")
            name_ = response.get("id") if type(response) is dict else None
            self.response_id = name_ if type(name_) is str else ""
            return QUIET
        if name in ("response.completed", "response.incomplete", "response.failed"):
            self.is_complete = True
            self.failed = name == "response.failed"
            response = event.get("response")
            self.usage = usage_from(response.get("usage")) if type(response) is dict else None
            return CONTENT
        if name == "error":
            self.failed = True
            return CONTENT
        if type(name) is not str or not name.endswith(".delta"):
            return QUIET
        self.events += 1
        return CONTENT

    def _read_message_event(self, event: dict[str, Any]) -> int:
        """An event of Anthropic's Messages API: input tokens come at the start, output tokens at the end."""
        name = event.get("type")
        if name == "content_block_delta":
            self.events += 1
            return CONTENT
        if name == "message_stop":
            self.is_complete = True
            return CONTENT
        message = event.get("message")
        report = message.get("usage") if type(message) is dict else event.get("usage")
        if (usage := usage_from(report)) is not None:
            if self.usage is not None:
                usage.input = max(usage.input, self.usage.input)
                usage.cached = max(usage.cached, self.usage.cached)
            self.usage = usage
        return QUIET


def _has_content(choice: dict[str, Any]) -> bool:
    """Whether a chunk's choice shows the user anything; a role alone does not."""
    delta = choice.get("delta")
    if type(delta) is not dict:
        return bool(choice.get("text"))
    if delta.get("content"):
        return True
    return any(value for name, value in delta.items() if name != "role")
