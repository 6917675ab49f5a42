"""Quantiles of recent durations at a fixed cost: a ring of logarithmic histograms.

A value falls into a bucket whose bounds are 8 % apart, so a quantile read back is off by at most 4 %,
whatever the distribution (DDSketch, Masson et al., VLDB 2019, has the theory). The ring drops what is older
than its span. One observation costs a logarithm and two increments; memory is fixed.
"""

import math

_GROWTH = 1.08
_SMALLEST_S = 1e-5
_BUCKETS = 256  # up to an hour
_LOG_GROWTH = math.log(_GROWTH)


class Window:
    """Durations in seconds of the last `span_s`, in `slices` steps."""

    def __init__(self, span_s: float = 60.0, slices: int = 6) -> None:
        self._step_s = span_s / slices
        self._rings = [[0] * _BUCKETS for _ in range(slices)]
        self._turn = 0
        self._next_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one duration."""
        index = 0 if value_s <= _SMALLEST_S else int(math.log(value_s / _SMALLEST_S) / _LOG_GROWTH)
        self._rings[self._turn][min(index, _BUCKETS - 1)] += 1

    def advance(self, now_s: float) -> None:
        """Move on with the clock; call it once a second."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._step_s
        self._turn = (self._turn + 1) % len(self._rings)
        self._rings[self._turn] = [0] * _BUCKETS

    def quantiles(self, *shares: float) -> list[float | None]:
        """The value in seconds below which each share lies; None without data."""
        counts = [sum(column) for column in zip(*self._rings, strict=True)]
        total = sum(counts)
        return [_find(counts, math.ceil(share * total)) if total else None for share in shares]


def _find(counts: list[int], rank: int) -> float:
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return float(_SMALLEST_S * _GROWTH ** (index + 0.5))
    return math.inf
