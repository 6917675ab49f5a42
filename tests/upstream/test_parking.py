"""Parking: who is left alone until when, and how the provider's words for it are read."""

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.parking import MAX_PARKED, MAX_WAIT_S, Parking, exhausted_for_s, retry_after_s

NOON_S = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


class Head:
    """Header values by name."""

    def __init__(self, **fields: str | bytes) -> None:
        self._fields = {
            name.replace("_", "-").encode(): value.encode() if isinstance(value, str) else value
            for name, value in fields.items()
        }

    def value(self, name: bytes) -> bytes:
        return self._fields.get(name, b"")


# --- who is parked -------------------------------------------------------------------------------------


def test_nothing_is_parked_at_first() -> None:
    assert Parking().until("key", "m", 0.0) == 0.0


def test_a_parked_model_is_free_again_when_its_time_is_over() -> None:
    parking = Parking()
    parking.park("key", "m", 10.0)
    assert parking.until("key", "m", 9.9) == 10.0
    assert parking.until("key", "m", 10.0) == 0.0


def test_other_models_and_credentials_stay_free() -> None:
    parking = Parking()
    parking.park("key", "m", 10.0)
    assert parking.until("key", "other", 0.0) == 0.0
    assert parking.until("other", "m", 0.0) == 0.0


def test_a_refused_credential_is_parked_for_all_models_until_it_changes() -> None:
    parking = Parking()
    parking.refuse("key", 5.0)
    assert parking.until("key", "m", 1e9) == math.inf
    assert parking.until("key", "other", 1e9) == math.inf
    assert parking.until("rotated", "m", 0.0) == 0.0
    assert (parking.is_refused("key"), parking.is_refused("rotated")) == (True, False)


def test_the_last_refusal_is_known() -> None:
    parking = Parking()
    assert parking.refused_s("key") == -math.inf
    for now_s in (5.0, 7.0):
        parking.refuse("key", now_s)
        assert parking.refused_s("key") == now_s


def test_refusals_are_forgotten_and_limits_are_not() -> None:
    parking = Parking()
    parking.forget_refusals()
    parking.refuse("key", 5.0)
    parking.refuse("other", 5.0)
    parking.park("key", "m", 60.0)
    parking.forget_refusals()
    assert parking.until("key", "n", 6.0) == parking.until("other", "m", 6.0) == 0.0
    assert parking.until("key", "m", 6.0) == 60.0
    assert not parking.is_refused("key")


def test_a_refusal_is_no_limit_and_a_limit_no_refusal() -> None:
    parking = Parking()
    parking.refuse("k", 5.0)
    parking.park("k", "m", 60.0)
    parking.park("k", "n", 70.0)
    parking.park("z", "m", 80.0)
    assert parking.limited_until("k", "m") == 60.0
    assert parking.limited_until("k", "other") == 0.0
    assert parking.limits("k", 10.0) == [("m", 60.0), ("n", 70.0)]
    assert parking.limits("k", 65.0) == [("n", 70.0)]
    assert not parking.is_refused("z")


def test_the_longer_time_stands() -> None:
    parking = Parking()
    parking.park("key", "m", 60.0)
    parking.park("key", "m", 1.0)
    assert parking.until("key", "m", 0.0) == 60.0
    parking.refuse("key", 0.0)
    assert parking.until("key", "m", 0.0) == math.inf


def test_a_good_answer_frees() -> None:
    parking = Parking()
    assert not parking.free("key", "m")
    parking.park("key", "m", 60.0)
    parking.park("key", "other", 60.0)
    parking.refuse("key", 0.0)
    assert parking.free("key", "m")
    assert not parking.free("key", "m")
    assert not parking.is_refused("key")
    assert parking.until("key", "m", 0.0) == 0.0
    assert parking.until("key", "other", 0.0) == 60.0


def test_what_is_over_is_dropped() -> None:
    parking = Parking()
    for end_s in range(1, 11):
        parking.park("key", f"m{end_s}", float(end_s))
    parking.refuse("bad", 0.0)
    parking.expire(0.5)
    assert len(parking) == 11
    parking.expire(5.0)
    assert len(parking) == 6
    parking.expire(1e9)
    assert len(parking) == 1
    parking.park("key", "m", 2e9)
    parking.expire(3e9)
    assert len(parking) == 1


def test_what_ends_by_itself_is_told() -> None:
    told: list[float] = []
    parking = Parking(told.append)
    parking.park("key", "m", 2.0)
    parking.park("key", "n", 3.0)
    parking.refuse("key", 0.0)
    for now_s in (1.0, 2.0, 2.5, 3.0, 4.0):
        parking.expire(now_s)
    assert told == [2.0, 3.0]


def test_memory_is_bounded_and_the_first_to_end_go_first() -> None:
    parking = Parking()
    parking.refuse("bad", 0.0)
    for end_s in range(1, MAX_PARKED + 1):
        parking.park("key", f"m{end_s}", float(end_s))
    assert len(parking) <= MAX_PARKED
    assert parking.until("key", "m1", 0.0) == 0.0
    assert parking.until("key", f"m{MAX_PARKED}", 0.0) == MAX_PARKED
    assert parking.until("bad", "m", 0.0) == math.inf


def test_parking_again_makes_no_room_when_it_is_full() -> None:
    parking = Parking()
    for index in range(MAX_PARKED):
        parking.park("key", f"m{index}", 10.0)
    parking.park("key", "m0", 20.0)
    assert len(parking) == MAX_PARKED


# --- retry-after ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("120", 120.0),
        ("86400", MAX_WAIT_S),
        ("9" * 400, MAX_WAIT_S),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("sun, 06 nov 1994 08:49:47 gmt", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", MAX_WAIT_S),
        ("", None),
        ("-1", None),
        ("-0.5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("1_000", None),
        ("0x10", None),
        ("5s", None),
        ("5, 6", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1700 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994", None),
        ("1994-11-06T08:49:47Z", None),
        ("\u0661", None),
    ],
)
def test_retry_after_is_read(value: str, expected: float | None) -> None:
    assert retry_after_s(Head(retry_after=value), NOON_S) == expected


@pytest.mark.parametrize(
    ("ms", "seconds", "expected"),
    [
        ("250", "9", 0.25),
        ("0.5", "", 0.0005),
        ("500000", "", MAX_WAIT_S),
        ("-1", "9", 9.0),
        ("garbage", "9", 9.0),
        ("garbage", "", None),
    ],
)
def test_milliseconds_go_before_seconds_where_they_can_be_read(
    ms: str, seconds: str, expected: float | None
) -> None:
    assert retry_after_s(Head(retry_after_ms=ms, retry_after=seconds), NOON_S) == expected


@given(ms=st.binary(max_size=40), seconds=st.binary(max_size=60))
def test_no_header_makes_it_wait_forever_or_fail(ms: bytes, seconds: bytes) -> None:
    wait_s = retry_after_s(Head(retry_after_ms=ms, retry_after=seconds), NOON_S)
    assert wait_s is None or 0.0 <= wait_s <= MAX_WAIT_S


@given(st.from_regex(rb"[a-z]{3,9},? \d\d[ -][a-z]{3}[ -](\d{4}|\d\d) \d\d:\d\d:\d\d gmt", fullmatch=True))
def test_no_date_makes_it_wait_forever_or_fail(date: bytes) -> None:
    wait_s = retry_after_s(Head(retry_after=date), NOON_S)
    assert wait_s is None or 0.0 <= wait_s <= MAX_WAIT_S


@given(st.integers(0, 120))
def test_a_date_says_the_same_as_seconds(ahead_s: int) -> None:
    date = formatdate(NOON_S + ahead_s, usegmt=True)
    assert retry_after_s(Head(retry_after=date), NOON_S) == ahead_s


# --- x-ratelimit-* -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", MAX_WAIT_S),
        ("1m30s", 90.0),
        ("1m0.5s", 60.5),
        ("20ms", 0.02),
        ("12MS", 0.012),
        ("1h", MAX_WAIT_S),
        ("1d", MAX_WAIT_S),
        ("7.5", 7.5),
        ("0", 0.0),
        ("1300000030", 30.0),
        ("1299999999", 0.0),
        ("", 1.0),
        ("later", 1.0),
        ("-5s", 1.0),
        ("5s later", 1.0),
    ],
)
def test_resets_are_read(reset: str, expected: float) -> None:
    head = Head(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests=reset)
    assert exhausted_for_s(head, 1300000000.0) == pytest.approx(expected)


@pytest.mark.parametrize("remaining", ["", "1", "100", "-1", "none"])
def test_what_is_left_or_not_said_is_no_reason_to_wait(remaining: str) -> None:
    head = Head(x_ratelimit_remaining_requests=remaining, x_ratelimit_reset_requests="9s")
    assert exhausted_for_s(head, NOON_S) is None


def test_each_limit_has_its_own_reset_and_the_longer_counts() -> None:
    head = Head(
        x_ratelimit_remaining_requests="12",
        x_ratelimit_reset_requests="90s",
        x_ratelimit_remaining_tokens="0",
        x_ratelimit_reset_tokens="6ms",
    )
    assert exhausted_for_s(head, NOON_S) == pytest.approx(0.006)
    both = Head(
        x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="2s",
        x_ratelimit_remaining_tokens="0",
        x_ratelimit_reset_tokens="1s",
    )
    assert exhausted_for_s(both, NOON_S) == 2.0


@given(st.binary(max_size=40))
def test_no_reset_makes_it_wait_forever_or_fail(reset: bytes) -> None:
    head = Head(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens=reset)
    wait_s = exhausted_for_s(head, NOON_S)
    assert wait_s is not None
    assert 0.0 <= wait_s <= MAX_WAIT_S
