"""Tokens of a prompt, guessed from its bytes and corrected by what providers report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.exchange import Usage
from sidecar.usage.estimator import MAX_MODELS, MAX_RATIO, MIN_RATIO, Estimator, as_delivered
from tests.support.documents import figures


def test_a_token_is_four_bytes_until_somebody_says_otherwise() -> None:
    assert Estimator().estimate("m", 400) == 100
    assert Estimator().estimate("m", 401) == 101


def test_there_is_at_least_one_token() -> None:
    assert Estimator().estimate("m", 0) == 1


def test_the_estimate_follows_what_is_reported() -> None:
    estimator = Estimator()
    for _ in range(60):
        estimator.observe("m", 1000, 500)
    assert 498 <= estimator.estimate("m", 1000) <= 501
    assert estimator.estimate("another", 1000) == 250


@pytest.mark.parametrize("lie", [1, 10**6, 10**18, 10**400])
def test_one_lie_does_not_turn_the_estimate(lie: int) -> None:
    estimator = Estimator()
    for _ in range(60):
        estimator.observe("m", 1000, 250)
    estimator.observe("m", 1000, lie)
    assert 200 <= estimator.estimate("m", 1000) <= 700


def test_a_report_of_nothing_teaches_nothing() -> None:
    estimator = Estimator()
    for input_tokens, body_bytes in ((0, 100), (-5, 100), (100, 0)):
        estimator.observe("m", body_bytes, input_tokens)
    assert estimator.estimate("m", 400) == 100


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**30)), max_size=50))
def test_an_estimate_stays_within_bounds_whatever_is_reported(reports: list[tuple[int, int]]) -> None:
    estimator = Estimator()
    for body_bytes, input_tokens in reports:
        estimator.observe("m", body_bytes, input_tokens)
    assert 1000 * MIN_RATIO <= estimator.estimate("m", 1000) <= 1000 * MAX_RATIO + 1


def test_models_without_end_do_not_fill_the_memory() -> None:
    estimator = Estimator()
    for index in range(MAX_MODELS + 50):
        estimator.observe(f"m{index}", 1000, 1000)
    assert len(estimator._ratios) == MAX_MODELS
    assert estimator.estimate("m0", 1000) == 250
    assert estimator.estimate(f"m{MAX_MODELS}", 1000) > 250


# --- streams ---


@pytest.mark.parametrize(
    ("told", "events", "tokens", "is_estimate"),
    [
        (None, 21, (30, 21, 0, 0), True),
        (None, 0, (30, 0, 0, 0), True),
        (Usage(1000, 300), 3, (1000, 300, 0, 0), False),
        (Usage(1000, 3), 3, (1000, 3, 0, 0), False),
        # Anthropic's first event has the input and one token of the output.
        (Usage(1000, 1, 900), 40, (1000, 40, 900, 0), True),
    ],
)
def test_a_stream_that_did_not_tell_all_has_had_a_token_for_each_event_at_least(
    told: Usage | None, events: int, tokens: tuple[int, ...], is_estimate: bool
) -> None:
    usage, is_guessed = as_delivered(told, events, tokens_in=30)
    assert (figures(usage), is_guessed) == (tokens, is_estimate)
