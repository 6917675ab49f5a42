"""The same is logged once a minute, whatever there is of it, in bounded memory."""

from sidecar.log_limit import INTERVAL_S, MAX_KEYS, LogLimit


def test_the_first_is_said_and_the_same_within_a_minute_is_counted() -> None:
    limit = LogLimit()
    assert limit.held("a", 100.0) == 0
    assert [limit.held("a", 100.0 + second) for second in range(int(INTERVAL_S))] == [None] * 60
    assert limit.held("a", 100.0 + INTERVAL_S) == 60
    assert limit.held("a", 101.0 + INTERVAL_S) is None
    assert limit.held("a", 500.0) == 1
    assert limit.held("a", 1000.0) == 0


def test_different_things_do_not_hold_each_other_back() -> None:
    limit = LogLimit()
    assert [limit.held(("shop", owner), 0.0) for owner in ("a", "b", "a", "b")] == [0, 0, None, None]


def test_of_too_many_things_the_oldest_are_forgotten_and_no_more_are_kept() -> None:
    limit = LogLimit()
    for number in range(MAX_KEYS):
        limit.held(number, float(number) / MAX_KEYS)
    limit.held(0, INTERVAL_S)  # said again, so the youngest now
    limit.held("one more", INTERVAL_S)
    assert len(limit._last) == MAX_KEYS
    assert limit.held(0, INTERVAL_S) is None
    assert limit.held(1, INTERVAL_S) == 0
    for number in range(3 * MAX_KEYS):
        limit.held(f"flood {number}", INTERVAL_S)
    assert len(limit._last) == MAX_KEYS
