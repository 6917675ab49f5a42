"""What callers may spend, and what they have spent: limits before a request, prices and the ledger after it.

Tokens are reserved at the worst case when a request is let in: its input by the size of the body, its output
by what it allows itself. What the provider reports settles it. Where it does not, or not to the end, a stream
is settled at what was delivered, about a token for each event, any other answer at what was reserved: that is
an estimate, and the ledger says so. Limits, budgets, ledger, metrics and log all count the same figures.

In a fleet limits and budgets are leases of what all sidecars share. Where a lease has run out a request waits
for more of it, before `admit` and before `reserve`. Where that was in vain (somebody else was faster, the
answer was late), and between tries, where nothing is waited for, a local share of what the fleet has left
stands in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sidecar.attempt import Account, Attempt, Part, last_usage
from sidecar.config.model import Config
from sidecar.exchange import NANO_USD, CacheNote, Exchange, Reply, Usage
from sidecar.labels import ModelLabels
from sidecar.openai import Call
from sidecar.policy.balances import Status
from sidecar.policy.budget import Budgets
from sidecar.policy.callers import Caller
from sidecar.policy.downgrade import cheapest_within, most_output, worst_case_nano_usd
from sidecar.policy.exceeded import Exceeded, refusal
from sidecar.policy.rate_limit import Limiter
from sidecar.resume import total
from sidecar.routing.plan import Candidate, Plan
from sidecar.usage.estimator import Estimator, as_delivered
from sidecar.usage.pricing import Pricing, Tariff
from sidecar.usage.rows import Entry, Labels

if TYPE_CHECKING:
    from sidecar.fleet.leases import Leases  # with redis-py 7 MB, for those who have a fleet
    from sidecar.usage.inquiry import Inquiry
    from sidecar.usage.ledger import Ledger  # with SQLite 2 MB, for those who keep one
    from sidecar.usage.store import Spent

# Names of models that are not configured, of which the fleet's totals are kept apart.
MAX_LEARNED_MODELS = 100

_log = logging.getLogger("sidecar")


class Accounts:
    """The limits, budgets, prices and the ledger of the process. They outlive reloads."""

    def __init__(
        self,
        config: Config,
        ledger: "Ledger | None",
        wall: Callable[[], float] = time.time,
        leases: "Leases | None" = None,
    ) -> None:
        self.ledger = ledger
        self.leases = leases
        self.limiter = Limiter(config) if leases is None else Limiter(config, leases.bucket)
        self.budgets = Budgets(config, _warn_of, None if leases is None else leases.budget)
        self.estimator = Estimator()
        self._wall = wall
        self._models = ModelLabels(MAX_LEARNED_MODELS)
        self.configure(config)

    def configure(self, config: Config, spent: "Iterable[Spent] | None" = None) -> None:
        """Go on with other limits, budgets and prices; `spent` is what the ledger says of new budgets."""
        self.limiter.configure(config)
        self.budgets.configure(config)
        self._budgets_since_s = time.monotonic()
        if spent is not None:
            self.budgets.restore(spent, self._wall())
        self._pricing = Pricing(config.models, config.telemetry.baseline)
        if self.ledger is not None:
            self.ledger.configure(frozenset(config.models))
        self._models.configure(frozenset(config.models))
        self._limits = bool(config.tiers)
        self._counts_tokens = any(tier.tokens_per_minute is not None for tier in config.tiers.values())
        self.has_budgets = bool(config.budgets)
        has_prices = any(model.price is not None for model in config.models.values())
        # Without any of these a request has no account, and costs nothing here.
        self.is_on = self._limits or has_prices or self.ledger is not None or self.leases is not None

    def restore(self, config: Config) -> None:
        """Let budgets begin at what the ledger says was spent before; it reads the disk."""
        begins_s = self.budgets.begins_unix_s(config, self._wall())
        if self.ledger is not None and begins_s:
            self.budgets.restore(self.ledger.spent(begins_s), self._wall())

    def inquire(self, config: Config) -> "Inquiry | None":
        """Ask the ledger how much is spent of the budgets that `config` brings; its answer (`told`) is for
        `configure` in the same turn of the loop, so that nothing is spent in between. None: nothing to ask,
        or nobody."""
        begins_s = self.budgets.begins_unix_s(config, self._wall())
        return self.ledger.ask(begins_s) if self.ledger is not None and begins_s else None

    # --- before a request -----------------------------------------------------------------------------

    def limits_refill(
        self, x: Exchange, caller: Caller, call: Call | None, plan: Plan, now_s: float
    ) -> "asyncio.Future[None] | None":
        """What to wait for before `admit`: more of the leases that are too small for the request, which comes
        within `fleet.timeout` or not at all. None: all is here, or waiting would not help."""
        if self.leases is None or not self._limits:
            return None
        first = plan.candidates[0]
        tokens = self._worst_tokens(self._tokens_in(x, call, first), call, first)
        wants: list[Any] = self.limiter.wants(_counted(caller, first), tokens, now_s)
        return self.leases.need(wants, now_s) if wants else None

    def admit(
        self,
        x: Exchange,
        attempt: Attempt,
        caller: Caller,
        call: Call | None,
        plan: Plan,
        now_s: float,
        waited: "asyncio.Future[None] | None" = None,
    ) -> Reply | None:
        """Open the request's account; a refusal where the caller's limits leave no room for it. `waited` is
        what `limits_refill` said to wait for."""
        first = plan.candidates[0]
        account = attempt.account = Account(caller, self._tokens_in(x, call, first))
        if not self._limits:
            return None
        tokens = self._worst_tokens(account.tokens_in, call, first)
        if tokens:
            account.tokens_out = tokens - account.tokens_in
        counted = _counted(caller, first)
        if waited is not None:
            _borrow(self.limiter.wants(counted, tokens, now_s), now_s)
        admission = account.admission = self.limiter.admit(counted, tokens, now_s)
        return None if admission is None else admission.refusal

    def budgets_refill(
        self, account: Account, call: Call, plan: Plan, now_s: float
    ) -> "asyncio.Future[None] | None":
        """What to wait for before `reserve`, as for `admit`."""
        if self.leases is None:
            return None
        first = plan.candidates[0]
        worst_nano_usd = self._worst_case(account, call, first)
        wants: list[Any] = self.budgets.wants(account.caller, first.model, worst_nano_usd, self._wall())
        return self.leases.need(wants, now_s) if wants else None

    def _tokens_in(self, x: Exchange, call: Call | None, first: Candidate) -> int:
        return self.estimator.estimate(first.model, len(x.body)) if call is not None else 0

    def _worst_tokens(self, tokens_in: int, call: Call | None, first: Candidate) -> int:
        if call is None or not self._counts_tokens:
            return 0
        return tokens_in + _most_output(call, first)

    def reserve(
        self, account: Account, call: Call, plan: Plan, waited: "asyncio.Future[None] | None" = None
    ) -> Plan | Reply:
        """Take from the budgets what the request may cost at most, or refuse. `waited` is what
        `budgets_refill` said to wait for.

        Returns the plan to go by, which is another one where a budget is used up and the route goes down.
        """
        first = plan.candidates[0]
        if waited is not None:
            worst_nano_usd = self._worst_case(account, call, first)
            wants = self.budgets.wants(account.caller, first.model, worst_nano_usd, self._wall())
            _borrow(wants, time.monotonic())
        exceeded = self._reserve(account, call, first, account.tokens_out)
        if exceeded is None:
            return plan
        if exceeded.status.at_limit == "downgrade":
            cheapest = cheapest_within(
                plan.cheaper,
                lambda candidate: self._worst_case(account, call, candidate),
                self.budgets,
                account.caller,
                self._wall(),
            )
            if cheapest is not None and self._reserve(account, call, cheapest, can_wait=False) is None:
                return plan.instead(cheapest)
        return refusal(exceeded)

    def release_tokens(self, account: Account, now_s: float) -> None:
        """Nothing is asked for this request: it spends no tokens."""
        if account.admission is not None:
            account.admission.settle(0, now_s)

    # --- between tries --------------------------------------------------------------------------------

    def purse(self, account: Account, call: Call | None) -> Callable[[Candidate], bool] | None:
        """Whether there is money for a try of a model, as a question for later; None: there always is."""
        if not self.has_budgets or call is None:
            return None

        def affords(candidate: Candidate) -> bool:
            if account.reserved_for is candidate:
                return True
            worst_nano_usd = self._worst_case(account, call, candidate)
            return self.budgets.has_room(account.caller, candidate.model, worst_nano_usd, self._wall())

        return affords

    def moves_to(self, account: Account, call: Call | None, candidate: Candidate, now_s: float) -> bool:
        """Pay for a try at another target; False where there is no room for it.

        Break-glass is for emergencies, not for more of everything: what it serves counts twice.
        """
        admission = account.admission
        if candidate.provider.is_break_glass and admission is not None and not admission.take_another(now_s):
            return False
        if not self.has_budgets or call is None or account.reserved_for is candidate:
            return True
        if account.reservation is not None:
            account.reservation.release()
        return self._reserve(account, call, candidate, can_wait=False) is None

    def charge_part(self, account: Account, part: Part) -> None:
        """A stream failed: what it cost is spent, and the next try needs a reservation of its own."""
        model, reservation, wall_s = part.target.candidate.model, account.reservation, self._wall()
        account.reservation = account.reserved_for = None
        tariff = part.tariff = self._pricing.tariff(model)
        usage, _ = as_delivered(part.usage, part.events, account.tokens_in)
        cost_nano_usd = 0 if tariff is None else tariff.cost_nano_usd(usage)
        if reservation is not None:
            reservation.settle(cost_nano_usd, wall_s)
            self.budgets.charge(reservation.budgets, account.caller, model, cost_nano_usd, wall_s)
            part.counted_by = self.budgets.counting(model)

    def _reserve(
        self,
        account: Account,
        call: Call,
        candidate: Candidate,
        output: int | None = None,
        *,
        can_wait: bool = True,
    ) -> Exceeded | None:
        if output is None:
            output = _most_output(call, candidate)
        tariff = self._pricing.tariff(candidate.model)
        worst_nano_usd = None if tariff is None else tariff.worst_case_nano_usd(account.tokens_in, output)
        reserved = self.budgets.reserve(
            account.caller, candidate.model, worst_nano_usd, self._wall(), can_wait=can_wait
        )
        if isinstance(reserved, Exceeded):
            account.reservation = account.reserved_for = None
            return reserved
        account.reservation, account.reserved_for, account.tokens_out = reserved, candidate, output
        return None

    def _worst_case(self, account: Account, call: Call, candidate: Candidate) -> int | None:
        tariff = self._pricing.tariff(candidate.model)
        return worst_case_nano_usd(
            tariff, account.tokens_in, call.max_output, candidate.max_output, call.generated
        )

    # --- after it -------------------------------------------------------------------------------------

    def settle(self, x: Exchange, attempt: Attempt, now_s: float) -> None:
        """Book what a request cost: in its caller's buckets and budgets, in the ledger, and on the exchange
        for metrics and log."""
        account = attempt.account
        if account is None:
            return
        usage, is_unmetered, answer = x.usage, False, attempt.answer
        if usage is None or answer is None or answer.reader is not None:
            usage, is_unmetered = last_usage(x, attempt, account)
        model, attempts = x.model, x.attempts
        if usage is not None and not is_unmetered:
            self.estimator.observe(model, x.bytes_received, usage.input)
        used = usage  # by all its parts
        for part in attempt.parts:
            used = total(used, self._book_part(x, account, part, now_s))
            attempts = max(0, attempts - 1)
        tariff = self._pricing.tariff(model)
        place = (model, x.provider, x.region)
        cost_nano_usd = self._book(
            x, account, place, tariff, usage, now_s, attempts=attempts, is_unmetered=is_unmetered
        )
        reservation = account.reservation
        if reservation is not None:
            reservation.settle(cost_nano_usd or 0, self._wall())
        if cost_nano_usd and x.started_s <= self._budgets_since_s:
            counted_by = () if reservation is None else reservation.budgets
            self.budgets.charge(counted_by, account.caller, model, cost_nano_usd, self._wall())
        if account.admission is not None:
            account.admission.settle(0 if used is None else _tokens(used), now_s)
        x.usage = used

    def spare(self, x: Exchange, note: CacheNote, usage: Usage) -> None:
        """Take down what an answer out of the cache would have cost, with its model and with the baseline."""
        tariff = self._pricing.tariff(x.model)
        note.saved_nano_usd = 0 if tariff is None else tariff.cost_nano_usd(usage)
        x.saved_nano_usd = self._pricing.saved_nano_usd(usage, 0)

    def _book_part(self, x: Exchange, account: Account, part: Part, now_s: float) -> Usage:
        """One that came before the last; its tokens."""
        candidate, endpoint = part.target.candidate, part.target.endpoint
        place = (candidate.model, candidate.provider.name, endpoint.region)
        usage, is_estimate = as_delivered(part.usage, part.events, account.tokens_in)
        cost_nano_usd = self._book(
            x, account, place, part.tariff, usage, now_s, is_request=False, is_unmetered=is_estimate
        )
        if cost_nano_usd and x.started_s <= self._budgets_since_s:
            caller, model = account.caller, candidate.model
            self.budgets.charge(part.counted_by, caller, model, cost_nano_usd, self._wall())
        return usage

    def _book(
        self,
        x: Exchange,
        account: Account,
        place: tuple[str, str, str],
        tariff: Tariff | None,
        usage: Usage | None,
        now_s: float,
        *,
        attempts: int = 1,
        is_request: bool = True,
        is_unmetered: bool = False,
    ) -> int | None:
        """One part, with the model, provider and region it came from, in the ledger and on the exchange; its
        cost, if that is known."""
        cost, saved = None, 0
        if usage is not None and tariff is not None:
            cost = tariff.cost_nano_usd(usage)
            saved = self._pricing.saved_nano_usd(usage, cost)
            x.cost_nano_usd = (x.cost_nano_usd or 0) + cost
            x.saved_nano_usd += saved
        elif usage is not None and (usage.input or usage.output):
            x.is_unpriced = True
        elif not x.attempts:
            saved = x.saved_nano_usd  # an answer out of the cache
        if self.leases is not None:
            self._add_total(self.leases, x.team, place[0], usage, cost, is_request=is_request)
        if self.ledger is None:
            return cost
        version = "" if tariff is None else tariff.version
        labels: Labels = (x.team, account.caller.id, x.route, *place, version, x.status // 100)
        duration_ms = int((now_s - x.started_s) * 1e3)
        entry = Entry(
            labels, usage, cost, saved, attempts, duration_ms, x.has_failed, is_request, is_unmetered
        )
        self.ledger.record(entry)
        return cost

    def _add_total(
        self,
        leases: "Leases",
        team: str,
        model: str,
        usage: Usage | None,
        cost_nano_usd: int | None,
        *,
        is_request: bool,
    ) -> None:
        """Count it for the whole fleet. Callers may name any number of models that do not exist."""
        tokens = 0 if usage is None else _tokens(usage)
        if model not in self._models.known:
            model = self._models.label(model, was_answered=tokens > 0)
        leases.totals.add(int(self._wall()) // 60, team, model, int(is_request), tokens, cost_nano_usd or 0)


def _counted(caller: Caller, first: Candidate) -> Caller:
    """Whom a request counts for: a key decides only where it goes to the provider that knows it."""
    return caller.unforwarded if first.provider.has_own_key else caller


def _most_output(call: Call, candidate: Candidate) -> int:
    """How many tokens of output to reserve."""
    asked = call.max_output
    return asked if asked is not None else most_output(None, candidate.max_output, call.generated)


def _borrow(wants: Iterable[tuple[Any, int]], now_s: float) -> None:
    """What has been waited for and is not there comes from the local share, if that has so much."""
    for lease, amount in wants:
        lease.borrow(now_s, amount)


def _tokens(usage: Usage) -> int:
    return usage.input + usage.output


def _warn_of(status: Status) -> None:
    spent, limit = status.spent_nano_usd / NANO_USD, status.limit_nano_usd / NANO_USD
    _log.warning(
        "budget %s: %s %s has spent $%.2f of $%.2f", status.name, status.per, status.whom, spent, limit
    )
