"""The balances of one budget: opened, carried into the next window, forgotten, and never too many."""

import math
from collections.abc import Iterator

import pytest

from sidecar.config.model import Budget as BudgetConfig
from sidecar.policy import balances
from sidecar.policy.balances import OTHER, Budget, Counts, Status
from tests.policy.support import NOW_S

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
