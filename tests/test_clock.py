"""The coarse clock: deadlines, the seconds, and how lag is left out. Time moves when a test says so."""

import itertools

import pytest

from sidecar.clock import NEVER, PERIOD_S, Ticker
from tests.support.manual_clock import ManualClock


class Item:
    """Something with a deadline; `fired` has the ticker's time of each call."""

    def __init__(self, ticker: Ticker, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.fired: list[float] = []
        self._ticker = ticker
        ticker.arm(self)

    def on_deadline(self) -> None:
        self.fired.append(self._ticker.now_s)


class Once(Item):
    """As Item, disarmed when it fires."""

    def on_deadline(self) -> None:
        super().on_deadline()
        self._ticker.disarm(self)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_fires_at_the_first_tick_from_the_deadline_on(clock: ManualClock) -> None:
    item = Once(clock.ticker, clock.now_s + 1.0)
    clock.advance(0.95)
    assert item.fired == []
    clock.advance(0.1)
    (at_s,) = item.fired
    assert 1001.0 <= at_s <= 1001.0 + 2 * PERIOD_S


def test_fires_at_each_tick_until_moved(clock: ManualClock) -> None:
    item = Item(clock.ticker, clock.now_s)
    clock.advance(PERIOD_S)
    clock.advance(PERIOD_S)
    item.deadline_s = NEVER
    clock.advance(10.0)
    assert len(item.fired) == 2


def test_a_moved_deadline_counts_from_its_new_place(clock: ManualClock) -> None:
    item = Once(clock.ticker, clock.now_s + 1.0)
    clock.advance(0.9)
    item.deadline_s = clock.now_s + 1.0
    clock.advance(0.9)
    assert item.fired == []
    clock.advance(0.2)
    assert len(item.fired) == 1


def test_a_disarmed_deadline_does_not_fire(clock: ManualClock) -> None:
    item = Item(clock.ticker, clock.now_s + 1.0)
    clock.ticker.disarm(item)
    clock.advance(5.0)
    assert item.fired == []


def test_a_deadline_may_arm_and_disarm_others(clock: ManualClock) -> None:
    class Chain(Once):
        def on_deadline(self) -> None:
            super().on_deadline()
            made.append(Once(self._ticker, self._ticker.now_s + 1.0))

    made: list[Once] = []
    Chain(clock.ticker, clock.now_s)
    clock.advance(PERIOD_S)
    clock.advance(2.0)
    assert len(made) == 1
    assert len(made[0].fired) == 1


def test_time_the_process_did_not_have_is_left_out(clock: ManualClock) -> None:
    item = Item(clock.ticker, clock.now_s + 1.0)
    clock.now_s += 3600.0
    clock.ticker.tick()
    assert item.fired == []
    assert clock.ticker.now_s == pytest.approx(1000.0 + 2 * PERIOD_S)
    assert clock.ticker.lag_s == pytest.approx(3600.0 - PERIOD_S)


def test_lag_is_of_the_last_tick_only(clock: ManualClock) -> None:
    clock.now_s += 1.0
    clock.ticker.tick()
    clock.advance(PERIOD_S)
    assert clock.ticker.lag_s == pytest.approx(0.0)


def test_a_tick_that_comes_early_is_no_lag(clock: ManualClock) -> None:
    clock.now_s += PERIOD_S / 2
    clock.ticker.tick()
    assert clock.ticker.lag_s == 0.0
    assert clock.ticker.now_s == pytest.approx(1000.0 + PERIOD_S / 2)


def test_calls_what_is_to_be_called_each_tick_and_each_second(clock: ManualClock) -> None:
    ticks: list[float] = []
    seconds: list[float] = []
    clock.ticker.every_tick(ticks.append)
    clock.ticker.every_second(seconds.append)
    clock.advance(10.0)
    assert len(ticks) == 200
    assert 9 <= len(seconds) <= 10
    assert all(1.0 <= later - before < 1.2 for before, later in itertools.pairwise(seconds))
