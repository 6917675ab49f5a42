"""Durations, sizes, origins and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.values import (
    parse_duration,
    parse_duration_or_zero,
    parse_name,
    parse_origin,
    parse_size,
    parse_url_path,
    show_duration,
    show_size,
)

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
PARSERS = (parse_duration, parse_duration_or_zero, parse_size, parse_origin, parse_name, parse_url_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("2d", 172800.0)],
)
def test_duration_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "raw", ["10", "s", "-1s", "1 s", "1s\n", "1m30s", "1e3s", "١s", "1S", "", None, True]
)
def test_what_is_no_duration_is_refused_with_examples(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 250ms, 10s"):
        parse_duration(raw)


def test_number_without_unit_is_refused_with_the_unit_to_add() -> None:
    with pytest.raises(ValueError, match="without a unit: write 30s"):
        parse_duration(30)
    with pytest.raises(ValueError, match="without a unit: write 32MiB"):
        parse_size(32)


def test_only_some_durations_may_be_zero() -> None:
    assert parse_duration_or_zero("0s") == 0
    with pytest.raises(ValueError, match="longer than 0"):
        parse_duration("0s")


def test_absurd_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="is the unit right"):
        parse_duration("99999d")


@given(st.integers(min_value=1, max_value=10**10))
def test_shown_duration_reads_back_the_same(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512B", 512),
        ("64KiB", 65536),
        ("32MiB", 33554432),
        ("1.5GiB", 1610612736),
        ("2KB", 2000),
        ("1MB", 10**6),
    ],
)
def test_size_is_read_in_its_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("raw", ["32", "MiB", "-1B", "32mb", "1 MiB", "1B\n", None, False])
def test_what_is_no_size_is_refused_with_examples(raw: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512B, 64KiB"):
        parse_size(raw)


@pytest.mark.parametrize(("text", "message"), [("0B", "at least 1B"), ("1.3B", "whole number of bytes")])
def test_size_is_at_least_a_byte_and_whole(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**15 - 1))
def test_shown_size_reads_back_the_same(size_bytes: int) -> None:
    assert parse_size(show_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("vscode-webview://abc", "vscode-webview://abc"),
    ],
)
def test_origin_is_kept_as_browsers_send_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app.example", "expected an origin"),
        ("*", "expected an origin"),
        ("null", "expected an origin"),
        ("https://", "expected an origin"),
        ("https://u@app.example", "expected an origin"),
        ("https://app.example:99999", "expected an origin"),
        ("https://app.example/", "ends after the host"),
        ("https://app.example?a", "ends after the host"),
    ],
)
def test_what_is_no_origin_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_origin(text)


@pytest.mark.parametrize("raw", ["", "two words", "a\r\nx-evil: 1", "a\n", "é", "x" * 257, None, []])
def test_name_that_could_not_stand_in_a_header_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        parse_name(raw)


def test_number_as_a_name_is_to_be_quoted() -> None:
    with pytest.raises(ValueError, match='quote it, "12"'):
        parse_name(12)


def test_path_begins_with_a_slash() -> None:
    assert parse_url_path("/models?limit=1") == "/models?limit=1"
    with pytest.raises(ValueError, match="begins with /"):
        parse_url_path("models")


@given(ANYTHING)
def test_parsers_raise_only_value_errors(raw: object) -> None:
    for parse in PARSERS:
        try:
            parse(raw)
        except ValueError as error:
            assert str(error)
