"""Trees of nodes: what they stand for, what is added, and that hostile ones neither crash nor explode."""

from typing import Any

import pytest
import yaml

from sidecar.k8s.nodes import BadManifest, add, find, node_of, text, unfolded, value_of


def tree(written: str) -> Any:
    return yaml.compose(written, yaml.SafeLoader)


def written(node: Any) -> str:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper))


# --- values ---


@pytest.mark.parametrize(
    "scalar",
    [
        *("!!int many", "!!float much", "!!bool perhaps", "!!int ''", "!!float ''", "0b_", "0x_", "9" * 5000),
        *("!!timestamp never", "!!binary '*'", "!own thing", "!!python/name:os.system x"),
    ],
)
def test_a_scalar_that_is_not_what_it_says_is_text(scalar: str) -> None:
    (value,) = value_of(tree(f"a: {scalar}")).values()
    assert isinstance(value, str)
    assert scalar.split()[-1].strip("'") == value


def test_the_others_are_what_they_say() -> None:
    node = tree("{a: 0644, b: 0x10, c: 1.5, d: yes, e: ~, f: '1', g: [1, {h: i}]}")
    assert value_of(node) == {
        "a": 420,
        "b": 16,
        "c": 1.5,
        "d": True,
        "e": None,
        "f": "1",
        "g": [1, {"h": "i"}],
    }


def test_keys_that_are_no_text_are_left_out() -> None:
    assert value_of(tree("{? [a] : b, ? {c: d} : e, f: g}")) == {"f": "g"}


# --- looking ---


def test_a_way_that_ends_early_leads_nowhere() -> None:
    node = tree("{a: {b: c}, d: [e]}")
    assert text(node, "a", "b") == "c"
    assert [text(node, *way) for way in (("a",), ("a", "b", "c"), ("d", "e"), ("x",), ("x", "y"))] == [""] * 5
    assert find(None, "a") is None


# --- adding ---


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("{a: []}", "/a/-", "{a: [n]}"),
        ("{a: [b]}", "/a/0", "{a: [n, b]}"),
        ("{a: [b]}", "/a/-", "{a: [b, n]}"),
        ("{a: {}}", "/a/x", "{a: {x: n}}"),
        ("{a: [{b: {}}]}", "/a/0/b/x", "{a: [{b: {x: n}}]}"),
        ("{a: null, b: c}", "/a", "{b: c, a: n}"),
    ],
)
def test_what_is_added_stands_where_the_patch_says(before: str, path: str, after: str) -> None:
    node = tree(before)
    add(node, path, "n")
    assert value_of(node) == value_of(tree(after))


@pytest.mark.parametrize(
    "name", ["1e3", "0o17", "1", "1.5", "0x1f", "y", "N", "on", "null", "1E400", "+1", ".5"]
)
def test_added_text_is_quoted_where_kubernetes_could_take_it_for_something_else(name: str) -> None:
    assert written(node_of([name])) == f"- '{name}'\n"


@pytest.mark.parametrize("name", ["ai-sidecar", "64Mi", "50m", "--config", "y1", "1.2.3-a", "e3"])
def test_other_added_text_is_plain(name: str) -> None:
    assert written(node_of([name])) == f"- {name}\n"


def test_added_values_share_nothing() -> None:
    shared = {"a": "b"}
    assert "&" not in written(node_of([shared, shared]))


# --- aliases ---


def test_aliases_and_merges_are_written_out() -> None:
    node = unfolded(tree("{a: &a {b: 1, c: 2}, d: *a, e: {<<: *a, b: 3}, f: {<<: [{b: 4}, *a]}}"))
    assert value_of(node) == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 3, "c": 2},
        "f": {"b": 4, "c": 2},
    }
    add(node, "/d/new", "n")
    assert "new" not in value_of(node)["a"]


def test_a_billion_laughs_are_refused() -> None:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]
    with pytest.raises(BadManifest, match="unfold to more than"):
        unfolded(tree("\n".join(["a0: &a0 x", *levels])))
