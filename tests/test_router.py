"""Which models may answer, in order; splits that follow the conversation."""

import orjson
import pytest

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.router import Plan, Router
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.support.running import ENVIRON, config_for

URL = "http://a.example/v1"


def router_for(**sections: object) -> Router:
    runtime = Runtime(Ticker(), Metrics("0"), "t")
    tree = config_for(URL, **sections)
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    return runtime.snapshot.router


def models_of(plan: Plan | None) -> list[str]:
    assert plan is not None
    return [candidate.model for candidate in plan.candidates]


def conversation(number: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"question {number}"}]}


def split(*weights: float) -> Router:
    arms = [{"model": f"m{index}", "weight": weight} for index, weight in enumerate(weights)]
    return router_for(routes={"auto": {"split": arms}})


def arm(router: Router, number: int) -> str:
    return models_of(router.plan("auto", conversation(number)))[0]


def test_a_models_fallbacks_come_behind_it_once_each() -> None:
    router = router_for(models={"a": {"provider": "p", "fallback": ["b", "c"]}, "*": {"provider": "p"}})
    assert models_of(router.plan("a", {})) == ["a", "b", "c"]
    assert models_of(router.plan("b", {})) == ["b"]


def test_a_routes_own_fallbacks_win_over_its_models() -> None:
    models = {"a": {"provider": "p", "fallback": ["b"]}, "*": {"provider": "p"}}
    own = {"split": [{"model": "a", "weight": 1}], "fallback": ["c"], "long_context": "long"}
    router = router_for(models=models, routes={"own": own, "none": {"split": [{"model": "a", "weight": 1}]}})
    plan = router.plan("own", {})
    assert models_of(plan) == ["a", "c"]
    assert plan is not None and plan.long_context is not None
    assert (plan.route, plan.long_context.model) == ("own", "long")
    assert models_of(router.plan("none", {})) == ["a", "b"]


def test_a_name_that_nothing_serves_has_no_plan() -> None:
    assert router_for(models={"a": {"provider": "p"}}).plan("b", {}) is None


def test_a_conversation_stays_on_its_arm() -> None:
    router = split(50, 50)
    first = {"role": "user", "content": "hello"}
    longer = {
        "messages": [first, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    }
    again = {"messages": [*longer["messages"][:2], {"role": "user", "content": "another end"}]}
    assert models_of(router.plan("auto", longer)) == models_of(router.plan("auto", again))


@pytest.mark.parametrize("weights", [(95, 5), (80, 15, 5)])
def test_arms_get_their_shares(weights: tuple[float, ...]) -> None:
    router = split(*weights)
    count = 20_000
    drawn = [arm(router, number) for number in range(count)]
    for index, weight in enumerate(weights):
        assert drawn.count(f"m{index}") / count == pytest.approx(weight / 100, abs=0.01)


def test_a_change_of_weights_moves_only_what_must_move() -> None:
    before, after = split(95, 5), split(90, 10)
    moved = [(arm(before, n), arm(after, n)) for n in range(20_000)]
    assert {pair for pair in moved if pair[0] != pair[1]} == {("m0", "m1")}
    assert sum(a != b for a, b in moved) / 20_000 == pytest.approx(0.05, abs=0.005)
