"""The same question asked again before its answer is there: one request is sent, and all get what it brings.

The first caller's exchange gets a `Flight` for its downstream. What is written to it goes to every seat, the
first caller's and those of all who asked the same since: the bytes as they came, each under a head of its
own. Who takes a seat late gets all from the beginning. A caller that leaves gives its seat up, the first one
too; the provider is let go when no seat is taken any more.

Bounded: MAX_SEATS callers, and MAX_BYTES of an answer, from where on nobody may join. The provider is held
back while no caller reads, or one is MAX_BYTES behind; that one loses its connection where others wait for it
and it has not caught up in PATIENCE_S.
"""

import time
from collections.abc import Callable, Sequence

from sidecar.clock import NEVER, Ticker
from sidecar.errors import ClientGone, ProxyError, error_object, refuse
from sidecar.exchange import CacheNote, Downstream, Exchange, Pausable, Reply
from sidecar.flow import Flow, Signal

MAX_SEATS = 1000
MAX_BYTES = 1024 * 1024
PATIENCE_S = 2.0

# The question's digest, who asks (a caller's bucket), whether as a stream, whether with usage.
Name = tuple[bytes, str, bool, bool]


class Flights:
    """All questions that are being asked, by their names."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._flights: dict[Name, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, name: Name, x: Exchange, note: CacheNote) -> "Seat | None":
        """A seat in the flight of that name, if there is one with room; `note` is for the exchange then."""
        flight = self._flights.get(name)
        if flight is None or not flight.has_room:
            return None
        x.cache = note
        return flight.seat(x)

    def open(self, name: Name, x: Exchange) -> "Flight | None":
        """Let others share what this request brings; None where one of that name is under way already."""
        if name in self._flights:
            return None
        flight = x.client = self._flights[name] = Flight(x, self._ticker, lambda: self._over(name, flight))
        return flight

    def close_doors(self) -> None:
        """Nobody joins what is under way now: its answer may be what was to be purged."""
        self._flights.clear()

    def _over(self, name: Name, flight: "Flight") -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]


class Seat:
    """One caller of a flight."""

    __slots__ = ("_flight", "behind_bytes", "client", "done", "is_paused", "x")

    def __init__(self, flight: "Flight", x: Exchange) -> None:
        self._flight = flight
        self.x = x
        self.client = x.client
        self.done = Signal()
        self.is_paused = False
        self.behind_bytes = 0  # what was written since it stopped to read

    async def served(self) -> None:
        """Wait until the caller has the whole answer. Raises ClientGone when it leaves."""
        try:
            await self.done
        except ProxyError as error:  # the sidecar is shutting down
            self._break_off(error)
        finally:
            self._flight.leave(self)

    def _break_off(self, error: ProxyError) -> None:
        x = self.x
        if not x.is_open:
            return
        if not x.status:
            return self.client.reply(x, error.reply(is_final=False))
        x.flag = error.flag
        event = b"data: " + error_object(error.status, error.code, error.message) + b"\n\n"
        self.client.cut(x, event if x.stream else b"")

    # --- calls of its connection ----------------------------------------------------------------------

    def pause_reading(self) -> None:
        self.is_paused = True
        self._flight.balance()

    def resume_reading(self) -> None:
        self.is_paused = False
        self.behind_bytes = 0
        self._flight.balance()


class Flight:
    """The downstream of a request whose answer is shared."""

    def __init__(self, x: Exchange, ticker: Ticker, on_over: Callable[[], object]) -> None:
        self.deadline_s = NEVER  # for who is too far behind
        self._x = x
        self._first = x.client
        self._ticker = ticker
        self._on_over = on_over
        self._seats = [Seat(self, x)]
        self._flow: Flow | None = None  # of the first caller, once it has left
        self._head: tuple[int, Sequence[bytes], int | None] | None = None
        self._pieces: list[bytes] = []  # of the body so far, while it may be joined
        self._bytes = 0
        self._source: Pausable | None = None
        self._is_held = False
        self._is_over = False

    @property
    def has_room(self) -> bool:
        """Whether one more caller may join."""
        return len(self._seats) < MAX_SEATS and self._bytes <= MAX_BYTES

    def seat(self, x: Exchange) -> Seat:
        """One more caller; it gets at once what there is."""
        seat = Seat(self, x)
        self._seats.append(seat)
        if self._head is not None:
            self._begin(seat, *self._head)
            if self._pieces:
                self._write(seat, b"".join(self._pieces))
        self.balance()
        return seat

    def leave(self, seat: Seat) -> None:
        """A caller is gone, or has all. The last one that goes ends the request, if its first has left."""
        if seat in self._seats:
            self._seats.remove(seat)
            seat.client.feed_from(None)
        flow = self._flow
        if flow is None or self._seats or self._is_over:
            return self.balance()
        self._flow = None
        self._x.is_open = False
        flow.cancel(ClientGone())

    def close(self) -> Downstream:
        """The request is at its end, whatever came of it: nobody is left waiting. Returns its first caller's
        connection, which takes the flight's place, so that nothing is held in a circle."""
        for seat in self._take_seats():
            if seat.x is not self._x:
                if seat.x.status:
                    seat.client.cut(seat.x, b"")
                else:
                    seat.client.reply(seat.x, _FAILED)
                seat.done.set()
        return self._first

    # --- calls of the request that is sent ------------------------------------------------------------

    def reply(self, x: Exchange, reply: Reply) -> None:
        x.status, x.flag = reply.status, reply.flag
        for seat in self._take_seats():
            seat.client.reply(seat.x, reply)
            seat.done.set()

    def respond(self, x: Exchange, status: int, lines: Sequence[bytes], body: bytes) -> None:
        for seat in self._take_seats():
            self._describe(seat, status)
            seat.client.respond(seat.x, status, lines, body)
            seat.done.set()

    def begin(self, x: Exchange, status: int, lines: Sequence[bytes], length: int | None) -> None:
        self._head = (status, lines, length)
        for seat in self._seats:
            self._begin(seat, status, lines, length)

    def write(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes <= MAX_BYTES:
            self._pieces.append(data)
        else:
            self._pieces.clear()
        for seat in self._seats:
            if seat.x is self._x:
                seat.client.write(data)  # whoever wrote this has counted it for the first caller
                seat.behind_bytes += len(data) if seat.is_paused else 0
            else:
                self._write(seat, data)
        if self._bytes > MAX_BYTES:
            self.balance()

    def end(self, x: Exchange) -> None:
        for seat in self._take_seats():
            if x.flag != "DC":
                seat.x.flag = x.flag
            seat.client.end(seat.x)
            seat.done.set()

    def drop(self) -> None:
        raise NotImplementedError("each seat has a connection of its own")

    def cut(self, x: Exchange, last: bytes) -> None:
        for seat in self._take_seats():
            seat.x.flag = x.flag
            seat.client.cut(seat.x, last)
            seat.done.set()

    def feed_from(self, source: Pausable | None) -> None:
        self._source = source
        if source is not None and self._is_held:
            source.pause_reading()

    def lost(self, x: Exchange, flow: Flow) -> None:
        """The first caller is gone; its request goes on for the others."""
        for seat in self._seats:
            if seat.x is x:
                seat.client.feed_from(None)
        self._seats = [seat for seat in self._seats if seat.x is not x]
        if self._seats:
            self._flow = flow
            self.balance()
        else:
            x.is_open = False
            flow.cancel(ClientGone())

    # --- inside ---------------------------------------------------------------------------------------

    def balance(self) -> None:
        """Hold the provider back, or let it go on."""
        seats = self._seats
        waits_for_one = any(seat.behind_bytes > MAX_BYTES for seat in seats)
        is_held = bool(seats) and (waits_for_one or all(seat.is_paused for seat in seats))
        if not (waits_for_one and len(seats) > 1):
            self.deadline_s = NEVER
        elif self.deadline_s == NEVER:
            self.deadline_s = self._ticker.now_s + PATIENCE_S
            self._ticker.arm(self)
        if is_held is self._is_held:
            return
        self._is_held = is_held
        if self._source is not None:
            if is_held:
                self._source.pause_reading()
            else:
                self._source.resume_reading()

    def on_deadline(self) -> None:
        """The ticker's call: others have waited long enough."""
        self.deadline_s = NEVER
        for seat in self._seats:
            if seat.behind_bytes > MAX_BYTES:
                seat.behind_bytes = 0
                seat.client.drop()

    def _begin(self, seat: Seat, status: int, lines: Sequence[bytes], length: int | None) -> None:
        self._describe(seat, status)
        if seat.x is not self._x and seat.x.stream and status == 200:
            seat.x.first_token_s = seat.x.upstream_s
        seat.client.begin(seat.x, status, lines, length)
        seat.client.feed_from(seat)

    def _describe(self, seat: Seat, status: int) -> None:
        """Take down for a caller that joined who answers it."""
        x, first = seat.x, self._x
        if x is first:
            return
        x.status, x.flag = status, first.flag
        x.model, x.provider, x.region, x.endpoint = first.model, first.provider, first.region, first.endpoint
        x.upstream_s = time.monotonic() - x.started_s

    def _write(self, seat: Seat, data: bytes) -> None:
        seat.x.bytes_sent += len(data)
        seat.client.write(data)
        if seat.is_paused:
            seat.behind_bytes += len(data)

    def _take_seats(self) -> list[Seat]:
        """The end: nobody may join any more, and each gets the same last word."""
        if not self._is_over:
            self._is_over = True
            self._on_over()
        if self._flow is not None:
            self._x.is_open = False
            self._x.flag = "DC" if self._x.flag == "-" else self._x.flag
        self._pieces.clear()
        self._ticker.disarm(self)
        seats, self._seats = self._seats, []
        return seats


_FAILED = refuse(500, "internal_error", "The sidecar failed on this request; see its log.")
