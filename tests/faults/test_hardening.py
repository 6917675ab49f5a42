"""Faults under load, a selection at the small profile; `python -m tests.faults` has them all."""

import pytest

from tests.faults import one_by_one, under_load
from tests.faults.case import Case
from tests.faults.load import FAST, LoadTrial

# What can be told in a few seconds, and covers errors, silence, lost regions and lost everything.
SELECTED = {number: under_load.TRIALS[number] for number in (3, 6, 12, 13, 14)} | one_by_one.TRIALS


@pytest.mark.parametrize("trial", [SELECTED[number] for number in sorted(SELECTED)], ids=lambda t: t.__name__)
async def test_callers_notice_as_little_as_they_can(trial: LoadTrial) -> None:
    case = Case()
    await trial(case, FAST)
    if case.skipped:
        pytest.skip(case.skipped)
    assert case.checks
    assert case.failures == []


def test_there_are_fourteen() -> None:
    assert sorted(under_load.TRIALS | one_by_one.TRIALS) == list(range(1, 15))
