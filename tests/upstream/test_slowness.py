"""Slow counts as sick: who is set back, what it takes to return."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.upstream.slowness import Slowness

START_S = 1000.0
BUDGET_S = 0.8
LATE_S = 5.0
IN_TIME_S = 0.3


def slow(now_s: float = START_S, open_for_s: float = 30.0) -> Slowness:
    one = Slowness(BUDGET_S, open_for_s)
    observe(one, LATE_S, now_s, times=3)
    assert one.is_set_back(now_s)
    return one


def observe(one: Slowness, first_token_s: float, now_s: float, *, times: int = 1) -> None:
    for _ in range(times):
        one.observe(first_token_s, now_s)


# --- setting back --------------------------------------------------------------------------------------


def test_nothing_known_is_not_slow() -> None:
    assert not Slowness(BUDGET_S).is_set_back(0.0)


def test_two_late_tokens_are_not_enough() -> None:
    one = Slowness(BUDGET_S)
    observe(one, LATE_S, START_S, times=2)
    assert not one.is_set_back(START_S)
    observe(one, LATE_S, START_S)
    assert one.is_set_back(START_S)


def test_the_budget_itself_is_in_time() -> None:
    one = Slowness(BUDGET_S)
    observe(one, BUDGET_S, START_S, times=10)
    assert not one.is_set_back(START_S)


def test_one_in_a_hundred_may_be_late() -> None:
    one = Slowness(BUDGET_S)
    for _ in range(10):
        observe(one, IN_TIME_S, START_S, times=99)
        observe(one, LATE_S, START_S)
    assert not one.is_set_back(START_S)
    observe(one, LATE_S, START_S)
    assert one.is_set_back(START_S)


def test_late_tokens_are_forgotten_after_five_minutes() -> None:
    one = Slowness(BUDGET_S)
    observe(one, LATE_S, START_S, times=2)
    observe(one, LATE_S, START_S + 300.0)
    assert not one.is_set_back(START_S + 300.0)


def test_late_tokens_add_up_within_five_minutes() -> None:
    one = Slowness(BUDGET_S)
    for minute in range(3):
        observe(one, LATE_S, START_S + 60.0 * minute)
    assert one.is_set_back(START_S + 120.0)


# --- returning -----------------------------------------------------------------------------------------


def test_stays_set_back_for_open_for_even_if_probes_are_fast() -> None:
    one = slow()
    observe(one, IN_TIME_S, START_S + 5.0, times=10)
    assert one.is_set_back(START_S + 29.9)
    assert not one.is_set_back(START_S + 30.0)


def test_stays_set_back_until_three_probes_in_a_row_are_in_time() -> None:
    one = slow()
    assert one.is_set_back(START_S + 3600.0)
    observe(one, IN_TIME_S, START_S + 3600.0, times=2)
    assert one.is_set_back(START_S + 3600.0)
    observe(one, IN_TIME_S, START_S + 3600.0)
    assert not one.is_set_back(START_S + 3600.0)


def test_a_late_probe_begins_it_anew() -> None:
    one = slow()
    observe(one, IN_TIME_S, START_S + 20.0, times=2)
    observe(one, LATE_S, START_S + 25.0)
    observe(one, IN_TIME_S, START_S + 31.0, times=3)
    assert one.is_set_back(START_S + 54.9)
    assert not one.is_set_back(START_S + 55.0)


def test_old_late_tokens_do_not_set_it_back_again() -> None:
    one = slow()
    observe(one, IN_TIME_S, START_S + 10.0, times=3)
    assert not one.is_set_back(START_S + 31.0)
    observe(one, LATE_S, START_S + 31.0, times=2)
    assert not one.is_set_back(START_S + 31.0)
    observe(one, LATE_S, START_S + 31.0)
    assert one.is_set_back(START_S + 31.0)


def test_probes_trickle() -> None:
    one = slow()
    probes = 0
    for tick in range(300):
        now_s = START_S + tick / 10
        if one.allows_probe(now_s):
            assert one.allows_probe(now_s)  # looking takes nothing
            one.take_probe(now_s)
            probes += 1
    assert probes == 9  # every 3 s, the first one 3 s after it was set back


def test_probes_are_at_most_one_a_second() -> None:
    one = slow(open_for_s=1.0)
    one.take_probe(START_S + 10.0)
    assert not one.allows_probe(START_S + 10.9)
    assert one.allows_probe(START_S + 11.0)


# --- reload --------------------------------------------------------------------------------------------


def test_another_budget_forgets_what_was_late_under_the_old_one() -> None:
    one = Slowness(BUDGET_S)
    observe(one, LATE_S, START_S, times=2)
    one.configure(6.0, 30.0)
    observe(one, 7.0, START_S)
    assert not one.is_set_back(START_S)


def test_a_reload_keeps_a_set_back_and_its_counts() -> None:
    one = slow()
    one.configure(BUDGET_S, 60.0)
    assert one.is_set_back(START_S)
    counting = Slowness(BUDGET_S)
    observe(counting, LATE_S, START_S, times=2)
    counting.configure(BUDGET_S, 60.0)
    observe(counting, LATE_S, START_S)
    assert counting.is_set_back(START_S + 59.0)


# --- in the long run -----------------------------------------------------------------------------------


def test_a_target_within_its_budget_is_hardly_ever_set_back() -> None:
    source = random.Random(17)
    one = Slowness(BUDGET_S)
    back = 0
    for step in range(50_000):
        now_s = START_S + step / 20
        one.observe(LATE_S if source.random() < 0.002 else IN_TIME_S, now_s)
        back += one.is_set_back(now_s)
    assert back == 0


def test_a_target_that_is_late_half_the_time_does_not_change_places() -> None:
    """50 requests a second, of which a set-back target gets only its probes."""
    source = random.Random(17)
    one = Slowness(BUDGET_S)
    changes = 0
    was_back = False
    for step in range(50 * 600):
        now_s = START_S + step / 50
        is_back = one.is_set_back(now_s)
        changes += is_back != was_back
        was_back = is_back
        if is_back:
            if not one.allows_probe(now_s):
                continue
            one.take_probe(now_s)
        one.observe(LATE_S if source.random() < 0.5 else IN_TIME_S, now_s)
    assert was_back
    assert changes == 1


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=80))
def test_returns_only_after_the_time_and_three_in_time(steps: list[tuple[int, bool]]) -> None:
    one = Slowness(BUDGET_S)
    now_s, late_s, row = START_S, 0.0, 3
    was_back = False
    for gap_s, is_late in steps:
        now_s += gap_s
        is_back = one.is_set_back(now_s)
        if was_back:
            assert is_back == (now_s < late_s + 30.0 or row < 3)
        else:
            assert not is_back
        one.observe(LATE_S if is_late else IN_TIME_S, now_s)
        if is_late:
            late_s, row = now_s, 0
        else:
            row += 1
        was_back = one.is_set_back(now_s)
