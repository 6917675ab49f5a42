"""The retry budget, the free move and the jitter."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.retry import RetryBudget, free_move, jitter_s

START_S = 1000.0


def spend_all(budget: RetryBudget, now_s: float) -> int:
    spent = 0
    while budget.try_spend(now_s):
        spent += 1
    return spent


def count(budget: RetryBudget, requests: int, now_s: float) -> None:
    for _ in range(requests):
        budget.requests += 1
        budget.advance(now_s)


def test_a_fifth_of_the_requests_may_be_tried_again() -> None:
    budget = RetryBudget()
    count(budget, 1000, START_S)
    assert spend_all(budget, START_S) == 200


def test_a_quiet_caller_has_three_tries_a_second() -> None:
    assert spend_all(RetryBudget(), START_S) == 30  # of ten seconds


def test_what_was_spent_comes_back_after_the_span() -> None:
    budget = RetryBudget()
    assert spend_all(budget, START_S) == 30
    assert not budget.try_spend(START_S + 8.9)
    assert spend_all(budget, START_S + 10.0) == 30


def test_requests_of_long_ago_give_no_credit() -> None:
    budget = RetryBudget()
    count(budget, 1000, START_S)
    assert spend_all(budget, START_S + 10.0) == 30


def test_without_share_and_floor_nothing_is_tried_again() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=0.0)
    count(budget, 100, START_S)
    assert not budget.try_spend(START_S)


def test_a_reload_changes_the_share_and_keeps_the_counts() -> None:
    budget = RetryBudget()
    count(budget, 1000, START_S)
    assert spend_all(budget, START_S) == 200
    budget.configure(0.5)
    assert spend_all(budget, START_S) == 300


def test_when_everything_fails_the_load_grows_by_a_fifth_at_most() -> None:
    """300 requests a second for a minute, each of which wants two more tries."""
    budget = RetryBudget()
    attempts = 0
    for step in range(300 * 60):
        now_s = START_S + step / 300
        budget.requests += 1
        budget.advance(now_s)
        attempts += 1 + budget.try_spend(now_s) + budget.try_spend(now_s)
    assert attempts <= 1.2 * 300 * 60 + 30


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), max_size=40))
def test_no_try_goes_beyond_share_and_floor_of_the_span(steps: list[tuple[float, int]]) -> None:
    budget = RetryBudget()
    now_s = START_S
    requests: list[float] = []
    spent: list[float] = []
    for gap_s, number in steps:
        now_s += gap_s
        count(budget, number, now_s)
        requests += [now_s] * number
        spent_now = spend_all(budget, now_s)
        spent += [now_s] * spent_now
        if spent_now:
            # Slices make the span nine to ten seconds: counted so that the bound holds for both.
            recent_requests = sum(when_s > now_s - 10.0 for when_s in requests)
            recent_spent = sum(when_s > now_s - 9.0 for when_s in spent)
            assert recent_spent <= max(0.2 * recent_requests, 30.0)


@pytest.mark.parametrize(("share", "is_free"), [(0.0, True), (0.099, True), (0.1, False), (1.0, False)])
def test_a_move_to_a_healthy_target_is_free(share: float, is_free: bool) -> None:
    assert free_move(share) is is_free


@pytest.mark.parametrize(("attempt", "longest_s"), [(1, 0.075), (2, 0.175), (3, 0.25), (1000, 0.25)])
def test_jitter_is_spread_from_25_ms_to_a_growing_bound(attempt: int, longest_s: float) -> None:
    assert jitter_s(attempt, lambda: 0.0) == 0.025
    assert jitter_s(attempt, lambda: 1.0) == pytest.approx(longest_s)
    source = random.Random(17)
    drawn = [jitter_s(attempt, source.random) for _ in range(2000)]
    assert sum(drawn) / 2000 == pytest.approx((0.025 + longest_s) / 2, rel=0.05)
