"""Days and times: what is read, what is shown, and the seconds they stand for."""

import math

import pytest

from sidecar.config.dump import redacted
from sidecar.config.instants import end_s, parse_instant, show_instant, start_s
from sidecar.config.schema import json_schema
from tests.config.support import MINIMAL, config_of, problems_of

DAY_S = 86400


@pytest.mark.parametrize(
    ("text", "begins_s", "ends_s"),
    [
        ("1970-01-01", 0, DAY_S),
        ("2027-01-31", 1_801_353_600, 1_801_353_600 + DAY_S),
        ("2028-02-29", 1_835_395_200, 1_835_395_200 + DAY_S),
        ("2027-01-31T18:00:00Z", 1_801_418_400, 1_801_418_400),
        ("2027-01-31 18:00:00", 1_801_418_400, 1_801_418_400),
        ("2027-01-31T18:00:00+02:00", 1_801_411_200, 1_801_411_200),
        ("9999-12-31", 253_402_214_400, 253_402_214_400 + DAY_S),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200, -62_135_647_200),
    ],
)
def test_a_day_lasts_to_its_end_and_a_time_is_utc(text: str, begins_s: float, ends_s: float) -> None:
    instant = parse_instant(text)
    assert (start_s(instant), end_s(instant)) == (begins_s, ends_s)


def test_nothing_said_is_always() -> None:
    assert (start_s(None), end_s(None)) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "raw",
    ["soon", "", "2027", "2027-13-01", "2027-02-29", "20270131", "2027-W05-7", "2027-01-31\n", 2027, None],
)
def test_what_is_no_day_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a date such as 2027-01-31"):
        parse_instant(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "18:00:00",
        "2027-01-31T25:00:00Z",
        "2027-01-31T18:00",
        "2027-01-31T18:00:00 CET",
        "2027-01-31T18:00:00+99:00",
    ],
)
def test_what_is_no_time_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as 2027-01-31T18:00:00Z"):
        parse_instant(raw)


@pytest.mark.parametrize("text", ["2027-01-31", "2027-01-31T18:00:00Z", "2027-01-31T18:00:00+02:00"])
def test_what_is_shown_is_read_back(text: str) -> None:
    assert show_instant(parse_instant(text)) == text


def test_the_dump_and_the_schema_know_both() -> None:
    entry = f"{{id: a, hash: 'blake2b:{'0' * 128}', not_before: 2027-01-31, expires: '2027-03-01 12:00:00'}}"
    (shown,) = redacted(config_of(f"{MINIMAL}keys: [{entry}]"))["keys"]
    assert (shown["not_before"], shown["expires"]) == ("2027-01-31", "2027-03-01T12:00:00Z")
    (expires, _) = json_schema()["$defs"]["Key"]["properties"]["expires"]["anyOf"]
    assert expires["examples"] == ["2027-01-31", "2027-01-31T18:00:00Z"]


def test_a_bad_time_is_named_by_its_field() -> None:
    entry = f"{{id: a, hash: 'blake2b:{'0' * 128}', not_before: 18:00:00}}"
    assert list(problems_of(f"{MINIMAL}keys: [{entry}]")) == ["keys[0].not_before"]
