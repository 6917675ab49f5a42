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
    paths = [path for path, _ in raised.value.problems]
    assert len(paths) == len(set(paths))
    assert set(paths) == {
        "telemetry.otlp",
        "telemetry.slo",
    }
    assert all("is not available in this version: remove it" in said for _, said in raised.value.problems)


def test_only_the_refused_setting_of_a_part_is_refused() -> None:
    tree = {"auth": {"mode": "keys"}, "keys": [{"id": "a", "is_off": False}, {"id": "b", "is_off": True}]}
    unavailable = {"auth.mode": "keys", "keys.*.is_off": True, "keys.*.name": ANY}
    assert [str(problem) for problem in unavailable_parts(tree, unavailable)] == [
        "auth.mode: keys is not available in this version: remove it",
        "keys[1].is_off: true is not available in this version: remove it",
    ]


def test_part_that_is_switched_off_is_not_refused() -> None:
    assert unavailable_parts({"telemetry": {"slo": None}}, UNAVAILABLE) == []


@pytest.mark.parametrize("tree", [None, [], {"a": 1}, {"a": ["b"]}, {"a": {"c": {}}}])
def test_tree_of_another_shape_is_left_to_the_decoder(tree: object) -> None:
    assert unavailable_parts(tree, {"a.*.b": ANY}) == []
