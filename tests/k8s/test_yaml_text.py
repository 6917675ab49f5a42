"""YAML in, YAML out: scalars as they were written, nothing at all where nothing is changed."""

import pytest
import yaml
from yaml.nodes import Node

from sidecar.k8s.nodes import BadManifest, add, text, unfolded
from sidecar.k8s.yaml_text import rewritten


def marked(node: Node) -> Node | None:
    """A change to pods."""
    if text(node, "kind") != "Pod":
        return None
    node = unfolded(node)
    add(node, "/new", "value")
    return node


PLAIN = [
    *(
        "0644",
        "0o17",
        "0x1F",
        "1_000",
        "1e3",
        "1.50",
        "+1",
        "12:30:45",
        "2024-01-01",
        "yes",
        "Off",
        "~",
        "null",
    ),
    *("y", ".inf", "''", '"8080"', "'yes'", "8080", "a b", "=", "<"),
]


@pytest.mark.parametrize("scalar", PLAIN)
def test_a_scalar_means_to_kubernetes_what_it_meant(scalar: str) -> None:
    """Plain ones that Kubernetes takes for no text are never quoted, and quoted ones stay quoted."""
    line = next(one for one in rewritten(f"kind: Pod\nx: {scalar}\n", marked).splitlines() if one[0] == "x")
    if scalar in ("12:30:45", "2024-01-01", "="):
        assert yaml.safe_load(line) == {"x": scalar}
    else:
        assert line == f"x: {scalar}"


@pytest.mark.parametrize(
    "kept",
    [
        "# comment\nkind: Service   # another\r\n",
        "---\n---\n",
        "",
        "\n\n",
        "a: &a [1]\nb: *a\n",
        "{kind: Service}",
        "%YAML 1.2\n---\nkind: Service\n...\n",
    ],
)
def test_a_text_in_which_nothing_changes_goes_out_as_it_came(kept: str) -> None:
    assert rewritten(kept, marked) == kept


def test_documents_beside_a_changed_one_keep_their_aliases_and_empty_ones_go() -> None:
    written = rewritten("a: &a [1]\nb: *a\n---\n---\nkind: Pod\nc: &c {d: e}\nf: *c\n", marked)
    assert written == "---\na: &a [1]\nb: *a\n---\nkind: Pod\nc: {d: e}\nf: {d: e}\nnew: value\n".replace(
        "&a", "&id001"
    ).replace("*a", "*id001")


def test_no_document_begins_with_a_brace_or_beside_the_dashes() -> None:
    assert rewritten("{kind: Pod, x: {a: b}}", marked) == "kind: Pod\nx: {a: b}\nnew: value\n"
    both = rewritten("--- {kind: Service}\n--- {kind: Pod}\n", marked)
    assert both == "---\nkind: Service\n---\nkind: Pod\nnew: value\n"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a:\n\t- b\n", "line 2, column 1: not valid YAML: found character"),
        ("a: [", "line 1, column 5: not valid YAML"),
        ("a: *b", "line 1, column 4: not valid YAML: found undefined alias"),
        ("a: \x00", "not valid YAML: special characters are not allowed"),
        ("kind: Pod\n<<: [1]", "line 2: << takes a mapping"),
    ],
)
def test_what_is_no_yaml_is_refused_with_the_place(wrong: str, message: str) -> None:
    with pytest.raises(BadManifest, match=message):
        rewritten(wrong, marked)
