"""The closest endpoints first: priorities by place, and which of them a request goes to.

Theory of operation. Same zone is the first priority, same region the next, after them everything elsewhere by
measured connect time; times within 20 % or 5 ms of each other make one priority, and what was never measured
comes last. A priority keeps all requests while its healthy share x 1.4 is at least 1 (so losing one endpoint
of four moves nothing) and lets the rest spill to the next: Envoy's formula and factor. Within a priority the
balancer chooses.

Places change seldom, so `Localities` sorts them once a second at most and requests only read the result. A
time counts as moved when it has left half the tolerance around the last one used: without that, two endpoints
at the edge of being equal would trade places for ever. An endpoint that gets no traffic is not measured by
it, so a lost packet at its last dial would keep it away for good; `to_measure` names it for a spare dial.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from sidecar.upstream.balancer import choose
from sidecar.upstream.endpoint import Endpoint

SAME_SHARE = 0.2
SAME_S = 0.005
REMEASURE_S = 300.0
ASK_AGAIN_S = 60.0
PROBE_INTERVAL_S = 1.0

Levels = list[list[Endpoint]]


def allowed(region: str, regions: Sequence[str]) -> bool:
    """Whether an endpoint's region passes a residency filter: no filter passes all, no region passes none."""
    return not regions or (region != "" and region in regions)


def priorities(
    endpoints: Iterable[Endpoint], region: str, zone: str, connect_s: dict[Endpoint, float]
) -> Levels:
    """The endpoints in levels, closest first, as seen from `region` and `zone` (empty where unknown).

    `connect_s` has the seconds a connection takes, of those that were measured.
    """
    levels: Levels = [[], [], []]
    far: list[Endpoint] = []
    for endpoint in endpoints:
        if not region or endpoint.region != region:
            far.append(endpoint)
        else:
            levels[0 if zone and endpoint.zone == zone else 1].append(endpoint)
    closest_s = -math.inf
    for endpoint in sorted(far, key=lambda e: connect_s.get(e, math.inf)):
        at_s = connect_s.get(endpoint, math.inf)
        if at_s > closest_s + _tolerance_s(closest_s):
            levels.append([])
            closest_s = at_s
        levels[-1].append(endpoint)
    return [level for level in levels if level]


def _tolerance_s(connect_s: float) -> float:
    return max(SAME_S, SAME_SHARE * connect_s)


class Localities:
    """The levels of one provider's endpoints, kept up to date by `refresh`, called once a second."""

    def __init__(self, endpoints: Sequence[Endpoint], region: str, zone: str) -> None:
        self._endpoints = endpoints
        self._region = region
        self._zone = zone
        self._far = [e for e in endpoints if not region or e.region != region]
        self._connect_s: dict[Endpoint, float] = {}
        self._asked_s: dict[Endpoint, float] = {}
        self._filtered: dict[tuple[str, ...], Levels] = {}
        self._sort()
        self.refresh()

    def refresh(self) -> None:
        """Sort anew if a connect time has moved."""
        moved = False
        for endpoint in self._far:
            measured_s = endpoint.pool.connect_ewma.estimate
            used_s = self._connect_s.get(endpoint, math.inf)
            if measured_s is not None and abs(measured_s - used_s) > _tolerance_s(measured_s) / 2:
                self._connect_s[endpoint] = measured_s
                moved = True
        if moved:
            self._sort()

    def within(self, regions: tuple[str, ...]) -> Levels:
        """The levels a caller with this residency filter may use; remembered, for filters are configured."""
        if not regions:
            return self.levels
        levels = self._filtered.get(regions)
        if levels is None:
            kept = ([e for e in level if allowed(e.region, regions)] for level in self.levels)
            levels = self._filtered[regions] = [level for level in kept if level]
        return levels

    def to_measure(self, now_s: float) -> list[Endpoint]:
        """Those whose distance is unknown or was measured long ago: dial each once, in the background."""
        if len(self._far) < 2:
            return []  # there is no order to find
        due = [e for e in self._far if now_s - e.pool.connect_ewma.observed_s >= REMEASURE_S]
        due = [e for e in due if now_s - self._asked_s.get(e, -math.inf) >= ASK_AGAIN_S]
        self._asked_s.update(dict.fromkeys(due, now_s))
        return due

    def _sort(self) -> None:
        self.levels = priorities(self._endpoints, self._region, self._zone, self._connect_s)
        self._filtered.clear()


def loads(healthy: Sequence[int], total: Sequence[int]) -> list[float]:
    """The share of requests each priority gets, which sum to 1, or to 0 when nothing is healthy.

    Envoy's formula (its documentation of priority levels) with fractions in place of whole percents.
    """
    scores = [min(1.0, 1.4 * good / every) for good, every in zip(healthy, total, strict=True)]
    normalized = min(1.0, sum(scores))
    left = 1.0 if normalized else 0.0
    shares: list[float] = []
    for score in scores:
        share = min(left, score / normalized) if left else 0.0
        left -= share
        shares.append(share)
    return shares


def pick_priority(healthy: Sequence[int], total: Sequence[int], random: Callable[[], float]) -> int | None:
    """The index of the priority one request goes to; None when nothing is healthy."""
    if total and healthy[0] * 7 >= total[0] * 5:  # x 1.4 in whole numbers: 5 of 7 is enough
        return 0
    at = random()
    picked = None
    for index, share in enumerate(loads(healthy, total)):
        if share > 0.0:
            picked = index
            if at < share:
                break
            at -= share
    return picked


def order(
    levels: Levels,
    is_usable: Callable[[Endpoint], bool],
    cost: Callable[[Endpoint], float],
    random: Callable[[], float],
) -> Iterator[Endpoint]:
    """The usable endpoints in the order to try: the chosen one, the rest of its priority, the others.

    All after the first are looked at only when asked for, which is on failure, and as they are then.
    """
    if not levels:
        return
    usable = [e for e in levels[0] if is_usable(e)]
    picked = 0
    if len(usable) * 7 < len(levels[0]) * 5:
        counts = [sum(map(is_usable, level)) for level in levels]
        spilled = pick_priority(counts, [len(level) for level in levels], random)
        if spilled is None:
            return
        if spilled:
            picked, usable = spilled, [e for e in levels[spilled] if is_usable(e)]
    chosen = choose(usable, cost, random)
    yield chosen
    # The chosen priority again, then the closest of the others: also those before it, after a spill.
    for level in [levels[picked], *levels[:picked], *levels[picked + 1 :]]:
        yield from sorted((e for e in level if e is not chosen and is_usable(e)), key=cost)


class Panic:
    """Lets one request a second through while every target is out, so that recovery is seen."""

    def __init__(self, interval_s: float = PROBE_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._next_s = -math.inf

    def allows(self, now_s: float) -> bool:
        """Whether this request is the probe."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._interval_s
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request is let through; 0.0: this one would be."""
        return max(0.0, self._next_s - now_s)
