"""Counters as plain ints; exposition.py turns them into Prometheus series when somebody scrapes.

`labels().inc()` of prometheus-client costs 1.3 µs, and a request touches ten series; here a request finds its
row by one dict look-up and adds to lists.

Labels are bounded: of models, those the configuration spells out and the first hundred that a provider
answered with success; the rest are `other`.
"""

from bisect import bisect_left
from collections.abc import Sequence

from sidecar.exchange import CacheNote, Exchange
from sidecar.labels import ModelLabels
from sidecar.quantiles import Window

REQUEST_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
OVERHEAD_BUCKETS_S = (0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
MAX_LEARNED_MODELS = 100
LABELS = ("team", "route", "model", "provider", "region")


class Histogram:
    """Counts per bucket and the sum, seconds."""

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, value_s)] += 1
        self.sum_s += value_s

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: (upper bound, count at or below)."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets


class Row:
    """All that is counted for one (team, route, model, provider, region)."""

    __slots__ = (
        "attempts",
        "codes",
        "cost_nano_usd",
        "first_token",
        "overhead",
        "saved_nano_usd",
        "seconds",
        "streams_cut",
        "tokens",
        "unpriced",
    )

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.seconds = Histogram(REQUEST_BUCKETS_S)
        self.first_token = Histogram(REQUEST_BUCKETS_S)
        self.overhead = Histogram(OVERHEAD_BUCKETS_S)
        self.attempts = 0
        self.tokens = [0, 0]  # input, output
        self.streams_cut = 0
        self.cost_nano_usd = 0
        self.saved_nano_usd = 0
        self.unpriced = 0


class FailedTry:
    """A try of a request that came to nothing: where, and why. `place` is model, provider and region.

    `reason` is one of few words, `error` says what happened. `is_charged`: it was the target's failure, and
    not the request's.
    """

    __slots__ = ("endpoint", "error", "is_charged", "place", "reason")

    def __init__(
        self, place: tuple[str, str, str], endpoint: str, reason: str, error: str, is_charged: bool
    ) -> None:
        self.place = place
        self.endpoint = endpoint
        self.reason = reason
        self.error = error
        self.is_charged = is_charged


class CacheRow:
    """All that is counted for one (route, result, detail) of the answer cache."""

    __slots__ = ("requests", "saved_nano_usd", "saved_s")

    def __init__(self) -> None:
        self.requests = 0
        self.saved_nano_usd = 0
        self.saved_s = 0.0


class Metrics:
    """The counters of the process. They outlive reloads."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.rows: dict[tuple[str, str, str, str, str], Row] = {}
        self.cache_rows: dict[tuple[str, str, str], CacheRow] = {}
        # Tries that failed: by labels as a row has them, and by provider, endpoint, region and reason.
        self.failed_attempts: dict[tuple[str, str, str, str, str], int] = {}
        self.failed: dict[tuple[str, str, str, str], int] = {}
        self._models = ModelLabels(MAX_LEARNED_MODELS)
        self.reloads = {"ok": 0, "failed": 0}
        self.config_is_good = True
        self.break_glass_is_on = False
        self.requests = 0
        self.errors = 0
        self.in_flight = 0
        self.streams_open = 0
        self.log_lines_dropped = 0
        self.recent_first_token = Window()
        self.recent_request = Window()

    def configure(self, models: frozenset[str]) -> None:
        """The model names the configuration spells out: always labels."""
        self._models.configure(models)

    def finished(self, x: Exchange, now_s: float, failed: Sequence[FailedTry] = ()) -> float:
        """Count a finished exchange, with those of its tries that failed; returns how long it took, in
        seconds."""
        seconds = now_s - x.started_s
        self.requests += 1
        self.recent_request.observe(seconds)
        has_failed = x.has_failed
        if has_failed:
            self.errors += 1
        key = (x.team, x.route, x.model, x.provider, x.region)
        row = self.rows.get(key)
        if row is None:
            row = self._new_row(x)
        codes = row.codes
        codes[x.status] = codes.get(x.status, 0) + 1
        row.seconds.observe(seconds)
        row.attempts += x.attempts
        if failed:
            self._count_failed(x, row, failed)
        if x.first_token_s is not None:
            row.first_token.observe(x.first_token_s)
            self.recent_first_token.observe(x.first_token_s)
            if has_failed:
                row.streams_cut += 1
        if x.overhead_s is not None:
            row.overhead.observe(x.overhead_s)
        usage = x.usage
        if usage is not None:
            row.tokens[0] += usage.input
            row.tokens[1] += usage.output
        if x.cost_nano_usd is not None:
            row.cost_nano_usd += x.cost_nano_usd
        row.saved_nano_usd += x.saved_nano_usd
        if x.is_unpriced:
            row.unpriced += 1
        if x.cache is not None:
            self._count_cache(x.route, x.cache)
        return seconds

    def _count_cache(self, route: str, note: CacheNote) -> None:
        key = (route, note.result, note.detail)
        row = self.cache_rows.get(key)
        if row is None:
            row = self.cache_rows[key] = CacheRow()
        row.requests += 1
        row.saved_nano_usd += note.saved_nano_usd
        row.saved_s += note.saved_s

    def _count_failed(self, x: Exchange, row: Row, failed: Sequence[FailedTry]) -> None:
        """Each try belongs to its own target, not to who answered last."""
        row.attempts -= min(x.attempts, len(failed))
        for one in failed:
            model, provider, region = one.place
            labels = (x.team, x.route, self._models.label(model, False), provider, region)
            self.failed_attempts[labels] = self.failed_attempts.get(labels, 0) + 1
            if one.is_charged:
                key = (provider, one.endpoint, region, one.reason)
                self.failed[key] = self.failed.get(key, 0) + 1

    def _new_row(self, x: Exchange) -> Row:
        model = self._models.label(x.model, x.status == 200)
        key = (x.team, x.route, model, x.provider, x.region)
        row = self.rows.get(key)  # there, where the model is one of the others
        if row is None:
            row = self.rows[key] = Row()
        return row
