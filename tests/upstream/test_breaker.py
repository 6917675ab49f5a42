"""The circuit breaker: when it opens, who gets through, how it closes. Times are plain numbers."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.config.model import CircuitBreaker
from sidecar.upstream.breaker import CHANCE, DECAY_S, MAX_OPEN_S, SLICES, Breaker, Tally

START_S = 1000.0


def breaker(**limits: float) -> Breaker:
    return Breaker(CircuitBreaker(**limits))  # type: ignore[arg-type]


def opened(now_s: float = START_S, **limits: float) -> Breaker:
    one = breaker(**limits)
    fail(one, now_s)
    assert state_of(one) == "open"
    return one


def state_of(one: Breaker) -> str:
    """Its state; read through a call, or mypy takes it for what it was found to be before."""
    return one.state


def fail(one: Breaker, now_s: float, *, times: int = 5, is_last: bool = False) -> None:
    for _ in range(times):
        assert not one.take(now_s)
        one.record(False, now_s, is_last=is_last)


def succeed(one: Breaker, now_s: float, *, times: int = 1) -> None:
    for _ in range(times):
        assert not one.take(now_s)
        one.record(True, now_s)


def probe(one: Breaker, ok: bool, now_s: float, *, is_last: bool = False) -> None:
    assert one.take(now_s)
    one.record(ok, now_s, is_probe=True, is_last=is_last)


def relapse(one: Breaker, *, is_last: bool = False) -> float:
    """It comes back and fails again at once; returns when."""
    now_s = one.open_until_s
    probe(one, True, now_s)
    fail(one, now_s, is_last=is_last)
    return now_s


# --- opening -------------------------------------------------------------------------------------------


def test_a_tenth_of_failures_at_two_hundred_a_second_does_not_open_it() -> None:
    """By chance alone five come in a row every few minutes."""
    chance = random.Random(11)
    one = breaker()
    rows = row = 0
    for step in range(200 * 600):
        is_good = chance.random() >= 0.1
        row = 0 if is_good else row + 1
        rows += row == 5
        one.record(is_good, START_S + step / 200)
    assert rows >= 1
    assert one.ejections == 0


def test_an_endpoint_that_dies_after_some_failures_is_left_at_once() -> None:
    one = breaker()
    for step in range(1000):
        one.record(step % 10 != 0, START_S + step / 200)
    for _ in range(10):
        one.record(False, START_S + 5.0)
    assert state_of(one) == "open"


def test_is_closed_at_first() -> None:
    one = breaker()
    assert state_of(one) == "closed"
    assert one.allows(0.0)
    assert not one.take(0.0)


def test_opens_after_failures_in_a_row() -> None:
    one = breaker()
    fail(one, START_S, times=4)
    assert state_of(one) == "closed"
    fail(one, START_S, times=1)
    assert state_of(one) == "open"
    assert one.open_until_s == START_S + 30.0
    assert not one.allows(START_S)


def test_a_success_ends_the_row() -> None:
    one = breaker(min_requests=1000)
    for _ in range(20):
        fail(one, START_S, times=4)
        succeed(one, START_S)
    assert state_of(one) == "closed"


def test_opens_when_half_of_enough_attempts_fail() -> None:
    one = breaker()
    for _ in range(4):
        succeed(one, START_S)
        fail(one, START_S, times=1)
    succeed(one, START_S)
    assert state_of(one) == "closed"  # of nine
    fail(one, START_S, times=1)
    assert state_of(one) == "open"


def test_a_few_failures_among_many_do_not_open_it() -> None:
    source = random.Random(17)
    one = breaker(consecutive_failures=10)
    for step in range(10_000):
        one.record(source.random() >= 0.1, START_S + step / 200)
    assert state_of(one) == "closed"


def test_a_good_past_does_not_outvote_a_second_that_is_half_bad() -> None:
    one = breaker()
    for step in range(900):
        one.record(True, START_S + step / 100)
    for step in range(19):
        one.record(step % 2 == 1, START_S + 9.0 + step / 100)
    assert state_of(one) == "closed"  # of 19 in the new second
    one.record(True, START_S + 9.2)
    one.record(False, START_S + 9.3)
    assert one.failure_share(START_S + 9.3) < 0.02
    assert state_of(one) == "open"


def test_a_few_bad_moments_of_a_quiet_second_are_judged_by_the_whole_window() -> None:
    one = breaker()
    for step in range(30):
        one.record(True, START_S + step / 10)
    for step in range(18):
        one.record(step % 2 == 1, START_S + 3.0 + step / 20)
    assert state_of(one) == "closed"


def test_failures_older_than_the_window_do_not_count() -> None:
    one = breaker(consecutive_failures=100)
    fail(one, START_S, times=9)
    succeed(one, START_S + 10.0)
    fail(one, START_S + 10.0, times=1)
    assert one.failure_share(START_S + 10.0) == 0.5
    assert state_of(one) == "closed"


def test_what_ends_while_it_is_open_changes_nothing() -> None:
    one = opened()
    one.record(False, START_S + 5.0)
    one.record(True, START_S + 5.0)
    assert (state_of(one), one.open_until_s, one.ejections) == ("open", START_S + 30.0, 1)


# --- the probe -----------------------------------------------------------------------------------------


def test_lets_one_probe_through_when_the_time_is_over() -> None:
    one = opened()
    assert not one.allows(START_S + 29.9)
    assert one.allows(START_S + 30.0)
    assert one.allows(START_S + 30.0)  # looking takes nothing
    assert one.take(START_S + 30.0)
    assert state_of(one) == "half_open"
    assert not one.allows(START_S + 31.0)
    assert not one.take(START_S + 31.0)


def test_only_the_probe_decides_while_it_is_under_way() -> None:
    one = opened()
    assert one.take(START_S + 30.0)
    one.record(True, START_S + 31.0)
    one.record(False, START_S + 31.0)
    one.release(START_S + 31.0, False)
    assert state_of(one) == "half_open"
    assert not one.allows(START_S + 31.0)
    one.record(False, START_S + 31.0, is_probe=True)
    assert (state_of(one), one.open_until_s) == ("open", START_S + 60.0)


def test_a_passed_probe_closes_it_with_a_clean_window() -> None:
    one = opened()
    probe(one, True, START_S + 30.0)
    assert state_of(one) == "closed"
    assert one.failure_share(START_S + 30.0) == 0.0
    fail(one, START_S + 30.0, times=4)
    assert state_of(one) == "closed"


def test_a_probe_passes_at_its_first_content() -> None:
    one = opened()
    assert one.take(START_S + 30.0)
    one.pass_probe(START_S + 31.0)
    assert state_of(one) == "closed"
    one.record(False, START_S + 40.0, is_probe=True)  # the stream was cut later: one failure like any other
    assert state_of(one) == "closed"
    fail(one, START_S + 40.0, times=4)
    assert state_of(one) == "open"


def test_a_failed_probe_opens_it_as_long_as_before() -> None:
    one = opened()
    for turn in range(1, 20):
        probe(one, False, START_S + 30.0 * turn)
        assert (state_of(one), one.ejections) == ("open", 1)
        assert not one.allows(START_S + 30.0 * turn + 29.9)
        assert one.allows(START_S + 30.0 * turn + 30.0)


def test_the_next_probe_waits_from_the_beginning_of_the_last() -> None:
    one = opened()
    assert one.take(START_S + 30.0)
    one.record(False, START_S + 50.0, is_probe=True)
    assert not one.allows(START_S + 59.9)
    assert one.allows(START_S + 60.0)


def test_a_probe_that_hung_is_followed_by_the_next_at_once_and_by_one_only() -> None:
    one = opened()
    assert one.take(START_S + 30.0)
    assert not one.allows(START_S + 74.0)
    one.record(False, START_S + 75.0, is_probe=True)
    assert one.allows(START_S + 75.0)
    assert one.take(START_S + 75.0)
    assert not one.allows(START_S + 75.0)


def test_a_probe_without_a_verdict_gives_its_place_back() -> None:
    one = opened()
    assert one.take(START_S + 30.0)
    one.release(START_S + 31.0, True)
    assert one.allows(START_S + 31.0)
    assert one.take(START_S + 31.0)


def test_an_attempt_without_a_verdict_counts_nothing() -> None:
    one = breaker()
    fail(one, START_S, times=4)
    assert not one.take(START_S)
    one.release(START_S, False)
    assert state_of(one) == "closed"
    fail(one, START_S, times=1)
    assert state_of(one) == "open"


def test_a_last_resort_is_a_probe_taken_early() -> None:
    one = opened()
    probe(one, False, START_S + 1.0, is_last=True)
    assert (state_of(one), one.open_until_s, one.ejections) == ("open", START_S + 30.0, 1)
    assert one.take(START_S + 2.0)
    one.release(START_S + 2.0, True)
    assert state_of(one) == "open"
    probe(one, True, START_S + 3.0)
    assert state_of(one) == "closed"


def test_a_last_resort_that_fails_after_the_time_is_over_counts_from_its_beginning() -> None:
    one = opened()
    assert one.take(START_S + 20.0)
    one.record(False, START_S + 31.0, is_probe=True)
    assert (state_of(one), one.open_until_s) == ("open", START_S + 50.0)


def test_attempts_from_before_the_recovery_do_not_open_it_again() -> None:
    one = opened()
    probe(one, True, START_S + 30.0)
    for _ in range(50):
        one.record(False, START_S + 31.0, began_s=START_S + 1.0)
    assert state_of(one) == "closed"
    assert one.failure_share(START_S + 31.0) == 0.0
    for _ in range(5):
        one.record(False, START_S + 31.0, began_s=START_S + 30.0)
    assert state_of(one) == "open"


# --- how long ------------------------------------------------------------------------------------------


def test_ejections_in_a_row_grow_up_to_five_minutes() -> None:
    one = opened()
    lengths = []
    for _ in range(14):
        now_s = relapse(one)
        lengths.append(one.open_until_s - now_s)
    assert lengths == [min(30.0 * n, MAX_OPEN_S) for n in range(2, 16)]
    assert one.ejections == 10  # no more than the time can show


def test_a_longer_open_for_is_its_own_limit() -> None:
    one = opened(open_for_s=400.0)
    now_s = relapse(one)
    assert one.open_until_s == now_s + 400.0


def test_the_last_target_is_not_ejected_for_longer() -> None:
    one = breaker()
    fail(one, START_S, is_last=True)
    assert one.open_until_s == START_S + 30.0
    for _ in range(4):
        now_s = relapse(one, is_last=True)
        assert (one.open_until_s, one.ejections) == (now_s + 30.0, 1)


def test_a_relapse_is_served_in_full_and_then_probed_at_the_usual_pace() -> None:
    one = opened()
    relapse(one)
    now_s = relapse(one)
    assert one.open_until_s == now_s + 90.0
    probe(one, False, now_s + 90.0)
    assert (one.open_until_s, one.ejections) == (now_s + 120.0, 3)


@given(
    outage_s=st.floats(0.0, 3600.0, allow_nan=False),
    open_for_s=st.floats(1.0, 120.0, allow_nan=False),
    gives_up_after_s=st.floats(0.0, 60.0, allow_nan=False),
)
def test_the_way_back_does_not_depend_on_how_long_the_outage_was(
    outage_s: float, open_for_s: float, gives_up_after_s: float
) -> None:
    one = opened(open_for_s=open_for_s)
    healed_s = START_S + outage_s
    now_s = one.open_until_s
    while now_s < healed_s:
        assert one.take(now_s)
        end_s = now_s + gives_up_after_s
        one.record(False, end_s, is_probe=True)
        now_s = max(end_s, one.open_until_s)
    assert one.allows(now_s)
    assert now_s - healed_s <= max(open_for_s, gives_up_after_s) + 1e-6


def test_a_relapse_is_longer_and_health_makes_up_for_it() -> None:
    one = opened()
    probe(one, True, START_S + 30.0)
    fail(one, START_S + 31.0)
    assert (one.ejections, one.open_until_s) == (2, START_S + 91.0)
    probe(one, True, START_S + 91.0)
    succeed(one, START_S + 91.0 + DECAY_S)
    assert one.ejections == 1
    succeed(one, START_S + 91.0 + 2 * DECAY_S)
    assert one.ejections == 0
    fail(one, START_S + 120.0)
    assert one.ejections == 1


def test_ejections_are_forgotten_without_traffic_too() -> None:
    one = opened()
    probe(one, True, START_S + 30.0)
    fail(one, START_S + 30.0 + DECAY_S)
    assert one.ejections == 1


# --- who hears of it -----------------------------------------------------------------------------------


def test_every_opening_closing_and_failed_probe_is_told_and_nothing_else() -> None:
    told: list[tuple[float, str]] = []
    one = Breaker(CircuitBreaker(), lambda now_s: told.append((now_s, state_of(one))))
    succeed(one, START_S)
    fail(one, START_S, times=4)
    assert told == []
    fail(one, START_S + 1.0, times=1)
    one.record(False, START_S + 2.0)  # begun before
    assert one.take(START_S + 31.0)
    one.release(START_S + 32.0, True)
    probe(one, False, START_S + 33.0)
    probe(one, True, START_S + 63.0)
    succeed(one, START_S + 64.0)
    assert told == [(START_S + 1.0, "open"), (START_S + 33.0, "open"), (START_S + 63.0, "closed")]


# --- reload --------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_known() -> None:
    one = opened()
    one.configure(CircuitBreaker(open_for_s=5.0, window_s=60.0))
    assert (state_of(one), one.open_until_s) == ("open", START_S + 30.0)
    probe(one, False, START_S + 30.0)
    assert one.open_until_s == START_S + 35.0


def test_a_reload_that_keeps_the_window_keeps_its_counts() -> None:
    one = breaker()
    fail(one, START_S, times=4)
    one.configure(CircuitBreaker(failure_ratio=0.9))
    assert one.failure_share(START_S) == 1.0
    fail(one, START_S, times=1)
    assert state_of(one) == "open"


# --- the window ----------------------------------------------------------------------------------------


@given(
    steps=st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.booleans()), max_size=60),
    span_s=st.sampled_from([1.0, 10.0, 300.0]),
)
def test_a_tally_counts_what_lies_in_its_slices(steps: list[tuple[float, bool]], span_s: float) -> None:
    tally = Tally(span_s)
    seen: list[tuple[int, bool]] = []
    now_s = START_S
    for gap_s, is_marked in steps:
        now_s += gap_s * span_s / 20
        tally.add(now_s, 1, is_marked)
        current = int(now_s / (span_s / SLICES))
        seen.append((current, is_marked))
        recent = [mark for index, mark in seen if index > current - SLICES]
        assert (tally.total, tally.marked) == (len(recent), sum(recent))
        assert tally.share(now_s) == sum(recent) / len(recent)


def test_a_tally_takes_a_clock_that_is_a_little_behind() -> None:
    tally = Tally(10.0)
    tally.add(START_S, 1, 1)
    tally.add(START_S - 0.05, 1, 0)
    assert tally.share(START_S - 0.05) == 0.5
    assert tally.share(START_S + 10.0) == 0.0


# --- against a reference -------------------------------------------------------------------------------


class Reference:
    """The same rules written down plainly: every attempt is kept, and everything is counted anew."""

    def __init__(self, config: CircuitBreaker) -> None:
        self.config = config
        self.state = "closed"
        self.open_until_s = 0.0
        self.ejections = 0
        self.closed_s = -math.inf
        self.is_probing = False
        self.probed_s = 0.0
        self.row = 0
        self.window: list[tuple[float, bool]] = []

    def take(self, now_s: float) -> bool:
        if self.state == "closed" or self.is_probing:
            return False
        self.state, self.is_probing, self.probed_s = "half_open", True, now_s
        return True

    def record(self, ok: bool, now_s: float, is_probe: bool, is_last: bool) -> None:
        if is_probe:
            self.is_probing = False
            if ok:
                self.state, self.open_until_s, self.row, self.window = "closed", 0.0, 0, []
                self.closed_s = now_s
            else:
                self.state = "open"
                if now_s >= self.open_until_s:
                    self.open_until_s = self.probed_s + self.config.open_for_s
        elif self.state == "closed":
            self.decay(now_s)
            self.row = 0 if ok else self.row + 1
            self.window.append((now_s, ok))
            if not ok and self.is_sick(now_s):
                self.open(now_s, is_last)

    def release(self, now_s: float, is_probe: bool) -> None:
        if is_probe:
            self.is_probing = False
            if now_s < self.open_until_s:
                self.state = "open"

    def is_sick(self, now_s: float) -> bool:
        step_s = self.config.window_s / SLICES
        oldest = int(now_s / step_s) - SLICES + 1
        recent = [ok for when_s, ok in self.window if int(when_s / step_s) >= oldest]
        newest = [ok for when_s, ok in self.window if int(when_s / step_s) == int(now_s / step_s)]
        least, ratio = self.config.min_requests, self.config.failure_ratio
        return (
            (self.row >= self.config.consecutive_failures and not self.is_chance(recent))
            or (len(recent) >= least and recent.count(False) / len(recent) >= ratio)
            or (len(newest) >= 2 * least and newest.count(False) / len(newest) >= ratio)
        )

    def is_chance(self, recent: list[bool]) -> bool:
        """With the share of failures there was before the row, so many attempts are expected to have one."""
        before = recent[: -self.row]
        share = before.count(False) / max(1, len(before))
        return len(before) >= self.config.min_requests and len(before) * share**self.row > CHANCE

    def decay(self, now_s: float) -> None:
        while self.ejections and now_s - self.closed_s >= DECAY_S:
            self.ejections -= 1
            self.closed_s += DECAY_S

    def open(self, now_s: float, is_last: bool) -> None:
        longest_s = max(MAX_OPEN_S, self.config.open_for_s)
        if self.ejections == 0 or (not is_last and self.ejections * self.config.open_for_s < longest_s):
            self.ejections += 1
        self.state = "open"
        self.open_until_s = now_s + min(self.ejections * self.config.open_for_s, longest_s)


class BreakerMachine(RuleBasedStateMachine):
    """Attempts begin, overlap and end in every way; at most one of them is the probe."""

    @initialize(
        consecutive=st.integers(1, 6),
        ratio=st.sampled_from([0.25, 0.5, 1.0]),
        least=st.integers(1, 12),
        open_for_s=st.sampled_from([5.0, 30.0, 125.0]),
    )
    def begin(self, consecutive: int, ratio: float, least: int, open_for_s: float) -> None:
        config = CircuitBreaker(
            consecutive_failures=consecutive, failure_ratio=ratio, min_requests=least, open_for_s=open_for_s
        )
        self.breaker = Breaker(config)
        self.reference = Reference(config)
        self.now_s = START_S
        self.attempts: list[bool] = []  # under way; True for the probe

    # Steps of an eighth are exact in binary: both sides add up the same.
    @rule(eighths=st.integers(0, 400))
    def wait(self, eighths: int) -> None:
        self.now_s += eighths / 8

    @rule()
    def wait_for_the_end_of_the_ejection(self) -> None:
        self.now_s = max(self.now_s, self.reference.open_until_s)

    @rule(count=st.integers(1, 8), is_last_resort=st.booleans())
    def begin_attempts(self, count: int, is_last_resort: bool) -> None:
        for _ in range(count):
            if self.breaker.allows(self.now_s) or is_last_resort:
                is_probe = self.breaker.take(self.now_s)
                assert is_probe == self.reference.take(self.now_s)
                self.attempts.append(is_probe)

    @precondition(lambda self: self.attempts)
    @rule(index=st.integers(0), ok=st.booleans(), is_last=st.booleans())
    def score(self, index: int, ok: bool, is_last: bool) -> None:
        is_probe = self.attempts.pop(index % len(self.attempts))
        self.breaker.record(ok, self.now_s, is_probe=is_probe, is_last=is_last)
        self.reference.record(ok, self.now_s, is_probe, is_last)

    @precondition(lambda self: self.attempts)
    @rule(ok=st.booleans())
    def score_all(self, ok: bool) -> None:
        while self.attempts:
            self.score(0, ok, False)

    @precondition(lambda self: self.attempts)
    @rule(index=st.integers(0))
    def leave(self, index: int) -> None:
        is_probe = self.attempts.pop(index % len(self.attempts))
        self.breaker.release(self.now_s, is_probe)
        self.reference.release(self.now_s, is_probe)

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state == self.reference.state
        assert self.breaker.open_until_s == self.reference.open_until_s

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        assert sum(self.attempts) <= 1
        if self.breaker.state == "half_open" and any(self.attempts):
            assert not self.breaker.allows(self.now_s)

    @invariant()
    def never_stays_out_for_good(self) -> None:
        if not any(self.attempts):
            assert self.breaker.allows(self.now_s + MAX_OPEN_S)


def test_both_take_a_short_row_after_few_failures_for_chance() -> None:
    machine = BreakerMachine()
    machine.begin(consecutive=2, ratio=0.25, least=1, open_for_s=5.0)
    states = []
    for ok in [*[True] * 6, False, *[True] * 4, False, False, False]:
        machine.begin_attempts(count=1, is_last_resort=False)
        machine.score(0, ok, False)
        machine.agrees()
        states.append(state_of(machine.breaker))
    assert states == ["closed"] * 13 + ["open"]  # at last by the ratio: 4 of 14


TestAgainstTheReference = BreakerMachine.TestCase
TestAgainstTheReference.settings = settings(max_examples=150, stateful_step_count=40)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("good_before_s", [0, 20])
def test_a_sick_endpoint_is_out_within_two_seconds(share: float, good_before_s: int) -> None:
    """At 100 requests a second, of which all or half fail; with as many good ones before, or none."""
    source = random.Random(17)
    late = 0
    for _ in range(100):
        one = breaker()
        for step in range(-100 * good_before_s, 0):
            one.record(True, START_S + step / 100)
        for step in range(200):
            one.record(source.random() >= share, START_S + step / 100)
        late += state_of(one) != "open"
    assert late <= 2
