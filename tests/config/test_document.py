"""YAML in, plain tree out; whatever is not such a tree is a ConfigError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.document import MAX_BYTES, parse
from sidecar.config.problems import ConfigError


def message_of(content: bytes) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(content)
    return str(raised.value)


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = b"[off, no, y, 1:30, 010, 1_0, true, null, ~, 2027-01-31, -1, .5, 1e3, '5', \"null\", 0x10, .inf]"
    assert parse(text) == [
        *("off", "no", "y", "1:30", 10, "1_0", True, None, None),
        *("2027-01-31", -1, 0.5, 1000.0, "5", "null", "0x10", ".inf"),
    ]


def test_empty_document_is_none() -> None:
    assert parse(b"") is parse(b"# only this\n") is parse(b"---\n") is None


def test_anchors_and_merges_are_understood_and_own_keys_win() -> None:
    anchors = b"base: &base {a: 1, b: 1}\nmore: &more {b: 2, c: 2}\n"
    tree = parse(anchors + b"x: {<<: [*base, *more], a: 3}\ny: {<<: *base}")
    assert tree["x"] == {"a": 3, "b": 1, "c": 2}
    assert tree["y"] == {"a": 1, "b": 1}


def test_quoted_merge_key_is_a_plain_key() -> None:
    assert parse(b'{"<<": 1}') == {"<<": 1}


def test_every_duplicate_key_is_named_with_both_lines() -> None:
    assert message_of(b"a: 1\nb:\n  - c: 1\n    c: 2\na: 2\n").splitlines() == [
        "b[0].c: appears twice, on lines 3 and 4: keep one",
        "a: appears twice, on lines 1 and 5: keep one",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1,\n", "line 2, column 1: not valid YAML: "),
        (b"a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed"),
        (b"\ta: 1", "indent with spaces"),
        (b"*: {a: 1}", 'write the name * in quotes, "*"'),
        (b"a: !!python/name:os.system x", "a: line 1: tags"),
        (b"a: *b", "a: line 1: alias *b has no anchor"),
        (b"a: &x [*x]", "a[0]: line 1: alias *x has no anchor"),
        (b"? [a]\n: 1", "line 1: a key must be plain text"),
        (b"a: {<<: 1}", "a.<<: expected a mapping"),
        (b"--- 1\n--- 2", "line 2: a second document"),
        (b"a: \xff", "not UTF-8 text (byte 3)"),
        (b"a: \0", "not valid YAML: "),
        (b"#" * (MAX_BYTES + 1), "larger than 1 MiB"),
        (b"[" * 100_000, "nested deeper than 64 levels"),
        (b"{a: " * 100_000, "nested deeper than 64 levels"),
        (b"- " * 100_000, "nested deeper than 64 levels"),
        (b"[" + b"1," * 100_001 + b"]", "unfolds to more than 100000 values"),
    ],
)
def test_what_is_no_tree_is_refused(content: bytes, message: str) -> None:
    assert message in message_of(content)


def test_aliases_count_at_their_full_size() -> None:
    tens = [f"*a{n}," * 10 for n in range(9)]
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{ten}]\n" for n, ten in enumerate(tens, 1))
    merges = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{ten}]}}\n" for n, ten in enumerate(tens, 1))
    assert "unfolds to more than" in message_of(laughs.encode())
    assert "unfolds to more than" in message_of(merges.encode())


YAML_LIKE = st.text(alphabet=" \n\t-:,[]{}&*!|>'\"%@`#?<ab01~", max_size=60).map(str.encode)


@given(st.binary(max_size=200) | YAML_LIKE)
def test_any_bytes_are_a_tree_or_a_config_error(content: bytes) -> None:
    try:
        parse(content)
    except ConfigError as error:
        assert error.problems
