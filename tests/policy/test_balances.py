"""The balances of one budget: opened, carried into the next window, forgotten, and never too many."""

import math
from collections.abc import Iterator

import pytest

from sidecar.config.model import Budget as BudgetConfig
from sidecar.fleet.leases import Leases
from sidecar.policy import balances
from sidecar.policy.balances import KEPT_AFTER_S, OTHER, Balance, Budget, BudgetLease, Counts, Status
from tests.policy.support import NOW_S
from tests.support.redis import fleet_of

HOUR_S = 3600.0
MOST = 6


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Room for MOST balances."""
    monkeypatch.setattr(balances, "MAX_BALANCES", MOST)
    yield


def unheard(status: Status) -> None:
    """Nobody minds the soft limit."""


def budget(per: str = "team", window: str = "hour") -> Budget:
    """Of 100 nano-dollars."""
    config = BudgetConfig(name="b", limit_usd=1e-7, per=per, window=window)  # type: ignore[arg-type]
    made = Budget(config, Counts(), unheard)
    made.begin(NOW_S)
    return made


def spend(one: Budget, whom: str, nano_usd: int, now_s: float = NOW_S) -> None:
    balance = one.balance(whom)
    balance.reserve(nano_usd)
    balance.settle(nano_usd, nano_usd, now_s)


def test_a_balance_is_opened_once() -> None:
    one = budget()
    assert one.balance("red") is one.balance("red")
    assert one.balance("red") is not one.balance("blue")


def test_one_for_all_callers_is_there_before_anyone_calls() -> None:
    one = budget(per="all")
    assert [balance.whom for balance in one.balances.values()] == [""]
    one.begin(NOW_S + 5 * HOUR_S)
    assert list(one.balances) == [""]


def test_who_spent_something_is_seen_for_one_more_window() -> None:
    one = budget()
    spend(one, "red", 5)
    one.balance("idle")
    one.begin(NOW_S + HOUR_S)
    assert {whom: balance.spent for whom, balance in one.balances.items()} == {"red": 0}
    one.begin(NOW_S + 2 * HOUR_S)
    assert one.balances == {}


def test_who_has_a_request_under_way_is_never_forgotten() -> None:
    one = budget()
    balance = one.balance("red")
    balance.reserve(0)
    for hours in range(1, 4):
        one.begin(NOW_S + hours * HOUR_S)
    assert one.balances == {"red": balance}
    balance.release(0)
    one.begin(NOW_S + 4 * HOUR_S)
    assert one.balances == {}


@pytest.mark.usefixtures("little_room")
def test_of_too_many_all_that_come_late_share_one_balance_and_nobody_gets_past_a_limit() -> None:
    one = budget()
    for number in range(MOST):
        spend(one, str(number), 100)
    assert not any(one.balance(str(number)).has_room(1) for number in range(MOST))
    for number in range(MOST, 3 * MOST):
        assert one.balance(str(number)).whom == OTHER
    spend(one, "late", 100)
    assert not one.balance("later").has_room(1)
    assert len(one.balances) == MOST + 1


@pytest.mark.usefixtures("little_room")
def test_the_next_window_makes_room_for_others() -> None:
    one = budget()
    for number in range(MOST):
        spend(one, str(number), 100)
    one.balance("3").reserve(7)
    one.begin(NOW_S + HOUR_S)
    assert list(one.balances) == ["3"]
    assert one.balance("new").whom == "new"


def test_a_status_says_all_there_is() -> None:
    one = budget(window="hour")
    spend(one, "red", 60)
    one.balance("red").reserve(30)
    end_s = NOW_S - NOW_S % HOUR_S + HOUR_S
    assert one.balance("red").status(end_s - 10) == Status(
        name="b",
        per="team",
        whom="red",
        window="hour",
        at_limit="reject",
        limit_nano_usd=100,
        spent_nano_usd=60,
        reserved_nano_usd=30,
        resets_at_unix_s=end_s,
        resets_in_s=10.0,
    )
    assert budget(window="never").balance("red").status(NOW_S).resets_in_s == math.inf


def test_a_warning_that_fails_leaves_nothing_reserved() -> None:
    def fail(status: Status) -> None:
        raise OSError(status.name)

    one = Budget(BudgetConfig(name="b", limit_usd=1e-7), Counts(), fail)
    one.begin(NOW_S)
    with pytest.raises(OSError, match="b"):
        spend(one, "red", 90)
    balance = one.balance("red")
    assert (balance.spent, balance.reserved, balance.open) == (90, 0, 0)


# --- in a fleet ---


class Fleet:
    """A fleet of one sidecar, cut off from Redis: its share is all there is. Keeps the keys it was given."""

    def __init__(self) -> None:
        self.leases = Leases(fleet_of("redis://127.0.0.1:1", expected=1))
        self.made: dict[str, BudgetLease] = {}
        self.kept_s: set[float | None] = set()

    def budget(self, key: str, limit_nano_usd: int, keep_s: float | None) -> BudgetLease:
        lease = self.made[key] = self.leases.budget(key, limit_nano_usd, keep_s)
        self.kept_s.add(keep_s)
        return lease

    def of_red(self, window: str = "hour", told: list[Status] | None = None) -> tuple[Budget, Balance]:
        config = BudgetConfig(name="b", limit_usd=1e-7, per="team", window=window)  # type: ignore[arg-type]
        on_soft = unheard if told is None else told.append
        one = Budget(config, Counts(), on_soft, self.budget, lambda: 0.0)
        one.begin(NOW_S)
        return one, one.balance("red")


def test_a_shared_balance_takes_what_it_reserves_from_its_lease() -> None:
    fleet = Fleet()
    _, red = fleet.of_red()
    (lease,) = fleet.made.values()
    red.reserve(60)
    assert (red.has_room(40), red.has_room(41)) == (True, False)
    red.release(60)
    assert red.has_room(100)
    red.reserve(60)
    red.settle(60, 15, NOW_S)
    assert (lease.spent, red.spent, red.reserved, red.open) == (15, 15, 0, 0)
    assert (red.has_room(85), red.has_room(86)) == (True, False)


def test_what_costs_nothing_has_room_in_a_shared_balance_that_is_used_up() -> None:
    _, red = Fleet().of_red()
    red.reserve(100)
    red.settle(100, 130, NOW_S)
    assert (red.has_room(0), red.has_room(1)) == (True, False)
    red.reserve(0)
    red.release(0)
    assert red.spent == 130


def test_each_window_budget_and_spender_has_a_lease_of_its_own() -> None:
    fleet = Fleet()
    one, _ = fleet.of_red()
    one.balance("blue")
    spend(one, "red", 5)
    one.begin(NOW_S + HOUR_S)
    fleet.of_red("day")
    assert len(fleet.made) == 4  # blue has spent nothing, and is forgotten
    assert fleet.kept_s == {HOUR_S + KEPT_AFTER_S, 24 * HOUR_S + KEPT_AFTER_S}
    fleet.of_red("never")
    assert None in fleet.kept_s


def test_a_name_cannot_be_made_to_mean_another_budget() -> None:
    keys = set()
    for name, whom in (("a", "b:c"), ("a:b", "c"), ("a':b", "c"), ("a", "':b:c")):
        fleet = Fleet()
        config = BudgetConfig(name=name, limit_usd=1e-7, per="team")
        one = Budget(config, Counts(), unheard, fleet.budget, lambda: 0.0)
        one.begin(NOW_S)
        one.balance(whom)
        keys |= set(fleet.made)
    assert len(keys) == 4


def test_what_is_reserved_goes_along_to_the_next_windows_lease() -> None:
    fleet = Fleet()
    one, red = fleet.of_red()
    red.reserve(70)
    one.begin(NOW_S + HOUR_S)
    before, after = fleet.made.values()
    assert (before.spent, red.spent) == (0, 0)
    assert (red.has_room(30), red.has_room(31)) == (True, False)
    red.settle(70, 50, NOW_S + HOUR_S)
    assert (before.spent, after.spent, red.spent) == (0, 50, 50)
    assert (red.has_room(50), red.has_room(51)) == (True, False)


def test_a_shared_balance_warns_once_and_takes_another_limit_on() -> None:
    told: list[Status] = []
    fleet = Fleet()
    one, red = fleet.of_red(told=told)
    for _ in range(2):
        red.reserve(45)
        red.settle(45, 45, NOW_S)
    assert [status.spent_nano_usd for status in told] == [90]
    one.configure(BudgetConfig(name="b", limit_usd=2e-7))
    assert red.status(NOW_S).limit_nano_usd == 200
    assert [lease.remaining(0.0) for lease in fleet.made.values()] == [10]  # until Redis is asked
    one.configure(BudgetConfig(name="b", limit_usd=9.5e-8))
    assert (red.has_room(5), red.has_room(6)) == (True, False)


def test_a_ledgers_word_is_the_least_a_shared_balance_stands_at() -> None:
    _, red = Fleet().of_red()
    for said in (80, 30, 80):
        red.restore(said)
        assert red.status(NOW_S).spent_nano_usd == 80
    assert (red.has_room(20), red.has_room(21)) == (True, False)


def test_what_cannot_be_waited_for_comes_from_a_local_share() -> None:
    fleet = Fleet()
    fleet.leases._standing.is_local = False  # as if Redis had answered, and leased nothing
    _, red = fleet.of_red()
    assert (red.has_room(10), red.may_get(10), red.may_get(101)) == (False, True, False)
    red.do_without_asking(10)
    assert red.has_room(10)
    red.reserve(10)
    red.settle(10, 10, NOW_S)
    assert red.spent == 10
