"""The fair local share: a fraction of a limit, never nothing and never without end."""

import pytest

from sidecar.fleet.share import Share

START_S = 1000.0


def taken(share: Share, now_s: float) -> int:
    count = 0
    while share.take(now_s, 1):
        count += 1
    return count


def test_it_gives_its_level_and_then_what_comes_back() -> None:
    share = Share(5.0, 5.0, 0.5, START_S)
    assert taken(share, START_S) == 5
    assert taken(share, START_S + 1.9) == 0
    assert taken(share, START_S + 2.0) == 1
    assert taken(share, START_S + 1000.0) == 5


def test_it_begins_with_no_more_than_it_can_hold() -> None:
    assert taken(Share(5.0, 50.0, 0.5, START_S), START_S) == 5
    assert taken(Share(5.0, 2.0, 0.5, START_S), START_S) == 2


def test_one_request_that_is_larger_than_the_share_passes_when_it_is_full_and_is_paid_off() -> None:
    share = Share(5000.0, 5000.0, 100.0, START_S)
    assert share.take(START_S, 8000)
    assert not share.take(START_S + 79.0, 8000)
    assert share.take(START_S + 80.0, 8000)


def test_of_what_does_not_come_back_nothing_is_lent() -> None:
    share = Share(5000.0, 5000.0, 0.0, START_S)
    assert not share.take(START_S, 8000)
    assert share.take(START_S, 5000)
    assert not share.take(START_S + 1e6, 1)


def test_what_is_owed_is_what_has_not_come_back() -> None:
    share = Share(5.0, 5.0, 0.5, START_S)
    assert taken(share, START_S) == 5
    share.refill(START_S + 4.0)
    assert share.owed == pytest.approx(3.0)
    share.refill(START_S + 400.0)
    assert share.owed == 0.0


def test_a_clock_that_steps_back_gives_nothing_twice() -> None:
    share = Share(5.0, 0.0, 1.0, START_S)
    assert taken(share, START_S + 3.0) == 3
    assert taken(share, START_S) == 0
    assert taken(share, START_S + 3.0) == 0
