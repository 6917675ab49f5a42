"""JSON in, JSON out: what is not changed keeps every byte, what is changed its values and indentation."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml.nodes import Node

from sidecar.k8s.json_text import rewritten
from sidecar.k8s.nodes import BadManifest, add, text

POD = {
    "kind": "Pod",
    "name": "é😀",
    "n": [1, 2.5, -0.0, 1e3, 12345678901234567890],
    "x": [None, True, {}, []],
}


def marked(node: Node) -> Node | None:
    """A change to pods."""
    if text(node, "kind") != "Pod":
        return None
    add(node, "/new", {"text": "1e3", "on": "yes", "of": [1, None]})
    return node


def values_in(written: str | None) -> list[Any]:
    assert written is not None
    found, at = [], 0
    while at < len(written.rstrip()):
        at += len(written[at:]) - len(written[at:].lstrip())
        value, at = json.JSONDecoder().raw_decode(written, at)
        found.append(value)
    return found


NEW = {"new": {"text": "1e3", "on": "yes", "of": [1, None]}}


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
def test_a_changed_document_has_all_its_values_and_its_indentation(indent: Any) -> None:
    written = rewritten(json.dumps(POD, indent=indent), marked)
    assert values_in(written) == [POD | NEW]
    assert written == json.dumps(POD | NEW, indent=indent or 2)


def test_text_that_is_not_ascii_stays_so_and_escapes_stay_escapes() -> None:
    assert "é😀" in str(rewritten(json.dumps(POD, ensure_ascii=False), marked))
    assert r"\u00e9\ud83d\ude00" in str(rewritten(json.dumps(POD), marked))


@pytest.mark.parametrize("between", ["", "\n", "\r\n\n \t"])
def test_documents_one_after_another_are_changed_each_by_itself(between: str) -> None:
    other = '{ "kind":"Service" ,"x" : 1.50e1}'
    end = "\n\n"
    written = rewritten(f"  {other}{between}{json.dumps(POD)}{between}{other}{end}", marked)
    assert values_in(written)[1] == POD | NEW
    assert str(written).startswith(f"  {other}{between}{{\n  ")
    assert str(written).endswith(f"}}{between}{other}{end}")


def test_of_a_key_that_stands_there_twice_the_last_counts_as_for_kubectl() -> None:
    assert values_in(rewritten('{"kind":"Service","kind":"Pod"}', marked)) == [{"kind": "Pod"} | NEW]


@pytest.mark.parametrize(
    "other",
    [
        "",
        " \n",
        "[]",
        '"text"',
        "kind: Pod",
        "{kind: Pod}",
        '{"kind": "Pod",}',
        "{'kind': 'Pod'}",
        '# comment\n{"kind": "Pod"}',
        '{"kind": "Pod"}\n---\n{"kind": "Pod"}',
        '{"kind": NaN}',
        '{"kind": -Infinity}',
        '{"kind": ' + "9" * 5000 + "}",
        '{"kind": "Pod"',
        "\x00{}",
    ],
)
def test_what_is_not_json_is_left_to_others(other: str) -> None:
    assert rewritten(other, marked) is None


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("\n{", "line 2, column 2: not valid JSON: Expecting property name"),
        (" nonsense", "line 1, column 17: not valid JSON: Expecting value"),
        ('\n{"a": NaN}', "not valid JSON: NaN is not JSON"),
        ("\x0c{}", "not valid JSON"),
        ("\nkind: Pod", "line 2, column 1: not valid JSON"),
    ],
)
def test_json_that_goes_on_as_something_else_is_refused_with_the_place(rest: str, message: str) -> None:
    with pytest.raises(BadManifest, match=message):
        rewritten('{"kind": "Pod"}' + rest, marked)


def test_a_number_beyond_all_that_kubernetes_takes_is_refused_where_it_would_be_written_anew() -> None:
    assert rewritten('{"kind": "Service", "x": 1e999}', marked) == '{"kind": "Service", "x": 1e999}'
    with pytest.raises(BadManifest, match="a number is too large"):
        rewritten('{"kind": "Pod", "x": 1e999}', marked)


@given(
    tree=st.dictionaries(
        st.text(max_size=4),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    ),
    indent=st.sampled_from([None, 2]),
)
def test_any_document_keeps_its_values(tree: dict[str, Any], indent: int | None) -> None:
    document = {"kind": "Pod"} | {key: value for key, value in tree.items() if key not in ("kind", "new")}
    written = rewritten(json.dumps(document, indent=indent), marked)
    assert values_in(written) == [document | NEW]
