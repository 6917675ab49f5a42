"""Whether a request is within the budgets: the worst it may cost is reserved, and what it did cost settled.

Before each attempt its model's worst case is reserved in every budget that counts the model, or in none. A
request that moves on to another model releases the one and reserves the other. Where worst cases hold, no
number of requests at the same time exceeds a limit by anything. Where one does not (the provider used more,
the estimate of the input was low, or nobody said how long the answer may be), the budget is over by that much
at most for each request under way, and lets no other in.

A model without a price is not counted: what it costs is not known. What was spent is gone with the process,
unless `restore` is given the ledger's word for it, or a fleet shares the budgets and remembers.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from sidecar.config.model import Budget as BudgetConfig
from sidecar.config.model import Config, matches
from sidecar.policy.balances import Balance, Budget, BudgetLease, Counts, LeaseFactory, SharedBalance, Status
from sidecar.policy.callers import Caller
from sidecar.policy.exceeded import Exceeded
from sidecar.policy.windows import window_at

MAX_REMEMBERED = 1000


class Spent(Protocol):
    """What one caller spent on one model, in or since a minute (Unix time / 60), as the ledger has it."""

    @property
    def minute(self) -> int: ...
    @property
    def team(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def cost_nano_usd(self) -> int: ...


class Reservation:
    """What is held for one attempt until it ends, `nano_usd` in each of `budgets`; every one must be ended,
    once.

    Of `settle` and `release` the first call counts, any further one does nothing.
    """

    __slots__ = ("_balances", "budgets", "nano_usd")

    def __init__(self, balances: Sequence[Balance], nano_usd: int, budgets: tuple[Budget, ...] = ()) -> None:
        self._balances = balances
        self.nano_usd = nano_usd
        self.budgets = budgets

    def settle(self, actual_nano_usd: int, now_unix_s: float) -> None:
        """The attempt ended now and cost so much; that may be more than was reserved."""
        balances = self._balances
        self._balances = ()
        if actual_nano_usd < 0:
            actual_nano_usd = 0
        for balance in balances:
            balance.settle(self.nano_usd, actual_nano_usd, now_unix_s)

    def release(self) -> None:
        """The attempt ended at no cost."""
        balances = self._balances
        self._balances = ()
        for balance in balances:
            balance.release(self.nano_usd)


# One for all that no budget counts.
_UNCOUNTED = Reservation((), 0)


class Budgets:
    """All budgets. They outlive reloads: a budget with the same name, window and `per` goes on as it stands.

    One with another window or `per` begins at nothing, and one that is taken out is forgotten. So, in this
    order: ask the ledger (`begins_unix_s`), `configure`, and give `restore` its word, of the last two both at
    once; what was under way meanwhile is given to `charge` when it ends. `on_soft` is called when a balance
    passes its soft limit, once in each window. `factory` makes the leases of a fleet, which want the
    monotonic `clock`.
    """

    def __init__(
        self,
        config: Config,
        on_soft: Callable[[Status], None],
        factory: LeaseFactory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: dict[str, Counts] = {}  # by name of the budget
        self._on_soft = on_soft
        self._factory = factory
        self._clock = clock
        self._budgets: dict[tuple[str, str, str], Budget] = {}  # by name, window and per
        self._matching: dict[str, tuple[Budget, ...]] = {}  # by model
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go on with other budgets. Reservations keep to those they were made with."""
        before, self._budgets = self._budgets, {}
        self._matching = {}
        for entry in config.budgets:
            identity = (entry.name, entry.window, entry.per)
            budget = before.get(identity)
            if budget is None:
                counts = self.counts.setdefault(entry.name, Counts())
                budget = Budget(entry, counts, self._on_soft, self._factory, self._clock)
            else:
                if budget.config.models != entry.models:
                    budget.is_restored = False  # what was spent on others counts now
                budget.configure(entry)
            self._budgets[identity] = budget

    def reserve(
        self,
        caller: Caller,
        model: str,
        worst_case_nano_usd: int | None,
        now_unix_s: float,
        *,
        can_wait: bool = True,
    ) -> Reservation | Exceeded:
        """Reserve the most that an attempt may cost (None: not known, not counted), in every budget or none.

        `model` is the name sent to the provider. Of several budgets without room the answer names one that
        rejects, before any that would have the request go elsewhere, and the one that resets last.
        Where a fleet was not asked before, by `wants`, and cannot be now: `can_wait` is false.
        """
        try:
            budgets = self._matching[model]
        except KeyError:
            budgets = self._match(model)
        if not budgets or worst_case_nano_usd is None:
            return _UNCOUNTED
        balances = _balances(budgets, caller, now_unix_s)
        if not can_wait:
            for balance in balances:
                balance.do_without_asking(worst_case_nano_usd)
        for balance in balances:
            if not balance.has_room(worst_case_nano_usd):
                return _exceeded(balances, worst_case_nano_usd, now_unix_s)
        for balance in balances:
            balance.reserve(worst_case_nano_usd)
        return Reservation(balances, worst_case_nano_usd, budgets)

    def has_room(
        self, caller: Caller, model: str, worst_case_nano_usd: int | None, now_unix_s: float
    ) -> bool:
        """Whether `reserve` would succeed, as far as known of a fleet; nothing is reserved or counted."""
        if worst_case_nano_usd is None:
            return True
        balances = _balances(self._match(model), caller, now_unix_s)
        return all(balance.may_get(worst_case_nano_usd) for balance in balances)

    def wants(
        self, caller: Caller, model: str, worst_case_nano_usd: int | None, now_unix_s: float
    ) -> list[tuple[BudgetLease, int]]:
        """The leases, with the amount, that `reserve` would take from now, if it could not; else none."""
        if not worst_case_nano_usd:
            return []
        balances = _balances(self._match(model), caller, now_unix_s)
        if all(balance.has_room(worst_case_nano_usd) for balance in balances):
            return []
        return [
            (balance.lease, worst_case_nano_usd) for balance in balances if isinstance(balance, SharedBalance)
        ]

    def counting(self, model: str) -> tuple[Budget, ...]:
        """The budgets that count a model now."""
        return self._match(model)

    def charge(
        self, counted_by: Sequence[Budget], caller: Caller, model: str, nano_usd: int, now_unix_s: float
    ) -> None:
        """What ended now cost so much, and only the budgets of `counted_by` have it: charge the others."""
        others = tuple(budget for budget in self._match(model) if budget not in counted_by)
        balances = _balances(others, caller, now_unix_s)
        for balance in balances:
            balance.reserve(0)
        Reservation(balances, 0).settle(nano_usd, now_unix_s)

    # --- a restart, or a reload -----------------------------------------------------------------------

    def begins_unix_s(self, config: Config, now_unix_s: float) -> list[float]:
        """What to ask the ledger for, so that the budgets of `config` stand where they should: when the
        windows begin of which it is not known here what was spent. Empty: all goes on as it stands."""
        windows = {entry.window for entry in config.budgets if self._is_new(entry)}
        return sorted(window_at(window, now_unix_s)[0] for window in windows)

    def _is_new(self, entry: BudgetConfig) -> bool:
        budget = self._budgets.get((entry.name, entry.window, entry.per))
        return budget is None or not budget.is_restored or budget.config.models != entry.models

    def restore(self, spent: Iterable[Spent], now_unix_s: float) -> None:
        """Let no balance of a new budget stand at less than the ledger says. The others know better: they
        have heard it before.

        Of credits that do not expire it knows what was spent as far back as it keeps rows.
        """
        self._advance(now_unix_s)
        sums: dict[Balance, int] = {}
        for row in spent:
            for budget in self._match(row.model):
                # A minute to come counts, too: the clock has stepped back since.
                if not budget.is_restored and row.minute * 60 >= budget.begins_s:
                    balance = budget.balance({"team": row.team, "key": row.key}.get(budget.config.per, ""))
                    sums[balance] = sums.get(balance, 0) + row.cost_nano_usd
        for balance, nano_usd in sums.items():
            balance.restore(nano_usd)
        for budget in self._budgets.values():
            budget.is_restored = True

    # --- for operators --------------------------------------------------------------------------------

    def status(self, now_unix_s: float) -> list[Status]:
        """Every balance that has been used in the running windows or the ones before them."""
        self._advance(now_unix_s)
        return [
            balance.status(now_unix_s)
            for budget in self._budgets.values()
            for balance in budget.balances.values()
        ]

    # --- inside ---------------------------------------------------------------------------------------

    def _advance(self, now_unix_s: float) -> None:
        for budget in self._budgets.values():
            if now_unix_s >= budget.ends_s:
                budget.begin(now_unix_s)

    def _match(self, model: str) -> tuple[Budget, ...]:
        found = self._matching.get(model)
        if found is None:
            found = tuple(
                budget
                for budget in self._budgets.values()
                if any(matches(pattern, model) for pattern in budget.config.models)
            )
            if len(self._matching) >= MAX_REMEMBERED:  # names come from callers: there may be any number
                self._matching.clear()
            self._matching[model] = found
        return found


def _balances(budgets: tuple[Budget, ...], caller: Caller, now_unix_s: float) -> list[Balance]:
    balances = []
    for budget in budgets:
        if now_unix_s >= budget.ends_s:
            budget.begin(now_unix_s)
        whom = budget.whom(caller)
        balances.append(budget.balances.get(whom) or budget.balance(whom))
    return balances


def _exceeded(balances: list[Balance], nano_usd: int, now_unix_s: float) -> Exceeded:
    lacking = [balance for balance in balances if not balance.has_room(nano_usd)]
    for balance in lacking:
        balance.budget.counts.exceeded += 1
    named = max(lacking, key=lambda one: (one.budget.config.at_limit == "reject", one.budget.ends_s))
    return Exceeded(named.status(now_unix_s), nano_usd)
