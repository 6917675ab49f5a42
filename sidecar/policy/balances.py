"""One budget: what is spent and what is reserved of it by each team, by each key, or by all together.

What a request cost is charged to the window in which it ended, as the ledger has it. What is reserved for
requests under way goes along into the next window, so that they find room there when they end: spent and
reserved together never exceed the limit, at no edge either, unless a request costs more than was reserved.

A window begins when the clock passes the end of the last one, never when it steps back: then the later window
goes on until the clock has caught up. A clock that was wrong by far, and ahead, is mended by a restart.

Memory is bounded. Teams and keys are those of the configuration, past and present. A new window forgets whom
the last one did not see. Where there are MAX_BALANCES no one's is given up: all others share one more, so
that they limit each other and nobody gets past a limit.
"""

import math
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from sidecar.config.model import Budget as BudgetConfig
from sidecar.policy.callers import Caller
from sidecar.policy.windows import window_at

NANO_USD = 1_000_000_000  # in a dollar
MAX_BALANCES = 10_000
OTHER = "other"

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


class Counts:
    """What became of the requests that one budget counts."""

    __slots__ = ("exceeded", "warned")

    def __init__(self) -> None:
        self.exceeded = 0  # reservations it had no room for
        self.warned = 0  # balances that passed the soft limit, each once in a window


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

    def has_room(self, nano_usd: int) -> bool:
        """Whether so much more may be reserved. What costs nothing may, also where a limit is exceeded."""
        return self.spent + self.reserved + nano_usd <= self.budget.limit or not nano_usd

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
        self.spent += actual
        if self.spent >= budget.soft_limit and not self.is_warned:
            self.is_warned = True
            budget.counts.warned += 1
            budget.on_soft(self.status(now_unix_s))

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


class Budget:
    """One entry of `budgets`, and its balances in the window that runs.

    `on_soft` is told of each that passes the soft limit. `begins_s` and `ends_s` are Unix seconds.
    """

    __slots__ = (
        "balances",
        "begins_s",
        "config",
        "counts",
        "ends_s",
        "limit",
        "on_soft",
        "soft_limit",
        "whom",
    )

    def __init__(self, config: BudgetConfig, counts: Counts, on_soft: Callable[[Status], None]) -> None:
        self.counts = counts
        self.on_soft = on_soft
        self.balances: dict[str, Balance] = {}
        self.begins_s = self.ends_s = -math.inf  # the first to ask begins a window
        self.whom = _WHOM[config.per]
        self.soft_limit = 0
        self.configure(config)

    def configure(self, config: BudgetConfig) -> None:
        """Go on with another limit; the window and whom it counts are the same as before."""
        self.config = config
        self.limit = round(config.limit_usd * NANO_USD)
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
            balance.spent = 0
            balance.is_warned = False
        if self.config.per == "all":
            self.balance("")  # seen before anyone calls

    def balance(self, whom: str) -> Balance:
        """That of a team or a key, opened where there is none yet."""
        balance = self.balances.get(whom)
        if balance is None:
            if len(self.balances) >= MAX_BALANCES:
                whom = OTHER
            balance = self.balances.setdefault(whom, Balance(self, whom))
        return balance
