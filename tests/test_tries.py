"""The walk of one request over its targets."""

from random import Random

import orjson
import pytest

from sidecar.attempt import DIFFERENT
from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Exchange, RequestHead
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from sidecar.tries import Target, Tries
from sidecar.upstream.verdict import (
    BAD_CREDENTIAL,
    CALLERS,
    EXHAUSTED,
    FULL,
    GOOD,
    LIMITED,
    OURS,
    REFUSED,
    SERVER_FAILED,
    SILENT,
    STALE,
    TOO_LONG,
    Verdict,
)
from tests.routing.support import asking
from tests.support.running import ENVIRON, config_for

A, B, C = (f"http://{name}.example/v1" for name in "abc")
NOW_S = 1000.0


def tries_for(*urls: str, attempts: int = 3, **sections: object) -> Tries:
    tree = config_for(
        *urls, provider={"retry": {"attempts": attempts}}, locality={"region": "r0"}, **sections
    )
    for index, endpoint in enumerate(tree["providers"]["p"]["endpoints"]):
        endpoint["region"] = f"r{index}"
    tree["providers"]["p"].pop("circuit_breaker")
    tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": C}]}
    runtime = Runtime(Ticker(lambda: NOW_S), Metrics("0"), "t")
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    plan = runtime.snapshot.router.plan(*asking("m"))
    assert plan is not None
    return Tries(plan, Exchange(None, 0.0, RequestHead()), Random(1))  # type: ignore[arg-type]


def first(tries: Tries) -> Target:
    target = tries.first(NOW_S)
    assert target is not None
    return target


def walk(tries: Tries) -> list[str]:
    """The URLs that are tried while each one fails."""
    target: Target | None = first(tries)
    seen = []
    while target is not None:
        seen.append(target.endpoint.url)
        target = tries.following(target, SERVER_FAILED, NOW_S)
    return seen


OTHER_MODEL = {"m": {"provider": "p", "fallback": ["n"]}, "n": {"provider": "q"}}


def test_the_other_endpoints_come_before_the_same_one_again() -> None:
    assert walk(tries_for(A, B)) == [A, B, B]


def test_an_only_endpoint_is_tried_once_more_after_a_pause() -> None:
    tries = tries_for(A)
    target = tries.following(first(tries), SERVER_FAILED, NOW_S)
    assert target is not None and target.endpoint.url == A
    assert 0.025 <= tries.wait_s <= 0.25
    assert tries.following(target, SERVER_FAILED, NOW_S) is None


def test_the_last_try_is_kept_for_another_model() -> None:
    assert walk(tries_for(A, B, models=OTHER_MODEL)) == [A, B, C]


def test_silence_is_not_asked_again() -> None:
    tries = tries_for(A)
    assert tries.following(first(tries), SILENT, NOW_S) is None


def test_attempts_bound_all_tries() -> None:
    assert len(walk(tries_for(A, B, attempts=2, models=OTHER_MODEL))) == 2


# --- what was not sent ---


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_full_queue_is_left_for_another_provider_and_was_no_try(attempts: int) -> None:
    tries = tries_for(A, B, attempts=attempts, models=OTHER_MODEL)
    target = tries.following(first(tries), FULL, NOW_S)
    assert target is not None and target.endpoint.url == C
    assert (tries.used, tries.wait_s) == (1, 0.0)
    assert (tries.following(target, SERVER_FAILED, NOW_S) is None) == (attempts == 1)


def test_the_models_of_a_full_provider_are_passed_over_whichever_they_are() -> None:
    models = {
        "m": {"provider": "p", "fallback": ["n", "o"]},
        "n": {"provider": "p"},
        "o": {"provider": "q"},
    }
    for urls in ((A,), (A, B)):
        tries = tries_for(*urls, models=models)
        target = tries.following(first(tries), FULL, NOW_S)
        assert target is not None and target.candidate.model == "o"


def test_where_every_queue_is_full_nothing_was_tried() -> None:
    tries = tries_for(A, B, models=OTHER_MODEL)
    target = tries.following(first(tries), FULL, NOW_S)
    assert target is not None
    assert tries.following(target, FULL, NOW_S) is None
    assert tries.used == 0


def test_a_full_queue_after_a_failure_passes_over_the_endpoint_that_was_to_be_next() -> None:
    tries = tries_for(A, B, attempts=5, models=OTHER_MODEL)
    second = tries.following(first(tries), SERVER_FAILED, NOW_S)
    assert second is not None and second.endpoint.url == B
    third = tries.following(second, FULL, NOW_S)
    assert third is not None and third.endpoint.url == C
    assert tries.used == 2


def test_going_on_from_a_full_queue_costs_no_budget() -> None:
    tries = tries_for(A, models=OTHER_MODEL)
    target = first(tries)
    budget = target.candidate.provider.budget
    while budget.try_spend(NOW_S):
        pass
    assert tries.following(target, FULL, NOW_S) is not None


def test_what_could_not_be_dialled_from_here_is_tried_at_the_next_endpoint() -> None:
    tries = tries_for(A, B, attempts=1)
    target = tries.following(first(tries), EXHAUSTED, NOW_S)
    assert target is not None and target.endpoint.url == B
    assert tries.used == 1
    assert tries.following(target, EXHAUSTED, NOW_S) is None


@pytest.mark.parametrize("verdict", [FULL, EXHAUSTED])
def test_a_probe_that_was_not_sent_may_be_made_by_the_next_request(verdict: Verdict) -> None:
    tries = tries_for(A)
    breaker = first(tries).endpoint.breaker
    for _ in range(5):
        breaker.record(False, NOW_S, began_s=NOW_S)
    later_s = NOW_S + 60
    target = tries.first(later_s)
    assert target is not None and target.is_probe and not breaker.allows(later_s)
    tries.score(target, verdict, later_s)
    assert breaker.allows(later_s)
    assert (breaker.failure_share(later_s), tries.failed) == (0, ())


def test_a_request_too_long_goes_nowhere_without_a_model_for_it() -> None:
    tries = tries_for(A, B)
    assert tries.following(first(tries), TOO_LONG, NOW_S) is None


def test_a_broken_endpoint_is_left_out() -> None:
    tries = tries_for(A, B)
    target = first(tries)
    for _ in range(5):
        target.endpoint.breaker.record(False, NOW_S, began_s=NOW_S)
    again = tries.first(NOW_S)
    assert again is not None and again.endpoint.url == B


@pytest.mark.parametrize(("serves_others", "failures"), [(True, 0), (False, 1)])
def test_a_request_that_fails_where_others_succeed_is_charged_to_nobody(
    serves_others: bool, failures: int
) -> None:
    tries = tries_for(A, B)
    one = first(tries)
    two = tries.following(one, SERVER_FAILED, NOW_S)
    assert two is not None
    for target in (one, two):
        tries.score(target, SERVER_FAILED, NOW_S + 1)
        target.endpoint.last_success_s = NOW_S + 2 if serves_others else 0.0
    tries.settle(NOW_S + 3)
    assert [t.endpoint.breaker.failure_share(NOW_S + 3) for t in (one, two)] == [failures] * 2


def test_a_failure_is_scored_once_the_next_outcome_is_known() -> None:
    tries = tries_for(A, B)
    one = first(tries)
    tries.score(one, SERVER_FAILED, NOW_S)
    assert one.endpoint.breaker.failure_share(NOW_S) == 0
    two = tries.following(one, SERVER_FAILED, NOW_S)
    assert two is not None
    tries.score(two, GOOD, NOW_S)
    assert one.endpoint.breaker.failure_share(NOW_S) == 1


# --- what failed ---


@pytest.mark.parametrize(
    ("verdict", "has_begun", "reason", "is_charged"),
    [
        (SERVER_FAILED, False, "server_error", True),
        (SERVER_FAILED, True, "cut", True),
        (REFUSED, False, "connection", True),
        (STALE, False, "connection", True),
        (SILENT, False, "timeout", True),
        (SILENT, True, "timeout", True),
        (LIMITED, False, "rate_limited", True),
        (BAD_CREDENTIAL, False, "credential", True),
        (TOO_LONG, False, "context_too_long", False),
        (DIFFERENT, True, "cut", False),
    ],
)
def test_a_try_that_came_to_nothing_is_taken_down_with_its_place(
    verdict: Verdict, has_begun: bool, reason: str, is_charged: bool
) -> None:
    tries = tries_for(A, B)
    target = first(tries)
    target.error, target.has_begun = "what happened", has_begun
    tries.score(target, verdict, NOW_S)
    (failed,) = tries.failed
    assert (failed.place, failed.endpoint) == (("m", "p", "r0"), A)
    assert (failed.reason, failed.error, failed.is_charged) == (reason, "what happened", is_charged)


@pytest.mark.parametrize("verdict", [GOOD, CALLERS, OURS])
def test_an_answer_and_what_nobody_sent_are_no_failed_tries(verdict: Verdict) -> None:
    tries = tries_for(A)
    tries.score(first(tries), verdict, NOW_S)
    assert tries.failed == ()


def test_the_last_of_two_endpoints_is_not_left_out_for_longer_while_the_other_refuses_the_key() -> None:
    tries = tries_for(A, B)
    one = first(tries)
    provider = one.candidate.provider
    assert provider.has_other(one.endpoint, NOW_S)
    other = next(e for e in provider.endpoints if e is not one.endpoint)
    other.refuse(other.own_credential, "status 401", NOW_S)
    assert not provider.has_other(one.endpoint, NOW_S)
    other.free(other.own_credential, "m", NOW_S)
    other.is_checked_out = True
    assert not provider.has_other(one.endpoint, NOW_S)
