"""The process's counters as Prometheus reads them: a prometheus-client collector, read at each scrape.

Imported at the first scrape only: prometheus-client brings 1 MB of modules with it.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from sidecar.exchange import NANO_USD
from sidecar.telemetry.cache_series import Cache, cache_series
from sidecar.telemetry.metrics import LABELS, Histogram, Metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Health:
    """What is told of one endpoint: its breaker is 0 closed, 1 half open, 2 open."""

    def __init__(self, provider: str, endpoint: str, region: str, is_up: bool, breaker: int) -> None:
        self.labels = (provider, endpoint, region)
        self.is_up = is_up
        self.breaker = breaker


class Fleet:
    """How this sidecar gets on with the Redis of its fleet; `failures` are of its `round_trips`."""

    __slots__ = ("failures", "has_local_share", "is_connected", "round_trips")

    def __init__(self, is_connected: bool, round_trips: int, failures: int, has_local_share: bool) -> None:
        self.is_connected = is_connected
        self.round_trips = round_trips
        self.failures = failures
        self.has_local_share = has_local_share


class Limits:
    """What callers were refused, and where the budgets stand.

    `limited` has how many requests met a limit, by its name (`tier standard`, `budget premium-daily`) and
    whether it was a dry run; `budgets` USD by (name, whom, limit | spent | reserved). `fleet` is None for a
    sidecar by itself.
    """

    __slots__ = ("budgets", "fleet", "ledger_failures", "limited")

    def __init__(
        self,
        limited: Mapping[tuple[str, bool], int],
        budgets: Mapping[tuple[str, str, str], float],
        ledger_failures: int,
        fleet: Fleet | None = None,
    ) -> None:
        self.limited = limited
        self.budgets = budgets
        self.ledger_failures = ledger_failures
        self.fleet = fleet


def expose(
    metrics: Metrics,
    health: Iterable[Health],
    queued: Mapping[str, int],
    limits: Limits,
    cache: Cache | None = None,
) -> bytes:
    """All series in the text format. `queued` has the waiting requests of each provider; `cache` None: there
    is none."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, list(health), queued, limits, cache))
    return generate_latest(registry)


class _Exposition(Collector):
    def __init__(
        self,
        metrics: Metrics,
        health: list[Health],
        queued: Mapping[str, int],
        limits: Limits,
        cache: Cache | None,
    ) -> None:
        self._limits = limits
        self._cache = cache
        self._metrics = metrics
        self._health = health
        self._queued = queued

    def collect(self) -> Iterator[Metric]:
        """prometheus-client's call."""
        requests = CounterMetricFamily(
            "sidecar_requests", "Requests answered, by final status.", labels=(*LABELS, "code")
        )
        tokens = CounterMetricFamily(
            "sidecar_tokens", "Tokens as the providers reported them.", labels=(*LABELS, "direction")
        )
        cut = CounterMetricFamily("sidecar_streams_cut", "Streams that ended in an error.", labels=LABELS)
        for key, row in self._metrics.rows.items():
            for code, count in row.codes.items():
                requests.add_metric([*key, str(code)], count)
            tokens.add_metric([*key, "input"], row.tokens[0])
            tokens.add_metric([*key, "output"], row.tokens[1])
            cut.add_metric(key, row.streams_cut)
        yield from (requests, self._attempts(), tokens, cut, *self._money())
        yield self._histogram("sidecar_request_seconds", "From request to end of answer.", "seconds")
        yield self._histogram("sidecar_first_token_seconds", "From request to first content.", "first_token")
        yield self._histogram("sidecar_overhead_seconds", "The sidecar's own share.", "overhead")
        yield from self._limit_metrics()
        if self._limits.fleet is not None:
            yield from _fleet_metrics(self._limits.fleet)
        if self._cache is not None:
            yield from cache_series(self._metrics.cache_rows, self._cache)
        yield from self._health_metrics()
        yield from self._process_metrics()

    def _attempts(self) -> Metric:
        attempts = CounterMetricFamily("sidecar_attempts", "Tries, by where they went.", labels=LABELS)
        counts = {key: row.attempts for key, row in self._metrics.rows.items()}
        for key, count in self._metrics.failed_attempts.items():
            counts[key] = counts.get(key, 0) + count
        for key, count in counts.items():
            attempts.add_metric(key, count)
        return attempts

    def _money(self) -> Iterator[Metric]:
        cost = CounterMetricFamily("sidecar_cost_usd", "What the tokens cost, USD.", labels=LABELS)
        # A gauge, for it falls where a model costs more than the baseline.
        saved = GaugeMetricFamily(
            "sidecar_saved_usd_total", "What the tokens cost less than at the baseline, USD.", labels=LABELS
        )
        unpriced = CounterMetricFamily(
            "sidecar_unpriced", "Answers with tokens, of models without a price.", labels=LABELS
        )
        for key, row in self._metrics.rows.items():
            cost.add_metric(key, row.cost_nano_usd / NANO_USD)
            saved.add_metric(key, row.saved_nano_usd / NANO_USD)
            unpriced.add_metric(key, row.unpriced)
        yield from (cost, saved, unpriced)

    def _limit_metrics(self) -> Iterator[Metric]:
        limited = CounterMetricFamily(
            "sidecar_limited",
            "Requests over a limit; of a dry run they were served.",
            labels=("limit", "dry_run"),
        )
        for (name, is_dry_run), count in self._limits.limited.items():
            limited.add_metric((name, str(is_dry_run).lower()), count)
        budget = GaugeMetricFamily(
            "sidecar_budget_usd", "Of each budget in its running window.", labels=("budget", "team", "kind")
        )
        for labels, usd in self._limits.budgets.items():
            budget.add_metric(labels, usd)
        text = "How many times the usage file could not be written."
        yield from (
            limited,
            budget,
            CounterMetricFamily("sidecar_usage_write_failures", text, self._limits.ledger_failures),
        )

    def _health_metrics(self) -> Iterator[Metric]:
        labels = ("provider", "endpoint", "region")
        up = GaugeMetricFamily("sidecar_endpoint_up", "1 when requests may go there.", labels=labels)
        text = "0 closed, 1 half open, 2 open."
        breaker = GaugeMetricFamily("sidecar_breaker_state", text, labels=labels)
        for one in self._health:
            up.add_metric(one.labels, one.is_up)
            breaker.add_metric(one.labels, one.breaker)
        queue = GaugeMetricFamily("sidecar_queue_depth", "Requests that wait.", labels=("provider",))
        for provider, waiting in self._queued.items():
            queue.add_metric((provider,), waiting)
        failed = CounterMetricFamily(
            "sidecar_failed_attempts", "Tries that failed there, by why.", labels=(*labels, "reason")
        )
        for key, count in self._metrics.failed.items():
            failed.add_metric(key, count)
        yield from (up, breaker, queue, failed)

    def _histogram(self, name: str, text: str, attribute: str) -> Metric:
        family = HistogramMetricFamily(name, text, labels=LABELS)
        for key, row in self._metrics.rows.items():
            histogram: Histogram = getattr(row, attribute)
            family.add_metric(key, histogram.cumulative(), histogram.sum_s)
        return family

    def _process_metrics(self) -> Iterator[Metric]:
        reloads = CounterMetricFamily(
            "sidecar_config_reloads", "Configuration reloads, by result.", labels=("result",)
        )
        for result, count in self._metrics.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield GaugeMetricFamily(
            "sidecar_config_good",
            "1 when the configuration on disk is the one in use.",
            self._metrics.config_is_good,
        )
        yield GaugeMetricFamily(
            "sidecar_break_glass",
            "1 while the providers for break-glass may be asked.",
            self._metrics.break_glass_is_on,
        )
        yield GaugeMetricFamily(
            "sidecar_requests_in_flight", "Requests in progress.", self._metrics.in_flight
        )
        yield GaugeMetricFamily("sidecar_streams_open", "Streams in progress.", self._metrics.streams_open)
        yield CounterMetricFamily(
            "sidecar_access_log_dropped",
            "Log lines dropped: the disk was slow.",
            self._metrics.log_lines_dropped,
        )
        build = GaugeMetricFamily("sidecar_build_info", "The version that runs.", labels=("version",))
        build.add_metric([self._metrics.version], 1)
        yield build


def _fleet_metrics(fleet: Fleet) -> Iterator[Metric]:
    text = "1 while Redis answers."
    yield GaugeMetricFamily("sidecar_fleet_connected", text, fleet.is_connected)
    text = "Round trips to Redis, answered or not."
    yield CounterMetricFamily("sidecar_fleet_round_trips", text, fleet.round_trips)
    text = "Round trips without a good answer."
    yield CounterMetricFamily("sidecar_fleet_failures", text, fleet.failures)
    text = "1 while limits are this sidecar's share of the fleet's, as Redis does not answer in time."
    yield GaugeMetricFamily("sidecar_fleet_local_share", text, fleet.has_local_share)
