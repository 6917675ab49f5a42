"""Whom a provider lets a request ask when nobody is well: the last resort, and how long 429s last."""

import orjson
import pytest

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Exchange
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.provider import REFUSED_S, Provider
from tests.routing.support import asking
from tests.support.running import ENVIRON, config_for

NOW_S = 1000.0


def provider_for(count: int) -> Provider:
    tree = config_for(*(f"http://{index}.example/v1" for index in range(count)))
    tree["providers"]["p"]["circuit_breaker"] = {"consecutive_failures": 1}
    runtime = Runtime(Ticker(lambda: NOW_S), Metrics("0"), "t")
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    return runtime.snapshot.providers["p"]


@pytest.fixture
def x() -> Exchange:
    return asking("m")[1]


def refuses(endpoint: Endpoint, now_s: float = NOW_S) -> None:
    endpoint.refuse(endpoint.own_credential, "status 401", now_s)


def limits(endpoint: Endpoint, for_s: float) -> None:
    endpoint.limit(endpoint.own_credential, "m", NOW_S + for_s, NOW_S)


@pytest.mark.parametrize("count", [1, 2])
def test_a_refused_key_is_no_429_with_a_time(x: Exchange, count: int) -> None:
    provider = provider_for(count)
    for endpoint in provider.endpoints:
        refuses(endpoint)
    assert provider.blocked_s(x, "m", NOW_S) is None
    assert provider.refuses_key(x)


def test_the_first_429_that_ends_is_told_where_others_refuse_the_key_or_are_broken(x: Exchange) -> None:
    provider = provider_for(4)
    one, two, three, four = provider.endpoints
    refuses(one)
    limits(two, 7.0)
    limits(three, 5.0)
    four.breaker.record(False, NOW_S)
    assert provider.blocked_s(x, "m", NOW_S) == 5.0


def test_one_that_is_well_is_not_blocked(x: Exchange) -> None:
    provider = provider_for(3)
    refuses(provider.endpoints[0])
    limits(provider.endpoints[1], 5.0)
    assert provider.blocked_s(x, "m", NOW_S) is None


def test_endpoints_that_refuse_the_key_have_their_turn_as_the_last_resort(x: Exchange) -> None:
    provider = provider_for(3)
    for endpoint in provider.endpoints:
        refuses(endpoint)
    probed = []
    for second in range(1, 7):
        asked = provider.last_resort(x, "m", NOW_S + second)
        assert asked is not None
        probed.append(provider.endpoints.index(asked))
        refuses(asked, NOW_S + second)
    assert probed == [0, 1, 2, 0, 1, 2]


def test_the_last_resort_is_one_request_a_second(x: Exchange) -> None:
    provider = provider_for(1)
    refuses(provider.endpoints[0])
    asked = [provider.last_resort(x, "m", NOW_S + step / 10) for step in range(30)]
    assert sum(endpoint is not None for endpoint in asked) == 3


def test_the_last_resort_goes_round_between_a_broken_endpoint_and_one_that_refuses_the_key(
    x: Exchange,
) -> None:
    provider = provider_for(2)
    refusing, broken = provider.endpoints
    refuses(refusing)
    broken.breaker.record(False, NOW_S + 1.0)
    assert provider.probed(x, "m", NOW_S + 2.0) is refusing
    refuses(refusing, NOW_S + 2.0)
    assert provider.probed(x, "m", NOW_S + 3.0) is broken


def test_who_is_limited_is_not_probed_whatever_else_there_is_against_it(x: Exchange) -> None:
    provider = provider_for(1)
    refuses(provider.endpoints[0])
    limits(provider.endpoints[0], 5.0)
    assert provider.probed(x, "m", NOW_S) is None
    assert provider.probed(x, "m", NOW_S + 5.0) is provider.endpoints[0]


def test_whose_checks_fail_comes_after_one_that_refuses_the_key(x: Exchange) -> None:
    provider = provider_for(2)
    provider.endpoints[0].is_checked_out = True
    refuses(provider.endpoints[1])
    assert provider.probed(x, "m", NOW_S) is provider.endpoints[1]


def test_a_refusal_lasts(x: Exchange) -> None:
    provider = provider_for(1)
    refuses(provider.endpoints[0])
    for later_s in (REFUSED_S, 1e12):
        assert not provider.endpoints[0].is_usable(provider.credential(x), "m", NOW_S + later_s)
