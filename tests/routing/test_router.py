"""Which models may answer, in order, and why: routes, fallbacks, premium models, break-glass, near names."""

from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.routing.plan import Plan
from sidecar.routing.router import MAX_NEAREST, MAX_REMEMBERED, Router
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.routing.support import URL, asking, models_of, router_for, targets_of, user
from tests.support.running import ENVIRON, config_for

STAR = {"*": {"provider": "p"}}


def arm(model: str, weight: float = 1) -> dict[str, Any]:
    return {"model": model, "weight": weight}


def route(*models: str, **more: Any) -> dict[str, Any]:
    return {"split": [arm(model) for model in models], **more}


def plan_of(router: Router, model: str, document: dict[str, Any] | None = None, importance: str = "") -> Plan:
    plan = router.plan(*asking(model, document, importance))
    assert plan is not None
    return plan


def models(router: Router, model: str) -> list[str]:
    return models_of(router.plan(*asking(model)))


def targets(router: Router, model: str) -> list[tuple[str, str]]:
    return targets_of(router.plan(*asking(model)))


# --- models and their fallbacks ------------------------------------------------------------------------


def test_a_models_fallbacks_come_behind_it_once_each() -> None:
    router = router_for(models={"a": {"provider": "p", "fallback": ["b", "c"]}, **STAR})
    assert models(router, "a") == ["a", "b", "c"]
    assert models(router, "b") == ["b"]
    assert plan_of(router, "a").reason == "named"


def test_a_pattern_that_falls_back_to_its_own_model_names_it_once() -> None:
    router = router_for(models={"*": {"provider": "p", "fallback": ["default"]}})
    assert models(router, "x") == ["x", "default"]
    assert models(router, "default") == ["default"]


def test_a_name_that_nothing_serves_has_no_plan() -> None:
    assert router_for(models={"a": {"provider": "p"}}).plan(*asking("b")) is None


def test_names_of_callers_are_remembered_within_bounds() -> None:
    router = router_for()
    for number in range(MAX_REMEMBERED + 100):
        assert models(router, f"m{number}") == [f"m{number}"]
        router.nearest(f"m{number}")
    assert len(router._plans) == len(router._nearest) == MAX_REMEMBERED


def test_a_plan_is_made_once() -> None:
    router = router_for(routes={"auto": route("a", "b")})
    assert plan_of(router, "a") is plan_of(router, "a")
    assert plan_of(router, "auto", user("hello")) is plan_of(router, "auto", user("hello"))


# --- routes --------------------------------------------------------------------------------------------


def test_a_routes_own_fallbacks_win_over_its_models() -> None:
    served = {"a": {"provider": "p", "fallback": ["b"]}, **STAR}
    routes = {"own": route("a", fallback=["c"], long_context="long"), "none": route("a")}
    router = router_for(models=served, routes=routes)
    plan = plan_of(router, "own")
    assert models_of(plan) == ["a", "c"]
    assert plan.long_context is not None
    assert (plan.route, plan.reason, plan.long_context.model) == ("own", "split", "long")
    assert models(router, "none") == ["a", "b"]


def test_a_deprecated_name_leads_to_its_successor() -> None:
    served = {"new": {"provider": "p", "fallback": ["spare"]}, "spare": {"provider": "p"}}
    router = router_for(models=served, routes={"gpt-4": route("new")})
    assert models(router, "gpt-4") == ["new", "spare"]
    assert plan_of(router, "gpt-4").route == "gpt-4"


def test_a_route_wins_over_the_model_of_its_name_and_may_choose_it() -> None:
    served = {"gpt-4": {"provider": "p", "fallback": ["spare"]}, **STAR}
    routes = {"gpt-4": route("gpt-4", "new")}
    router = router_for(models=served, routes=routes)
    found = {tuple(models_of(router.plan(*asking("gpt-4", user(f"q {n}"))))) for n in range(100)}
    assert found == {("gpt-4", "spare"), ("new",)}
    assert {plan_of(router, "gpt-4", user(f"q {n}")).route for n in range(100)} == {"gpt-4"}


def test_a_route_splits_by_conversation() -> None:
    router = router_for(routes={"auto": {"split": [arm("a", 95), arm("b", 5)]}})
    drawn = [models_of(router.plan(*asking("auto", user(f"question {n}"))))[0] for n in range(10_000)]
    assert drawn.count("b") / len(drawn) == pytest.approx(0.05, abs=0.01)


def test_the_first_rule_that_matches_chooses_before_the_split() -> None:
    rules = [
        {"when": {"importance": "critical"}, "model": "best"},
        {"when": {"keywords": ["compare"]}, "model": "clever"},
        {"when": {"tools": False}, "model": "best"},
    ]
    router = router_for(routes={"auto": route("cheap", classify=rules, fallback=["spare", "best"])})
    critical = plan_of(router, "auto", user("compare these"), importance="critical")
    assert (models_of(critical), critical.reason) == (["best", "spare"], "classify[0]")
    compared = plan_of(router, "auto", user("compare these"))
    assert (models_of(compared), compared.reason) == (["clever", "spare", "best"], "classify[1]")
    # The same model by another rule: the reason is another one.
    assert plan_of(router, "auto", user("hello")).reason == "classify[2]"
    drawn = plan_of(router, "auto", {"tools": [{}], **user("hello")})
    assert (models_of(drawn), drawn.reason) == (["cheap", "spare", "best"], "split")


@pytest.mark.parametrize(
    ("model", "of_route", "resumes"),
    [("resume", None, True), (None, "resume", True), ("resume", "error", False), (None, None, False)],
)
def test_a_route_has_the_last_word_on_streams_that_are_cut(
    model: str | None, of_route: str | None, resumes: bool
) -> None:
    served = {"a": {"provider": "p", "on_stream_cut": model}}
    router = router_for(models=served, routes={"auto": route("a", on_stream_cut=of_route)})
    assert plan_of(router, "auto").resumes is resumes
    assert plan_of(router, "a").resumes is (model == "resume")


# --- premium -------------------------------------------------------------------------------------------

PREMIUM = {"cheap": {"provider": "p"}, "Pro/*": {"provider": "p", "premium": True}, **STAR}


def premium_of(router: Router, model: str, document: dict[str, Any] | None = None) -> list[str]:
    """The premium models in a plan, by name; long_context is one of them."""
    plan = plan_of(router, model, document)
    listed = [*plan.candidates, *([plan.long_context] if plan.long_context else [])]
    return [candidate.model for candidate in listed if candidate.is_premium]


def test_no_premium_model_is_in_a_plan_that_nobody_put_it_into() -> None:
    rules = [{"when": {"keywords": ["reason"]}, "model": "Pro/rule"}]
    router = router_for(
        break_glass=("direct",), models=PREMIUM, routes={"auto": route("cheap", classify=rules)}
    )
    for on in (False, True):
        router.set_break_glass(on)
        asked = [("cheap", "hello"), ("auto", "hello"), ("pro/x", "reason"), ("anything", "reason")]
        assert [premium_of(router, model, user(text)) for model, text in asked] == [[]] * 4


def test_a_premium_model_is_reached_by_name_rule_split_and_list_only() -> None:
    rules = [{"when": {"keywords": ["reason"]}, "model": "Pro/rule"}]
    routes = {
        "drawn": route("Pro/arm"),
        "ruled": route("cheap", classify=rules),
        "listed": route("cheap", fallback=["Pro/spare"]),
        "long": route("cheap", long_context="Pro/long"),
    }
    router = router_for(models=PREMIUM, routes=routes)
    assert premium_of(router, "Pro/named") == ["Pro/named"]
    assert premium_of(router, "drawn") == ["Pro/arm"]
    assert premium_of(router, "ruled", user("please reason")) == ["Pro/rule"]
    assert premium_of(router, "ruled", user("please")) == []
    assert premium_of(router, "listed") == ["Pro/spare"]
    assert premium_of(router, "long") == ["Pro/long"]


# --- break-glass ---------------------------------------------------------------------------------------


def test_a_provider_for_break_glass_joins_every_plan_last_while_it_is_on() -> None:
    router = router_for(
        break_glass=("direct", "other"),
        models={"a": {"provider": "p", "fallback": ["b"]}, **STAR},
        routes={"auto": route("c")},
    )
    before = targets(router, "a")
    assert before == [("a", "p"), ("b", "p")]
    assert targets(router, "auto") == [("c", "p")]
    router.set_break_glass(True)
    assert router.is_break_glass_on
    assert targets(router, "a") == [("a", "p"), ("b", "p"), ("a", "direct"), ("a", "other")]
    assert targets(router, "auto") == [("c", "p"), ("c", "direct"), ("c", "other")]
    router.set_break_glass(False)
    assert targets(router, "a") == before
    assert targets(router, "auto") == [("c", "p")]


def test_one_that_fallbacks_list_joins_under_its_own_name_and_behind_the_others() -> None:
    served = {
        "a": {"provider": "p", "fallback": ["native", "b"]},
        "native": {"provider": "direct", "premium": True},
        **STAR,
    }
    router = router_for(
        break_glass=("direct", "unnamed"), models=served, routes={"auto": route("c", fallback=["native"])}
    )
    assert targets(router, "a") == [("a", "p"), ("b", "p")]
    assert targets(router, "auto") == [("c", "p")]
    router.set_break_glass(True)
    assert targets(router, "a") == [("a", "p"), ("b", "p"), ("native", "direct"), ("a", "unnamed")]
    assert targets(router, "auto") == [("c", "p"), ("native", "direct"), ("c", "unnamed")]
    # Who does not list it does not get it: its name for the model is not known here.
    assert targets(router, "d") == [("d", "p"), ("d", "unnamed")]


def test_a_model_of_a_provider_for_break_glass_is_not_there_while_it_is_off() -> None:
    served = {"a": {"provider": "p", "fallback": ["native"]}, "native": {"provider": "direct"}}
    router = router_for(break_glass=("direct",), models=served)
    assert router.plan(*asking("native")) is None
    assert "native" not in router.nearest("nativ")
    router.set_break_glass(True)
    assert targets(router, "native") == [("native", "direct")]
    assert router.nearest("nativ") == ["native"]


def test_whatever_names_it_a_provider_for_break_glass_stays_out_while_it_is_off() -> None:
    """The checks of a configuration refuse most of this; the router does not rely on them."""
    routes = {
        "arm": route("x"),
        "rule": route("a", classify=[{"when": {"tools": False}, "model": "x"}]),
        "long": route("a", long_context="x"),
    }
    tree = config_for(URL, models={"a": {"provider": "p", "fallback": ["x"]}, **STAR}, routes=routes)
    config = parse(orjson.dumps(tree), ENVIRON).config
    shut = replace(config.providers["p"], break_glass=True)
    config = replace(
        config,
        providers={**config.providers, "direct": shut},
        models={"a": config.models["a"], "*": replace(config.models["*"], provider="direct")},
    )
    runtime = Runtime(Ticker(), Metrics("0"), "t")
    runtime.apply(config)
    router = runtime.snapshot.router
    assert targets(router, "a") == [("a", "p")]
    assert router.plan(*asking("x")) is None
    assert router.plan(*asking("arm")) is None
    assert targets(router, "long") == [("a", "p")]
    assert plan_of(router, "long").long_context is None
    assert router.plan(*asking("rule")) is None
    router.set_break_glass(True)
    assert targets(router, "a") == [("a", "p"), ("x", "direct")]
    assert targets(router, "rule") == [("x", "direct")]
    assert plan_of(router, "long").long_context is not None


def test_a_name_that_nothing_serves_has_no_plan_with_break_glass_on_either() -> None:
    router = router_for(break_glass=("direct",), models={"a": {"provider": "p"}})
    router.set_break_glass(True)
    assert router.plan(*asking("b")) is None


# --- explained -----------------------------------------------------------------------------------------


def test_a_plan_is_explained_with_what_it_leaves_out() -> None:
    served = {"a": {"provider": "p", "fallback": ["native", "b"]}, "native": {"provider": "direct"}, **STAR}
    rules = [{"when": {"keywords": ["reason"]}, "model": "a"}]
    router = router_for(
        break_glass=("direct", "unnamed"), models=served, routes={"auto": route("c", classify=rules)}
    )
    asked = asking("auto", user("reason!"))
    out = "out: its provider direct is for break-glass, which is off"
    assert router.explain_plan(*asked) == [("a", "classify[0]"), ("b", "fallback"), ("native", out)]
    assert router.explain_plan(*asking("auto")) == [("c", "split")]
    router.set_break_glass(True)
    assert router.explain_plan(*asked) == [
        ("a", "classify[0]"),
        ("b", "fallback"),
        ("native", "fallback"),
        ("a", "break-glass"),
    ]


def test_a_name_that_nothing_serves_is_explained() -> None:
    router = router_for(models={"a": {"provider": "p"}})
    assert router.explain_plan(*asking("b")) == [("b", "out: no entry of models has this name")]


# --- near names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("gpt-4", ["gpt-4o", "gpt-4o-mini"]),
        ("GPT-4O", ["gpt-4o", "gpt-4o-mini"]),
        ("deepseek-v4-flash", ["deepseek-ai/DeepSeek-V4-Flash"]),
        ("atuo", ["auto"]),
        ("claude", []),
        ("", []),
        ("x" * 10_000, []),
    ],
)
def test_names_that_are_spelled_alike_are_offered(asked: str, near: list[str]) -> None:
    names = ("gpt-4o", "gpt-4o-mini", "deepseek-ai/DeepSeek-V4-Flash", "Pro/*")
    router = router_for(models={name: {"provider": "p"} for name in names}, routes={"auto": route("gpt-4o")})
    assert router.nearest(asked) == near


def test_few_names_are_offered_however_many_there_are() -> None:
    router = router_for(models={f"vendor/model-{n}": {"provider": "p"} for n in range(500)})
    assert len(router.nearest("vendor/modle-7")) == MAX_NEAREST
