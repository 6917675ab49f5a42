"""For how long and why: what is understood, and what is refused with a hint."""

import pytest

from sidecar.config.break_glass import MAX_PERIOD_S, MAX_REASON, parse_period, parse_reason


def test_a_period_is_a_duration_of_at_most_a_day() -> None:
    assert parse_period("30m") == 1800.0
    assert parse_period("24h") == parse_period("1d") == MAX_PERIOD_S


@pytest.mark.parametrize("raw", ["25h", "1441m", "2d"])
def test_a_period_over_a_day_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=f"{raw} is longer than 1d"):
        parse_period(raw)


@pytest.mark.parametrize("raw", ["", "30", "0s", "-1m", "soon", "1e3s"])
def test_a_bad_period_is_refused(raw: str) -> None:
    with pytest.raises(ValueError):
        parse_period(raw)


@pytest.mark.parametrize("raw", ["x", "региона нет – 停電", "x" * MAX_REASON])
def test_a_reason_is_one_printable_line(raw: str) -> None:
    assert parse_reason(raw) == raw


@pytest.mark.parametrize("raw", [None, 7, "", "  ", "x" * (MAX_REASON + 1), "a\nb", "a\x1b[2Jb", "a\u2028b"])
def test_what_could_break_a_log_line_is_no_reason(raw: object) -> None:
    with pytest.raises(ValueError):
        parse_reason(raw)
