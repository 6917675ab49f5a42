"""What callers may spend, and what they have spent: limits before a request, prices and the ledger after it.

Tokens are reserved at the worst case when a request is let in: its input by the size of the body, its output
by what it allows itself. What the provider reports settles it. A stream that was cut, or left by its caller,
without figures is settled at what was delivered, about a token for each event.
"""

from sidecar.attempt import Account, Attempt
from sidecar.config.model import Config
from sidecar.exchange import Exchange, Reply, Usage
from sidecar.openai import Call
from sidecar.policy.callers import Caller
from sidecar.policy.rate_limit import Limiter
from sidecar.routing.plan import Plan
from sidecar.usage.estimator import Estimator
from sidecar.usage.ledger import Ledger
from sidecar.usage.pricing import Pricing
from sidecar.usage.rows import Entry, Labels

# What a request is taken for that says nothing of its output, to a model of which nothing is said either.
DEFAULT_OUTPUT_TOKENS = 4096


class Accounts:
    """The limits, prices and the ledger of the process. They outlive reloads."""

    def __init__(self, config: Config, ledger: Ledger | None) -> None:
        self.ledger = ledger
        self.limiter = Limiter(config)
        self._estimator = Estimator()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go on with other limits and prices."""
        self.limiter.configure(config)
        self._pricing = Pricing(config.models, config.telemetry.baseline)
        if self.ledger is not None:
            self.ledger.configure(frozenset(config.models))
        self._limits = bool(config.tiers)
        self._counts_tokens = any(tier.tokens_per_minute is not None for tier in config.tiers.values())
        has_prices = any(model.price is not None for model in config.models.values())
        # Without any of these a request has no account, and costs nothing here.
        self.is_on = self._limits or has_prices or self.ledger is not None

    # --- before a request -----------------------------------------------------------------------------

    def admit(
        self, x: Exchange, attempt: Attempt, caller: Caller, call: Call | None, plan: Plan, now_s: float
    ) -> Reply | None:
        """Open the request's account; a refusal where the caller's limits leave no room for it."""
        first = plan.candidates[0]
        tokens_in = self._estimator.estimate(first.model, len(x.body)) if call is not None else 0
        account = attempt.account = Account(caller, tokens_in)
        if not self._limits:
            return None
        tokens = 0
        if call is not None and self._counts_tokens:
            tokens = tokens_in + (call.max_output or first.max_output or DEFAULT_OUTPUT_TOKENS)
        # A key decides only where it goes to the provider that knows it.
        counted = caller.unforwarded if first.provider.has_own_key else caller
        admission = account.admission = self.limiter.admit(counted, tokens, now_s)
        return None if admission is None else admission.refusal

    # --- after it -------------------------------------------------------------------------------------

    def settle(self, x: Exchange, attempt: Attempt, now_s: float) -> None:
        """Book what a request cost: in its caller's buckets, in the ledger, and on the exchange for metrics
        and log."""
        account = attempt.account
        if account is None:
            return
        usage = self._last_usage(x, attempt, account)
        if account.admission is not None:
            account.admission.settle(self._used_tokens(x, attempt, account, usage), now_s)
        for part in attempt.parts:
            candidate, endpoint = part.target.candidate, part.target.endpoint
            place = (candidate.model, candidate.provider.name, endpoint.region)
            part_usage = part.usage or Usage(account.tokens_in, part.events)
            self._book(x, account, place, part_usage, now_s, is_request=False)
        self._book(
            x,
            account,
            (x.model, x.provider, x.region),
            usage,
            now_s,
            attempts=x.attempts - len(attempt.parts),
        )

    def _last_usage(self, x: Exchange, attempt: Attempt, account: Account) -> Usage | None:
        """Of the answer that came last, as far as it came; without what broke off before it."""
        answer = attempt.answer
        reader = answer.reader if answer is not None else None
        usage = x.usage if reader is None else reader.usage
        if usage is not None:
            self._estimator.observe(x.model, x.bytes_received, usage.input)
        elif reader is not None and reader.events and not reader.is_complete:
            usage = Usage(account.tokens_in, reader.events)
        return usage

    def _used_tokens(self, x: Exchange, attempt: Attempt, account: Account, usage: Usage | None) -> int:
        """What the limits count: every token of every part; all that was reserved where nobody says."""
        tokens = sum(
            p.usage.input + p.usage.output if p.usage else account.tokens_in + p.events for p in attempt.parts
        )
        if usage is not None:
            return tokens + usage.input + usage.output
        answer = attempt.answer
        if answer is None or answer.status != 200 or account.admission is None:
            return tokens
        if answer.reader is not None:
            return tokens + account.tokens_in + answer.reader.events
        return tokens + account.admission.tokens

    def _book(
        self,
        x: Exchange,
        account: Account,
        place: tuple[str, str, str],
        usage: Usage | None,
        now_s: float,
        *,
        attempts: int = 1,
        is_request: bool = True,
    ) -> None:
        """One part, with the model, provider and region it came from, in the ledger and on the exchange."""
        tariff = self._pricing.tariff(place[0])
        cost, saved = None, 0
        if usage is not None and tariff is not None:
            cost = tariff.cost_nano_usd(usage)
            saved = self._pricing.saved_nano_usd(usage, cost)
            x.cost_nano_usd = (x.cost_nano_usd or 0) + cost
            x.saved_nano_usd += saved
        elif usage is not None and (usage.input or usage.output):
            x.is_unpriced = True
        if self.ledger is None:
            return
        version = "" if tariff is None else tariff.version
        labels: Labels = (x.team, account.caller.id, x.route, *place, version, x.status // 100)
        duration_ms = int((now_s - x.started_s) * 1e3)
        entry = Entry(labels, usage, cost, saved, attempts, duration_ms, x.has_failed, is_request)
        self.ledger.record(entry)
