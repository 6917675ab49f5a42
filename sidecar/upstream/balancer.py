"""Which of several equal endpoints takes a request: power of two choices on an average of their speed.

Theory of operation. Comparing two endpoints picked at random and taking the cheaper spreads load nearly as
well as looking at all of them, and unlike "always the best" it cannot herd: the best endpoint of the moment
is not every request's choice (Mitzenmacher, IEEE TPDS 12(10), 2001). Cost is (in-flight + 1) x the endpoint's
time to first token, the peak-sensitive average of Finagle and Linkerd: a slow answer counts at once, the
memory of it fades. What an average says fades too, towards what its peers show: an endpoint that was slow and
got no traffic since is tried again, and one that is new is neither flooded nor starved. (Fading towards zero,
as Linkerd does, suits round trips of milliseconds; here it would send every request to whoever is idle.)

Nothing here knows who owns the averages or which endpoints are healthy.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Long enough for a few samples of an endpoint that gets one request every ten seconds.
DECAY_S = 30.0
# What an endpoint is taken for when no peer has been measured either: Linkerd's load biaser, for such APIs.
UNKNOWN_S = 1.0
# Closer than this two costs are the same, and chance decides: one slow sample must not move all requests.
SAME_SHARE = 0.2
# Added to every average, so that a few milliseconds of noise are no difference.
NOISE_S = 0.02


class Ewma:
    """An average of seconds, weighted by age. `estimate` is None until the first sample."""

    __slots__ = ("_decay_s", "estimate", "observed_s")

    def __init__(self, decay_s: float = DECAY_S) -> None:
        self.estimate: float | None = None
        self.observed_s = -math.inf  # when the last sample came
        self._decay_s = decay_s

    def observe(self, seconds: float, now_s: float) -> None:
        """Take in one sample; a higher one replaces the average at once."""
        if self.estimate is not None and seconds < self.estimate:
            self.blend(seconds, now_s)
        else:
            self.estimate, self.observed_s = seconds, now_s

    def blend(self, seconds: float, now_s: float) -> None:
        """Take in one sample, high or low, by the time that passed since the last."""
        estimate = seconds if self.estimate is None else self.estimate
        self.estimate = seconds + (estimate - seconds) * self._left(now_s)
        self.observed_s = now_s

    def value(self, now_s: float, default: float) -> float:
        """The average as it stands now: on its way to `default` since the last sample."""
        estimate = self.estimate
        return default if estimate is None else default + (estimate - default) * self._left(now_s)

    def _left(self, now_s: float) -> float:
        """How much of what was known still holds, 1 to 0."""
        return math.exp(min(0.0, self.observed_s - now_s) / self._decay_s)


def default_of(peers: Iterable[Ewma]) -> float:
    """What an endpoint is taken for while nothing is known of it: the median of its peers, else a second."""
    known = sorted(peer.estimate for peer in peers if peer.estimate is not None)
    if not known:
        return UNKNOWN_S
    # The statistics module has a median too, and takes a megabyte for it.
    return (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2


def choose(candidates: Sequence[T], cost: Callable[[T], float], random: Callable[[], float]) -> T:
    """The cheaper of two candidates picked at random; equals (within 20 %) take turns by chance.

    At least one is needed.
    """
    count = len(candidates)
    if count == 1:
        return candidates[0]
    if count == 2:
        first, second = candidates
    else:
        index = int(random() * count)
        other = int(random() * (count - 1))
        first, second = candidates[index], candidates[other + (other >= index)]
    one, two = cost(first), cost(second)
    if abs(one - two) <= SAME_SHARE * max(one, two):
        return first if random() < 0.5 else second
    return first if one < two else second
