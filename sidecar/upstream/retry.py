"""How much may be tried again: moves that cost nothing, a budget for the rest, and how long to wait before.

One lost endpoint must cost the callers nothing, a brown-out of all of them must not be made worse. So the
first move of a request to another target is free while that target itself is well (`free_move`), and every
other extra try spends from a budget: a share of the requests of the last seconds, so that tries cannot
multiply a load that is failing; and a floor, so that a quiet caller's request is tried again at all.
Finagle's design ("Retry Budgets": 20 %, a reserve per second, credit for 10 s) with Envoy's figures (20 %,
at least 3).
"""

from collections.abc import Callable

from sidecar.upstream.breaker import Tally

FREE_BELOW_SHARE = 0.1
MIN_JITTER_S = 0.025
MAX_JITTER_S = 0.25


class RetryBudget:
    """At most `share` extra tries a request over `span_s`, or `floor_per_s`, whichever allows more."""

    __slots__ = ("_floor", "_share", "_tally", "requests")

    def __init__(self, share: float = 0.2, floor_per_s: float = 3.0, span_s: float = 10.0) -> None:
        self._share = share
        self._floor = floor_per_s * span_s
        self._tally = Tally(span_s)  # of requests; marked: tries spent
        self.requests = 0  # since the last `advance`: whoever sends one adds it here, which costs nothing

    def configure(self, share: float) -> None:
        """Go on with another share."""
        self._share = share

    def advance(self, now_s: float) -> None:
        """Take in the requests counted since the last call; call it once a second."""
        self._tally.add(now_s, self.requests, 0)
        self._tally.advance(now_s)
        self.requests = 0

    def try_spend(self, now_s: float) -> bool:
        """Take one extra try out of the budget; False when there is none left."""
        self.advance(now_s)
        tally = self._tally
        if tally.marked + 1 > max(self._share * tally.total, self._floor):
            return False
        tally.add(now_s, 0, 1)
        return True


def free_move(failure_share: float) -> bool:
    """Whether a request's first move, to a target with this share of failures, costs no budget."""
    return failure_share < FREE_BELOW_SHARE


def jitter_s(attempt: int, random: Callable[[], float]) -> float:
    """How long to wait before the same endpoint is tried again, after `attempt` tries (from 1).

    Evenly drawn from 25 ms to 75, 175 and then 250 ms: Envoy's back-off (25 ms, ten times that at most) with
    a lower end, as an overload does not pass in no time. `random` draws from [0, 1).
    """
    longest_s = min(MAX_JITTER_S, MIN_JITTER_S * ((2 << min(attempt, 4)) - 1))
    return MIN_JITTER_S + (longest_s - MIN_JITTER_S) * random()
