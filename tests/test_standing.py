"""How endpoints stand for a request: the same as what the balancer does, said without doing it."""

from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Exchange
from sidecar.routing.plan import Candidate
from sidecar.runtime import Runtime
from sidecar.standing import Standing, Standings, View, first_shares, standings
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.slowness import Slowness
from tests.routing.support import asking
from tests.support.running import ENVIRON, config_for

NOW_S = 1000.0
VIEW = View("r0", "z0", NOW_S, "key a")
DRAWS = 4000


def candidate_for(*places: str, **model: Any) -> Candidate:
    """A candidate whose provider has an endpoint in each place, as `region` or `region/zone`."""
    tree = config_for(*(f"http://{index}.example/v1" for index in range(len(places))))
    tree["locality"] = {"region": "r0", "zone": "z0"}
    tree["models"] = {"*": {"provider": "p", **model}}
    tree["providers"]["p"]["circuit_breaker"] = {"consecutive_failures": 1}
    for endpoint, place in zip(tree["providers"]["p"]["endpoints"], places, strict=True):
        region, _, zone = place.partition("/")
        endpoint |= {name: value for name, value in (("region", region), ("zone", zone)) if value}
    runtime = Runtime(Ticker(lambda: NOW_S), Metrics("0"), "t")
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    plan = runtime.snapshot.router.plan(*asking("m"))
    assert plan is not None
    return plan.candidates[0]


def asked(*, regions: tuple[str, ...] = ()) -> Exchange:
    x = asking("m")[1]
    x.regions = regions
    return x


def look(candidate: Candidate, x: Exchange | None = None) -> Standings:
    return standings(candidate, x or asked(), VIEW)


def urls(found: list[Standing]) -> list[str]:
    return [one.endpoint.url[7] for one in found]


def breaks(endpoint: Endpoint, now_s: float = NOW_S) -> None:
    endpoint.observe("status 503")
    endpoint.breaker.record(False, now_s)


def takes(endpoint: Endpoint, seconds: float) -> None:
    endpoint.speed("m").whole.observe(seconds, NOW_S)


def drawn(candidate: Candidate, x: Exchange) -> dict[str, float]:
    """Where the balancer has requests begin, as shares."""
    random = Random(1)
    firsts = Counter[str]()
    for _ in range(DRAWS):
        order = candidate.provider.order(candidate.model, x, NOW_S, random)
        firsts[next(iter(order.well)).url] += 1
    return {url: count / DRAWS for url, count in firsts.items()}


def agree(candidate: Candidate) -> Standings:
    """What is said of first places, after it was compared to what the balancer does."""
    found = look(candidate)
    real = drawn(candidate, asked())
    for one in found.well:
        assert one.share == pytest.approx(real.get(one.endpoint.url, 0.0), abs=0.04)
    assert sum(one.share for one in found.well) == pytest.approx(1.0)
    return found


# --- the order and the odds ---


def test_the_closest_come_first_and_take_all() -> None:
    found = agree(candidate_for("r1", "r0/z1", "r0/z0"))
    assert urls(found.well) == ["2", "1", "0"]
    assert [one.priority for one in found.well] == [0, 1, 2]
    assert [one.share for one in found.well] == [1.0, 0.0, 0.0]
    assert [one.why for one in found.well] == [
        "same zone, circuit breaker closed",
        "same region, circuit breaker closed",
        "distance not measured, circuit breaker closed",
    ]


def test_equals_are_chosen_by_chance() -> None:
    found = agree(candidate_for("r0", "r0"))
    assert [one.share for one in found.well] == [0.5, 0.5]
    assert all(one.why.endswith("equal, chosen by chance") for one in found.well)


def test_of_two_the_faster_one_is_asked() -> None:
    candidate = candidate_for("r0", "r0")
    takes(candidate.provider.endpoints[0], 2.0)
    takes(candidate.provider.endpoints[1], 0.5)
    found = agree(candidate)
    assert urls(found.well) == ["1", "0"]
    assert [one.why.split("; ")[1] for one in found.well] == [
        "the faster one",
        "slower than the others of its priority",
    ]


def test_of_three_two_are_drawn() -> None:
    candidate = candidate_for("r0", "r0", "r0")
    for endpoint, seconds in zip(candidate.provider.endpoints, (4.0, 1.0, 2.0), strict=True):
        takes(endpoint, seconds)
    found = agree(candidate)
    assert urls(found.well) == ["1", "2", "0"]
    assert [round(one.share, 3) for one in found.well] == [0.667, 0.333, 0.0]


def test_requests_in_flight_count() -> None:
    candidate = candidate_for("r0", "r0")
    candidate.provider.endpoints[0].in_flight = 3
    assert urls(agree(candidate).well) == ["1", "0"]


def test_a_priority_that_lost_too_many_spills_to_the_next() -> None:
    candidate = candidate_for("r0", "r0", "r1")
    breaks(candidate.provider.endpoints[0])
    found = agree(candidate)
    assert [(one.endpoint.url[7], round(one.share, 1)) for one in found.well] == [("1", 0.7), ("2", 0.3)]


@pytest.mark.parametrize(
    ("costs", "shares"),
    [([1.0], [1.0]), ([1.0, 1.19], [0.5, 0.5]), ([1.0, 2.0], [1.0, 0.0]), ([1.0] * 4, [0.25] * 4)],
)
def test_first_shares(costs: list[float], shares: list[float]) -> None:
    assert first_shares(costs) == pytest.approx(shares)


# --- out, and why ---


def test_an_open_breaker_is_out_with_what_happened() -> None:
    candidate = candidate_for("r0", "r0")
    breaks(candidate.provider.endpoints[0])
    (out,) = look(candidate).out
    assert not out.is_in and out.share == 0.0
    assert out.why == "circuit breaker open for 30.0 s more: status 503"
    assert (out.state["breaker"], out.state["open_for_s"]) == ("open", 30.0)


def test_the_request_after_its_time_would_be_the_probe_and_the_next_one_not() -> None:
    candidate = candidate_for("r0")
    (endpoint,) = candidate.provider.endpoints
    breaks(endpoint, NOW_S - 31.0)
    (one,) = look(candidate).well
    assert one.why.endswith("its time over: this request would be the probe")
    assert endpoint.breaker.state == "open"  # and nobody took it
    assert endpoint.breaker.take(NOW_S)
    (out,) = look(candidate).out
    assert out.why == "circuit breaker half open, a probe is under way: status 503"


def test_a_429_parks_for_its_time_and_a_refused_key_without_end() -> None:
    candidate = candidate_for("r0", "r0")
    credential = candidate.provider.credential(asked())
    limited, refused = candidate.provider.endpoints
    limited.parking.park(credential, "m", NOW_S + 3.2)
    refused.refuse(credential, "status 401", NOW_S)
    one, other = look(candidate).out
    assert (one.why, one.state["parked_for_s"]) == ("limited by the provider (429) for 3.2 s more", 3.2)
    assert (other.why, other.state["parked_for_s"]) == (
        "the provider refuses its api_key, until that is replaced or accepted again: status 401",
        None,
    )


def test_failing_health_checks_are_a_reason() -> None:
    candidate = candidate_for("r0")
    candidate.provider.endpoints[0].is_checked_out = True
    (out,) = look(candidate).out
    assert out.why == "its health checks fail, until one succeeds" and out.state["checked_out"]


def test_what_is_said_is_what_every_other_view_says() -> None:
    candidate = candidate_for("r0", "r0", "r0")
    broken, refused, well = candidate.provider.endpoints
    breaks(broken)
    refused.refuse(candidate.provider.credential(asked()), "status 403", NOW_S)
    well.observe("status 500")
    found = look(candidate)
    assert [one.endpoint for one in found.well] == [well]
    assert well.health(NOW_S) == (True, "status 500")
    for out in found.out:
        assert out.endpoint.health(NOW_S) == (False, out.why)


def test_other_regions_are_out_and_so_is_no_region() -> None:
    found = look(candidate_for("r0", "r1", ""), asked(regions=("r1", "r2")))
    assert urls(found.well) == ["1"]
    assert {one.why for one in found.out} == {"not in regions r1, r2 of key a"}
    assert [one.priority for one in found.out] == [None, None]


# --- slow ---


def slow_at(endpoint: Endpoint) -> Slowness:
    late = endpoint.speed("m").late = Slowness(0.1)
    for _ in range(3):
        late.observe(5.0, NOW_S)
    return late


def test_a_target_set_back_is_in_behind_the_others_until_a_probe_is_due() -> None:
    candidate = candidate_for("r0", "r0", p99_budget="100ms")
    late = slow_at(candidate.provider.endpoints[0])
    found = look(candidate)
    assert (urls(found.well), urls(found.slow)) == (["1"], ["0"])
    (one,) = found.slow
    assert one.is_in and one.state["set_back"] and "too often later than its p99 budget" in one.why
    later = standings(candidate, asked(), View("r0", "z0", NOW_S + 4.0, ""))
    assert sorted(urls(later.well)) == ["0", "1"]
    assert late.allows_probe(NOW_S + 4.0)  # and the probe is still there to be taken


def test_a_model_without_a_budget_is_never_set_back() -> None:
    candidate = candidate_for("r0", "r0")
    slow_at(candidate.provider.endpoints[0])
    assert look(candidate).slow == []


def test_looking_at_a_model_does_not_begin_to_know_it() -> None:
    candidate = candidate_for("r0")
    look(candidate)
    assert candidate.provider.endpoints[0].known_speed("m") is None


def test_figures_are_there_once_there_are_some() -> None:
    candidate = candidate_for("r1")
    (endpoint,) = candidate.provider.endpoints
    before = look(candidate).well[0].state
    takes(endpoint, 0.25)
    endpoint.pool.connect_ewma.observe(0.035, NOW_S)
    endpoint.in_flight = 2
    one = look(candidate).well[0]
    assert [before[name] for name in ("first_token_ms", "connect_ms", "in_flight")] == [None, None, 0]
    assert [one.state[name] for name in ("first_token_ms", "connect_ms", "in_flight")] == [250.0, 35.0, 2]
    assert one.why.startswith("35.0 ms away")
