"""What was measured: one value per metric, proxy and round, and how rounds become one figure."""

from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str
    title: str
    digits: int


METRICS = [
    Metric("plain_cpu_us", "CPU µs per plain request", 1),
    Metric("plain_per_s", "  requests/s, 32 connections", 0),
    Metric("plain_core_percent", "  % of a core", 0),
    Metric("sse_cpu_us", "CPU µs per paced SSE event", 1),
    Metric("sse_core_percent", "  % of a core", 0),
    Metric("plain_p50_added_ms", "plain: added p50, ms", 3),
    Metric("plain_p99_added_ms", "plain: added p99, ms", 3),
    Metric("plain_p50_ms", "  p50, ms", 3),
    Metric("plain_p99_ms", "  p99, ms", 3),
    Metric("first_event_p50_added_ms", "first event: added p50, ms", 3),
    Metric("first_event_p99_added_ms", "first event: added p99, ms", 3),
    Metric("first_event_p50_ms", "  p50, ms", 3),
    Metric("first_event_p99_ms", "  p99, ms", 3),
    Metric("idle_cpu_percent", "idle CPU, % of a core", 2),
    Metric("rss_idle_mb", "RSS idle, MB", 1),
    Metric("rss_loaded_mb", "RSS after load, MB", 1),
    Metric("start_s", "exec to ready, s", 3),
]


@dataclass(frozen=True)
class Target:
    """What the sidecar should reach; `against` names the proxy of a ratio, empty for an absolute figure."""

    title: str
    metric: str
    against: str
    at_most: float | None
    unit: str = ""


TARGETS = [
    Target("CPU per plain request, of textbook", "plain_cpu_us", "textbook", 0.35),
    Target("CPU per plain request, of Envoy", "plain_cpu_us", "envoy", 0.85),
    Target("CPU per SSE event, of textbook", "sse_cpu_us", "textbook", None),
    Target("CPU per SSE event, of Envoy", "sse_cpu_us", "envoy", 1.0),
    Target("RSS idle", "rss_idle_mb", "", 45.0, " MB"),
    Target("exec to ready", "start_s", "", 0.6, " s"),
]


@dataclass
class Results:
    """Values by metric and proxy, in the order of the rounds."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, metric: str, proxy: str, value: float) -> None:
        """Record one round."""
        self.values.setdefault(metric, {}).setdefault(proxy, []).append(value)

    def rounds(self, metric: str, proxy: str) -> list[float]:
        """Every round, first to last; empty when it was not measured."""
        return self.values.get(metric, {}).get(proxy, [])

    def figure(self, metric: str, proxy: str) -> float | None:
        """The median of the rounds."""
        rounds = self.rounds(metric, proxy)
        return median(rounds) if rounds else None

    def spread(self, metric: str, proxy: str) -> float:
        """Half the distance between the lowest and the highest round."""
        rounds = self.rounds(metric, proxy)
        return (max(rounds) - min(rounds)) / 2 if rounds else 0.0

    def ratio(self, metric: str, proxy: str, against: str) -> float | None:
        """The median of the ratios within each round."""
        pairs = list(zip(self.rounds(metric, proxy), self.rounds(metric, against), strict=True))
        return median(a / b for a, b in pairs) if pairs and all(b for _, b in pairs) else None

    def reached(self, target: Target, proxy: str = "sidecar") -> float | None:
        """The figure to hold against `target`."""
        if not target.against:
            return self.figure(target.metric, proxy)
        if not self.rounds(target.metric, proxy) or not self.rounds(target.metric, target.against):
            return None
        return self.ratio(target.metric, proxy, target.against)
