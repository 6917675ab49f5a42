"""One sidecar's lease of one limit: what it may hand out by itself, without asking anyone.

`held` is what is left of the lease; taking from it is two comparisons and a few additions. What was taken is
reported with the next round trip, and the answer says how much the sidecar has now. The demand of the last
seconds decides how much is asked for: what was taken or waited for in the last period, older use fading out.
Twice that is asked for, and nothing at all for a caller that comes by once in a while, whose requests wait
for a round trip each instead of holding on to what others need.

Here are decisions only: who asks Redis, and when, is in leases.py. Times are monotonic seconds.
"""

import math
from typing import ClassVar

from sidecar.fleet.share import Share

NEVER = float("inf")
# In periods: an unused lease goes back after two; the server takes one back that was not renewed for five,
# and its holder stops using it one earlier, so that nobody spends what somebody else has got meanwhile.
UNUSED_PERIODS = 2
LEASE_PERIODS = 5
USABLE_PERIODS = 4
# What is held in store is at most a part of the limit, two periods of a bucket's rate, or one request,
# whichever is most: it is what a sidecar that dies may have used without having told.
STORE_PERIODS = 2
# A bucket that had nothing is asked again after so many, at the latest: the server knows when it will have
# refilled, but not what others put back before, who reserve tokens at the worst case and settle for less.
DRY_PERIODS = 2


class Standing:
    """What all leases of one process have in common; `active` are those with anything to report or to ask."""

    __slots__ = ("active", "expected", "is_local", "period_s")

    def __init__(self, expected: int, period_s: float) -> None:
        self.expected = expected
        self.period_s = period_s
        self.is_local = True  # until Redis has answered for the first time
        self.active: set[Lease] = set()


class Report:
    """What one round trip says of a lease, and asks for it."""

    __slots__ = ("back", "lease", "least", "spare", "used", "waiting")

    def __init__(self, lease: "Lease", used: int, back: int, waiting: int, least: int, spare: int) -> None:
        self.lease = lease
        self.used = used
        self.back = back
        self.waiting = waiting  # asked for by requests that wait
        self.least = least  # less than this helps none of them
        self.spare = spare  # asked for in store


class Grant:
    """What the server answers: see scripts.py. `own` is the whole lease, `spent` is a budget's."""

    __slots__ = ("available", "granted", "outright", "own", "spent", "wait_s")

    def __init__(
        self, granted: int, outright: int, available: int, wait_ms: int, own: int, spent: int
    ) -> None:
        self.granted = granted
        self.outright = outright
        self.available = available
        self.wait_s = wait_ms / 1000
        self.own = own
        self.spent = spent


class Lease:
    """A block of one limit: `rate` is per minute, 0 for what does not come back, `capacity` the most at once.

    Where the fleet has no word for it (Redis is away, or does not serve this key) a local share stands in.
    """

    __slots__ = (
        "_asked",
        "_available",
        "_counted_s",
        "_demand",
        "_expires_s",
        "_is_alone",
        "_known_s",
        "_largest",
        "_least",
        "_standing",
        "_used_s",
        "_waiting",
        "capacity",
        "dry_until_s",
        "held",
        "is_refused",
        "key",
        "own",
        "rate",
        "share",
        "taken",
    )
    kind: ClassVar[bytes]
    store_part: ClassVar[int]  # of the limit, in store at most

    def __init__(self, standing: Standing, key: str, rate: int, capacity: int) -> None:
        self.key = key
        self.rate = rate
        self.capacity = capacity
        self._standing = standing
        # The lease
        self.held = 0
        self.taken = 0  # of a bucket since the last report; of a budget what is reserved
        self.own = 0  # what the server counts as leased to us
        self._expires_s = NEVER
        self.is_refused = False  # the server does not serve this key
        self._is_alone = False
        # What the fleet has left, as of the last answer
        self._available = capacity
        self._known_s = -NEVER
        self.dry_until_s = -NEVER
        # Demand
        self._asked = 0
        self._demand = 0.0
        self._counted_s = -NEVER
        self._used_s = -NEVER
        self._largest = 1
        self._waiting = 0
        self._least = 0
        self.share: Share | None = None

    # --- for limits and budgets -----------------------------------------------------------------------

    def take(self, now_s: float, amount: int = 1) -> bool:
        """Take `amount`, all or nothing; at once, from what this sidecar holds."""
        if self.held >= amount and now_s < self._expires_s:
            self.held -= amount
            self.taken += amount
            self._asked += amount
            self._used_s = now_s
            return True
        return self._take_otherwise(now_s, amount)

    def give_back(self, amount: int) -> None:
        """Put back what was taken and not used."""
        self.held += amount
        self.taken -= amount
        self._standing.active.add(self)

    def has(self, now_s: float, amount: int) -> bool:
        """Whether `take` would succeed."""
        if self.held >= amount and now_s < self._expires_s:
            return True
        if not self.take(now_s, amount):
            return False
        self.give_back(amount)
        return True

    def remaining(self, now_s: float) -> int:
        """What is left: of the whole fleet's limit as far as known, of the local share without Redis."""
        if self._is_local:
            return max(0, int(self._local_share(now_s).level) + self.held)
        return max(0, min(self.capacity, int(self._level(now_s)) + self.held))

    def _take_otherwise(self, now_s: float, amount: int) -> bool:
        self._standing.active.add(self)
        self._largest = amount
        self._used_s = now_s
        if now_s >= self._expires_s:
            self.expire()
        if not self._is_local:
            return False
        lacking = amount - self.held
        if lacking > 0 and not self._borrow(now_s, lacking):
            return False
        return self.take(now_s, amount)

    def _borrow(self, now_s: float, amount: int) -> bool:
        share = self._local_share(now_s)
        if not share.take(now_s, amount):
            return False
        self.held += amount
        if self._is_cut_off:
            self._lent(amount)
        else:
            share.owed = 0.0  # the next report tells all of it
        return True

    # --- for the round trips --------------------------------------------------------------------------

    @property
    def _is_cut_off(self) -> bool:
        return self._standing.is_local or self.is_refused

    @property
    def _is_local(self) -> bool:
        return self._standing.is_local or self.is_refused or self._is_alone

    def stand_alone(self) -> None:
        """There is no time to ask: the local share stands in until the next report."""
        self._is_alone = True

    def borrow(self, now_s: float, amount: int) -> bool:
        """Have `amount` at hand out of the local share, for a request that asked in vain; whether it is."""
        was_alone, self._is_alone = self._is_alone, True
        is_there = self.has(now_s, amount)
        self._is_alone = was_alone
        return is_there

    def may_get(self, now_s: float, amount: int) -> bool:
        """Whether it makes sense to ask for `amount` now."""
        return self.held >= amount or (
            amount <= self.capacity and now_s >= self.dry_until_s and not self.is_refused
        )

    def ask(self, amount: int) -> None:
        """A request waits for `amount`."""
        self._least = min(self._least, amount) if self._waiting else amount
        self._waiting += amount
        self._standing.active.add(self)

    def stop_asking(self) -> None:
        """Nobody waits any longer."""
        self._waiting = self._least = 0

    def urgency(self) -> tuple[bool, float]:
        """Who comes first where not all can: those that are waited for, then the longest unreported."""
        return not self._waiting, self._counted_s

    def is_low(self, now_s: float) -> bool:
        """Whether what is held will not last for another period, and more may be had."""
        demand = self._demand_at(now_s)
        return self.held < demand and self.held < self._target(demand) and now_s >= self.dry_until_s

    def is_unused(self, now_s: float) -> bool:
        """Whether it holds something that nobody has used for a while."""
        return self.held > 0 and now_s - self._used_s >= UNUSED_PERIODS * self._standing.period_s

    def is_idle(self) -> bool:
        """Whether there is nothing to report, to renew or to ask."""
        return not (self.own or self.held > 0 or self._waiting or self._unreported())

    def report(self, now_s: float, *, is_last: bool = False) -> Report:
        """What to tell the server now. `is_last`: everything goes back."""
        if now_s >= self._expires_s:
            self.expire()
        demand = self._demand = self._demand_at(now_s)
        self._asked = 0
        self._counted_s = now_s
        waiting, least = self._waiting, self._least
        self.stop_asking()
        self._is_alone = False
        if is_last:
            return Report(self, self._report_used(), self.capacity, 0, 0, 0)
        is_unused = self.is_unused(now_s)
        target = 0 if is_unused or now_s < self.dry_until_s else self._target(demand + waiting)
        back = 0
        if is_unused:
            back = self.held
        elif self.held > 2 * target and not waiting:
            back = self.held - target
        self.held -= back
        if not waiting:
            return Report(self, self._report_used(), back, 0, 0, max(0, target - self.held))
        after = max(0, self.held - waiting)
        lacking = max(0, waiting - self.held)
        least = min(lacking, max(0, least - self.held))
        return Report(self, self._report_used(), back, lacking, least, max(0, target - after))

    def learn(self, report: Report, grant: Grant | None, sent_s: float, now_s: float) -> None:
        """What the server answered to a report sent at `sent_s`; None: it does not serve this key."""
        if grant is None:
            self._unreport(report.used)
            self.is_refused = True
            return
        self.is_refused = False
        self.own = grant.own
        self._expires_s = sent_s + USABLE_PERIODS * self._standing.period_s
        self._available = grant.available
        self._known_s = now_s
        if grant.granted < report.waiting or (report.spare and not grant.granted):
            # Dollars only come back when somebody returns them, which nobody knows beforehand.
            period_s = self._standing.period_s
            self.dry_until_s = now_s + (min(grant.wait_s, DRY_PERIODS * period_s) if self.rate else period_s)
        self._use(grant)
        if not self.rate:
            self.share = None  # nothing refills it; the next begins with what is left by then
        if now_s >= self._expires_s:
            self.expire()

    def end_local_share(self, now_s: float) -> None:
        """The server answers again: what was taken from the share meanwhile is told with the next report."""
        share = self.share
        if share is not None and share.owed and not self._is_cut_off:
            share.refill(now_s)
            owed, share.owed = math.ceil(share.owed), 0.0
            self._repay(owed)

    def expire(self) -> None:
        """The lease has run out: what was held of it is not ours any more."""
        self.held = 0
        self.own = 0
        self._expires_s = NEVER

    # --- inside ---------------------------------------------------------------------------------------

    def _level(self, now_s: float) -> float:
        since_s = now_s - self._known_s
        if since_s == NEVER:
            return self.capacity
        return min(self.capacity, self._available + since_s * self.rate / 60)

    def _demand_at(self, now_s: float) -> float:
        periods = (now_s - self._counted_s) / self._standing.period_s
        return self._demand * math.exp(-periods) + self._asked

    def _target(self, demand: float) -> int:
        """What to hold: twice the demand of a period, within bounds; nothing for a lone request."""
        if demand < 1.5 * self._largest:
            return 0
        for_periods = self.rate / 60 * STORE_PERIODS * self._standing.period_s
        most = min(max(self.capacity / self.store_part, for_periods, self._largest), self.capacity)
        return math.ceil(min(2 * demand, most))

    def _local_share(self, now_s: float) -> Share:
        """The share, with no more in it than its part of what the fleet has left, as far as known."""
        expected = self._standing.expected
        per_s = self.rate / 60 / expected
        ceiling = max(1.0, self.capacity / expected) if self.rate else self.capacity / expected
        share = self.share
        if share is None:
            share = self.share = Share(ceiling, ceiling, per_s, now_s)
            self._standing.active.add(self)
        share.refill(now_s)
        share.ceiling, share.per_s = ceiling, per_s
        most = ceiling if self._known_s == -NEVER else ceiling * self._level(now_s) / self.capacity
        share.level = min(share.level, most)
        return share

    # What buckets and budgets do differently

    @property
    def known(self) -> int:
        """What was spent at least, for a server that has lost it."""
        return 0

    @property
    def keep_ms(self) -> int:
        """How long the server keeps what it knows after the last word of it; 0: for ever."""
        raise NotImplementedError

    def _unreported(self) -> int:
        raise NotImplementedError

    def _report_used(self) -> int:
        raise NotImplementedError

    def _unreport(self, used: int) -> None:
        raise NotImplementedError

    def _use(self, grant: Grant) -> None:
        raise NotImplementedError

    def _lent(self, amount: int) -> None:
        raise NotImplementedError

    def _repay(self, amount: int) -> None:
        raise NotImplementedError
