"""Makes the record of an answer that may be given again, from its events or from its JSON.

Kept is one complete text of a chat or a completion that ended by itself (`finish_reason` stop): no tool
calls, no refusal, no error, not cut by a limit or a filter, not several, no log probabilities. And nothing
that a replay could not repeat: a member that is unknown and no plain value makes an answer unfit. Which model
made it, and whether it came whole from one target, only the proxy knows: it offers nothing else.

A record is the same for both: the runs of text by channel, cut as they came; then what stands beside them. So
a stream serves a plain request and the other way round.
"""

from typing import Any

import orjson

from sidecar.events import is_finish

Json = dict[str, Any]

# More is no answer that comes twice, and a stream is kept in memory until its end.
MAX_TEXT_CHARS = 1024 * 1024

# Where text stands in a chat's delta or message.
CHANNELS = ("reasoning_content", "reasoning", "content")
_IS_CHANNEL = frozenset(CHANNELS)
# What is made anew, read elsewhere, or notes of how this one answer came to be: padding, the provider's
# request id, its times (llama.cpp, Cerebras) and weights (SGLang), and what Azure's filter found in a text
# that it let pass.
_OWN = frozenset(
    (
        *("id", "object", "created", "choices", "usage", "error", "obfuscation", "x_groq", "timings"),
        *("time_info", "metadata"),
    )
)
_OWN_OR_FILTER = _OWN | {"prompt_filter_results"}
# The same in every event; each but the first is spared the look.
_OWN_OR_FILTER_OR_MODEL = _OWN_OR_FILTER | {"model", "system_fingerprint"}
_OF_CHOICE = frozenset(("index", "delta", "message", "text", "finish_reason", "content_filter_results"))
_PLAIN = frozenset((str, int, float, bool, type(None)))


class Record:
    """An answer as it is stored: JSON of ours. `has_usage`: the provider's figures are in it."""

    __slots__ = ("content", "has_usage")

    def __init__(self, content: bytes, has_usage: bool) -> None:
        self.content = content
        self.has_usage = has_usage


class Unfit:
    """The answer is not kept; `reason` is one of a few words, for metrics."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Recording:
    """Takes down one stream. `note` is for the tap of its reader: it is told of each event, parsed."""

    __slots__ = (
        "_beside",
        "_chars",
        "_finish",
        "_is_chat",
        "_of_choice",
        "_read",
        "_runs",
        "_unfit",
        "_usage",
    )

    def __init__(self, kind: str) -> None:
        self._is_chat = kind == "chat"
        self._runs: list[tuple[str, list[str]]] = []
        self._chars = 0
        self._beside: Json = {}
        self._read = _OWN_OR_FILTER  # members of events that need no look any more
        self._of_choice: Json = {}
        self._finish: object = None
        self._usage: Json | None = None
        self._unfit = ""

    def note(self, event: Json) -> None:
        """Take down an event. Once the answer is unfit, nothing more is."""
        if self._unfit:
            return
        if extra := event.keys() - self._read:
            self._note_beside(event, extra)
            self._read = _OWN_OR_FILTER_OR_MODEL
        usage = event.get("usage")
        if type(usage) is dict:
            self._usage = usage
        choices = event.get("choices")
        if not choices:
            if event.get("error") is not None:
                self.spoil("error")
            return
        choice = choices[0] if type(choices) is list else None
        if type(choice) is not dict or len(choices) > 1 or choice.get("index", 0) != 0:
            self.spoil("choices")
        elif self._is_chat:
            self._note_delta(choice.get("delta"))
            self._note_end(choice)
        else:
            self._add("text", choice.get("text", ""))
            self._note_end(choice)

    def spoil(self, reason: str) -> None:
        """The answer is not to be kept, and what is taken down of it is let go."""
        self._unfit = self._unfit or reason
        self._runs.clear()

    def end(self) -> Record | Unfit:
        """The record, once the stream has come to its end in order."""
        if self._unfit:
            return Unfit(self._unfit)
        return _record(self._runs, self._finish, self._usage, self._beside, self._of_choice, {})

    def _note_beside(self, event: Json, names: set[str]) -> None:
        for name, value in event.items():
            if name not in names:
                continue
            if type(value) in _PLAIN:
                # The last that says something: some name the tier in one chunk and null in all others.
                if value is not None or name not in self._beside:
                    self._beside[name] = value
            elif value:
                self.spoil("shape")

    def _note_delta(self, delta: Any) -> None:
        if type(delta) is not dict:
            if delta is not None:
                self.spoil("shape")
            return
        for name, value in delta.items():
            if name in _IS_CHANNEL:
                self._add(name, value)
            elif value and name != "role":
                self.spoil("tools" if name in ("tool_calls", "function_call") else "shape")

    def _add(self, channel: str, text: Any) -> None:
        if not text:
            return
        if type(text) is not str or self._finish is not None:
            return self.spoil("shape")
        self._chars += len(text)
        if self._chars > MAX_TEXT_CHARS:
            return self.spoil("size")
        if not self._runs or self._runs[-1][0] != channel:
            self._runs.append((channel, []))
        self._runs[-1][1].append(text)

    def _note_end(self, choice: Json) -> None:
        finish = choice.get("finish_reason")
        if is_finish(finish):
            self._finish = finish
        if extra := choice.keys() - _OF_CHOICE:
            for name in extra:
                if type(choice[name]) in _PLAIN:
                    self._of_choice[name] = choice[name]
                elif choice[name]:
                    self.spoil("logprobs" if name == "logprobs" else "shape")


def record_of(kind: str, body: bytes) -> Record | Unfit:
    """The record of a plain answer, a 200."""
    if len(body) > MAX_TEXT_CHARS:
        return Unfit("size")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Unfit("shape")
    if type(answer) is not dict or answer.get("error") is not None:
        return Unfit("error")
    choices = answer.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return Unfit("choices")
    choice: Json = choices[0]
    source = choice.get("message") if kind == "chat" else choice
    if type(source) is not dict or choice.get("index", 0) != 0:
        return Unfit("shape")
    runs: list[tuple[str, list[str]]] = []
    for channel in CHANNELS if kind == "chat" else ("text",):
        text = source.get(channel)
        if text:
            if type(text) is not str:
                return Unfit("shape")
            runs.append((channel, [text]))
    message = source if kind == "chat" else {}
    if message.get("tool_calls") or message.get("function_call"):
        return Unfit("tools")
    kept = {name: value for name, value in message.items() if name not in _IS_CHANNEL or not value}
    beside = {name: value for name, value in answer.items() if name not in _OWN_OR_FILTER}
    of_choice = {name: value for name, value in choice.items() if name not in _OF_CHOICE}
    for part in (kept, beside, of_choice):
        for name, value in part.items():
            if value and type(value) not in _PLAIN:
                return Unfit("logprobs" if name == "logprobs" else "shape")
    if message.get("refusal"):
        return Unfit("refusal")
    return _record(runs, choice.get("finish_reason"), answer.get("usage"), beside, of_choice, kept)


def _record(
    runs: list[tuple[str, list[str]]],
    finish: object,
    usage: Any,
    beside: Json,
    of_choice: Json,
    message: Json,
) -> Record | Unfit:
    if finish != "stop":
        return Unfit("finish")
    if not any(channel in ("content", "text") for channel, _ in runs):
        return Unfit("empty")
    figures = usage if type(usage) is dict and usage else None
    try:
        content = orjson.dumps([runs, figures, beside, of_choice, message])
    except orjson.JSONEncodeError:
        return Unfit("shape")  # nested deeper than is written
    return Record(content, figures is not None)
