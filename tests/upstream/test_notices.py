"""What the log says of an endpoint: one line when something is wrong, one when it is back, no flood."""

import logging

import pytest

from sidecar.upstream.notices import BURST, EVERY_S, Notices

NAME = "provider p, endpoint http://a.example/v1 (eu)"
OPEN = {"breaker": "circuit breaker open for 30.0 s more: status 503"}
CHECKS = {"checks": "its health checks fail, until one succeeds"}
WELL: dict[str, str] = {}
START_S = 1000.0


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The lines since the last look, without the name they all begin with."""
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    assert all(text.startswith(f"{NAME}: ") for _, text in lines)
    return [(level, text.removeprefix(f"{NAME}: ")) for level, text in lines]


def test_an_endpoint_that_is_well_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for now_s in range(100):
        notices.tell(NAME, WELL, now_s)
    assert said(caplog) == []


def test_an_outage_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for now_s in (0.0, 0.0, 12.0, 41.0):
        notices.tell(NAME, OPEN, START_S + now_s)
    assert said(caplog) == [("WARNING", OPEN["breaker"])]
    for now_s in (42.0, 43.0):
        notices.tell(NAME, WELL, START_S + now_s)
    assert said(caplog) == [("INFO", "back after 42 s")]


def test_another_trouble_amid_an_outage_is_said_and_the_end_of_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notices = Notices()
    for wrong in (OPEN, OPEN | CHECKS, CHECKS, OPEN | CHECKS, OPEN):
        notices.tell(NAME, wrong, START_S)
    assert said(caplog) == [("WARNING", OPEN["breaker"]), ("WARNING", CHECKS["checks"])]
    notices.tell(NAME, WELL, START_S + 60.0)
    assert said(caplog) == [("INFO", "back after 60 s")]


def test_two_at_once_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    Notices().tell(NAME, OPEN | CHECKS, START_S)
    assert said(caplog) == [("WARNING", f"{OPEN['breaker']}; {CHECKS['checks']}")]


def test_an_endpoint_that_flaps_for_an_hour_is_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for second in range(3600):
        notices.tell(NAME, OPEN, START_S + second)
        notices.tell(NAME, WELL, START_S + second + 0.5)
    lines = said(caplog)
    warnings = [text for level, text in lines if level == "WARNING"]
    assert BURST + 58 <= len(warnings) <= BURST + 60
    assert [level for level, _ in lines] == ["WARNING", "INFO"] * len(warnings)
    assert warnings[BURST - 1] == OPEN["breaker"]
    assert warnings[-1] == f"{OPEN['breaker']} (not logged before: 59)"


def test_an_outage_whose_line_was_held_back_is_said_once_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notices = Notices()
    for turn in range(BURST):
        notices.tell(NAME, OPEN, START_S + turn)
        notices.tell(NAME, WELL, START_S + turn)
    said(caplog)
    for now_s in (10.0, 20.0, EVERY_S - 1.0):
        notices.tell(NAME, OPEN, START_S + now_s)
    assert said(caplog) == []
    notices.tell(NAME, OPEN, START_S + EVERY_S + 1.0)
    assert said(caplog) == [("WARNING", f"{OPEN['breaker']} (not logged before: 1)")]
    notices.tell(NAME, WELL, START_S + 100.0)
    assert said(caplog) == [("INFO", "back after 90 s")]


def test_the_end_of_an_outage_that_was_never_said_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for _ in range(BURST + 1):
        notices.tell(NAME, OPEN, START_S)
        notices.tell(NAME, WELL, START_S)
    assert [level for level, _ in said(caplog)] == ["WARNING", "INFO"] * BURST


def test_a_clock_that_goes_back_gives_no_room(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for turn in range(100):
        now_s = START_S - EVERY_S * (turn % 2)
        notices.tell(NAME, OPEN, now_s)
        notices.tell(NAME, WELL, now_s)
    assert len(said(caplog)) == 2 * BURST
