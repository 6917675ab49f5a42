from __future__ import annotations

from typing import Any

import pytest

from sidecar.demo.scenario import Scenario, ScenarioError


def test_update_sets_the_named_knobs_and_no_other() -> None:
    scenario = Scenario(tokens=5)
    scenario.update({"error_ratio": 1, "retry_after": "3"})
    assert (scenario.error_ratio, scenario.retry_after, scenario.tokens) == (1.0, "3", 5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"first_token": 1}, "'first_token'"),
        ({"first_token_s": "slow"}, "`first_token_s`"),
        ({"error_ratio": 1.5}, "`error_ratio`"),
        ({"error_status": 200}, "`error_status`"),
        ({"hang": "always"}, "`hang`"),
        ({"error_models": [1]}, "`error_models[0]`"),
    ],
)
def test_a_wrong_change_names_the_knob_and_changes_nothing(changes: dict[str, Any], named: str) -> None:
    scenario = Scenario()
    with pytest.raises(ScenarioError) as refused:
        scenario.update({"tokens": 7, **changes})
    assert named in str(refused.value)
    assert scenario == Scenario()


def test_restore_copies_the_lists_too() -> None:
    initial = Scenario(error_models=["a"])
    scenario = Scenario()
    scenario.restore(initial)
    scenario.error_models.append("b")
    assert initial.error_models == ["a"]
    scenario.restore()
    assert scenario == Scenario()


def test_instant_never_waits_and_is_healthy() -> None:
    knobs = Scenario.instant().as_dict()
    assert [name for name, value in knobs.items() if name.endswith("_s") and value] == ["stall_s"]
    assert knobs["jitter"] == 0 and knobs["error_ratio"] == 0
