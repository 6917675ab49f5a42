"""What the events of a stream say: whether a user would see something, the usage, and whether it is over.

Events are read, never rebuilt. The formats are OpenAI's chat completions, completions, responses, images and
speech, and Anthropic's messages (their API references, 2026). A stream of anything else is passed on as it
comes: each event may be what the caller waits for.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from sidecar.exchange import Usage
from sidecar.openai import usage_from
from sidecar.sse import LargeEvent, data_of

# What an event is to the relay.
QUIET = 0  # comments, roles, progress: nothing a user would see
CONTENT = 1  # text, reasoning, a tool call, a refusal; or the end of an answer
EXTRA = 2  # the usage event the caller did not ask for
GARBAGE = 3  # neither JSON nor a terminator


Tap = Callable[[dict[str, Any]], None]  # is told of each event, parsed


class Listener(Protocol):
    """Who takes events down."""

    def note(self, document: dict[str, Any], /) -> None: ...


def both(one: Listener | None, other: Listener | None) -> Tap | None:
    """A tap for those of two listeners that there are."""
    if one is None:
        return None if other is None else other.note
    first = one.note
    if other is None:
        return first
    second = other.note

    def tap(event: dict[str, Any]) -> None:
        first(event)
        second(event)

    return tap


class StreamReader:
    """Reads the events of one stream: first content, usage, and whether the answer came to its end.

    `is_complete`: the stream may end here, after a terminator ([DONE], message_stop, response.completed) or a
    finish reason for every choice. `is_over`: and nothing more is due, not even the usage that the caller
    (`expects_usage`) or the sidecar (`strip_usage`) asked for, so that a provider that falls silent may be
    hung up on. `failed`: the provider sent an error event.
    """

    __slots__ = (
        "_choices",
        "_expects_usage",
        "_finished",
        "_has_content",
        "_is_chat",
        "_is_message",
        "_is_response",
        "_is_under_way",
        "_looks_for_content",
        "_strip_usage",
        "events",
        "failed",
        "is_complete",
        "is_over",
        "response_id",
        "tap",
        "usage",
    )

    def __init__(
        self, kind: str, choices: int = 1, *, strip_usage: bool = False, expects_usage: bool = False
    ) -> None:
        self._choices = choices
        self._strip_usage = strip_usage
        self._expects_usage = strip_usage or expects_usage
        self._is_chat = kind in ("chat", "completions")
        self._is_response = kind == "responses"
        self._is_message = kind == "messages"
        self._finished: set[int] = set()
        self._has_content = False
        self._looks_for_content = True  # not after every event: only where it would tell something
        self._is_under_way = False  # of images and speech: a part came whose end is still to come
        self.is_complete = False
        self.is_over = False
        self.failed = False
        self.usage: Usage | None = None
        self.response_id = ""  # of the Responses API
        self.events = 0  # with content
        self.tap: Tap | None = None

    def read(self, event: bytes) -> int:
        """Take in one whole event; returns what it is to the relay: QUIET, CONTENT, EXTRA or GARBAGE."""
        try:
            # Nearly every event is one line `data: {...}`; JSON does not mind the line ends behind it.
            document = orjson.loads(event[6:] if event.startswith(b"data: ") else b"")
        except orjson.JSONDecodeError:
            document = self._parse_unusual(event)
            if type(document) is int:
                return document
        if type(document) is not dict:
            return QUIET
        if self.tap is not None:
            self.tap(document)
        if document.get("error"):
            self.failed = True
            return CONTENT
        if not self._is_chat:
            return self._read_named(document, event)
        # A chunk of a chat or completion, in line: this runs for every event.
        report = document.get("usage")
        if report is not None:
            self._note_usage(report)
        choices = document.get("choices")
        if type(choices) is not list or not choices:
            return EXTRA if self._strip_usage and report is not None else QUIET
        for choice in choices:
            if type(choice) is not dict:
                continue
            reason = choice.get("finish_reason")
            if reason and is_finish(reason):
                self._finish_choice(choice)
            elif self._looks_for_content and _has_content(choice):
                self._note_content(choice)
        if not self._has_content:
            return QUIET
        self.events += 1
        return CONTENT

    def read_large(self, event: LargeEvent) -> int:
        """Take in an event that was too long to be held, by its ends: they have its name and its usage."""
        if self._is_chat:
            self._has_content = True
            self.events += 1
        else:
            report = _usage_in(event.last)
            name = _name_in(event.first)
            self._read_named({"type": name, "usage": report, "response": {"usage": report}}, event.first)
        return CONTENT

    def ends_well(self, *, is_amid_event: bool) -> bool:
        """The body ended in order: whether the answer did. Where a stream names no end that is known here,
        there is nothing else to go by."""
        has_known_end = self._is_chat or self._is_response or self._is_message or self._is_under_way
        if self.events and not has_known_end and not is_amid_event:
            self.is_complete = True
        return self.is_complete or self.failed

    def _parse_unusual(self, event: bytes) -> Any:
        """The JSON of an event with several lines; or what the event is: a comment, [DONE], garbage."""
        data = data_of(event)
        if data is None:
            return QUIET
        if data.strip() == b"[DONE]":
            self.is_complete = self.is_over = True
            return CONTENT if self.events else QUIET  # an end alone is no answer
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return GARBAGE
        return document if type(document) is dict else QUIET

    # --- chat and completions -------------------------------------------------------------------------

    def _note_content(self, choice: dict[str, Any]) -> None:
        self._has_content = True
        self._looks_for_content = False
        if self.is_complete:
            # More behind what was taken for the end: it was none, or there are more choices than asked for.
            self._finished.discard(_index(choice))
            self.is_complete = self.is_over = False

    def _finish_choice(self, choice: dict[str, Any]) -> None:
        self._has_content = True
        self._finished.add(_index(choice))
        if len(self._finished) >= self._choices:
            self.is_complete = self._looks_for_content = True
            self.is_over = not self._expects_usage or self.usage is not None

    def _note_usage(self, report: Any) -> None:
        usage = usage_from(report)
        if usage is not None:
            self.usage = usage
            self.is_over = self.is_complete

    # --- events with names ----------------------------------------------------------------------------

    def _read_named(self, document: dict[str, Any], event: bytes) -> int:
        if self._is_response:
            return self._read_response_event(document)
        if self._is_message:
            return self._read_message_event(document)
        return self._read_other_event(document, event)

    def _read_response_event(self, event: dict[str, Any]) -> int:
        """An event of the Responses API."""
        name = event.get("type", "")
        if name == "response.created":
            response = event.get("response")
            name_ = response.get("id") if type(response) is dict else None
            self.response_id = name_ if type(name_) is str else ""
            return QUIET
        if name in ("response.completed", "response.incomplete", "response.failed"):
            self.is_complete = self.is_over = True
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
            self.is_complete = self.is_over = True
            return CONTENT
        message = event.get("message")
        report = message.get("usage") if type(message) is dict else event.get("usage")
        if (usage := usage_from(report)) is not None:
            if self.usage is not None:
                usage.input = max(usage.input, self.usage.input)
                usage.cached = max(usage.cached, self.usage.cached)
            self.usage = usage
        return QUIET

    def _read_other_event(self, document: dict[str, Any], event: bytes) -> int:
        """An event of images, of speech, or of what is not known here."""
        self.events += 1
        self._note_usage(document.get("usage"))
        name = document.get("type")
        if type(name) is not str:
            name = _name_in(event)
        if name == "error":
            self.failed = True
        elif name in _PARTS:
            self._is_under_way = True
        elif name in _ENDS:
            self._is_under_way = False
            self._finished.add(len(self._finished))  # one for each image that was asked for
            if len(self._finished) >= self._choices:
                self.is_complete = self.is_over = True
        return CONTENT


# Of images and speech: after one of the former, one of the latter is to come.
_PARTS = frozenset(
    (
        "image_generation.partial_image",
        "image_edit.partial_image",
        "speech.audio.delta",
        "transcript.text.delta",
    )
)
_ENDS = frozenset(
    (
        "image_generation.completed",
        "image_edit.completed",
        "speech.audio.done",
        "transcript.text.done",
    )
)


def is_finish(reason: object) -> bool:
    """Whether a `finish_reason` says that a choice is at its end: some servers write "" or "null" in every
    chunk before that, for null."""
    return type(reason) is str and reason not in ("", "null")


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if type(index) is int else 0


# An event's name: the field before its data, or the first member `type` of it.
_NAME = re.compile(rb'(?:^|[\r\n])event: ?([^\r\n]+)|"type"\s*:\s*"([^"\\]+)"')
_NAME_BYTES = 512


def _name_in(event: bytes) -> str:
    found = _NAME.search(event[:_NAME_BYTES])
    return "" if found is None else (found[1] or found[2]).decode("utf-8", "replace")


def _usage_in(last: bytes) -> Any:
    """The usage report that stands near the end of a large event, if one does."""
    _, _, text = last[last.rfind(b'"usage"') :].decode("utf-8", "replace").partition(":")
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except (ValueError, RecursionError):
        return None


def _has_content(choice: dict[str, Any]) -> bool:
    """Whether a chunk's choice shows the user anything; a role alone does not."""
    delta = choice.get("delta")
    if type(delta) is not dict:
        return bool(choice.get("text"))
    if delta.get("content"):
        return True
    return any(value for name, value in delta.items() if name != "role")
