"""Which endpoints are the closest, how load spills from priority to priority, and in which order to try."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.locality import (
    ASK_AGAIN_S,
    REMEASURE_S,
    Localities,
    Panic,
    allowed,
    loads,
    order,
    pick_priority,
    priorities,
)
from sidecar.upstream.pool import Address
from tests.support.manual_clock import ManualClock

TICKER = ManualClock().ticker


def endpoint(name: str, region: str = "", zone: str = "", connect_s: float | None = None) -> Endpoint:
    """An endpoint that is never dialled, `connect_s` away."""
    made = Endpoint(name, Address(name, 80, None), name, "/v1", region, zone, TICKER)
    if connect_s is not None:
        made.pool.connect_ewma.blend(connect_s, 0.0)
    return made


def names(levels: list[list[Endpoint]]) -> list[list[str]]:
    return [[e.url for e in level] for level in levels]


NEAR = endpoint("near", "us", "us-a")
BESIDE = endpoint("beside", "us", "us-b")
FAR = endpoint("far", "eu", "us-a", connect_s=0.1)
NOWHERE = endpoint("nowhere", connect_s=0.2)


# --- priorities -----------------------------------------------------------------------------------------


def sort(*endpoints: Endpoint, region: str = "us", zone: str = "us-a") -> list[list[str]]:
    return names(Localities(endpoints, region, zone).levels)


def test_same_zone_then_same_region_then_elsewhere_by_connect_time() -> None:
    assert sort(NOWHERE, FAR, BESIDE, NEAR) == [["near"], ["beside"], ["far"], ["nowhere"]]


def test_without_a_zone_the_region_is_one_priority() -> None:
    assert sort(NEAR, FAR, BESIDE, zone="") == [["near", "beside"], ["far"]]


def test_without_a_region_all_are_elsewhere() -> None:
    assert sort(NEAR, NOWHERE, region="", zone="us-a") == [["nowhere"], ["near"]]


@pytest.mark.parametrize(
    ("times", "levels"),
    [
        ([0.100, 0.119], [["0", "1"]]),
        ([0.100, 0.121], [["0"], ["1"]]),
        ([0.001, 0.0059], [["0", "1"]]),  # on one continent 20 % is nothing
        ([0.001, 0.0061], [["0"], ["1"]]),
        ([0.3, 0.1, 0.11], [["1", "2"], ["0"]]),
        ([0.100, 0.115, 0.130], [["0", "1"], ["2"]]),  # equality is measured from the closest, not chained
        ([None, 0.3, None], [["1"], ["0", "2"]]),
        ([None, None], [["0", "1"]]),
    ],
)
def test_connect_times_that_are_nearly_equal_are_one_priority(
    times: list[float | None], levels: list[list[str]]
) -> None:
    assert sort(*(endpoint(str(i), connect_s=s) for i, s in enumerate(times))) == levels


def test_sorts_anew_when_a_time_has_moved_and_only_then() -> None:
    one, two = endpoint("one", connect_s=0.1), endpoint("two", connect_s=0.2)
    localities = Localities([one, two], "us", "")
    before = localities.levels
    one.pool.connect_ewma.estimate = 0.109
    localities.refresh()
    assert localities.levels is before
    one.pool.connect_ewma.estimate = 0.5
    assert names(localities.levels) == [["one"], ["two"]]
    localities.refresh()
    assert names(localities.levels) == [["two"], ["one"]]


def test_does_not_flap_at_the_edge_of_equality() -> None:
    one, two = endpoint("one", connect_s=0.1), endpoint("two", connect_s=0.118)
    localities = Localities([one, two], "us", "")
    seen = []
    for estimate in (0.1195, 0.1205, 0.1195, 0.1205):
        two.pool.connect_ewma.estimate = estimate
        localities.refresh()
        seen.append(len(localities.levels))
    assert seen == [1, 1, 1, 1]


@given(st.lists(st.none() | st.floats(0.0001, 2.0), min_size=1, max_size=8))
def test_every_endpoint_has_one_place(times: list[float | None]) -> None:
    endpoints = [endpoint(str(i)) for i in range(len(times))]
    known = {e: s for e, s in zip(endpoints, times, strict=True) if s is not None}
    levels = priorities(endpoints, "us", "us-a", known)
    assert sorted(e.url for level in levels for e in level) == sorted(e.url for e in endpoints)
    assert all(levels)
    slowest = [max(known.get(e, 9.0) for e in level) for level in levels]
    assert slowest == sorted(slowest)


# --- distances to measure -------------------------------------------------------------------------------


def test_names_what_is_unmeasured_or_was_measured_long_ago() -> None:
    fresh, old, new = endpoint("fresh"), endpoint("old", connect_s=0.1), endpoint("new")
    fresh.pool.connect_ewma.blend(0.1, REMEASURE_S)
    localities = Localities([fresh, old, new, NEAR], "us", "")
    assert localities.to_measure(REMEASURE_S) == [old, new]
    assert localities.to_measure(REMEASURE_S + ASK_AGAIN_S - 1.0) == []
    new.pool.connect_ewma.blend(0.1, REMEASURE_S + 1.0)
    assert localities.to_measure(REMEASURE_S + ASK_AGAIN_S) == [old]  # its dial failed, it seems


def test_has_nothing_to_measure_where_there_is_nothing_to_order() -> None:
    assert Localities([NEAR, BESIDE, endpoint("only")], "us", "").to_measure(1e6) == []


# --- residency ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "regions", "passes"),
    [
        ("eu", (), True),
        ("", (), True),
        ("eu", ("eu", "us"), True),
        ("eu", ("us",), False),
        ("", ("us",), False),
        ("", ("",), False),
    ],
)
def test_residency_is_a_hard_filter(region: str, regions: tuple[str, ...], passes: bool) -> None:
    assert allowed(region, regions) is passes


def test_levels_within_a_residency_have_no_gaps_and_follow_a_change() -> None:
    localities = Localities([NEAR, BESIDE, FAR, NOWHERE], "us", "us-a")
    assert names(localities.within(())) == [["near"], ["beside"], ["far"], ["nowhere"]]
    assert names(localities.within(("eu",))) == [["far"]]
    assert localities.within(("eu",)) is localities.within(("eu",))
    assert localities.within(("ap",)) == []
    other = endpoint("other", "eu", connect_s=0.01)
    localities = Localities([FAR, other], "us", "us-a")
    assert names(localities.within(("eu",))) == [["other"], ["far"]]
    other.pool.connect_ewma.estimate = 1.0
    localities.refresh()
    assert names(localities.within(("eu",))) == [["far"], ["other"]]


# --- spilling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("healthy", "load"),
    [
        # The tables of Envoy's documentation of priority levels, in percent.
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([25, 25], [50, 50]),
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
        ([25, 25, 20], [36, 36, 28]),
    ],
)
def test_spills_as_envoy_does(healthy: list[int], load: list[int]) -> None:
    total = [100] * len(healthy)
    assert [100 * share for share in loads(healthy, total)] == pytest.approx(load, abs=1.0)
    chance = random.Random(7).random
    picked = Counter(pick_priority(healthy, total, chance) for _ in range(20_000))
    assert [picked[i] / 200 for i in range(len(load))] == pytest.approx(load, abs=1.5)


def test_one_of_four_lost_moves_nothing_two_of_four_move_a_third() -> None:
    assert loads([3, 1], [4, 1]) == [1.0, 0.0]
    assert loads([2, 1], [4, 1]) == pytest.approx([0.7, 0.3])
    assert pick_priority([5, 1], [7, 1], lambda: 0.999999) == 0


def test_picks_nothing_where_nothing_is_healthy() -> None:
    assert pick_priority([0, 0], [3, 1], random.random) is None
    assert pick_priority([], [], random.random) is None
    assert loads([0, 0], [3, 1]) == [0.0, 0.0]


@given(
    st.lists(st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1),
    st.floats(0, 1, exclude_max=True),
)
def test_loads_sum_to_one_and_only_the_healthy_are_picked(
    priorities_: list[tuple[int, int]], at: float
) -> None:
    healthy, total = [h for h, _ in priorities_], [t for _, t in priorities_]
    assert sum(loads(healthy, total)) == pytest.approx(1.0 if any(healthy) else 0.0)
    picked = pick_priority(healthy, total, lambda: at)
    assert (picked is None) is (not any(healthy))
    if picked is not None:
        assert healthy[picked] > 0


# --- the order to try -----------------------------------------------------------------------------------

A, B, C, D, E = (endpoint(name) for name in "abcde")
COST = {A: 1.0, B: 2.0, C: 3.0, D: 1.0, E: 2.0}


def tried(
    levels: list[list[Endpoint]],
    out: set[Endpoint] | None = None,
    chance: Callable[[], float] = lambda: 0.0,
) -> str:
    """The names in the order to try."""
    out = out or set()
    return "".join(e.url for e in order(levels, lambda e: e not in out, COST.__getitem__, chance))


def test_tries_its_own_priority_by_cost_and_then_the_following() -> None:
    assert tried([[B, A], [E, D]]) == "abde"


def test_what_is_out_is_not_tried() -> None:
    assert tried([[A, B], [D, E]], out={A, D}, chance=lambda: 0.0) == "be"
    assert tried([[A, B], [D, E]], out={A, B}) == "de"
    assert tried([[A]], out={A}) == tried([]) == ""


def test_a_spilled_request_comes_back_to_the_closest_when_its_own_fail() -> None:
    assert tried([[A, B], [D], [E]], out={A}, chance=lambda: 0.9) == "dbe"


def test_the_chosen_one_need_not_be_the_cheapest_of_all() -> None:
    picks = iter([0.4, 0.9])  # b and c of a, b, c
    assert tried([[A, B, C]], chance=lambda: next(picks)) == "bac"


def test_later_targets_are_judged_when_they_are_needed() -> None:
    out: set[Endpoint] = set()
    attempts = order([[A, B], [D]], lambda e: e not in out, COST.__getitem__, lambda: 0.0)
    assert next(attempts) is A
    out.add(B)
    assert list(attempts) == [D]


@given(
    st.permutations([A, B, C, D, E]),
    st.integers(1, 4),
    st.sets(st.sampled_from([A, B, C, D, E])),
    st.integers(),
)
def test_tries_everything_usable_once(
    endpoints: list[Endpoint], cut: int, out: set[Endpoint], seed: int
) -> None:
    seen = tried([endpoints[:cut], endpoints[cut:]], out, random.Random(seed).random)
    assert sorted(seen) == sorted(e.url for e in endpoints if e not in out)


# --- panic ----------------------------------------------------------------------------------------------


def test_lets_one_request_a_second_through() -> None:
    panic = Panic()
    assert [panic.allows(10.0 + 0.25 * i) for i in range(9)] == [i % 4 == 0 for i in range(9)]


def test_says_how_long_until_the_next_one_without_letting_it_through() -> None:
    panic = Panic()
    assert (panic.wait_s(10.0), panic.wait_s(10.0)) == (0.0, 0.0)
    assert panic.allows(10.0)
    assert [panic.wait_s(at_s) for at_s in (10.0, 10.75, 11.5)] == [1.0, 0.25, 0.0]
