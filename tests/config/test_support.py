"""What this version cannot do is refused, part by part."""

from pathlib import Path

import pytest

from sidecar.config.load import parse
from sidecar.config.problems import ConfigError
from sidecar.config.support import ANY, UNAVAILABLE, unavailable_parts
from tests.config.support import ENVIRON, full_text


def test_each_unavailable_part_of_the_full_configuration_is_refused_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(full_text(tmp_path).encode(), ENVIRON)
    assert {path for path, _ in raised.value.problems} == {
        "providers.deepseek-direct.break_glass",
        "models.deepseek-ai/DeepSeek-V4-Flash.price",
        "models.Qwen/Qwen3-32B.price",
        "models.Qwen/Qwen3-32B.max_output",
        "models.Pro/*.price",
        "models.Pro/*.premium",
        "routes.auto.classify",
        "tiers",
        "keys",
        "budgets",
        "cache",
        "fleet",
        "usage",
        "telemetry.otlp",
        "telemetry.slo",
        "telemetry.baseline",
    }
    assert len(raised.value.problems) == 16
    assert all("is not available in this version: remove it" in said for _, said in raised.value.problems)


def test_only_the_refused_setting_of_a_part_is_refused() -> None:
    tree = {"auth": {"mode": "keys"}, "providers": {"a": {"break_glass": False}}}
    assert [str(problem) for problem in unavailable_parts(tree, UNAVAILABLE)] == [
        "auth.mode: keys is not available in this version: remove it",
    ]


def test_part_that_is_switched_off_is_not_refused() -> None:
    assert unavailable_parts({"cache": None}, UNAVAILABLE) == []


@pytest.mark.parametrize("tree", [None, [], {"a": 1}, {"a": ["b"]}, {"a": {"c": {}}}])
def test_tree_of_another_shape_is_left_to_the_decoder(tree: object) -> None:
    assert unavailable_parts(tree, {"a.*.b": ANY}) == []
