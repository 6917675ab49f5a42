"""What holds for a model of a plan."""

from typing import Any

from sidecar.routing.plan import Candidate
from tests.routing.support import asking, router_for


def candidate(**entry: Any) -> Candidate:
    plan = router_for(models={"m": {"provider": "p", **entry}}).plan(*asking("m"))
    assert plan is not None
    return plan.candidates[0]


def test_a_model_has_its_providers_timeouts_but_those_it_names() -> None:
    plain, own = candidate(), candidate(timeouts={"idle": "90s"})
    assert own.timeouts.idle_s == 90
    assert own.timeouts.connect_s == plain.timeouts.connect_s == 1


def test_a_model_is_judged_for_slowness_where_it_has_a_budget() -> None:
    assert not candidate().is_judged
    assert candidate(p99_budget="1s").is_judged
    assert candidate(p99_budget_plain="1s").is_judged


def test_a_model_says_whether_it_is_premium() -> None:
    assert not candidate().is_premium
    assert candidate(premium=True).is_premium
