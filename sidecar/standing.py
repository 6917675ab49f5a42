"""How the endpoints of one model stand for one request: in or out, in which order, how likely first, and why.

The order is that of `Provider.order` and the balancer, worked out without drawing: a priority takes its share
of the requests, and within it each pair of endpoints is as likely as any other to be compared. Nothing here
changes any state.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sidecar.exchange import Exchange
from sidecar.routing.plan import Candidate
from sidecar.upstream.balancer import NOISE_S, SAME_SHARE, Ewma, default_of
from sidecar.upstream.breaker import CLOSED
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.locality import loads


class View(NamedTuple):
    """From where, when (monotonic seconds) and for whom endpoints are looked at. `who` is for sentences."""

    region: str
    zone: str
    now_s: float
    who: str


class Standing:
    """One endpoint. `priority` is its locality level, None where the caller may not go there; `share` is how
    many of such requests begin there. `why` is a sentence; `state` has plain figures."""

    __slots__ = ("candidate", "endpoint", "is_in", "priority", "share", "state", "why")

    def __init__(self, candidate: Candidate, endpoint: Endpoint, priority: int | None, why: str) -> None:
        self.candidate = candidate
        self.endpoint = endpoint
        self.priority = priority
        self.why = why
        self.is_in = False
        self.share = 0.0
        self.state: dict[str, Any] = {}


class Standings(NamedTuple):
    """The endpoints of a provider: in their order, set back for slowness, and out."""

    well: list[Standing]
    slow: list[Standing]
    out: list[Standing]


def standings(candidate: Candidate, x: Exchange, view: View) -> Standings:
    """Every endpoint of the candidate's provider, as it stands for this request."""
    provider, now_s = candidate.provider, view.now_s
    levels = provider.localities.within(x.regions)
    priorities = {endpoint: index for index, level in enumerate(levels) for endpoint in level}
    found = Standings([], [], [])
    usable: dict[Endpoint, Standing] = {}
    for endpoint in provider.endpoints:
        why = _why_out(candidate, endpoint, x, view)
        one = Standing(candidate, endpoint, priorities.get(endpoint), why)
        is_set_back = candidate.is_judged and _is_set_back(endpoint, candidate.model, now_s)
        one.state = _state(candidate, endpoint, x, now_s, is_set_back=is_set_back)
        one.is_in = not why
        if why:
            found.out.append(one)
            continue
        one.why = f"{_place(endpoint, view)}, {_health(endpoint)}"
        if is_set_back:
            one.why += "; set back: too often later than its p99 budget, so the next target goes first"
            found.slow.append(one)
        else:
            usable[endpoint] = one
    costs = _costs(candidate, x, now_s)
    found.well.extend(_ordered(levels, usable, costs))
    return found


def first_shares(costs: Sequence[float]) -> list[float]:
    """How likely each is chosen when of two drawn at random the cheaper is, of equals either."""
    count = len(costs)
    if count == 1:
        return [1.0]
    shares = [0.0] * count
    pairs = count * (count - 1) / 2
    for one, other in combinations(range(count), 2):
        if _is_equal(costs[one], costs[other]):
            shares[one] += 0.5 / pairs
            shares[other] += 0.5 / pairs
        else:
            shares[one if costs[one] < costs[other] else other] += 1 / pairs
    return shares


# --- the order -------------------------------------------------------------------------------------------


def _ordered(
    levels: Sequence[Sequence[Endpoint]], usable: dict[Endpoint, Standing], costs: dict[Endpoint, float]
) -> list[Standing]:
    """The usable endpoints, the likeliest order first, each with its share."""
    well = [sorted((e for e in level if e in usable), key=costs.__getitem__) for level in levels]
    if not usable:
        return []
    counts, totals = list(map(len, well)), list(map(len, levels))
    if counts[0] * 7 >= totals[0] * 5:  # what the balancer takes for healthy enough, in whole numbers
        level_shares = [1.0, *[0.0] * (len(levels) - 1)]
    else:
        level_shares = loads(counts, totals)
    for level, of_level in zip(well, level_shares, strict=True):
        own = [costs[endpoint] for endpoint in level]
        for endpoint, cost, share in zip(level, own, first_shares(own) if own else [], strict=True):
            one = usable[endpoint]
            one.share = of_level * share
            if of_level and len(own) > 1:
                is_tied = sum(_is_equal(cost, other) for other in own) > 1
                one.why += "; equal, chosen by chance" if is_tied else _among(share, len(own))
    main = level_shares.index(max(level_shares))
    return [usable[e] for level in (well[main], *well[:main], *well[main + 1 :]) for e in level]


def _among(share: float, count: int) -> str:
    if not share:
        return "; slower than the others of its priority"
    return "; the faster one" if count == 2 else "; two are drawn by chance, the faster one is asked"


def _is_equal(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_SHARE * max(one, other)


def _costs(candidate: Candidate, x: Exchange, now_s: float) -> dict[Endpoint, float]:
    averages = {e: _average(e, candidate.model, x) for e in candidate.provider.endpoints}
    default_s = default_of(averages[e] for e in candidate.provider.allowed(x))
    return {e: (e.in_flight + 1) * (NOISE_S + a.value(now_s, default_s)) for e, a in averages.items()}


def _average(endpoint: Endpoint, model: str, x: Exchange) -> Ewma:
    speed = endpoint.known_speed(model)
    if speed is None:
        return Ewma()
    return speed.first_token if x.stream else speed.whole


# --- why ---------------------------------------------------------------------------------------------------


def _why_out(candidate: Candidate, endpoint: Endpoint, x: Exchange, view: View) -> str:
    """Why it may not be asked; empty where it may."""
    provider = candidate.provider
    if endpoint not in provider.allowed(x):
        return f"not in regions {', '.join(x.regions)} of {view.who}"
    outages = endpoint.outages(view.now_s, provider.credential(x), candidate.model)
    return next((outage.why for outage in outages if not outage.lets_probe), "")


def _place(endpoint: Endpoint, view: View) -> str:
    if view.region and endpoint.region == view.region:
        return "same zone" if view.zone and endpoint.zone == view.zone else "same region"
    connect_s = endpoint.pool.connect_ewma.estimate
    return "distance not measured" if connect_s is None else f"{connect_s * 1e3:.1f} ms away"


def _health(endpoint: Endpoint) -> str:
    if endpoint.breaker.state is CLOSED:
        return "circuit breaker closed"
    return "circuit breaker open and its time over: this request would be the probe"


def _is_set_back(endpoint: Endpoint, model: str, now_s: float) -> bool:
    """Whether other targets come first; not for a request that would be the probe."""
    speed = endpoint.known_speed(model)
    judged = () if speed is None else (speed.late, speed.late_plain)
    return any(late and late.is_set_back(now_s) and not late.allows_probe(now_s) for late in judged)


def _parked_s(candidate: Candidate, endpoint: Endpoint, x: Exchange, now_s: float) -> float:
    credential = candidate.provider.credential(x)
    return max(0.0, endpoint.parking.until(credential, candidate.model, now_s) - now_s)


def _state(
    candidate: Candidate, endpoint: Endpoint, x: Exchange, now_s: float, *, is_set_back: bool
) -> dict[str, Any]:
    """Plain figures; None where there is none yet, and for a parking without an end."""
    parked_s = _parked_s(candidate, endpoint, x, now_s)
    return {
        "breaker": endpoint.breaker.state,
        "open_for_s": round(max(0.0, endpoint.breaker.open_until_s - now_s), 1),
        "parked_for_s": None if math.isinf(parked_s) else round(parked_s, 1),
        "set_back": is_set_back,
        "checked_out": endpoint.is_checked_out,
        "in_flight": endpoint.in_flight,
        "first_token_ms": _ms(_average(endpoint, candidate.model, x).estimate),
        "connect_ms": _ms(endpoint.pool.connect_ewma.estimate),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)
