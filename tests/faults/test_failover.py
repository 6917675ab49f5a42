"""Sixteen ways a provider fails, each with what the app must see of it: the whole answer, or the truth."""

import pytest

from tests.faults import before_first_token, mid_stream
from tests.faults.call import ask
from tests.faults.case import Case, Trial
from tests.faults.world import world

TRIALS = {**before_first_token.TRIALS, **mid_stream.TRIALS}


@pytest.mark.parametrize("trial", [TRIALS[number] for number in sorted(TRIALS)], ids=lambda t: t.__name__)
async def test_the_app_sees_the_answer_or_the_truth(trial: Trial) -> None:
    case = Case()
    await trial(case)
    assert case.checks
    assert case.failures == []


def test_there_are_sixteen() -> None:
    assert sorted(TRIALS) == list(range(1, 17))


async def test_the_other_model_is_reached_with_the_default_number_of_attempts() -> None:
    """Two lost regions are what the fallback is for: it may not be out of reach behind their retries."""
    async with world(primary={"retry": {"attempts": 3}}) as here:
        here.set_primary(error_ratio=1.0, error_status=503)
        heard = await ask(here.sidecar.url)
    assert (heard.said, heard.text) == ("", here.answer)
    assert sum(here.attempts) <= 3
