"""Quotes: what is said of money is what the accounts then do."""

from typing import Any

import orjson
import pytest

from sidecar.accounts import Accounts
from sidecar.attempt import Attempt
from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Reply
from sidecar.openai import Call, read_call
from sidecar.policy.budget import Reservation
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.policy.exceeded import refusal
from sidecar.quote import Quote
from sidecar.routing.plan import Plan
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.routing.support import asking
from tests.support.running import ENVIRON, config_for

NOW_S, WALL_S = 1000.0, 1_795_000_000.0
CALLER = Caller("team", "standard", 0, SHARED_BUCKET)
BUDGETS = [
    {"name": "small", "models": ["dear*"], "usd": 0.01, "at_limit": "downgrade"},
    {"name": "hard", "models": ["dear"], "usd": 0.01, "per": "all", "window": "never"},
]


class Desk:
    """Accounts, and a plan to pay for."""

    def __init__(self, model: str = "dear", **sections: Any) -> None:
        models = {
            "dear": {"provider": "p", "price": {"input": 1.0, "output": 10.0}, "premium": True},
            "dear2": {"provider": "p", "price": {"input": 1.0, "output": 10.0}, "premium": True},
            "cheap": {"provider": "p", "price": {"input": 0.1, "output": 0.4, "reasoning": 0.8}},
            "free": {"provider": "p"},
        }
        arms = [{"model": "dear2", "weight": 1}]
        routes = {"auto": {"split": arms, "fallback": ["free", "cheap"]}}
        tree = config_for("http://a.example/v1", models=models, routes=routes, **sections)
        self.config = parse(orjson.dumps(tree), ENVIRON).config
        runtime = Runtime(Ticker(lambda: NOW_S), Metrics("0"), "team")
        runtime.apply(self.config)
        plan = runtime.snapshot.router.plan(*asking(model))
        assert plan is not None
        self.plan: Plan = plan
        self.accounts = Accounts(self.config, None, lambda: WALL_S)

    def quote(self, call: Call, tokens_in: int) -> Quote:
        return Quote(self.config, self.accounts, CALLER, call, tokens_in, NOW_S, WALL_S)

    def admit(self, body: bytes) -> tuple[Quote, Attempt, Plan | Reply]:
        """What is said of a request, and what the accounts then do with it."""
        call = read_call(body)
        assert isinstance(call, Call)
        x, attempt = asking("")[1], Attempt()
        x.body = body
        quote = self.quote(call, -(-len(body) // 4))
        quote.admission(self.plan.candidates[0])
        outcome: Plan | Reply | None = self.accounts.admit(x, attempt, CALLER, call, self.plan, NOW_S)
        if outcome is None and self.accounts.has_budgets and attempt.account is not None:
            outcome = self.accounts.reserve(attempt.account, call, self.plan)
        return quote, attempt, outcome or self.plan


def body(**more: Any) -> bytes:
    return orjson.dumps({"model": "dear", **more})


@pytest.mark.parametrize("more", [{}, {"max_tokens": 7}, {"n": 3}, {"n": 2, "max_completion_tokens": 5}])
@pytest.mark.parametrize("model", ["dear", "cheap"])
def test_the_worst_case_is_what_is_then_reserved(model: str, more: dict[str, int]) -> None:
    desk = Desk(model, budgets=[{"name": "all", "usd": 100}])
    quote, attempt, _ = desk.admit(body(**more))
    assert attempt.account is not None and isinstance(attempt.account.reservation, Reservation)
    assert quote.worst_case(desk.plan.candidates[0]) == attempt.account.reservation.nano_usd


def test_without_a_price_there_is_no_worst_case_and_no_budget_for_it() -> None:
    desk = Desk("free", budgets=[{"name": "all", "usd": 0.000001}])
    quote, _, outcome = desk.admit(body())
    assert quote.worst_case(desk.plan.candidates[0]) is None
    assert quote.exceeded(desk.plan.candidates[0]) is None
    assert isinstance(outcome, Plan)


@pytest.mark.parametrize("model", ["dear", "dear2"])
def test_the_budget_that_is_named_is_the_one_that_refuses(model: str) -> None:
    desk = Desk(model, budgets=BUDGETS)
    quote, _, outcome = desk.admit(body(max_tokens=2000))
    exceeded = quote.exceeded(desk.plan.candidates[0])
    assert exceeded is not None and isinstance(outcome, Reply)
    assert refusal(exceeded).body == outcome.body
    assert exceeded.status.name == ("hard" if model == "dear" else "small")


def test_the_route_goes_down_to_the_model_that_was_said() -> None:
    desk = Desk("auto", budgets=BUDGETS)
    quote, _, outcome = desk.admit(body(max_tokens=2000))
    cheapest = quote.cheapest(desk.plan)
    assert cheapest is not None and isinstance(outcome, Plan)
    assert outcome.candidates[0].model == cheapest.model == "cheap"


def test_asking_reserves_nothing_and_counts_nothing() -> None:
    desk = Desk(budgets=BUDGETS)
    call = Call({"max_tokens": 2000}, "dear", stream=False)
    before = desk.accounts.budgets.status(WALL_S)
    for _ in range(100):
        assert desk.quote(call, 10).exceeded(desk.plan.candidates[0]) is not None
    assert desk.accounts.budgets.status(WALL_S) == before
    assert [counts.exceeded for counts in desk.accounts.budgets.counts.values()] == [0, 0]


@pytest.mark.parametrize(("dry_run", "is_left"), [(False, [True, False, False]), (True, [True] * 3)])
def test_a_second_request_needs_room_for_two(dry_run: bool, is_left: list[bool]) -> None:
    desk = Desk(tiers={"standard": {"requests_per_minute": 2, "dry_run": dry_run}})
    call, first = Call({}, "dear", stream=False), desk.plan.candidates[0]
    seen = []
    for _ in range(3):
        seen.append(desk.quote(call, 1).has_second_request(first))
        desk.accounts.limiter.admit(CALLER, 0, NOW_S)
    assert seen == is_left
