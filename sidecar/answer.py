"""A provider's answer to one attempt: held until it is known to be good, then relayed by callback.

Three ways, chosen when the head arrives:

- *raw*, for what is passed through unread: good as soon as its head is there, bytes go on as they come. So
  do sound and pictures, good as soon as their first bytes are there.
- *plain*, a JSON answer to an inference call: held until it is whole (up to 1 MiB; from there it is relayed),
  so that whatever breaks before can still be answered honestly.
- *stream*, server-sent events of an inference call: head and events are held until the first one with
  content. After that each event goes on as soon as it is whole. A stream that is cut, falls silent or turns
  to garbage ends in an error event and a broken connection, never in a clean end; one that has come to its
  end is finished even if the provider forgets to hang up.

Bytes come by plain calls from the upstream connection and leave by plain calls to the caller's connection;
the request's flow sleeps meanwhile. `ready` wakes it when the answer is good or lost, `done` at the end.
"""

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.clock import NEVER, Ticker
from sidecar.config.model import Timeouts
from sidecar.ending import fault_of_plain, fault_of_stream, too_late
from sidecar.errors import MISMATCH, ProxyError, empty, error_object, garbage, mismatch
from sidecar.events import CONTENT, EXTRA, GARBAGE, QUIET, StreamReader, both
from sidecar.exchange import Exchange
from sidecar.flow import Signal
from sidecar.headers import ResponseHead
from sidecar.openai import Call
from sidecar.resume import Delivered, Joiner
from sidecar.sse import MAX_HELD_BYTES, LargeEvent, split
from sidecar.upstream.connection import CLOSED, Connection
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.queue import Slots

if TYPE_CHECKING:
    from sidecar.cache.recording import Recording  # a megabyte, for those who have a cache

HOLD_BYTES = 1024 * 1024
TAIL_BYTES = 16 * 1024
# How long a provider may take to hang up after the last event of a stream.
HANG_UP_S = 2.0
# One second more for the first token for every 16 KiB of request: long prompts take longer to read.
PROMPT_STEP_BYTES = 16 * 1024
_MEDIA = frozenset(("images", "speech"))  # what these APIs answer may be no JSON


class Mode(enum.Enum):
    """How the bytes of an answer are treated."""

    RAW = 0
    PLAIN = 1
    STREAM = 2


RAW, PLAIN, STREAM = Mode  # a look-up on the class costs 0.1 µs each


class Answer:
    """The sink of one attempt. `error` is set when it is lost; `status` 0 until the head is there."""

    # What most answers leave as it is stands here: an instance holds the rest only.
    status = 0
    lines: Sequence[bytes] = ()  # of the head, as they go back to the caller
    head: ResponseHead | None = None
    error: ProxyError | None = None
    is_whole = False
    tail = b""  # of a plain answer too large to be held: its usage stands there
    reader: StreamReader | None = None
    # With `on_stream_cut: resume`: what the caller has, and what fits this stream to it.
    delivered: Delivered | None = None
    joiner: Joiner | None = None
    recording: "Recording | None" = None  # for the cache
    done: Signal

    _write: Callable[[bytes], None]
    _held_bytes = 0
    _rest = b""  # of an event that is not whole yet
    _large: LargeEvent | None = None  # the event at hand, if it is too long to be held: passed on unjudged
    _is_between_events = False  # relaying, with no part of an event held
    _has_spoken = False  # content came, be it only what the caller has already
    _is_relaying = False
    _is_paused = False
    _is_open = True

    def __init__(
        self,
        x: Exchange,
        call: Call | None,
        endpoint: Endpoint,
        connection: Connection,
        ticker: Ticker,
        timeouts: Timeouts,
        slots: Slots | None = None,
    ) -> None:
        self.ready = Signal()
        self.mode = RAW if call is None else PLAIN
        self._x = x
        self._call = call
        self._endpoint = endpoint
        self._connection = connection
        self._ticker = ticker
        self._timeouts = timeouts
        self._idle_s = timeouts.idle_s
        self._slots = slots  # whose slot it holds
        self._held: list[bytes] = []

        # Deadlines. The first attempt sets the end of all.
        now_s = self._began_s = ticker.now_s
        end_s = now_s + timeouts.total_s
        if end_s < x.end_s:
            x.end_s = end_s
        else:
            end_s = x.end_s
        self._end_s = end_s
        due_s = now_s + timeouts.answer_s
        if call is not None and call.stream and x.kind != "images":  # a picture may come whole, as the first
            due_s = now_s + timeouts.first_token_s + len(x.body) // PROMPT_STEP_BYTES
        self.deadline_s = due_s if due_s < end_s else end_s
        endpoint.in_flight += 1
        ticker.arm(self)

    # --- the flow's calls -----------------------------------------------------------------------------

    @property
    def is_good(self) -> bool:
        """Whether it is a plain success, as nearly all are; otherwise it takes a closer look."""
        return self.error is None and self.status < 300 and self.reader is None

    @property
    def has_failed(self) -> bool:
        """Whether the provider has said so itself, in an event of its stream."""
        return self.reader is not None and self.reader.failed

    @property
    def body(self) -> bytes:
        """What is held."""
        return self._held[0] if len(self._held) == 1 else b"".join(self._held)

    @property
    def length(self) -> int | None:
        """The body's length where the provider said it and the bytes are passed on as they are."""
        return self.head.length if self.head is not None and self.mode is not STREAM else None

    def relay(self) -> None:
        """Pass on what is held, and from now on what comes. The caller's head has been sent."""
        self.done = Signal()
        self._is_relaying = True
        self._is_between_events = self._has_nothing_open()
        client = self._x.client
        self._write = client.write
        if self._held:
            if self.mode is PLAIN:
                self.tail = self._held[-1][-TAIL_BYTES:]
            self._send(self.body)
            self._held.clear()
        if self.is_whole:
            self._finish()
        elif self.error is not None:
            self._break(self.error)
        else:
            client.feed_from(self)

    def cancel(self) -> None:
        """Nobody wants it any more: the provider sees the connection close now. Harmless at the end."""
        self._close()
        if not self.is_whole and self.error is None:
            self._connection.cancel()

    def lose(self, error: ProxyError) -> None:
        """Give the answer up for a reason that did not come from the connection."""
        self._connection.cancel()
        self.on_error(error)

    # --- the caller's connection's calls (back-pressure) ----------------------------------------------

    def pause_reading(self) -> None:
        self._is_paused = True
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self.deadline_s = min(self._ticker.now_s + self._idle_s, self._end_s)
        self._connection.resume_reading()

    # --- the upstream connection's calls --------------------------------------------------------------

    def on_head(self, status: int, head: ResponseHead, lines: list[bytes]) -> None:
        self.status = status
        self.head = head
        self.lines = lines
        if self._call is None:
            self._touch()
            self.ready.set()
        elif status == 200 and head.content_type.startswith(b"text/event-stream"):
            self.mode = STREAM
            call = self._call
            self.reader = StreamReader(
                self._x.kind, call.choices, strip_usage=call.strip_usage, expects_usage=call.asks_for_usage
            )
            self.reader.tap = both(self.joiner or self.delivered, self.recording)
        elif status == 200 and self._x.kind in _MEDIA and head.is_media:
            self.mode = RAW
        elif self._call.stream:
            self.deadline_s = min(self._began_s + self._timeouts.answer_s, self._end_s)

    def on_data(self, data: bytes) -> None:
        reader = self.reader
        if reader is not None:
            if not (self._is_between_events and 0 <= data.find(b"\n\n") == len(data) - 2):
                return self._take_events(reader, data)
            # One whole event in a read, and the next one in 20 ms: nearly all of a stream. Kept flat: between
            # two events the CPU's caches have forgotten this code, and each call more costs twice.
            if reader.read(data) > CONTENT:
                return self._take_events(reader, data)
            self._x.bytes_sent += len(data)
            self._write(data)
            due_s = self._ticker.now_s + (HANG_UP_S if reader.is_over else self._idle_s)
            self.deadline_s = due_s if due_s < self._end_s else self._end_s
        elif self._is_relaying:
            if self.mode is RAW:
                self._touch()
            else:
                self.tail = (self.tail + data)[-TAIL_BYTES:]
            self._send(data)
        else:
            self._hold(data)
            if self.mode is RAW:
                self._touch()
            if self.mode is RAW or self._held_bytes > HOLD_BYTES:
                self.ready.set()

    def on_end(self) -> None:
        error = self._judge_end()
        if error is not None:
            return self._fail(error)
        self._close()
        self.is_whole = True
        if self._is_relaying:
            self._finish()
        self.ready.set()

    def on_error(self, error: ProxyError) -> None:
        is_complete = self.reader is not None and self.reader.is_complete
        if is_complete and not self.is_whole and error.code != MISMATCH:
            return self.on_end()  # the answer had come to its end; how the provider hung up is its own affair
        self._fail(error)

    def _fail(self, error: ProxyError) -> None:
        self._close()
        if self.error is not None:
            return
        self.error = error
        if self._is_relaying:
            self._break(error)
        self.ready.set()

    # --- the ticker's call ----------------------------------------------------------------------------

    def on_deadline(self) -> None:
        if self._is_paused and self._ticker.now_s < self._end_s:
            self.deadline_s = min(self._ticker.now_s + self._idle_s, self._end_s)
            return
        self.deadline_s = NEVER
        if self.reader is not None and self.reader.is_complete:
            self._connection.cancel()
            return self.on_end()
        awaits_token = self._call is not None and self._call.stream and not self.ready.is_set
        self.lose(too_late(has_head=self.status > 0, awaits_token=awaits_token))

    # --- inside ---------------------------------------------------------------------------------------

    def _take_events(self, reader: StreamReader, data: bytes) -> None:
        """Pass on the whole events of a read as one write, less what is not to be passed on."""
        events, self._rest = split(self._rest + data)
        has_content = False
        passed: list[bytes] = []
        for event in events:
            large, self._large = self._large, None
            verdict = reader.read(event) if large is None else reader.read_large(large.add(event))
            self._has_spoken = self._has_spoken or verdict == CONTENT
            if verdict == GARBAGE:
                self._pass_on(passed)
                return self.lose(garbage())
            if self.joiner is not None:
                joined = None if reader.failed else self.joiner.take(event)
                if joined is None:
                    return self.lose(mismatch())
                event = joined
                verdict = verdict if verdict == EXTRA else (CONTENT if joined else QUIET)
                if self.joiner.is_settled:
                    self.joiner = None
                    reader.tap = both(self.delivered, self.recording)
            if verdict != EXTRA and event:
                passed.append(event)
                has_content = has_content or verdict == CONTENT
        if len(self._rest) > MAX_HELD_BYTES:
            # Too long to hold: it goes on unjudged, save line ends that may turn out to be the event's end.
            if self.joiner is not None:
                return self.lose(mismatch())
            if self.delivered is not None:
                self.delivered.spoil()
            if self.recording is not None:
                self.recording.spoil("size")
            begun = self._rest.rstrip(b"\r\n")
            passed.append(begun)
            self._rest = self._rest[len(begun) :]
            self._large = (self._large or LargeEvent()).add(begun)
            has_content = self._has_spoken = True
        self._pass_on(passed)
        if has_content:
            self.ready.set()
        self._is_between_events = self._is_relaying and self._has_nothing_open()
        self._touch()

    def _has_nothing_open(self) -> bool:
        """No part of an event is held or under way, and none needs a closer look."""
        return not self._rest and self._large is None and self.joiner is None

    def _pass_on(self, events: list[bytes]) -> None:
        if not events:
            return
        data = events[0] if len(events) == 1 else b"".join(events)
        if self._is_relaying:
            self._send(data)
        else:
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)

    def _send(self, data: bytes) -> None:
        self._x.bytes_sent += len(data)
        self._write(data)

    def _touch(self) -> None:
        """Bytes came: the idle deadline starts anew. Before the first content of a stream it does not."""
        if self.mode is STREAM and not self._has_spoken:
            return
        limit_s = HANG_UP_S if self.reader is not None and self.reader.is_over else self._idle_s
        self.deadline_s = min(self._ticker.now_s + limit_s, self._end_s)

    def _judge_end(self) -> ProxyError | None:
        """Whether an answer whose bytes ended properly is whole in its own terms."""
        reader = self.reader
        if reader is not None:
            has_begun = self._has_spoken or self.ready.is_set
            fault = fault_of_stream(reader, self.joiner, rest=self._rest, has_begun=has_begun)
            if fault is None and self._rest:
                self._pass_on([self._rest])
            return fault
        head = self.head
        if self._call is None or head is None or self.status != 200 or self._x.method == b"HEAD":
            return None
        if not self._held_bytes:
            return empty("an empty answer")
        if head.content_type.startswith(b"text/html"):
            return empty("an HTML page instead of an answer")
        if self._connection.state is CLOSED:
            return fault_of_plain(head, self.tail or self.body, is_all=not self._is_relaying)
        return None

    def _close(self) -> None:
        """The attempt is over, one way or another."""
        if self._is_open:
            self._is_open = False
            if self.reader is not None:
                self.reader.tap = None  # who listened holds the whole text
            self._endpoint.in_flight -= 1
            self._ticker.disarm(self)
            if self._slots is not None:
                self._slots.give_back(self._ticker.now_s - self._began_s)

    def _finish(self) -> None:
        if self.has_failed:
            self._x.flag = "SE"
        self._x.client.feed_from(None)
        self._x.client.end(self._x)
        self.done.set()

    def _break(self, error: ProxyError) -> None:
        """It broke off while it was relayed: the flow goes on from elsewhere, or the caller is told."""
        if self.delivered is None or not self.delivered.is_resumable:
            self.cut(error)
        else:
            self._x.client.feed_from(None)
        self.done.set()

    def cut(self, error: ProxyError) -> None:
        """End what was begun so that nobody takes it for whole."""
        x = self._x
        x.flag = error.flag
        last = b""
        if self.mode is STREAM:
            # Part of an oversized event may be out already: a blank line first, so that this one parses.
            gap = b"\n\n" if self._large is not None else b""
            last = gap + b"data: " + error_object(error.status, error.code, error.message) + b"\n\n"
        x.client.cut(x, last)
