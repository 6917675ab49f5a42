"""One budget: what is spent and what is reserved of it by each team, by each key, or by all together.

What a request cost is charged to the window in which it ended, as the ledger has it. What is reserved for
requests under way goes along into the next window, so that they find room there when they end: spent and
reserved together never exceed the limit, at no edge either, unless a request costs more than was reserved.

A window begins when the clock passes the end of the last one, never when it steps back: then the later window
goes on until the clock has caught up. A clock that was wrong by far, and ahead, is mended by a restart.

Memory is bounded. Teams and keys are those of the configuration, past and present. A new window forgets whom
the last one did not see. Where there are MAX_BALANCES no one's is given up: all others share one more, so
that they limit each other and nobody gets past a limit.

In a fleet each balance holds a lease of what all sidecars together may spend in a window, and each window has
a new one: `SharedBalance`. What is spent is then what the fleet has spent, as far as known here.
"""

import math
import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, Protocol

from sidecar.config.model import Budget as BudgetConfig
from sidecar.exchange import NANO_USD
from sidecar.policy.callers import Caller
from sidecar.policy.windows import window_at

MAX_BALANCES = 10_000
OTHER = "other"
# The fleet keeps what was spent for a window, and so much longer: clocks differ.
KEPT_AFTER_S = 3600.0

# Whose balance it is that a caller spends from; the id of a key that is not listed is empty.
_WHOM: dict[str, Callable[[Caller], str]] = {
    "team": attrgetter("team"),
    "key": attrgetter("id"),
    "all": lambda caller: "",
}


class Status(NamedTuple):
    """How a balance stands, in nano-USD.

    `whom` is a team or the id of a key, as `per` says; empty for `all`, and for the keys that are not listed.
    A budget that never resets does so at infinity.
    """

    name: str
    per: str
    whom: str
    window: str
    at_limit: str
    limit_nano_usd: int
    spent_nano_usd: int
    reserved_nano_usd: int
    resets_at_unix_s: float
    resets_in_s: float


class BudgetLease(Protocol):
    """A part of a budget that this sidecar may give out by itself; see fleet/budget.py."""

    @property
    def spent(self) -> int: ...
    def take(self, now_s: float, amount: int) -> bool: ...
    def has(self, now_s: float, amount: int) -> bool: ...
    def give_back(self, amount: int) -> None: ...
    def remaining(self, now_s: float) -> int: ...
    def spend(self, nano_usd: int) -> None: ...
    def restore(self, spent_nano_usd: int) -> None: ...
    def configure(self, limit_nano_usd: int) -> None: ...
    def stand_alone(self) -> None: ...


# Makes a lease from its name in the fleet, its limit in nano-USD, and how long it is kept (None: for ever).
LeaseFactory = Callable[[str, int, float | None], BudgetLease]


class Counts:
    """How often a budget had no room."""

    __slots__ = ("exceeded",)

    def __init__(self) -> None:
        self.exceeded = 0  # reservations


class Balance:
    """What a team, a key or all callers have spent and reserved, in nano-USD; `open` counts reservations."""

    __slots__ = ("budget", "is_warned", "open", "reserved", "spent", "whom")

    def __init__(self, budget: "Budget", whom: str) -> None:
        self.budget = budget
        self.whom = whom
        self.spent = 0
        self.reserved = 0
        self.open = 0
        self.is_warned = False

    def begin(self) -> None:
        """A new window: nothing is spent, and what is reserved stays so."""
        self.spent = 0
        self.is_warned = False

    def configure(self) -> None:
        """The budget has another limit."""

    def restore(self, spent: int) -> None:
        """Let it stand at no less."""
        self.spent = max(self.spent, spent)

    def has_room(self, nano_usd: int) -> bool:
        """Whether so much more may be reserved. What costs nothing may, also where a limit is exceeded."""
        return self.spent + self.reserved + nano_usd <= self.budget.limit or not nano_usd

    def may_get(self, nano_usd: int) -> bool:
        """Whether there would be so much more if there were time to ask the fleet."""
        return self.has_room(nano_usd)

    def do_without_asking(self, nano_usd: int) -> None:
        """What is needed next cannot be waited for."""

    def reserve(self, nano_usd: int) -> None:
        """Hold it for a request that begins."""
        self.reserved += nano_usd
        self.open += 1

    def release(self, reserved: int) -> None:
        """A request ended at no cost."""
        self.reserved -= reserved
        self.open -= 1

    def settle(self, reserved: int, actual: int, now_unix_s: float) -> None:
        """A request ended now, for which so much was reserved, and cost so much."""
        budget = self.budget
        if now_unix_s >= budget.ends_s:
            budget.begin(now_unix_s)
        self.reserved -= reserved
        self.open -= 1
        self._spend(reserved, actual)
        if self.spent >= budget.soft_limit and not self.is_warned:
            self.is_warned = True
            budget.on_soft(self.status(now_unix_s))

    def _spend(self, reserved: int, actual: int) -> None:
        self.spent += actual

    def status(self, now_unix_s: float) -> Status:
        """The figures for others to read."""
        budget, config = self.budget, self.budget.config
        return Status(
            config.name,
            config.per,
            self.whom,
            config.window,
            config.at_limit,
            budget.limit,
            self.spent,
            self.reserved,
            budget.ends_s,
            budget.ends_s - now_unix_s,
        )


class SharedBalance(Balance):
    """A balance of the whole fleet, by way of a lease; `reserved` and `open` are those of this sidecar."""

    __slots__ = ("_clock", "_factory", "lease")

    def __init__(
        self, budget: "Budget", whom: str, factory: LeaseFactory, clock: Callable[[], float]
    ) -> None:
        super().__init__(budget, whom)
        self._factory = factory
        self._clock = clock
        self.lease = self._new_lease()

    def begin(self) -> None:
        """As ever. What is reserved moves to the new window's lease, which may owe it for a moment."""
        super().begin()
        self.lease.give_back(self.reserved)
        self.lease = self._new_lease()
        self.lease.give_back(-self.reserved)

    def configure(self) -> None:
        self.lease.configure(self._limit)

    def restore(self, spent: int) -> None:
        self.lease.restore(spent)
        self.spent = self.lease.spent

    def has_room(self, nano_usd: int) -> bool:
        if not nano_usd:
            return True
        # A local share does not know what a ledger has said before Redis answered for the first time.
        return self.lease.spent + nano_usd <= self._limit and self.lease.has(self._clock(), nano_usd)

    def may_get(self, nano_usd: int) -> bool:
        return self.has_room(nano_usd) or nano_usd <= self.lease.remaining(self._clock())

    def do_without_asking(self, nano_usd: int) -> None:
        """The local share stands in where the lease is too small."""
        if not self.has_room(nano_usd):
            self.lease.stand_alone()

    def reserve(self, nano_usd: int) -> None:
        super().reserve(nano_usd)
        if not self.lease.take(self._clock(), nano_usd):
            self.lease.give_back(-nano_usd)  # the lease ran out since it was asked, or it costs nothing

    def release(self, reserved: int) -> None:
        super().release(reserved)
        self.lease.give_back(reserved)

    def status(self, now_unix_s: float) -> Status:
        self.spent = self.lease.spent
        return super().status(now_unix_s)

    def _spend(self, reserved: int, actual: int) -> None:
        self.lease.give_back(reserved)
        self.lease.spend(actual)
        self.spent = self.lease.spent

    @property
    def _limit(self) -> int:
        return max(1, self.budget.limit)

    def _new_lease(self) -> BudgetLease:
        budget, config = self.budget, self.budget.config
        begins_s, ends_s = budget.begins_s, budget.ends_s
        key = f"usd:{config.per}:{config.window}:{begins_s:.0f}:{config.name!r}:{self.whom}"
        keep_s = None if ends_s == math.inf else ends_s - begins_s + KEPT_AFTER_S
        return self._factory(key, self._limit, keep_s)


class Budget:
    """One entry of `budgets`, and its balances in the window that runs.

    `on_soft` is told of each that passes the soft limit. `begins_s` and `ends_s` are Unix seconds.
    `is_restored`: what the ledger has of the window that runs is in the balances. With a `factory` they are
    those of a fleet, whose leases want the monotonic `clock`.
    """

    __slots__ = (
        "balances",
        "begins_s",
        "clock",
        "config",
        "counts",
        "ends_s",
        "factory",
        "is_restored",
        "limit",
        "on_soft",
        "soft_limit",
        "whom",
    )

    def __init__(
        self,
        config: BudgetConfig,
        counts: Counts,
        on_soft: Callable[[Status], None],
        factory: LeaseFactory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = counts
        self.on_soft = on_soft
        self.factory = factory
        self.clock = clock
        self.balances: dict[str, Balance] = {}
        self.is_restored = False
        self.begins_s = self.ends_s = -math.inf  # the first to ask begins a window
        self.whom = _WHOM[config.per]
        self.soft_limit = 0
        self.configure(config)

    def configure(self, config: BudgetConfig) -> None:
        """Go on with another limit; the window and whom it counts are the same as before."""
        self.config = config
        self.limit = round(config.limit_usd * NANO_USD)
        for balance in self.balances.values():
            balance.configure()
        soft_limit = math.ceil(self.limit * config.soft)
        if soft_limit != self.soft_limit:
            self.soft_limit = soft_limit
            for balance in self.balances.values():
                balance.is_warned = False

    def begin(self, now_unix_s: float) -> None:
        """Begin the window that the clock is in: nothing is spent, and what is reserved stays so."""
        self.begins_s, self.ends_s = window_at(self.config.window, now_unix_s)
        # Whoever spent something stays to be seen at 0, as long as that takes up no more than half the room.
        keeps_spenders = len(self.balances) <= MAX_BALANCES // 2
        self.balances = {
            whom: balance
            for whom, balance in self.balances.items()
            if balance.open or (balance.spent and keeps_spenders)
        }
        for balance in self.balances.values():
            balance.begin()
        if self.config.per == "all":
            self.balance("")  # seen before anyone calls

    def balance(self, whom: str) -> Balance:
        """That of a team or a key, opened where there is none yet."""
        balance = self.balances.get(whom)
        if balance is None:
            if len(self.balances) >= MAX_BALANCES:
                whom = OTHER
            balance = self.balances.get(whom) or self.balances.setdefault(whom, self._opened(whom))
        return balance

    def _opened(self, whom: str) -> Balance:
        if self.factory is None:
            return Balance(self, whom)
        return SharedBalance(self, whom, self.factory, self.clock)
