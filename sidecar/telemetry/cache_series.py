"""The answer cache as Prometheus reads it: what was counted of requests, and what its tiers say of it.

There are no such series where there is no cache. Like exposition.py it is imported at the first scrape only.
"""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from sidecar.exchange import NANO_USD
from sidecar.telemetry.metrics import CacheRow, Histogram


class Checked:
    """A tier of a route whose hits were asked anew: of so many `checks`, `disagreed` brought another
    answer."""

    __slots__ = ("checks", "disagreed", "is_on", "route", "tier")

    def __init__(self, route: str, tier: str, checks: int, disagreed: int, is_on: bool) -> None:
        self.route = route
        self.tier = tier
        self.checks = checks
        self.disagreed = disagreed
        self.is_on = is_on


class Shared:
    """The answers in Redis; `results` counts what came of look-ups, writes and orders."""

    __slots__ = ("is_on", "results")

    def __init__(self, is_on: bool, results: Mapping[str, int]) -> None:
        self.is_on = is_on
        self.results = results


class Semantic:
    """The search by meaning. `refused` is by guard, `similarity` of the nearest question, a cosine."""

    __slots__ = ("entries", "failures", "refused", "similarity")

    def __init__(
        self, entries: int, failures: int, refused: Mapping[str, int], similarity: Histogram
    ) -> None:
        self.entries = entries
        self.failures = failures
        self.refused = refused
        self.similarity = similarity


class Cache:
    """The answers in memory, and the tiers beside it: None where there is no such tier."""

    __slots__ = ("bytes", "checked", "entries", "evictions", "semantic", "shared")

    def __init__(
        self,
        entries: int,
        bytes_: int,
        evictions: int,
        checked: Sequence[Checked] = (),
        shared: Shared | None = None,
        semantic: Semantic | None = None,
    ) -> None:
        self.entries = entries
        self.bytes = bytes_
        self.evictions = evictions
        self.checked = checked
        self.shared = shared
        self.semantic = semantic


def cache_series(rows: Mapping[tuple[str, str, str], CacheRow], cache: Cache) -> Iterator[Metric]:
    """All series of the cache; `rows` by route, result and detail."""
    yield from _requests(rows)
    yield GaugeMetricFamily("sidecar_cache_entries", "Answers in memory.", cache.entries)
    yield GaugeMetricFamily("sidecar_cache_bytes", "What they take.", cache.bytes)
    yield CounterMetricFamily("sidecar_cache_evictions", "Answers dropped for want of room.", cache.evictions)
    yield from _checks(cache.checked)
    if cache.shared is not None:
        yield from _shared(cache.shared)
    if cache.semantic is not None:
        yield from _semantic(cache.semantic)


def _requests(rows: Mapping[tuple[str, str, str], CacheRow]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "sidecar_cache",
        "Requests by what the cache did; `detail` is the tier of a hit, or why there was none.",
        labels=("route", "result", "detail"),
    )
    usd: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for key, row in rows.items():
        requests.add_metric(key, row.requests)
        route = key[0]
        usd[route] = usd.get(route, 0) + row.saved_nano_usd
        seconds[route] = seconds.get(route, 0.0) + row.saved_s
    saved_usd = CounterMetricFamily(
        "sidecar_cache_saved_usd", "What the answers given again would have cost, USD.", labels=("route",)
    )
    saved_s = CounterMetricFamily(
        "sidecar_cache_saved_seconds", "How much longer the providers took for them.", labels=("route",)
    )
    for route in usd:
        saved_usd.add_metric((route,), usd[route] / NANO_USD)
        saved_s.add_metric((route,), seconds[route])
    yield from (requests, saved_usd, saved_s)


def _checks(checked: Sequence[Checked]) -> Iterator[Metric]:
    checks = CounterMetricFamily(
        "sidecar_cache_shadow",
        "Hits that were asked anew, by whether the answers agreed.",
        labels=("route", "tier", "result"),
    )
    is_on = GaugeMetricFamily(
        "sidecar_cache_tier_on", "0 where too many answers disagreed.", labels=("route", "tier")
    )
    for one in checked:
        checks.add_metric((one.route, one.tier, "agreed"), one.checks - one.disagreed)
        checks.add_metric((one.route, one.tier, "disagreed"), one.disagreed)
        is_on.add_metric((one.route, one.tier), one.is_on)
    yield from (checks, is_on)


def _shared(shared: Shared) -> Iterator[Metric]:
    yield GaugeMetricFamily("sidecar_cache_shared_on", "1 while answers are shared.", shared.is_on)
    results = CounterMetricFamily(
        "sidecar_cache_shared",
        "What came of look-ups, writes and orders in Redis; a miss for a reason counts as both.",
        labels=("result",),
    )
    for result, count in shared.results.items():
        results.add_metric((result,), count)
    yield results


def _semantic(semantic: Semantic) -> Iterator[Metric]:
    text = "Questions that may be found by meaning."
    yield GaugeMetricFamily("sidecar_cache_semantic_entries", text, semantic.entries)
    text = "Questions that got no usable vector."
    yield CounterMetricFamily("sidecar_cache_semantic_failures", text, semantic.failures)
    refused = CounterMetricFamily(
        "sidecar_cache_semantic_refused",
        "Close questions whose answer was not given, by the guard that objected.",
        labels=("guard",),
    )
    for guard, count in semantic.refused.items():
        refused.add_metric((guard,), count)
    yield refused
    similarity = HistogramMetricFamily(
        "sidecar_cache_semantic_similarity", "Cosine of the nearest question, given or not."
    )
    similarity.add_metric((), semantic.similarity.cumulative(), semantic.similarity.sum_s)
    yield similarity
