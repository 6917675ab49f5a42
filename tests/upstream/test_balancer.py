"""Averages that remember peaks and forget with time, and the choice between endpoints by cost."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.balancer import DECAY_S, UNKNOWN_S, Ewma, choose, default_of

SECONDS = st.floats(0.001, 100.0)


def averaged(*samples: tuple[float, float]) -> Ewma:
    """An average after these samples: at which second, what."""
    ewma = Ewma()
    for at_s, seconds in samples:
        ewma.observe(seconds, at_s)
    return ewma


# --- the average ----------------------------------------------------------------------------------------


def test_an_unknown_endpoint_is_taken_for_the_default() -> None:
    assert Ewma().value(100.0, 0.7) == 0.7


def test_the_first_sample_is_the_average() -> None:
    assert averaged((0.0, 0.3)).value(0.0, 1.0) == pytest.approx(0.3)


def test_a_slow_answer_counts_at_once() -> None:
    assert averaged((0.0, 0.2), (0.1, 5.0)).value(0.1, 1.0) == pytest.approx(5.0)


def test_a_fast_answer_counts_by_the_time_since_the_last() -> None:
    barely = averaged((0.0, 5.0), (0.1, 0.2)).value(0.1, 1.0)
    mostly = averaged((0.0, 5.0), (3 * DECAY_S, 0.2)).value(3 * DECAY_S, 1.0)
    assert 4.9 < barely < 5.0
    assert 0.2 < mostly < 0.5


def test_what_is_not_a_peak_can_be_blended_in() -> None:
    ewma = Ewma()
    ewma.blend(0.02, 0.0)
    ewma.blend(1.0, 0.1)
    assert ewma.value(0.1, 0.02) < 0.03


@pytest.mark.parametrize("known", [0.1, 9.0])
def test_silence_brings_an_endpoint_back_to_its_peers(known: float) -> None:
    ewma = averaged((0.0, known))
    distances = [abs(ewma.value(at_s, 1.0) - 1.0) for at_s in (0.0, 10.0, 30.0, 300.0)]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] == pytest.approx(abs(known - 1.0) / 2.718281828)
    assert distances[3] < 0.001


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    assert averaged((10.0, 2.0), (10.0, 1.0), (5.0, 1.0)).value(0.0, 1.0) == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0, 1000), SECONDS), min_size=1), SECONDS, st.floats(0, 2000))
def test_stays_between_what_was_seen_and_the_default(
    samples: list[tuple[float, float]], default: float, now_s: float
) -> None:
    seen = [seconds for _, seconds in samples]
    value = averaged(*sorted(samples)).value(now_s, default)
    assert min(*seen, default) * 0.999 <= value <= max(*seen, default) * 1.001


def test_the_default_is_the_median_of_the_peers_that_are_known() -> None:
    peers = [averaged((0.0, 0.2)), Ewma(), averaged((0.0, 0.4)), averaged((0.0, 9.0))]
    assert default_of(peers) == pytest.approx(0.4)
    assert default_of([Ewma()]) == default_of([]) == UNKNOWN_S


# --- the choice -----------------------------------------------------------------------------------------


def shares(costs: list[float], seed: int, count: int = 20_000) -> list[float]:
    """How often each candidate, by its place in `costs`, is chosen."""
    chance = random.Random(seed).random
    places = range(len(costs))
    chosen = Counter(choose(places, costs.__getitem__, chance) for _ in range(count))
    return [chosen[place] / count for place in places]


def test_one_candidate_is_chosen_without_asking_its_cost() -> None:
    assert choose(["only"], lambda _: pytest.fail("asked"), random.random) == "only"


def test_of_two_the_cheaper_is_always_chosen() -> None:
    assert shares([2.0, 1.0], seed=1) == [0.0, 1.0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [2, 3, 7])
def test_equals_take_turns(seed: int, count: int) -> None:
    assert shares([1.0] * count, seed) == pytest.approx([1 / count] * count, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [3, 4, 8])
def test_each_is_chosen_as_often_as_two_random_picks_leave_it_the_cheaper(seed: int, count: int) -> None:
    pairs = count * (count - 1) / 2
    expected = [(count - 1 - rank) / pairs for rank in range(count)]
    assert shares([1.5**rank for rank in range(count)], seed) == pytest.approx(expected, abs=0.02)
    assert expected[-1] == 0.0


@given(st.lists(SECONDS, min_size=2, max_size=9), st.integers())
def test_the_most_expensive_is_never_chosen(costs: list[float], seed: int) -> None:
    worst = max(costs)
    if sum(cost >= 0.8 * worst for cost in costs) == 1:  # none is its equal
        chosen = choose(range(len(costs)), costs.__getitem__, random.Random(seed).random)
        assert costs[chosen] < worst


def test_load_follows_speed() -> None:
    """The in-flight count alone would give one twice as fast twice as much, speed squares it at most."""
    chance = random.Random(5).random
    first_token_s = [0.2, 0.4, 0.4]
    in_flight: list[list[float]] = [[], [], []]
    served = [0, 0, 0]
    for step in range(20_000):
        now_s = step * 0.01
        in_flight = [[end_s for end_s in ends if end_s > now_s] for ends in in_flight]
        costs = [(len(ends) + 1) * speed_s for ends, speed_s in zip(in_flight, first_token_s, strict=True)]
        place = choose(range(3), costs.__getitem__, chance)
        in_flight[place].append(now_s + first_token_s[place])
        served[place] += 1
    assert 2.0 < served[0] / served[1] < 4.0
    assert served[1] / served[2] == pytest.approx(1.0, rel=0.1)
