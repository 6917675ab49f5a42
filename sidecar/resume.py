"""on_stream_cut: resume. An answer that broke off is gone on with from another target, never told twice.

State only, no I/O: `Delivered` remembers what the caller has, `Joiner` fits a second stream to it.

Theory of operation. The text of a stream runs in channels: `content` of a chat, a text block of a message,
the reasoning beside it. However it was cut into tokens, the caller joins the pieces of each channel; so does
`Delivered`. The joiner drops a second stream's pieces while they repeat, character for character, what their
channel has, and lets the stream through from the first piece that goes beyond it. A piece that differs, one
that goes beyond its channel while another is not repeated yet, or an end that comes too early is a mismatch:
nothing that follows could fit what the caller has. With prefill the second provider goes on from the text by
itself: the same, with nothing to repeat.

The event at the join is the only one of which the bytes are ours: its text is cut to what is new, and its
role is taken out (SDKs add up deltas, and would read "assistantassistant"). Where neither is needed, not even
that one. All keep the second provider's id, model and fingerprint. Events that open or close a part of the
answer are dropped if the caller has them already.

Resumable is the text of one choice, up to 1 MiB. Not tool calls, refusals, log probabilities, audio or
anything unknown, of which half cannot be compared; not what has its finish reason, or failed. Reasoning is
resumed only by repeating it: no API takes half of it as a prefill. Anthropic's signed thinking fits no other
answer, so a signature ends it.

How the relay uses it:

1. With `on_stream_cut: resume`, and a call that `is_replayable` and is tied to no one endpoint, it makes
   `Delivered(x.kind, call)` and sets `reader.tap = delivered.note`. An event that goes on unread (longer than
   may be held) is told with `delivered.spoil()`.
2. On a cut, a stall or garbage after the first content, while `delivered.is_resumable`, it writes nothing:
   the flow makes another attempt, on the next target. If that takes prefill and `delivered.can_prefill`, the
   body is `splice.with_prefill(body, document, delivered.text)`, the mode PREFILL; where that gives None, or
   was answered with 400, it is the original body and RESTART. Of an event that was cut nothing had been
   passed on, so there is nothing to take back.
3. The attempt's reader has `reader.tap = joiner.note`. After `reader.read(event)` every event, EXTRA ones
   too, goes through `joiner.take(event)`: None is a mismatch, b"" nothing to pass on, else what to pass on.
   An error event (`reader.failed`), an oversized one or an end before `joiner.is_joined` is a failed attempt.
4. Once `joiner.is_settled` it may be let go, with `reader.tap = delivered.note`. `delivered` is up to date at
   any time: a further cut is resumed alike, and after a failed attempt a new joiner starts from it.
5. When all is tried: the error event and the broken connection, as without resume.
"""

import enum
from collections.abc import Callable, Hashable
from typing import Any

import orjson

from sidecar.events import is_finish
from sidecar.exchange import Usage
from sidecar.openai import Call
from sidecar.sse import data_of

MAX_TEXT_BYTES = 1024 * 1024

Json = dict[str, Any]
# One piece of text: its channel, and the object and key under which it stands in the event.
Piece = tuple[Hashable, Json, str]
# What an event shows: its pieces; its place in the answer's structure if it only opens or closes something;
# whether the answer has come to its end; whether there is something in it that cannot be resumed.
Shown = tuple[list[Piece], Hashable, bool, bool]

_NOTHING: Shown = ([], None, False, False)
_END: Shown = ([], None, True, False)
_STRANGE: Shown = ([], None, False, True)

# Where text stands in the delta of a chat; whatever else is in one cannot be resumed.
_CHAT_CHANNELS = frozenset(("content", "reasoning_content", "reasoning"))
_MESSAGE_DELTAS = {"text_delta": "text", "thinking_delta": "thinking"}
_MESSAGE_BLOCKS = frozenset(("text", "thinking"))
_RESPONSE_DELTAS = frozenset(
    (
        "response.output_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
    )
)
_RESPONSE_ENDS = frozenset(("response.completed", "response.incomplete", "response.failed", "error"))
_RESPONSE_ITEMS = frozenset(("message", "reasoning"))
# The channels that a prefill gives the provider whole: a chat's text, a message's only block.
_PREFILLED = frozenset(("content", (0, "text")))


class Mode(enum.Enum):
    """How the second provider was asked."""

    PREFILL = 0  # with the text so far as the assistant's turn
    RESTART = 1  # anew


class Delivered:
    """What the caller has of one answer, over all the streams it came from."""

    __slots__ = ("_bytes", "_is_lost", "_places", "_texts", "show")

    def __init__(self, kind: str, call: Call) -> None:
        self.show = _SHOW.get(kind, _show_strange)  # reads an event of this kind of stream
        self._texts: dict[Hashable, bytearray] = {}
        self._places: set[Hashable] = set()
        self._bytes = 0
        self._is_lost = call.choices != 1 or _asks_for_logprobs(call.document)

    @property
    def is_resumable(self) -> bool:
        """Whether another provider can go on from here."""
        return bool(self._texts) and not self._is_lost

    @property
    def can_prefill(self) -> bool:
        """Whether the text alone says where the answer is: no reasoning, no further blocks."""
        return self.is_resumable and len(self._texts) == 1 and next(iter(self._texts)) in _PREFILLED

    @property
    def text(self) -> str:
        """The answer so far, for a prefill."""
        return "".join(self.channels().values())

    def channels(self) -> dict[Hashable, str]:
        """The text so far of each channel."""
        return {channel: text.decode() for channel, text in self._texts.items()}

    def has_place(self, place: Hashable) -> bool:
        """Whether the caller has the event that opens or closes this part of the answer."""
        return place in self._places

    def note(self, document: Json) -> None:
        """Take down an event that goes on to the caller."""
        if self._is_lost:
            return
        pieces, place, is_end, is_strange = self.show(document)
        if is_end or is_strange:
            self.spoil()
            return
        for channel, holder, key in pieces:
            self._add(channel, holder[key])
        if place is not None:
            self._places.add(place)

    def spoil(self) -> None:
        """Something went on to the caller that cannot be repeated or compared."""
        self._is_lost = True
        self._texts.clear()

    def _add(self, channel: Hashable, text: str) -> None:
        # As UTF-8 in one piece: a megabyte of tokens kept as strings takes sixteen.
        data = text.encode()
        self._bytes += len(data)
        if self._bytes > MAX_TEXT_BYTES:
            self.spoil()
        elif channel in self._texts:
            self._texts[channel] += data
        elif data:
            self._texts[channel] = bytearray(data)


class Joiner:
    """Fits the events of one more stream to what was delivered.

    `earlier` is the usage that the streams before this one reported; None if the caller did not ask for any.
    The caller is told the sum. An event is rewritten for that only if it would be wrong, so only if a stream
    reported figures before it was cut, and only at the end of the answer, not where a provider keeps a
    running count. No event of one provider could be right about two, so these bytes are ours as well.
    """

    def __init__(self, delivered: Delivered, mode: Mode, earlier: Usage | None = None) -> None:
        self.is_joined = False
        self.continues = mode is Mode.PREFILL
        self._delivered = delivered
        self._earlier = earlier
        # What is still to be repeated, by channel, and how far it is.
        self._left = {} if mode is Mode.PREFILL else delivered.channels()
        self._at = dict.fromkeys(self._left, 0)
        self._input = 0  # of this stream's usage, from a message_start that the caller never sees
        self._document: Json | None = None

    @property
    def is_settled(self) -> bool:
        """Whether everything from here goes on untouched."""
        return self.is_joined and self._earlier is None

    def note(self, document: Json) -> None:
        """The parse of the event that is taken next."""
        self._document = document

    def take(self, event: bytes) -> bytes | None:
        """What is to be passed on in place of this event, b"" for nothing; None at a mismatch."""
        document, self._document = self._document, None
        if document is None:
            return event if self.is_joined else self._take_bare(event)
        is_ours = False
        if not self.is_joined:
            is_beyond, is_ours = self._repeat(document)
            if not is_beyond:
                return self._take_quiet(event, document)
            if self._left:
                return None
            is_ours = _take_roles(document) or is_ours
        is_ours = self._add_earlier(document) or is_ours
        taken = _rebuilt(event, document) if is_ours else event
        if taken is not None:
            self.is_joined = True
            self._delivered.note(document)
        return taken

    # --- before the join ------------------------------------------------------------------------------

    def _repeat(self, document: Json) -> tuple[bool, bool]:
        """Whether the event goes beyond what was delivered, and whether it was cut to what does.

        A piece that differs counts as going beyond: with text left to repeat, both are a mismatch.
        """
        pieces, place, is_end, is_strange = self._delivered.show(document)
        is_beyond, is_cut = is_end or is_strange, False
        for channel, holder, key in pieces:
            piece: str = holder[key]
            text = self._left.get(channel)
            if text is None:
                is_beyond = is_beyond or bool(piece)
                continue
            at = self._at[channel]
            end = min(at + len(piece), len(text))
            if piece[: end - at] != text[at:end]:
                return True, False
            self._at[channel] = end
            if end == len(text):
                del self._left[channel]
            holder[key] = piece[end - at :]
            is_beyond = is_beyond or bool(holder[key])
            is_cut = True
        if place is not None and not self._left and not self._delivered.has_place(place):
            is_beyond = True
        return is_beyond, is_cut

    def _take_bare(self, event: bytes) -> bytes | None:
        """A comment, which nobody misses, or [DONE]: the end of an answer that had nothing more to say."""
        data = data_of(event)
        if data is None or data.strip() != b"[DONE]":
            return b""
        if self._left:
            return None
        self.is_joined = True
        return event

    def _take_quiet(self, event: bytes, document: Json) -> bytes | None:
        """An event that brings nothing new. A usage report goes on once there is nothing left to repeat."""
        message = document.get("message")
        if type(message) is dict and type(message.get("usage")) is dict:
            self._input = _int(message["usage"].get("input_tokens"))
        if self._left or document.get("choices") != [] or document.get("usage") is None:
            return b""
        return _rebuilt(event, document) if self._add_earlier(document) else event

    # --- usage ----------------------------------------------------------------------------------------

    def _add_earlier(self, document: Json) -> bool:
        """Make the event's usage the sum; whether it had any."""
        earlier, report = self._earlier, document.get("usage")
        if earlier is None or type(report) is not dict:
            return False
        is_end = self._delivered.show(document)[2] or document.get("choices") == []
        if not is_end:
            return False
        if document.get("type") == "message_delta":
            report.setdefault("input_tokens", self._input)
        _add_usage(report, earlier)
        return True


def total(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """The sum of what two streams reported; None if neither did."""
    if earlier is None or later is None:
        return earlier or later
    return Usage(
        earlier.input + later.input,
        earlier.output + later.output,
        earlier.cached + later.cached,
        earlier.reasoning + later.reasoning,
    )


def _add_usage(report: Json, earlier: Usage) -> None:
    for holder, key, count in (
        (report, "prompt_tokens", earlier.input),
        (report, "input_tokens", earlier.input),
        (report, "completion_tokens", earlier.output),
        (report, "output_tokens", earlier.output),
        (report, "total_tokens", earlier.input + earlier.output),
        (report.get("prompt_tokens_details"), "cached_tokens", earlier.cached),
        (report.get("completion_tokens_details"), "reasoning_tokens", earlier.reasoning),
    ):
        if type(holder) is dict and type(holder.get(key)) is int:
            holder[key] += count


def _take_roles(document: Json) -> bool:
    """Take the role out of the deltas: the caller has had it. Whether there was one."""
    found = False
    choices = document.get("choices")
    for choice in choices if type(choices) is list else ():
        delta = choice.get("delta") if type(choice) is dict else None
        if type(delta) is dict and delta.pop("role", None) is not None:
            found = True
    return found


def _rebuilt(event: bytes, document: Json) -> bytes | None:
    """The event with this data; its other lines (its name, its id) stay. None for what can be read but not
    written: nested too deeply, or with a sum that no 64 bits hold."""
    others = [line + b"\n" for line in event.splitlines() if line and line.partition(b":")[0] != b"data"]
    try:
        return b"%bdata: %b\n\n" % (b"".join(others), orjson.dumps(document))
    except orjson.JSONEncodeError:
        return None


# --- what the events of each API show -----------------------------------------------------------------


def _show_chunk(chunk: Json) -> Shown:
    """A chunk of chat completions or completions."""
    choices = chunk.get("choices")
    if type(choices) is not list or not choices:
        return _END if chunk.get("error") else _NOTHING
    pieces: list[Piece] = []
    is_end = is_strange = False
    for choice in choices:
        if type(choice) is not dict:
            continue
        if choice.get("index") or choice.get("logprobs"):
            is_strange = True
        if is_finish(choice.get("finish_reason")):
            is_end = True
        delta = choice.get("delta")
        if type(delta) is dict:
            for name, value in delta.items():
                if value and name != "role":
                    if name in _CHAT_CHANNELS and type(value) is str:
                        pieces.append((name, delta, name))
                    else:
                        is_strange = True
        elif type(choice.get("text")) is str and choice["text"]:
            pieces.append(("text", choice, "text"))
    return pieces, None, is_end, is_strange


def _show_message_event(event: Json) -> Shown:
    """An event of Anthropic's Messages API."""
    name, index = event.get("type"), _int(event.get("index"))
    if name == "content_block_delta":
        delta = event.get("delta")
        if type(delta) is not dict:
            return _STRANGE
        key = _MESSAGE_DELTAS.get(str(delta.get("type")), "")
        if type(delta.get(key)) is not str:
            return _STRANGE
        return [((index, key), delta, key)], None, False, False
    if name == "content_block_start":
        block = event.get("content_block")
        if type(block) is not dict or block.get("type") not in _MESSAGE_BLOCKS or block.get("text"):
            return _STRANGE
    if name in ("message_delta", "message_stop", "error"):
        return _END
    return _NOTHING if name == "ping" else ([], (str(name), index), False, False)


def _show_response_event(event: Json) -> Shown:
    """An event of the Responses API."""
    name = str(event.get("type"))
    part = event.get("content_index", event.get("summary_index"))
    place = (name, _int(event.get("output_index")), _int(part))
    if name in _RESPONSE_DELTAS and type(event.get("delta")) is str:
        return [(place, event, "delta")], None, False, bool(event.get("logprobs"))
    if name in _RESPONSE_ENDS:
        return _END
    item = event.get("item")
    if name.endswith(".delta") or (type(item) is dict and item.get("type") not in _RESPONSE_ITEMS):
        return _STRANGE
    return [], place, False, False


def _show_strange(_document: Json) -> Shown:
    return _STRANGE


_SHOW: dict[str, Callable[[Json], Shown]] = {
    "chat": _show_chunk,
    "completions": _show_chunk,
    "messages": _show_message_event,
    "responses": _show_response_event,
}


def _asks_for_logprobs(request: Json) -> bool:
    asked = request.get("logprobs")
    # A 0 is asking as well: completions then report the chosen tokens.
    return (asked is not None and asked is not False) or bool(request.get("top_logprobs"))


def _int(value: object) -> int:
    return value if type(value) is int else 0
