"""An endpoint's health: whether requests go there, why not, and what the log is told of it."""

import logging

import pytest

from sidecar.config.model import CircuitBreaker
from sidecar.upstream.endpoint import LIMITS_TOLD_S, Endpoint
from sidecar.upstream.parking import Parking
from tests.support.manual_clock import ManualClock
from tests.support.upstream import endpoint_on

KEY, CALLERS = "digest-of-ours", "digest-of-a-callers"
REFUSED = "the provider refuses its api_key, until that is replaced or accepted again"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def endpoint(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Endpoint:
    """One with a key of its own, which opens at the first failure."""
    caplog.set_level(logging.INFO)
    made = endpoint_on(clock.ticker)
    made.breaker.configure(CircuitBreaker(consecutive_failures=1))
    made.join("p", KEY)
    return made


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log, without the name they all begin with."""
    start = "provider p, endpoint http://provider/v1: "
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.startswith(start) for line in lines)
    return [f"{record.levelname} {record.getMessage().removeprefix(start)}" for record in caplog.records]


def breaks(endpoint: Endpoint, now_s: float, error: str = "status 503") -> None:
    endpoint.observe(error)
    endpoint.breaker.record(False, now_s)


def is_usable(endpoint: Endpoint, now_s: float, model: str = "m", key: str = KEY) -> bool:
    """What the request path sees; it must say the same as `outages`."""
    usable = endpoint.is_usable(key, model, now_s)
    assert usable == all(outage.lets_probe for outage in endpoint.outages(now_s, key, model))
    return usable


def test_one_failure_is_told_and_takes_nobody_out(clock: ManualClock, endpoint: Endpoint) -> None:
    endpoint.breaker.configure(CircuitBreaker())
    breaks(endpoint, clock.now_s)
    assert endpoint.health(clock.now_s) == (True, "status 503")
    assert is_usable(endpoint, clock.now_s)


def test_an_open_breaker_is_out_until_its_probe_has_passed(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    breaks(endpoint, clock.now_s)
    assert endpoint.health(clock.now_s + 10.0) == (False, "circuit breaker open for 20.0 s more: status 503")
    assert not is_usable(endpoint, clock.now_s + 10.0)
    due_s = clock.now_s + 30.0
    said_due = "circuit breaker open, its time over: the next request is the probe: status 503"
    assert endpoint.health(due_s) == (False, said_due)
    assert is_usable(endpoint, due_s)
    assert endpoint.breaker.take(due_s)
    assert endpoint.health(due_s) == (False, "circuit breaker half open, a probe is under way: status 503")
    assert not is_usable(endpoint, due_s)
    endpoint.breaker.record(True, due_s + 2.0, is_probe=True)
    assert endpoint.health(due_s + 2.0)[0] and is_usable(endpoint, due_s + 2.0)
    assert said(caplog) == [
        "WARNING circuit breaker open for 30.0 s more: status 503",
        "INFO back after 32 s",
    ]


def test_an_outage_of_many_probes_is_one_line(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    breaks(endpoint, clock.now_s)
    for turn in range(1, 50):
        now_s = clock.now_s + 30.0 * turn
        assert endpoint.breaker.take(now_s)
        endpoint.breaker.record(False, now_s, is_probe=True)
    assert len(said(caplog)) == 1


def test_failing_checks_are_out_and_told_once(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        endpoint.is_checked_out = True
        clock.advance(10.0)
    assert endpoint.health(clock.now_s) == (False, "its health checks fail, until one succeeds")
    assert not is_usable(endpoint, clock.now_s) and not endpoint.is_well
    for _ in range(2):
        endpoint.is_checked_out = False
    assert endpoint.health(clock.now_s) == (True, "")
    assert [line.split()[0] for line in said(caplog)] == ["WARNING", "INFO"]


def test_a_refused_key_is_out_for_every_model_and_a_good_answer_ends_it(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for later_s in (0.0, 1.0):
        endpoint.refuse(KEY, "status 401", clock.now_s + later_s)
    assert endpoint.health(clock.now_s) == (False, f"{REFUSED}: status 401")
    assert not is_usable(endpoint, clock.now_s) and not is_usable(endpoint, clock.now_s + 1e9, "other")
    assert endpoint.failures == 2
    endpoint.free(KEY, "m", clock.now_s + 5.0)
    assert is_usable(endpoint, clock.now_s + 5.0, "other") and endpoint.is_well
    assert said(caplog) == [f"WARNING {REFUSED}: status 401", "INFO back after 5 s"]


def test_a_key_of_before_that_is_refused_late_says_nothing_of_the_one_in_use(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.refuse(KEY, "status 401", clock.now_s)
    endpoint.join("p", "digest-of-the-next")
    assert endpoint.is_well
    endpoint.refuse(KEY, "status 401", clock.now_s)
    assert endpoint.is_well and endpoint.health(clock.now_s)[0]
    assert [line.split()[0] for line in said(caplog)] == ["WARNING", "INFO"]


def test_what_needs_a_hand_is_said_first_and_all_of_it_must_end(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    breaks(endpoint, clock.now_s)
    endpoint.is_checked_out = True
    endpoint.refuse(KEY, "status 403", clock.now_s)
    assert endpoint.health(clock.now_s) == (False, f"{REFUSED}: status 403")
    endpoint.free(KEY, "m", clock.now_s)
    endpoint.is_checked_out = False
    assert endpoint.health(clock.now_s)[1].startswith("circuit breaker open")
    assert [line.split()[0] for line in said(caplog)] == ["WARNING"] * 3


def test_a_breaker_whose_time_is_over_lets_nobody_by_who_is_parked(
    clock: ManualClock, endpoint: Endpoint
) -> None:
    breaks(endpoint, clock.now_s)
    endpoint.limit(KEY, "m", clock.now_s + 60.0, clock.now_s)
    assert not is_usable(endpoint, clock.now_s + 31.0)
    assert is_usable(endpoint, clock.now_s + 31.0, "other")


# --- limits ---


def test_a_limit_keeps_its_model_away_and_is_told_until_when(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.limit(KEY, "m", clock.now_s + 3.0, clock.now_s)
    assert not is_usable(endpoint, clock.now_s) and is_usable(endpoint, clock.now_s, "other")
    assert endpoint.health(clock.now_s) == (True, "limited by the provider (429): 'm' for 3.0 s more")
    endpoint.limit(KEY, "n", clock.now_s + 3.0, clock.now_s)
    assert endpoint.health(clock.now_s)[1].endswith("'m' for 3.0 s more and 1 more")
    endpoint.parking.expire(clock.now_s + 3.5)
    assert endpoint.health(clock.now_s + 3.5) == (True, "")
    assert said(caplog) == [
        "WARNING limited by the provider (429): 'm' for 3.0 s more",
        "INFO back after 4 s",
    ]


def test_of_limits_of_callers_keys_nothing_is_said(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = endpoint_on(clock.ticker)
    endpoint.join("p", "")
    for key in ("", CALLERS):
        endpoint.limit(key, "m", clock.now_s + 60.0, clock.now_s)
        assert not is_usable(endpoint, clock.now_s, key=key)
    assert endpoint.health(clock.now_s) == (True, "")
    assert said(caplog) == []


def test_a_name_from_a_caller_cannot_make_a_line_of_its_own_or_a_long_one(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.limit(KEY, "evil\nERROR all is lost\u2028" + "x" * 5000, clock.now_s + 3.0, clock.now_s)
    (line,) = said(caplog)
    assert len(line) < 300
    assert len(line.splitlines()) == 1


class CountedParking(Parking):
    """One that counts how often all of it is looked through."""

    looks = 0

    def limits(self, credential: str, now_s: float) -> list[tuple[str, float]]:
        self.looks += 1
        return super().limits(credential, now_s)


def test_a_flood_of_limits_is_looked_through_once_a_second(clock: ManualClock, endpoint: Endpoint) -> None:
    endpoint.parking = parking = CountedParking()
    for step in range(400):
        now_s = clock.now_s + step / 100
        endpoint.limit(KEY, f"m{step}", now_s + 60.0, now_s)
    assert len(parking) == 400
    assert parking.looks == 4 / LIMITS_TOLD_S


def test_limits_that_come_and_go_for_an_hour_are_a_line_a_minute(
    clock: ManualClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(0, 3600, 2):
        now_s = clock.now_s + second
        endpoint.limit(KEY, "m", now_s + 1.0, now_s)
        endpoint.parking.expire(now_s + 1.5)
    assert len(said(caplog)) <= 2 * 63
