"""The token bucket: exact to one token, on any clock."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.buckets import MAX_DEBT, Bucket

START_S = 1000.0
NS = 1e-9

rates = st.integers(1, 5_000_000)
# Whole nanoseconds of a monotonic clock, up to three weeks of uptime.
clock_ns = st.integers(0, 2_000_000_000_000_000)


def seconds(ns: int) -> float:
    return ns / 1e9


def take_all(bucket: Bucket, now_s: float) -> int:
    taken = 0
    while bucket.take(now_s):
        taken += 1
    return taken


# --- taking ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "capacity"), [(50, 50), (3000, 100), (7, 1), (1, 60)])
def test_a_full_bucket_lets_its_capacity_through_and_then_one_per_interval(rate: int, capacity: int) -> None:
    bucket = Bucket(rate, capacity)
    assert take_all(bucket, START_S) == capacity
    interval_s = 60 / rate
    for number in range(1, 200):
        assert not bucket.take(START_S + number * interval_s - 10 * NS)
        # Two more each time: of a bucket for one token, what comes late is lost.
        assert bucket.take(START_S + number * (interval_s + 2 * NS))


def test_an_idle_hour_fills_it_once() -> None:
    bucket = Bucket(60, 10)
    assert take_all(bucket, START_S) == 10
    assert take_all(bucket, START_S + 3600.0) == 10


def test_it_takes_all_or_nothing() -> None:
    bucket = Bucket(60, 10)
    assert bucket.take(START_S, 7)
    assert not bucket.take(START_S, 4)
    assert bucket.remaining(START_S) == 3
    assert bucket.take(START_S, 3)


def test_more_than_it_can_hold_is_never_taken() -> None:
    bucket = Bucket(60, 10)
    assert not bucket.take(START_S, 11)
    assert bucket.wait_s(START_S, 11) == math.inf
    assert bucket.remaining(START_S) == 10


def test_steps_of_a_nanosecond_add_up_to_no_token_too_many() -> None:
    bucket = Bucket(6_000_000, 1)  # one in 10 µs
    taken = sum(bucket.take(START_S + step * 1e-9) for step in range(100_001))
    assert taken == 11


@given(rate=rates, capacity=st.integers(1, 40), readings=st.lists(clock_ns, min_size=1, max_size=60))
def test_no_order_of_clock_readings_lets_one_too_many_through(
    rate: int, capacity: int, readings: list[int]
) -> None:
    """At most the capacity and what the time between the lowest and the highest reading refills."""
    bucket = Bucket(rate, capacity)
    taken = sum(take_all(bucket, seconds(ns)) for ns in readings for _ in range(2))
    span_ns = max(readings) - min(readings)
    assert taken <= capacity + Fraction(span_ns * rate, 60_000_000_000)


@given(
    rate=st.integers(1, 10_000),
    capacity=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(-5_000_000_000, 20_000_000_000), st.integers(1, 20)), max_size=60),
)
def test_every_window_of_a_clock_that_steps_keeps_to_the_rate(
    rate: int, capacity: int, steps: list[tuple[int, int]]
) -> None:
    bucket = Bucket(rate, capacity)
    now_ns = 10**12
    taken: list[tuple[int, int]] = []
    for step_ns, amount in steps:
        now_ns = max(0, now_ns + step_ns)
        if bucket.take(seconds(now_ns), amount):
            taken.append((now_ns, amount))
    for first, (begin_ns, _) in enumerate(taken):
        total = 0
        for end_ns, amount in taken[first:]:
            total += amount
            assert total <= capacity + Fraction((end_ns - begin_ns) * rate, 60_000_000_000)


@given(rate=rates, capacity=st.integers(1, 1000), start_ns=clock_ns, amount=st.integers(1, 1000))
def test_after_the_wait_it_told_a_caller_gets_its_tokens_and_not_before(
    rate: int, capacity: int, start_ns: int, amount: int
) -> None:
    bucket = Bucket(rate, capacity)
    now_s = seconds(start_ns)
    bucket.take(now_s, capacity)
    wait_s = bucket.wait_s(now_s, amount)
    if amount > capacity:
        assert wait_s == math.inf
        return
    assert not bucket.take(now_s + wait_s - 2 * NS, amount)
    assert bucket.take(now_s + wait_s, amount)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = Bucket(60, 10)
    assert take_all(bucket, START_S) == 10
    assert take_all(bucket, START_S - 500.0) == 0
    assert take_all(bucket, START_S) == 0
    assert take_all(bucket, START_S + 2.0) == 2


# --- giving back and owing -------------------------------------------------------------------------------


def test_what_is_given_back_can_be_taken_at_once() -> None:
    bucket = Bucket(60, 10)
    take_all(bucket, START_S)
    bucket.give_back(4)
    assert take_all(bucket, START_S) == 4


def test_giving_back_never_overfills() -> None:
    bucket = Bucket(60, 10)
    assert bucket.take(START_S, 5)
    bucket.give_back(5)
    bucket.give_back(500)
    assert bucket.remaining(START_S) == 10
    assert take_all(bucket, START_S) == 10
    assert take_all(bucket, START_S + 1.0) == 1


def test_what_is_given_back_late_does_not_count_beside_the_refill() -> None:
    bucket = Bucket(60, 10)
    take_all(bucket, START_S)
    bucket.give_back(0)
    assert bucket.remaining(START_S + 8.0) == 8
    bucket.give_back(9)
    assert take_all(bucket, START_S + 8.0) == 10


def test_a_debt_is_paid_off_before_anything_is_taken() -> None:
    bucket = Bucket(60, 10)
    assert bucket.take(START_S, 10)
    bucket.charge(START_S, 5)
    assert bucket.remaining(START_S) == 0
    assert bucket.reset_s(START_S) == 15.0
    assert bucket.wait_s(START_S) == 6.0
    assert not bucket.take(START_S + 1.0, 0)
    assert not bucket.take(START_S + 5.9)
    assert bucket.take(START_S + 6.0)


def test_a_debt_is_bounded() -> None:
    bucket = Bucket(60, 10)
    for _ in range(3):
        bucket.charge(START_S, 10**15)
    assert bucket.wait_s(START_S, 10) == (1 + MAX_DEBT) * 10.0
    bucket.charge(START_S - 100.0, 1)  # an earlier clock does not forgive what is owed
    assert bucket.wait_s(START_S, 10) == (1 + MAX_DEBT) * 10.0


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 50), st.integers(0, 80)), max_size=40),
)
def test_what_is_used_keeps_to_the_rate_however_it_was_reserved(
    rate: int, requests: list[tuple[int, int, int]]
) -> None:
    """Reserved, then settled at once: the last request may be in debt, what went before it is within."""
    bucket = Bucket(rate, 50)
    now_ns = 10**12
    used = 0
    for gap_ns, reserved, actual in requests:
        now_ns += gap_ns
        if not bucket.take(seconds(now_ns), reserved):
            continue
        assert used + reserved <= 50 + Fraction((now_ns - 10**12) * rate, 60_000_000_000)
        used += actual
        if actual < reserved:
            bucket.give_back(reserved - actual)
        else:
            bucket.charge(seconds(now_ns), actual - reserved)


# --- what it says ----------------------------------------------------------------------------------------


def test_it_says_what_is_left_and_when_it_is_full() -> None:
    bucket = Bucket(50, 50)
    assert (bucket.remaining(START_S), bucket.reset_s(START_S)) == (50, 0.0)
    assert bucket.is_full(START_S)
    bucket.take(START_S, 20)
    assert (bucket.remaining(START_S), bucket.reset_s(START_S)) == (30, 24.0)
    assert bucket.remaining(START_S + 1.19) == 30
    assert bucket.remaining(START_S + 1.2) == 31
    assert not bucket.is_full(START_S + 23.9)
    assert bucket.is_full(START_S + 24.0)


def test_there_is_no_wait_for_what_is_there() -> None:
    bucket = Bucket(60, 10)
    assert bucket.wait_s(START_S, 10) == 0.0
    bucket.take(START_S, 9)
    assert bucket.wait_s(START_S) == 0.0
    assert bucket.wait_s(START_S, 3) == 2.0


# --- a reload --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "capacity", "left"), [(120, 20, 10), (6, 1, 0), (60, 1000, 500)])
def test_other_figures_keep_the_share_that_is_left(rate: int, capacity: int, left: int) -> None:
    bucket = Bucket(60, 10)
    bucket.take(START_S, 5)
    bucket.configure(rate, capacity, START_S)
    assert bucket.remaining(START_S) == left
    assert bucket.reset_s(START_S) == pytest.approx((capacity / 2) / rate * 60)


def test_a_debt_stays_a_debt() -> None:
    bucket = Bucket(60, 10)
    bucket.charge(START_S, 15)
    bucket.configure(600, 100, START_S)
    assert bucket.wait_s(START_S, 0) == 5.0


@given(st.lists(st.tuples(rates, st.integers(1, 1000)), max_size=20), st.integers(0, 1000))
def test_reloads_back_and_forth_give_nothing(figures: list[tuple[int, int]], taken: int) -> None:
    bucket = Bucket(1000, 1000)
    bucket.take(START_S, taken)
    reset_s = bucket.reset_s(START_S)
    for rate, capacity in figures:
        bucket.configure(rate, capacity, START_S)
    bucket.configure(1000, 1000, START_S)
    assert bucket.reset_s(START_S) >= reset_s
    assert bucket.remaining(START_S) <= 1000 - taken
