"""Budgets: reserved at the worst case, settled at what it cost, never exceeded where worst cases hold."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.model import Config
from sidecar.exchange import NANO_USD
from sidecar.fleet.leases import Leases
from sidecar.policy.balances import Status
from sidecar.policy.budget import MAX_REMEMBERED, Budgets, Reservation
from sidecar.policy.callers import Caller
from sidecar.policy.exceeded import Exceeded
from sidecar.usage.store import Spent
from tests.config.support import config_of
from tests.policy.support import FORWARDING, NOW_S, admitted, bearer, callers_of, keys, listed
from tests.support.redis import fleet_of

CALLERS = callers_of(
    FORWARDING
    + keys(
        listed("ann-key", ", team: red"),
        listed("bob-key", ", team: red"),
        listed("eve-key", ", team: blue"),
        mode="passthrough",
    )
)
HOUR_S = 3600.0
DAY_BEGINS_S = NOW_S - NOW_S % 86400


def caller(key: str) -> Caller:
    return admitted(CALLERS.identify(bearer(key), NOW_S))


ANN, BOB, EVE, NOBODY = caller("ann-key"), caller("bob-key"), caller("eve-key"), caller("unknown")


def config(*budgets: str) -> Config:
    return config_of(f"{FORWARDING}budgets: [{', '.join(f'{{{budget}}}' for budget in budgets)}]")


class Told(list[Status]):
    """What was said of soft limits."""


def budgets_of(*entries: str, told: Told | None = None) -> Budgets:
    return Budgets(config(*entries), (Told() if told is None else told).append)


def usd(dollars: float) -> int:
    return round(dollars * NANO_USD)


def reserved(outcome: Reservation | Exceeded) -> Reservation:
    assert isinstance(outcome, Reservation), outcome
    return outcome


def exceeded(outcome: Reservation | Exceeded) -> Status:
    assert isinstance(outcome, Exceeded)
    return outcome.status


def reserve(
    budgets: Budgets, dollars: float, by: Caller = ANN, model: str = "Pro/x", now_s: float = NOW_S
) -> Reservation | Exceeded:
    return budgets.reserve(by, model, usd(dollars), now_s)


def spend(
    budgets: Budgets, dollars: float, by: Caller = ANN, model: str = "Pro/x", now_s: float = NOW_S
) -> None:
    reserved(reserve(budgets, dollars, by, model, now_s)).settle(usd(dollars), now_s)


def stands(budgets: Budgets, now_s: float = NOW_S) -> dict[tuple[str, str], tuple[float, float]]:
    """Spent and reserved dollars, by budget and whose they are."""
    return {
        (row.name, row.whom): (row.spent_nano_usd / NANO_USD, row.reserved_nano_usd / NANO_USD)
        for row in budgets.status(now_s)
    }


# --- reserve and settle ----------------------------------------------------------------------------------


def test_the_worst_case_is_held_until_what_it_cost_is_known() -> None:
    budgets = budgets_of("name: b, usd: 10")
    first = reserved(reserve(budgets, 6))
    assert stands(budgets) == {("b", "red"): (0, 6)}
    assert exceeded(reserve(budgets, 4.000000001)).reserved_nano_usd == usd(6)
    second = reserved(reserve(budgets, 4))
    first.settle(usd(1), NOW_S)
    second.release()
    assert stands(budgets) == {("b", "red"): (1, 0)}
    reserved(reserve(budgets, 9))


def test_a_limit_is_exact_to_the_nano_dollar() -> None:
    budgets = budgets_of("name: b, usd: 0.000000003")
    for _ in range(3):
        reserved(budgets.reserve(ANN, "m", 1, NOW_S)).settle(1, NOW_S)
    assert exceeded(budgets.reserve(ANN, "m", 1, NOW_S)).spent_nano_usd == 3


def test_only_the_first_end_of_a_reservation_counts() -> None:
    budgets = budgets_of("name: b, usd: 10")
    settled, released = reserved(reserve(budgets, 2)), reserved(reserve(budgets, 2))
    other = reserved(reserve(budgets, 3))
    settled.settle(usd(1), NOW_S)
    released.release()
    for _ in range(2):
        settled.settle(usd(2), NOW_S)
        settled.release()
        released.release()
        released.settle(usd(2), NOW_S)
    assert stands(budgets) == {("b", "red"): (1, 3)}
    other.release()
    assert stands(budgets) == {("b", "red"): (1, 0)}


def test_what_costs_more_than_was_reserved_is_charged_and_the_next_is_refused() -> None:
    budgets = budgets_of("name: b, usd: 10")
    first, second = reserved(reserve(budgets, 5)), reserved(reserve(budgets, 5))
    first.settle(usd(25), NOW_S)
    second.settle(usd(4), NOW_S)
    assert stands(budgets) == {("b", "red"): (29, 0)}
    assert exceeded(budgets.reserve(ANN, "m", 1, NOW_S)).spent_nano_usd == usd(29)


def test_a_cost_below_nothing_gives_nothing_back() -> None:
    budgets = budgets_of("name: b, usd: 10")
    reserved(reserve(budgets, 5)).settle(-usd(100), NOW_S)
    assert stands(budgets) == {("b", "red"): (0, 0)}


def test_what_costs_nothing_goes_on_where_the_limit_is_exceeded() -> None:
    budgets = budgets_of("name: b, usd: 1")
    reserved(reserve(budgets, 1)).settle(usd(2), NOW_S)
    free = reserved(reserve(budgets, 0))
    free.settle(usd(1), NOW_S)
    assert stands(budgets) == {("b", "red"): (3, 0)}


def test_a_model_without_a_price_is_not_counted() -> None:
    budgets = budgets_of("name: b, usd: 1")
    unpriced = reserved(budgets.reserve(ANN, "m", None, NOW_S))
    unpriced.settle(usd(50), NOW_S)
    assert unpriced.nano_usd == 0
    assert stands(budgets) == {}
    assert budgets.has_room(ANN, "m", None, NOW_S)


def test_looking_for_room_holds_and_counts_nothing() -> None:
    budgets = budgets_of("name: b, usd: 1")
    assert budgets.has_room(ANN, "m", usd(1), NOW_S)
    assert not budgets.has_room(ANN, "m", usd(1) + 1, NOW_S)
    assert stands(budgets) == {("b", "red"): (0, 0)}
    assert budgets.counts["b"].exceeded == 0


# --- who and what is counted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        ("team", {"red": 3, "blue": 4, "default-team": 8}),
        ("key", {"ann-key": 1, "bob-key": 2, "eve-key": 4, "": 8}),
        ("all", {"": 15}),
    ],
)
def test_a_budget_counts_per_team_per_key_or_all_together(per: str, expected: dict[str, int]) -> None:
    budgets = budgets_of(f"name: b, usd: 20, per: {per}")
    for dollars, by in ((1, ANN), (2, BOB), (4, EVE), (8, NOBODY)):
        spend(budgets, dollars, by)
    assert stands(budgets) == {("b", whom): (dollars, 0) for whom, dollars in expected.items()}


def test_one_teams_spending_leaves_the_others_alone() -> None:
    budgets = budgets_of("name: b, usd: 1")
    spend(budgets, 1, ANN)
    assert exceeded(reserve(budgets, 1, BOB)).whom == "red"
    reserved(reserve(budgets, 1, EVE))


def test_a_budget_counts_the_models_it_names() -> None:
    budgets = budgets_of('name: pro, usd: 5, models: ["Pro/*", exact]', "name: all, usd: 50")
    spend(budgets, 1, model="Pro/x")
    spend(budgets, 2, model="exact")
    spend(budgets, 4, model="exactly")
    assert stands(budgets) == {("pro", "red"): (3, 0), ("all", "red"): (7, 0)}


def test_a_reservation_stands_in_every_budget_or_in_none() -> None:
    budgets = budgets_of("name: wide, usd: 10", "name: narrow, usd: 3, per: all")
    spend(budgets, 2, ANN)
    assert exceeded(reserve(budgets, 2, EVE)).name == "narrow"
    assert stands(budgets) == {("wide", "red"): (2, 0), ("wide", "blue"): (0, 0), ("narrow", ""): (2, 0)}
    assert (budgets.counts["wide"].exceeded, budgets.counts["narrow"].exceeded) == (0, 1)


def test_of_several_without_room_the_one_that_rejects_is_named_then_the_one_that_resets_last() -> None:
    downgrading = "at_limit: downgrade"
    hour, month = (
        f"name: h, usd: 1, window: hour, {downgrading}",
        f"name: m, usd: 1, window: month, {downgrading}",
    )
    day = "name: d, usd: 1, window: day, at_limit: reject"
    assert exceeded(reserve(budgets_of(hour, month), 2)).name == "m"
    assert exceeded(reserve(budgets_of(month, hour), 2)).name == "m"
    status = exceeded(reserve(budgets_of(hour, day, month), 2))
    assert (status.name, status.at_limit) == ("d", "reject")


def test_it_says_when_there_is_room_again() -> None:
    budgets = budgets_of("name: b, usd: 1, window: day")
    status = exceeded(reserve(budgets, 2))
    assert status.resets_at_unix_s == DAY_BEGINS_S + 86400
    assert status.resets_in_s == DAY_BEGINS_S + 86400 - NOW_S
    assert exceeded(reserve(budgets_of("name: b, usd: 1, window: never"), 2)).resets_in_s == math.inf


def test_models_made_up_by_callers_take_no_memory() -> None:
    budgets = budgets_of('name: b, usd: 1000, models: ["Pro/*"]')
    for number in range(3 * MAX_REMEMBERED):
        spend(budgets, 0.1, model=f"Pro/{number}")
        reserve(budgets, 0.1, model=str(number))
        assert len(budgets._matching) <= MAX_REMEMBERED
    assert stands(budgets) == {("b", "red"): (300, 0)}


# --- windows ---------------------------------------------------------------------------------------------


def test_a_new_window_has_the_whole_limit_again() -> None:
    budgets = budgets_of("name: b, usd: 1, window: hour")
    end_s = NOW_S - NOW_S % HOUR_S + HOUR_S
    spend(budgets, 1)
    exceeded(reserve(budgets, 1, now_s=math.nextafter(end_s, 0.0)))
    assert stands(budgets, end_s) == {("b", "red"): (0, 0)}
    spend(budgets, 1, now_s=end_s)
    exceeded(reserve(budgets, 1, now_s=end_s))


def test_credits_that_do_not_expire_are_spent_once() -> None:
    budgets = budgets_of("name: b, usd: 1, window: never")
    spend(budgets, 1)
    exceeded(reserve(budgets, 1, now_s=NOW_S + 10**9))


def test_what_ends_in_the_next_window_is_held_there_and_charged_there() -> None:
    budgets = budgets_of("name: b, usd: 10, window: hour")
    spend(budgets, 3)
    late = reserved(reserve(budgets, 6))
    next_s = NOW_S + HOUR_S
    assert stands(budgets, next_s) == {("b", "red"): (0, 6)}
    exceeded(reserve(budgets, 5, now_s=next_s))
    spend(budgets, 4, now_s=next_s)
    late.settle(usd(6), next_s)
    assert stands(budgets, next_s) == {("b", "red"): (10, 0)}


def test_the_end_of_a_request_begins_the_window_if_nobody_did() -> None:
    budgets = budgets_of("name: b, usd: 10, window: hour")
    spend(budgets, 3)
    reserved(reserve(budgets, 6)).settle(usd(5), NOW_S + HOUR_S)
    assert stands(budgets, NOW_S + HOUR_S) == {("b", "red"): (5, 0)}


def test_many_windows_later_a_stream_still_settles_where_it_ends() -> None:
    budgets = budgets_of("name: b, usd: 10, window: hour")
    stream, free = reserved(reserve(budgets, 6)), reserved(reserve(budgets, 0))
    for hours in range(1, 50):
        budgets.status(NOW_S + hours * HOUR_S)
    end_s = NOW_S + 50 * HOUR_S
    stream.settle(usd(2), end_s)
    free.settle(usd(1), end_s)
    assert stands(budgets, end_s) == {("b", "red"): (3, 0)}


@pytest.mark.parametrize("window", ["hour", "day", "month", "never"])
def test_a_clock_that_steps_back_opens_no_fresh_window(window: str) -> None:
    budgets = budgets_of(f"name: b, usd: 1, window: {window}")
    spend(budgets, 1)
    for back_s in (1.0, HOUR_S, 86400.0, 40 * 86400.0):
        assert exceeded(reserve(budgets, 1, now_s=NOW_S - back_s)).spent_nano_usd == usd(1)
    exceeded(reserve(budgets, 1))


def test_after_a_step_back_over_an_edge_the_later_window_goes_on_until_the_clock_has_passed_it() -> None:
    budgets = budgets_of("name: b, usd: 2, window: hour")
    edge_s = NOW_S - NOW_S % HOUR_S + HOUR_S
    spend(budgets, 1, now_s=edge_s + 1)
    open_ = reserved(reserve(budgets, 1, now_s=edge_s - 10))
    open_.settle(usd(1), edge_s - 5)
    exceeded(reserve(budgets, 1, now_s=edge_s - 1))
    exceeded(reserve(budgets, 1, now_s=edge_s + 2))
    assert exceeded(reserve(budgets, 1, now_s=edge_s - 100)).resets_in_s == HOUR_S + 100
    spend(budgets, 2, now_s=edge_s + HOUR_S)


# --- no overrun ------------------------------------------------------------------------------------------

BY = st.sampled_from([ANN, BOB, EVE, NOBODY])
STEP = st.one_of(
    st.tuples(st.just("reserve"), BY, st.sampled_from(["Pro/x", "m"]), st.integers(0, 60)),
    st.tuples(st.just("end"), st.integers(0, 30), st.floats(0, 1)),
    st.tuples(st.just("clock"), st.sampled_from([-90_000.0, -3600.0, -1.0, 1.0, 1800.0, 3600.0, 90_000.0])),
)


@settings(max_examples=200)
@given(st.lists(STEP, max_size=60))
def test_no_interleaving_exceeds_a_limit_where_worst_cases_hold(steps: list[tuple[object, ...]]) -> None:
    """And what is reserved is, at each moment, the sum of what is open."""
    budgets = budgets_of(
        'name: team, usd: 0.00000008, models: ["Pro/*"], window: hour',
        "name: key, usd: 0.00000005, per: key, window: day",
        "name: all, usd: 0.0000001, per: all, window: never",
    )
    open_: list[Reservation] = []
    now_s, total = NOW_S, 0
    for step in steps:
        match step:
            case ("reserve", Caller() as by, str(model), int(worst)):
                outcome = budgets.reserve(by, model, worst, now_s)
                if isinstance(outcome, Reservation):
                    open_.append(outcome)
            case ("end", int(index), float(share)) if open_:
                ending = open_.pop(index % len(open_))
                actual = int(ending.nano_usd * share)
                total += actual
                ending.settle(actual, now_s)
            case ("clock", float(by_s)):
                now_s += by_s
        rows = budgets.status(now_s)
        assert all(row.spent_nano_usd + row.reserved_nano_usd <= row.limit_nano_usd for row in rows)
        assert all(row.spent_nano_usd >= 0 and row.reserved_nano_usd >= 0 for row in rows)
        everyone = next(row for row in rows if row.name == "all")
        assert everyone.spent_nano_usd == total
        assert everyone.reserved_nano_usd == sum(one.nano_usd for one in open_)
        assert sum(row.reserved_nano_usd for row in rows if row.name == "key") == everyone.reserved_nano_usd


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 80)), min_size=1, max_size=30))
def test_where_they_do_not_hold_only_what_was_under_way_exceeds_it(requests: list[tuple[int, int]]) -> None:
    budgets = budgets_of("name: b, usd: 0.0000001")
    under_way = [
        (outcome, actual)
        for worst, actual in requests
        if isinstance(outcome := budgets.reserve(ANN, "m", worst, NOW_S), Reservation)
    ]
    for reservation, actual in under_way:
        reservation.settle(actual, NOW_S)
    overrun = sum(max(0, actual - reservation.nano_usd) for reservation, actual in under_way)
    (row,) = budgets.status(NOW_S)
    assert row.spent_nano_usd <= 100 + overrun
    if row.spent_nano_usd >= 100:
        assert exceeded(budgets.reserve(ANN, "m", 1, NOW_S)) == row


# --- the soft limit --------------------------------------------------------------------------------------


def test_the_soft_limit_is_said_once_in_each_window_for_each_team() -> None:
    told = Told()
    budgets = budgets_of("name: b, usd: 10, window: hour", told=told)
    spend(budgets, 7.999999999)
    assert told == []
    spend(budgets, 0.000000001)
    spend(budgets, 1)
    assert [(row.name, row.whom, row.spent_nano_usd) for row in told] == [("b", "red", usd(8))]
    spend(budgets, 9, EVE)
    assert [row.whom for row in told] == ["red", "blue"]
    spend(budgets, 8, now_s=NOW_S + HOUR_S)
    assert [row.whom for row in told] == ["red", "blue", "red"]


def test_what_is_only_reserved_does_not_pass_the_soft_limit() -> None:
    told = Told()
    budgets = budgets_of("name: b, usd: 10, soft: 0.5", told=told)
    for _ in range(2):
        reserved(reserve(budgets, 5)).release()
    reserved(reserve(budgets, 10)).settle(usd(4.9), NOW_S)
    assert told == []


def test_a_soft_limit_of_one_is_the_limit() -> None:
    told = Told()
    budgets = budgets_of("name: b, usd: 1, soft: 1", told=told)
    spend(budgets, 0.999999999)
    assert told == []
    spend(budgets, 0.000000001)
    assert len(told) == 1


# --- a reload --------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_spent_and_reserved() -> None:
    budgets = budgets_of("name: b, usd: 10", "name: gone, usd: 10")
    spend(budgets, 3)
    open_ = reserved(reserve(budgets, 4))
    budgets.configure(
        config("name: new, usd: 10", 'name: b, usd: 20, models: ["Pro/*"], at_limit: downgrade')
    )
    assert stands(budgets) == {("b", "red"): (3, 4)}
    assert exceeded(reserve(budgets, 10 + 4)).name == "new"
    assert exceeded(reserve(budgets, 13.5)).name == "new"
    open_.settle(usd(1), NOW_S)
    spend(budgets, 2)
    assert stands(budgets) == {("new", "red"): (2, 0), ("b", "red"): (6, 0)}


def test_a_lower_limit_holds_at_once() -> None:
    budgets = budgets_of("name: b, usd: 10")
    spend(budgets, 5)
    budgets.configure(config("name: b, usd: 4"))
    assert exceeded(reserve(budgets, 0.1)).limit_nano_usd == usd(4)


def test_another_soft_limit_is_another_warning() -> None:
    told = Told()
    budgets = budgets_of("name: b, usd: 10", told=told)
    spend(budgets, 8)
    budgets.configure(config("name: b, usd: 10"))
    spend(budgets, 0.1)
    assert len(told) == 1
    budgets.configure(config("name: b, usd: 100"))
    spend(budgets, 71)
    assert len(told) == 1
    spend(budgets, 1)
    assert [row.limit_nano_usd for row in told] == [usd(10), usd(100)]


@pytest.mark.parametrize("other", ["window: month", "per: key", "per: all"])
def test_a_budget_of_another_window_or_of_others_begins_anew(other: str) -> None:
    budgets = budgets_of("name: b, usd: 10")
    open_ = reserved(reserve(budgets, 6))
    spend(budgets, 3)
    budgets.configure(config(f"name: b, usd: 10, {other}"))
    reserved(reserve(budgets, 10)).release()
    open_.settle(usd(6), NOW_S)
    assert set(stands(budgets).values()) == {(0, 0)}


KNOWN = ("name: b, usd: 10", 'name: pro, usd: 5, window: hour, models: ["Pro/*"]')


@pytest.mark.parametrize(
    ("entries", "begins_s"),
    [
        (KNOWN, []),
        (("name: b, usd: 20, soft: 0.5, at_limit: downgrade",), []),
        (("name: c, usd: 10",), [DAY_BEGINS_S]),
        (("name: b, usd: 10, per: all",), [DAY_BEGINS_S]),
        (("name: b, usd: 10, window: never",), [0]),
        (('name: pro, usd: 5, window: hour, models: ["Pro/*", other]',), [NOW_S - NOW_S % HOUR_S]),
    ],
    ids=["same", "figures", "name", "per", "window", "models"],
)
def test_after_a_reload_the_ledger_is_asked_for_what_is_not_known_here(
    entries: tuple[str, ...], begins_s: list[float]
) -> None:
    budgets = budgets_of(*KNOWN)
    assert budgets.begins_unix_s(config(*entries), NOW_S)  # nobody has given its word yet
    budgets.restore([], NOW_S)
    assert budgets.begins_unix_s(config(*entries), NOW_S) == begins_s


def test_after_a_reload_the_ledgers_word_is_for_new_budgets_only() -> None:
    budgets = budgets_of("name: b, usd: 10", "name: pro, usd: 10, models: [Pro/x]")
    budgets.restore([], NOW_S)
    spend(budgets, 1)
    spend(budgets, 2, model="m")
    budgets.configure(config("name: b, usd: 10", "name: pro, usd: 10, models: [m]", "name: c, usd: 10"))
    # Somebody else writes the same file.
    budgets.restore([row(1), row(2, model="m"), row(4, model="m")], NOW_S)
    assert stands(budgets) == {("b", "red"): (3, 0), ("pro", "red"): (6, 0), ("c", "red"): (7, 0)}


def test_other_models_never_make_what_is_spent_less() -> None:
    budgets = budgets_of("name: b, usd: 10")
    budgets.restore([], NOW_S)
    spend(budgets, 5)
    budgets.configure(config("name: b, usd: 10, models: [m]"))
    budgets.restore([row(1, model="m")], NOW_S)
    assert stands(budgets) == {("b", "red"): (5, 0)}


def test_what_is_under_way_over_a_reload_is_charged_once_to_each_budget_that_counts_it_then() -> None:
    budgets = budgets_of("name: a, usd: 10", "name: b, usd: 10")
    open_ = reserved(reserve(budgets, 4))
    budgets.configure(
        config("name: b, usd: 10", "name: c, usd: 10, per: all", "name: d, usd: 1, models: [m]")
    )
    open_.settle(usd(3), NOW_S)
    budgets.charge(open_.budgets, ANN, "Pro/x", usd(3), NOW_S)
    assert stands(budgets) == {("b", "red"): (3, 0), ("c", ""): (3, 0)}
    # One that came when there was no budget at all.
    budgets.charge((), EVE, "m", usd(2), NOW_S)
    assert stands(budgets) == {
        ("b", "red"): (3, 0),
        ("b", "blue"): (2, 0),
        ("c", ""): (5, 0),
        ("d", "blue"): (2, 0),
    }


def test_what_is_charged_late_is_charged_to_the_window_in_which_it_ended() -> None:
    told = Told()
    budgets = budgets_of("name: b, usd: 10, window: hour", told=told)
    spend(budgets, 1)
    budgets.charge((), ANN, "m", usd(9), NOW_S + HOUR_S)
    assert stands(budgets, NOW_S + HOUR_S) == {("b", "red"): (9, 0)}
    assert len(told) == 1


# --- a restart -------------------------------------------------------------------------------------------


def row(
    dollars: float, ago_s: float = 0.0, team: str = "red", key: str = "ann-key", model: str = "Pro/x"
) -> Spent:
    return Spent(int(NOW_S - ago_s) // 60, team, key, model, usd(dollars))


def test_what_the_ledger_has_of_the_running_windows_is_spent() -> None:
    since_day_s = NOW_S - DAY_BEGINS_S
    told = [
        row(1),
        row(2, since_day_s),
        row(4, since_day_s + 60),
        row(8, team="blue", key="eve-key"),
        row(16, model="m"),
        row(32, 35 * 86400),
    ]
    budgets = budgets_of(
        'name: pro, usd: 99, models: ["Pro/*"]',
        "name: keys, usd: 99, per: key, window: month",
        "name: prepaid, usd: 99, per: all, window: never",
    )
    budgets.restore(told, NOW_S)
    assert stands(budgets) == {
        ("pro", "red"): (3, 0),
        ("pro", "blue"): (8, 0),
        ("keys", "ann-key"): (23, 0),
        ("keys", "eve-key"): (8, 0),
        ("prepaid", ""): (63, 0),
    }
    assert exceeded(reserve(budgets, 37)).name == "prepaid"


def test_the_ledgers_word_twice_or_after_a_reload_counts_nothing_twice() -> None:
    budgets = budgets_of("name: b, usd: 10")
    spend(budgets, 2)
    for _ in range(2):
        budgets.restore([row(1), row(2)], NOW_S)
        assert stands(budgets) == {("b", "red"): (3, 0)}
    spend(budgets, 4)
    budgets.restore([row(1), row(2)], NOW_S)
    assert stands(budgets) == {("b", "red"): (7, 0)}


def test_minutes_to_come_count_where_the_clock_stepped_back_over_a_restart() -> None:
    budgets = budgets_of("name: b, usd: 10, window: hour")
    budgets.restore([row(9, -7200.0)], NOW_S)
    exceeded(reserve(budgets, 2))


def test_rows_that_give_money_back_do_not() -> None:
    budgets = budgets_of("name: b, usd: 10")
    spend(budgets, 2)
    budgets.restore([row(-50)], NOW_S)
    assert stands(budgets) == {("b", "red"): (2, 0)}


def test_the_ledger_is_asked_for_the_windows_that_run() -> None:
    hour_begins_s = NOW_S - NOW_S % HOUR_S
    for entries, begins_s in (
        ((), []),
        (("name: a, usd: 1, window: hour", "name: b, usd: 1"), [DAY_BEGINS_S, hour_begins_s]),
        (("name: a, usd: 1, window: never", "name: b, usd: 1", "name: c, usd: 2"), [0, DAY_BEGINS_S]),
    ):
        assert budgets_of(*entries).begins_unix_s(config(*entries), NOW_S) == begins_s


def test_without_a_ledger_a_restart_forgets() -> None:
    spend(budgets_of("name: b, usd: 1"), 1)
    spend(budgets_of("name: b, usd: 1"), 1)


# --- in a fleet ---


def fleet_budgets(*entries: str, expected: int = 1) -> tuple[Budgets, Leases]:
    """Of a sidecar that Redis has answered, and leased nothing to yet."""
    leases = Leases(fleet_of("redis://127.0.0.1:1", expected=expected))
    leases._standing.is_local = False
    return Budgets(config(*entries), Told().append, leases.budget, lambda: 0.0), leases


def test_a_fleet_is_asked_for_what_a_reservation_lacks() -> None:
    budgets, _ = fleet_budgets("name: a, usd: 10", "name: b, usd: 20", "name: c, usd: 5, models: [other]")
    exceeded(budgets.reserve(ANN, "m", usd(1), NOW_S))
    wants = budgets.wants(ANN, "m", usd(1), NOW_S)
    assert [(amount, lease.remaining(0.0)) for lease, amount in wants] == [
        (usd(1), usd(10)),
        (usd(1), usd(20)),
    ]
    assert budgets.wants(ANN, "m", 0, NOW_S) == budgets.wants(ANN, "m", None, NOW_S) == []


def test_a_sidecar_alone_asks_nobody() -> None:
    budgets = budgets_of("name: a, usd: 1")
    assert budgets.wants(ANN, "m", usd(2), NOW_S) == []


def test_a_reservation_that_cannot_wait_comes_from_the_local_share_and_no_more_than_that() -> None:
    budgets, _ = fleet_budgets("name: a, usd: 10", expected=5)
    assert budgets.has_room(ANN, "m", usd(1), NOW_S)
    one = reserved(budgets.reserve(ANN, "m", usd(1), NOW_S, can_wait=False))
    exceeded(budgets.reserve(ANN, "m", usd(1.5), NOW_S, can_wait=False))
    one.settle(usd(1), NOW_S)
    (status,) = budgets.status(NOW_S)
    assert (status.spent_nano_usd, status.reserved_nano_usd) == (usd(1), 0)
    exceeded(budgets.reserve(ANN, "m", usd(1.5), NOW_S, can_wait=False))


def test_a_ledgers_word_holds_in_a_fleet_that_cannot_be_reached() -> None:
    budgets, leases = fleet_budgets("name: a, usd: 10")
    leases._standing.is_local = True
    for _ in range(2):
        budgets.restore([row(9)], NOW_S)
    exceeded(budgets.reserve(ANN, "m", usd(1.1), NOW_S))
    reserved(budgets.reserve(ANN, "m", usd(1), NOW_S))
