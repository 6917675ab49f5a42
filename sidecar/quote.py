"""What one request may cost with each model, and what its caller's limits and budgets would say of it now.

The questions are those of `Accounts`, asked without taking, reserving or counting anything.
"""

from sidecar.accounts import Accounts
from sidecar.config.model import Budget, Config, Price, find_model, matches
from sidecar.exchange import NANO_USD
from sidecar.openai import Call
from sidecar.policy.balances import Status
from sidecar.policy.callers import Caller
from sidecar.policy.downgrade import cheapest_within, most_output, worst_case_nano_usd
from sidecar.policy.exceeded import Exceeded
from sidecar.policy.rate_limit import Admission
from sidecar.policy.windows import window_at
from sidecar.routing.plan import Candidate, Plan
from sidecar.usage.pricing import Tariff


class Quote:
    """One request's. `tokens_in` is its input as estimated, `now_s` monotonic, `wall_s` Unix time.

    `statuses` are the balances that count the models asked about, by budget and whom they belong to.
    """

    def __init__(
        self,
        config: Config,
        accounts: Accounts,
        caller: Caller,
        call: Call,
        tokens_in: int,
        now_s: float,
        wall_s: float,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._caller = caller
        self._call = call
        self._tokens_in = tokens_in
        self._now_s = now_s
        self._wall_s = wall_s
        self._open = {(status.name, status.whom): status for status in accounts.budgets.status(wall_s)}
        self.statuses: dict[tuple[str, str], Status] = {}

    def price(self, candidate: Candidate) -> Price | None:
        """USD per million tokens, where the configuration says."""
        pattern = find_model(self._config.models, candidate.model)
        return None if pattern is None else self._config.models[pattern].price

    def worst_case(self, candidate: Candidate) -> int | None:
        """The most that it may cost with this model, in nano-USD; None without a price."""
        price = self.price(candidate)
        tariff = None if price is None else Tariff(price)
        call = self._call
        return worst_case_nano_usd(
            tariff, self._tokens_in, call.max_output, candidate.max_output, call.generated
        )

    def admission(self, first: Candidate) -> Admission | None:
        """What the limits say of a request that begins with this model; None without limits."""
        call, caller = self._call, self._caller
        output = most_output(call.max_output, first.max_output, call.generated)
        # A key decides only where it goes to the provider that knows it.
        counted = caller.unforwarded if first.provider.has_own_key else caller
        return self._accounts.limiter.peek(counted, self._tokens_in + output, self._now_s)

    def has_second_request(self, first: Candidate) -> bool:
        """Whether the limits leave room for break-glass, which counts twice."""
        admission = self.admission(first)
        if admission is None or self._config.tiers[self._caller.tier].dry_run:
            return True
        requests = admission.figures(self._now_s).get("requests")
        return requests is None or requests.remaining >= 2

    def exceeded(self, candidate: Candidate) -> Exceeded | None:
        """The budget without room for this model, the one that `Budgets.reserve` would name."""
        worst = self.worst_case(candidate)
        lacking = []
        for budget in self._config.budgets:
            if not any(matches(pattern, candidate.model) for pattern in budget.models):
                continue
            whom = {"team": self._caller.team, "key": self._caller.id}.get(budget.per, "")
            status = self._open.get((budget.name, whom)) or _unspent(budget, whom, self._wall_s)
            self.statuses[budget.name, whom] = status
            if worst and status.spent_nano_usd + status.reserved_nano_usd + worst > status.limit_nano_usd:
                lacking.append(status)
        if worst is None or not lacking:
            return None
        return Exceeded(max(lacking, key=lambda s: (s.at_limit == "reject", s.resets_at_unix_s)), worst)

    def cheapest(self, plan: Plan) -> Candidate | None:
        """The model of a route to go down to where a budget is used up; None: there is none."""
        return cheapest_within(
            plan.cheaper, self.worst_case, self._accounts.budgets, self._caller, self._wall_s
        )


def _unspent(budget: Budget, whom: str, wall_s: float) -> Status:
    """A balance that nobody has opened yet."""
    limit, ends_s = round(budget.limit_usd * NANO_USD), window_at(budget.window, wall_s)[1]
    return Status(
        budget.name, budget.per, whom, budget.window, budget.at_limit, limit, 0, 0, ends_s, ends_s - wall_s
    )
