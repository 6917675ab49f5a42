"""Windows follow the UTC calendar, to the second."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.windows import window_at


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "begins", "ends"),
    [
        ("hour", "2026-11-18T10:59:59", "2026-11-18T10:00:00", "2026-11-18T11:00:00"),
        ("hour", "2026-11-18T11:00:00", "2026-11-18T11:00:00", "2026-11-18T12:00:00"),
        ("day", "2026-11-18T23:59:59", "2026-11-18T00:00:00", "2026-11-19T00:00:00"),
        ("day", "2028-02-28T12:00:00", "2028-02-28T00:00:00", "2028-02-29T00:00:00"),
        ("month", "2026-11-01T00:00:00", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
    ],
)
def test_a_window_is_that_of_the_calendar(window: str, now: str, begins: str, ends: str) -> None:
    assert window_at(window, at(now)) == (at(begins), at(ends))


def test_the_last_moment_belongs_to_the_window_that_ends() -> None:
    end_s = at("2026-12-01T00:00:00")
    for window in ("hour", "day", "month"):
        assert window_at(window, math.nextafter(end_s, 0.0))[1] == end_s
        assert window_at(window, end_s)[0] == end_s


def test_never_has_no_end() -> None:
    assert window_at("never", at("2026-11-18T10:00:00")) == (0.0, math.inf)


@given(st.sampled_from(["hour", "day", "month"]), st.floats(0, 4e9))
def test_each_moment_is_in_its_window_and_windows_meet(window: str, now_s: float) -> None:
    begin_s, end_s = window_at(window, now_s)
    assert begin_s <= now_s < end_s
    assert window_at(window, begin_s) == (begin_s, end_s)
    assert window_at(window, end_s)[0] == end_s
