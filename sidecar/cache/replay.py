"""Gives a stored answer again: as one JSON object or as the events of a stream, whichever was asked for.

The text, its cuts, the finish reason, the usage, the model and the fingerprint are the provider's; the id and
the time are new, as no two answers share one. What was stored whole is streamed as one piece of text, what
came in very many pieces in fewer. The events are framed as OpenAI does it: a chunk with the role, one for
each piece, one with the finish reason, with `include_usage` one with the usage and `"usage":null` in all
others, `[DONE]`.
"""

from secrets import token_hex
from typing import Any

import orjson

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
MAX_EVENTS = 1000  # of one channel of text


class Answer:
    """A record, read. `usage` is the provider's object, None where it sent none."""

    __slots__ = ("_beside", "_is_chat", "_message", "_of_choice", "_runs", "usage")

    def __init__(self, kind: str, content: bytes) -> None:
        self._is_chat = kind == "chat"
        self._runs: list[tuple[str, list[str]]]
        self.usage: Json | None
        self._runs, self.usage, self._beside, self._of_choice, self._message = orjson.loads(content)

    @property
    def text(self) -> str:
        """What the user reads, without the reasoning."""
        return "".join(["".join(pieces) for channel, pieces in self._runs if channel in ("content", "text")])

    def new_id(self) -> str:
        """An id that looks like the provider's, and was never given."""
        return ("chatcmpl-" if self._is_chat else "cmpl-") + token_hex(12)

    def as_json(self, id_: str, created_s: int) -> bytes:
        """The plain answer; `created_s` is Unix time."""
        texts: dict[str, str] = {}
        for channel, pieces in self._runs:
            texts[channel] = texts.get(channel, "") + "".join(pieces)
        choice: Json = {"index": 0}
        if self._is_chat:
            choice["message"] = {"role": "assistant", **(self._message or _NO_REFUSAL), **texts}
        else:
            choice.update(texts)
        choice.update(self._of_choice)
        choice["finish_reason"] = "stop"
        answer = {
            "id": id_,
            "object": "chat.completion" if self._is_chat else "text_completion",
            "created": created_s,
            **self._beside,
            "choices": [choice],
        }
        if self.usage is not None:
            answer["usage"] = self.usage
        return orjson.dumps(answer)

    def as_events(self, id_: str, created_s: int, *, include_usage: bool) -> list[bytes]:
        """The stream, an item for each event; joined they are the body."""
        head = {
            "id": id_,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": created_s,
            **self._beside,
        }
        opening = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        closing = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        quiet: Json = {name: None for name in self._of_choice if name == "logprobs"}
        events: list[bytes] = []
        if self._is_chat:
            first = {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                **quiet,
                "finish_reason": None,
            }
            events.append(opening + orjson.dumps(first) + closing)
        for channel, pieces in self._runs:
            name = orjson.dumps(channel)
            before = b'{"index":0,"delta":{%b:' % name if self._is_chat else b'{"index":0,%b:' % name
            rest = orjson.dumps({**quiet, "finish_reason": None})[1:]
            after = (b"}," if self._is_chat else b",") + rest + closing
            events += [b"".join((opening, before, orjson.dumps(piece), after)) for piece in _few(pieces)]
        last: Json = {"index": 0, "delta": {}} if self._is_chat else {"index": 0, "text": ""}
        last.update(self._of_choice)
        last["finish_reason"] = "stop"
        events.append(opening + orjson.dumps(last) + closing)
        if include_usage:
            events.append(opening + b'],"usage":' + orjson.dumps(self.usage) + b"}\n\n")
        events.append(DONE)
        return events


def _few(pieces: list[str]) -> list[str]:
    """At most MAX_EVENTS pieces: each has 200 bytes around it, and all are written at once."""
    at_once = -(-len(pieces) // MAX_EVENTS)
    if at_once <= 1:
        return pieces
    return ["".join(pieces[start : start + at_once]) for start in range(0, len(pieces), at_once)]


# What OpenAI has in every message, and no stream says.
_NO_REFUSAL: Json = {"refusal": None}
