"""Figures as text and as JSON."""

from tests.bench.results import METRICS, TARGETS, Results, Target

_ORDER = ["direct", "sidecar", "pure", "textbook", "nginx", "envoy"]
# Rows whose scatter over the rounds is worth a place in the table.
_WITH_SPREAD = {"plain_cpu_us", "sse_cpu_us"}


def _cell(results: Results, metric: str, digits: int, proxy: str) -> str:
    figure = results.figure(metric, proxy)
    if figure is None:
        return "-"
    spread = f" ±{results.spread(metric, proxy):.{digits}f}" if metric in _WITH_SPREAD else ""
    return f"{figure:,.{digits}f}{spread}"


def table(results: Results) -> str:
    """Absolute figures, a column per proxy: the median of the rounds, ± half their range."""
    measured = {proxy for by_proxy in results.values.values() for proxy in by_proxy}
    proxies = [name for name in _ORDER if name in measured]
    rows = [["", *proxies]]
    rows += [
        [metric.title, *(_cell(results, metric.key, metric.digits, name) for name in proxies)]
        for metric in METRICS
        if metric.key in results.values
    ]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        f"{row[0]:<{first}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _verdict(target: Target, value: float | None) -> str:
    if value is None:
        return f"{'-':>9}  not measured"
    shown = f"{value:>9.2f}"
    if target.at_most is None:
        return shown
    mark = "✓" if value <= target.at_most else "✗"
    return f"{shown}  ≤ {target.at_most:g}{target.unit}  {mark}"


def targets(results: Results) -> str:
    """The sidecar against its targets."""
    width = max(len(target.title) for target in TARGETS)
    lines = (f"{target.title:<{width}}{_verdict(target, results.reached(target))}" for target in TARGETS)
    return "\n".join(["sidecar against its targets", *lines])


def as_json(results: Results) -> dict[str, object]:
    """Medians, every round, and the targets."""
    medians = {
        metric: {proxy: results.figure(metric, proxy) for proxy in by_proxy}
        for metric, by_proxy in results.values.items()
    }
    verdicts: list[dict[str, object]] = []
    for target in TARGETS:
        value = results.reached(target)
        met = None if value is None or target.at_most is None else value <= target.at_most
        verdicts.append({"title": target.title, "value": value, "at_most": target.at_most, "met": met})
    return {"medians": medians, "rounds": results.values, "targets": verdicts}
