"""Which target a request goes to next: one request's walk over endpoints and models, as plain decisions.

The order is the contract: the other endpoints of the same model, at once; then the same endpoint once more
after a pause, where the failure allows it; then the next model. A target that is set back for slowness comes
behind the next one that is not. `attempts` bounds all tries of a request. The first move is free while the
target it goes to fails seldom; every other extra try is spent from the budget, so that one lost region costs
the callers nothing and a brown-out everywhere is not made worse. Where nothing could be sent (a provider's
queue is full), that was no try: the request goes on to other providers as if it had not been there.

Scoring waits for the next outcome: a request that fails on two targets which serve others meanwhile is to
blame itself, and must not open every breaker it meets (a "poison" request).
"""

from collections.abc import Callable, Iterator
from itertools import chain
from random import Random

from sidecar.exchange import Exchange
from sidecar.routing.plan import Candidate, Plan
from sidecar.telemetry.metrics import FailedTry
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.retry import free_move, jitter_s
from sidecar.upstream.verdict import GOOD, Kind, Verdict

# What a try came to, in the words of metrics and log; of the others there is nothing to say.
_REASONS: dict[Kind, str] = {
    "retry": "server_error",
    "reset": "connection",
    "stale": "connection",
    "timeout": "timeout",
    "limited": "rate_limited",
    "credential": "credential",
    "context": "context_too_long",
}


# After these a request goes on as if it had not been here.
_UNSENT: frozenset[Kind] = frozenset(("full", "exhausted"))


class Target:
    """A model at an endpoint, for one try. `is_probe`: it decides whether a broken endpoint is well again.
    `has_begun`: its answer was good to begin with, so what comes now happened midway. `error` says what went
    wrong, if anything did."""

    __slots__ = ("began_s", "candidate", "endpoint", "error", "has_begun", "is_probe")

    def __init__(self, candidate: Candidate, endpoint: Endpoint, began_s: float = 0.0) -> None:
        self.candidate = candidate
        self.endpoint = endpoint
        self.began_s = began_s
        self.error = ""
        self.is_probe = False
        self.has_begun = False


class Tries:
    """One request's tries. `wait_s` is the pause before the target that `following` returned; `failed` has
    those that came to nothing."""

    # What a request keeps as it is when its first try is good.
    used = 0
    wait_s = 0.0
    failed: tuple[FailedTry, ...] = ()
    affords: Callable[[Candidate], bool] | None = None  # whether its caller can pay for a model
    blocked_s: float | None = None  # nothing may be asked: seconds until the first 429 is over
    _walk: Iterator[Target] | None = None
    _next: Target | None = None
    _unscored: tuple[Target, ...] = ()  # attempts that failed and are not scored yet
    _has_waited = False
    _is_long = False

    def __init__(self, plan: Plan, x: Exchange, random: Random) -> None:
        self._plan = plan
        self._x = x
        self._random = random

    def first(self, now_s: float) -> Target | None:
        """The target to begin with; None when every one is out (`blocked_s` says whether 429s are why)."""
        candidate = self._plan.candidates[0]
        provider = candidate.provider
        provider.budget.requests += 1
        x = self._x
        endpoint = provider.only
        if endpoint is not None and endpoint.is_well and not (candidate.is_judged or x.regions or x.pinned):
            # One endpoint, and nothing against it: most requests need no order.
            self.used = 1
            return Target(candidate, endpoint, now_s)
        self._walk = self._all(self._plan.candidates, now_s)
        target = next(self._walk, None) or self._last_resort(now_s)
        return None if target is None else self._take(target, now_s)

    def following(self, failed: Target, verdict: Verdict, now_s: float) -> Target | None:
        """The target after one that failed so; None when the caller gets what there is."""
        self.wait_s = 0.0
        if verdict.kind in _UNSENT:
            return self._elsewhere(failed, verdict, now_s)
        first = self._plan.candidates[0].provider
        attempts, budget = first.retry.attempts, first.budget
        if self.used >= attempts:
            return None
        if verdict.kind == "context":
            return self._longer(now_s)
        if verdict.others and self.used == attempts - 1:
            self._skip_to_last_resort(now_s)
        if verdict.others and self._next is None:
            if self._walk is None:  # the first target was the only one of its model
                self._walk = self._all(self._plan.candidates[1:], now_s)
            self._next = next(self._walk, None)
        other = self._next if verdict.others else None
        if other is None or other.candidate is not failed.candidate:
            # The last try is kept for another model, where there is one.
            is_last_try = other is not None and self.used == attempts - 1
            wait_s = None if is_last_try else self._pause(failed, verdict)
            if wait_s is not None and budget.try_spend(now_s):
                self._has_waited = True
                self.wait_s = wait_s
                return self._take(Target(failed.candidate, failed.endpoint), now_s)
        if other is None:
            return None
        is_free = self.used == 1 and free_move(other.endpoint.breaker.failure_share(now_s))
        if not is_free and not budget.try_spend(now_s):
            return None
        self._next = None
        return self._take(other, now_s)

    # --- scoring --------------------------------------------------------------------------------------

    def score(self, target: Target, verdict: Verdict, now_s: float) -> None:
        """An attempt is over."""
        endpoint = target.endpoint
        if verdict.counts_for_endpoint:
            endpoint.last_success_s = now_s
            endpoint.breaker.record(True, now_s, is_probe=target.is_probe, began_s=target.began_s)
            if verdict is not GOOD:
                self._note_failure(target, verdict)
        else:
            self._note_failure(target, verdict)
            if verdict.counts_against_endpoint:
                self._unscored = (*self._unscored, target)
                return
            endpoint.breaker.release(now_s, target.is_probe)
        if self._unscored:
            self.settle(now_s)

    def began_well(self, target: Target, now_s: float) -> None:
        """Its first content is there: a probe has passed, and what failed before can be scored."""
        if target.is_probe:
            target.endpoint.breaker.pass_probe(now_s)
            target.is_probe = False
        target.has_begun = True
        target.endpoint.last_success_s = now_s
        if self._unscored:
            self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Score what failed: against the endpoints, or against none where the request itself is to blame."""
        if not self._unscored:
            return
        failed, self._unscored = self._unscored, ()
        places = {target.endpoint for target in failed}
        is_poison = len(places) > 1 and all(t.endpoint.last_success_s > t.began_s for t in failed)
        for target in failed:
            breaker = target.endpoint.breaker
            if is_poison:
                breaker.release(now_s, target.is_probe)
                continue
            is_last = not target.candidate.provider.has_other(target.endpoint, now_s)
            breaker.record(False, now_s, is_probe=target.is_probe, is_last=is_last, began_s=target.began_s)

    # --- inside ---------------------------------------------------------------------------------------

    def _note_failure(self, target: Target, verdict: Verdict) -> None:
        """Take down for metrics and log what came of a try, unless the caller has what it asked for."""
        reason = _REASONS.get(verdict.kind)
        if reason is None:
            return
        if target.has_begun and reason == "server_error":
            reason = "cut"
        candidate, endpoint = target.candidate, target.endpoint
        is_charged = not verdict.counts_for_endpoint
        place = (candidate.model, candidate.provider.name, endpoint.region)
        self.failed = (*self.failed, FailedTry(place, endpoint.url, reason, target.error, is_charged))

    def _take(self, target: Target, now_s: float) -> Target:
        self.used += 1
        target.began_s = now_s
        target.is_probe = target.endpoint.breaker.take(now_s)
        return target

    def _all(self, candidates: tuple[Candidate, ...], now_s: float) -> Iterator[Target]:
        """Every target that may be asked, in order; each model is looked at when its turn comes."""
        slow: list[Target] = []
        for candidate in candidates:
            if self.affords is not None and not self.affords(candidate):
                continue
            order = candidate.provider.order(
                candidate.model, self._x, now_s, self._random, sets_back=candidate.is_judged
            )
            has_well = False
            for endpoint in order.well:
                has_well = True
                yield Target(candidate, endpoint)
            slow += [Target(candidate, endpoint) for endpoint in order.slow]
            if has_well:
                yield from slow
                slow = []
            if order.blocked_s is not None:
                self.blocked_s = min(order.blocked_s, self.blocked_s or order.blocked_s)
        yield from slow

    def _last_resort(self, now_s: float) -> Target | None:
        """Everything is out: once a second a request finds out whether that is still so."""
        for candidate in self._plan.candidates:
            provider = candidate.provider
            endpoint = provider.last_resort(self._x, candidate.model, now_s)
            if endpoint is not None:
                return Target(candidate, endpoint)
        return None

    def _skip_to_last_resort(self, now_s: float) -> None:
        """With break-glass on the last try is for the providers that it lets in, if it comes to that."""
        direct = tuple(c for c in self._plan.candidates if c.provider.is_break_glass)
        if direct:
            self._walk = self._all(direct, now_s)
            self._next = next(self._walk, None)

    def _elsewhere(self, failed: Target, verdict: Verdict, now_s: float) -> Target | None:
        """Nothing was sent, so that was no try, and to go on costs no budget: nobody has more load of it. A
        full queue is its provider's, whatever the endpoint and the model."""
        self.used -= 1
        ahead = self._walk or self._all(self._plan.candidates[1:], now_s)
        if self._next is not None:
            ahead = chain((self._next,), ahead)
            self._next = None
        if verdict.kind == "full":
            full = failed.candidate.provider
            ahead = filter(lambda target: target.candidate.provider is not full, ahead)
        self._walk = ahead
        other = next(ahead, None)
        return None if other is None else self._take(other, now_s)

    def _longer(self, now_s: float) -> Target | None:
        candidate = self._plan.long_context
        if candidate is None or self._is_long:
            return None
        self._is_long = True
        self._next = None
        self._walk = self._all((candidate,), now_s)
        target = next(self._walk, None)
        return None if target is None else self._take(target, now_s)

    def _pause(self, failed: Target, verdict: Verdict) -> float | None:
        """How long to wait before the same endpoint is asked again; None: it is not."""
        if not verdict.same_endpoint_again or self._has_waited or failed.is_probe:
            return None
        if verdict.wait_s is None:
            return jitter_s(self.used, self._random.random)
        return verdict.wait_s if verdict.wait_s <= failed.candidate.provider.retry.patience_s else None
