"""A provider's slots, and the bounded queue before them: by priority, then fair by team, with deadlines.

Theory of operation. A slot is held from the moment a request is sent until its answer is over; without a free
one a request waits. A freed slot goes to the highest priority; inside it teams take turns by start-time fair
queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a team's request is tagged with the virtual time at which it
may start, one unit after the team's previous one and never before the virtual time of the last grant, and the
smallest tag is next. A heap holds one entry per team, that of its oldest request, so a grant costs O(log
teams), whoever leaves the queue leaves no trace, and no team gains from sending much or from having been
silent. Within a team it is first come, first served.

Refused are only those who wait, never a stream in progress:

- *overloaded*: the queue is full. The place goes to whoever has more right to it: a newcomer pushes out the
  youngest of the lowest priority, or of the team with the longest line if its own is shorter by two.
- *hopeless*: at the measured pace the requests ahead alone take longer than the deadline allows. Said at
  once, so that the request can go elsewhere. Nobody who would be next is hopeless: a slot may be free any
  moment.
- *timeout*: the deadline passed all the same.

A flow waits (flow.py), so being granted continues it on the spot, in the middle of somebody else's release.
All state is therefore settled before a signal is set, and only the outermost call hands out slots: a row of
requests that fail at once would otherwise nest until the stack ends.
"""

import heapq
from collections import OrderedDict

from sidecar.clock import NEVER, Ticker
from sidecar.flow import Signal

OVERLOADED = "overloaded"
HOPELESS = "hopeless"
TIMEOUT = "timeout"

# Weight of one request in the mean service time: it follows a change of load within some twenty requests.
_WEIGHT = 0.1
_MIN_SAMPLES = 10
_MAX_RETRY_S = 60.0


class Ticket:
    """One request's place: waiting, granted, refused (`refused` says why) or given back.

    `await ready` returns when it is granted or refused. `cancel` may be called at any time, any number of
    times, and frees what is held; so may `Slots.release`.
    """

    __slots__ = ("_granted_s", "_line", "_slots", "deadline_s", "is_granted", "ready", "refused")

    def __init__(self, slots: "Slots") -> None:
        self.is_granted = False
        self.refused = ""
        self.ready = _SET
        self.deadline_s = NEVER
        self._granted_s = 0.0
        self._line: _Line | None = None  # where it waits
        self._slots = slots

    def cancel(self) -> None:
        """The caller leaves, or is done."""
        self._slots.release(self)

    def take(self) -> None:
        """Keep the granted slot without the ticket: `Slots.give_back` ends it now."""
        self.is_granted = False

    def on_deadline(self) -> None:
        """The ticker's call: it waited long enough."""
        self._slots.refuse(self, TIMEOUT)


_SET = Signal()
_SET.set()


class _Line:
    """The waiting requests of one team at one priority."""

    __slots__ = ("finish", "is_listed", "level", "team", "tickets")

    def __init__(self, level: "_Level", team: str) -> None:
        self.level = level
        self.team = team
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()
        self.finish = 0.0  # the virtual time at which its last granted request ends
        self.is_listed = False  # in the level's heap


class _Level:
    """The lines of one priority. Lives while somebody waits in it."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.waiting = 0
        self.lines: dict[str, _Line] = {}
        self._heap: list[tuple[float, int, _Line]] = []
        self._virtual = 0.0
        self._entries = 0

    def push(self, team: str, ticket: Ticket) -> None:
        line = self.lines.get(team)
        if line is None:
            line = self.lines[team] = _Line(self, team)
        ticket._line = line
        line.tickets[ticket] = None
        self.waiting += 1
        if not line.is_listed:
            line.is_listed = True
            heapq.heappush(self._heap, self._entry(max(self._virtual, line.finish), line))

    def pop(self) -> Ticket:
        while not (line := self._heap[0][2]).tickets:
            heapq.heappop(self._heap)
            line.is_listed = False
        self._virtual = self._heap[0][0]
        line.finish = self._virtual + 1.0
        ticket, _ = line.tickets.popitem(last=False)
        self.waiting -= 1
        if line.tickets:
            heapq.heapreplace(self._heap, self._entry(line.finish, line))
        else:
            heapq.heappop(self._heap)
            line.is_listed = False
        return ticket

    def ahead_of(self, team: str) -> int:
        """How many are granted before a newcomer of this team: its own, and one more of each other team."""
        line = self.lines.get(team)
        own = len(line.tickets) if line is not None else 0
        return sum(min(len(other.tickets), own + (other is not line)) for other in self.lines.values())

    def longest(self) -> _Line:
        return max(self.lines.values(), key=lambda line: len(line.tickets))

    def _entry(self, tag: float, line: _Line) -> tuple[float, int, _Line]:
        self._entries += 1  # equal tags: first come, first served
        return tag, self._entries, line


class Slots:
    """`in_use` of `max_requests` slots of one provider, and `waiting` requests before them."""

    def __init__(self, max_requests: int, max_queue: int, queue_timeout_s: float, ticker: Ticker) -> None:
        # Configuration; `configure` changes it.
        self._max_requests = max_requests
        self._max_queue = max_queue
        self._queue_timeout_s = queue_timeout_s
        self._ticker = ticker

        # Who is served, who waits.
        self.in_use = 0
        self.waiting = 0
        self._levels: dict[int, _Level] = {}
        self._is_granting = False

        # The pace.
        self._service_s = 0.0  # mean time a slot is held
        self._samples = 0

    def configure(self, max_requests: int, max_queue: int, queue_timeout_s: float) -> None:
        """Set new limits. Who holds a slot or waits keeps it; who waits keeps the old deadline."""
        self._max_requests = max_requests
        self._max_queue = max_queue
        self._queue_timeout_s = queue_timeout_s
        self._grant()

    # --- requests -------------------------------------------------------------------------------------

    def try_take(self) -> bool:
        """A slot at once, where one is free and nobody waits: no ticket is needed, `give_back` ends it."""
        if self.in_use < self._max_requests and not self.waiting:
            self.in_use += 1
            return True
        return False

    def give_back(self, held_s: float) -> None:
        """A slot is free again that was held for so long."""
        self.in_use -= 1
        self._samples += 1
        # Within the first ten each counts the same.
        weight = _WEIGHT if self._samples > _MIN_SAMPLES else 1.0 / self._samples
        self._service_s += (held_s - self._service_s) * weight
        if self.waiting:
            self._grant()

    def request(self, priority: int, team: str, now_s: float) -> Ticket:
        """Ask for a slot: granted at once, refused at once, or waiting. Higher priorities go first."""
        ticket = Ticket(self)
        if self.in_use < self._max_requests and not self.waiting:
            self.in_use += 1
            ticket.is_granted = True
            ticket._granted_s = now_s
        elif self._queue_timeout_s <= 0.0 or not self._has_place(priority, team):
            ticket.refused = OVERLOADED
        elif self._wait_s(priority, team) > self._queue_timeout_s:
            ticket.refused = HOPELESS
        else:
            self._enqueue(ticket, priority, team, now_s)
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Give back a slot or a place in the queue. Harmless for a ticket that holds neither."""
        if ticket.is_granted:
            ticket.is_granted = False
            self.give_back(self._ticker.now_s - ticket._granted_s)
        elif ticket._line is not None:
            self._remove(ticket)

    def refuse(self, ticket: Ticket, why: str) -> None:
        """Send a waiting request away."""
        if ticket._line is not None:
            self._remove(ticket)
            ticket.refused = why
            ticket.ready.set()

    def retry_after_s(self) -> float:
        """When a refused caller may find a place: about the time the queue needs to empty, 1 to 60 s."""
        return min(_MAX_RETRY_S, max(1.0, (self.waiting + 1) * self._pace_s()))

    # --- inside ---------------------------------------------------------------------------------------

    def _enqueue(self, ticket: Ticket, priority: int, team: str, now_s: float) -> None:
        pushed_out = self._youngest_of_the_least() if self.waiting >= self._max_queue else None
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level(priority)
        ticket.ready = Signal()
        ticket.deadline_s = now_s + self._queue_timeout_s
        level.push(team, ticket)
        self.waiting += 1
        self._ticker.arm(ticket)
        if pushed_out is not None:
            self.refuse(pushed_out, OVERLOADED)  # last: its flow goes on in here

    def _has_place(self, priority: int, team: str) -> bool:
        if self.waiting < self._max_queue:
            return True
        if not self.waiting:
            return False
        lowest = self._levels[min(self._levels)]
        if lowest.priority != priority:
            return lowest.priority < priority
        own = lowest.lines.get(team)
        # By two: pushing out for a difference of one would only swap who is refused.
        return len(lowest.longest().tickets) >= 2 + (len(own.tickets) if own is not None else 0)

    def _youngest_of_the_least(self) -> Ticket:
        line = self._levels[min(self._levels)].longest()
        return next(reversed(line.tickets))

    def _wait_s(self, priority: int, team: str) -> float:
        """The seconds until all who go before a newcomer have a slot, by the measured pace."""
        ahead = sum(level.waiting for level in self._levels.values() if level.priority > priority)
        if (level := self._levels.get(priority)) is not None:
            ahead += level.ahead_of(team)
        return ahead * self._pace_s()

    def _pace_s(self) -> float:
        """Seconds from one freed slot to the next when all are in use; 0 while too little is known."""
        return self._service_s / self._max_requests if self._samples >= _MIN_SAMPLES else 0.0

    def _remove(self, ticket: Ticket) -> None:
        line = ticket._line
        if line is not None:
            del line.tickets[ticket]
            line.level.waiting -= 1
            self._left(ticket, line.level)

    def _left(self, ticket: Ticket, level: _Level) -> None:
        """Settle what belongs to a ticket's waiting, once it is out of its line."""
        ticket._line = None
        self._ticker.disarm(ticket)
        self.waiting -= 1
        if not level.waiting:
            del self._levels[level.priority]

    def _grant(self) -> None:
        if self._is_granting:
            return  # the outermost call goes on
        self._is_granting = True
        try:
            while self.waiting and self.in_use < self._max_requests:
                level = self._levels[max(self._levels)]
                ticket = level.pop()
                self._left(ticket, level)
                self.in_use += 1
                ticket.is_granted = True
                ticket._granted_s = self._ticker.now_s
                ticket.ready.set()
        finally:
            self._is_granting = False
