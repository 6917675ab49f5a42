"""The judges themselves: what counts as right, as a lie, as opened and as returned."""

import math
from typing import Any

import pytest

from tests.faults.call import Outcome, call
from tests.faults.case import Case
from tests.faults.load import (
    FAST,
    Record,
    opened_after_s,
    p99_ms,
    region_changes,
    returned_after_s,
    wrong_share,
)
from tests.faults.scorecard import entry, judge, trials
from tests.faults.world import answer_of
from tests.support.demo import demo_provider

TEXT = answer_of(6)


def outcome(at_s: float = 0.0, *, region: str = "near", **facts: Any) -> Outcome:
    """A right answer, asked at that time."""
    headers = {"x-sidecar-attempts": "1", "x-sidecar-region": region}
    whole = Outcome(True, at_s, at_s + 0.5, 0.1, 0.0, 200, headers, TEXT, TEXT, True, "")
    return whole._replace(**facts)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_healthy_answer_is_right(stream: bool) -> None:
    async with demo_provider(knobs={"answer": TEXT}) as provider:
        heard = await call(provider.port, "demo", TEXT, stream=stream)
    assert heard.is_right
    assert heard.first_token_s is not None


@pytest.mark.parametrize("mode", ["reset", "close", "end"])
async def test_a_cut_stream_is_wrong_and_no_lie(mode: str) -> None:
    async with demo_provider(
        knobs={"answer": TEXT, "cut_after_events": 4, "cut_mode": mode, "token_interval_s": 0.002}
    ) as provider:
        heard = await call(provider.port, "demo", TEXT, stream=True)
    assert (heard.is_right, heard.is_lie) == (False, False)
    assert heard.text == answer_of(3)


async def test_another_text_with_a_clean_end_is_a_lie() -> None:
    async with demo_provider(knobs={"answer": TEXT}) as provider:
        heard = await call(provider.port, "demo", answer_of(7), stream=True)
    assert heard.is_lie


async def test_an_error_and_a_closed_port_are_wrong() -> None:
    async with demo_provider(knobs={"error_ratio": 1.0, "error_status": 503}) as provider:
        heard = await call(provider.port, "demo", TEXT, stream=True)
        assert (heard.is_right, heard.status, bool(heard.error)) == (False, 503, True)
    heard = await call(provider.port, "demo", TEXT, stream=True)
    assert (heard.is_right, heard.status) == (False, 0)


def record_of(*outcomes: Outcome) -> Record:
    """A fault from 10 s to 20 s of a run that ends at 30 s."""
    record = Record()
    record.outcomes = list(outcomes)
    record.fault_at, record.heal_at, record.ended_at = 10.0, 20.0, 30.0
    return record


def test_opened_is_when_the_arrivals_stop() -> None:
    record = record_of()
    assert opened_after_s([10.1, 10.4, 10.5, 14.0], record, 2.0) == pytest.approx(0.5)
    assert opened_after_s([10.0 + 0.5 * step for step in range(20)], record, 2.0) == math.inf
    assert opened_after_s([], record, 2.0) == 0.0


def test_returned_is_the_first_answer_at_the_first_try() -> None:
    again = {"x-sidecar-attempts": "2", "x-sidecar-region": "near"}
    record = record_of(outcome(21, region="far"), outcome(22, headers=again), outcome(23))
    assert returned_after_s(record, "near") == 3.0
    assert returned_after_s(record, "nowhere") == math.inf


def test_changes_of_the_leader_are_counted() -> None:
    regions = ["near", "far", "far", "near"]
    moments = [9.6, 12.0, 15.0, 21.0]
    record = record_of(*(outcome(at, region=region) for at, region in zip(moments, regions, strict=True)))
    assert region_changes(record) == 2


def test_shares_and_percentiles() -> None:
    outcomes = [outcome(first_token_s=0.001 * n) for n in range(99)] + [outcome(text="", first_token_s=None)]
    assert wrong_share(outcomes) == 1.0
    assert p99_ms(outcomes) == 500.0


async def test_the_scorecard_says_what_was_missed() -> None:
    async def trial(case: Case) -> None:
        """Something breaks."""
        case.at_most("errors", 3, 1, unit=" %")
        case.at_most("time", 3, 1, timed=True)
        raise OSError("gone")

    case = await judge(trial)
    assert not case.is_passed
    assert case.failures[0] == "errors: 3 % (target ≤ 1 %)"
    assert len(case.failures) == 2
    assert "✗ errors: 3 % (target ≤ 1 %)" in entry("load-1", case, 0.1)
    assert "OSError: gone" in entry("load-1", case, 0.1)


def test_the_scorecard_has_every_fault() -> None:
    assert list(trials(FAST)) == [
        *(f"single-{number}" for number in range(1, 17)),
        *(f"load-{number}" for number in range(1, 15)),
    ]
