"""Sums of the ledger: exact, whatever they are grouped by."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.usage.report import GROUPS, Report, Window, report
from sidecar.usage.rows import FIGURES, Rows
from sidecar.usage.store import MAX_FIGURE, Store, open_read_only
from tests.usage.support import MINUTE, labels, one, row


def minute_of(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // 60


@contextmanager
def ledger_with(*batches: Rows) -> Iterator[sqlite3.Connection]:
    """A ledger with these rows, to be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "usage.db")
        store = Store(path)
        store.open()
        for batch in batches:
            store.add(batch)
        store.close()
        connection = open_read_only(path)
        try:
            yield connection
        finally:
            connection.close()


def report_of(*batches: Rows, by: tuple[str, ...] = ("team",), window: Window | None = None) -> Report:
    """The report of a ledger with these rows."""
    with ledger_with(*batches) as connection:
        return report(connection, by, window or Window())


def costs(found: Report) -> dict[tuple[str, ...], int]:
    return {line.group: line.figures["cost_nano_usd"] for line in found.lines}


def test_lines_are_sums_by_group_in_the_order_of_their_names() -> None:
    found = report_of(one(5, team="b"), one(6, team="a"), one(7, team="b", key="other"))
    assert list(costs(found).items()) == [(("a",), 6), (("b",), 12)]
    assert found.total.figures["cost_nano_usd"] == 18
    assert found.total.figures["requests"] == 3


def test_lines_may_be_grouped_by_days_and_months_of_utc() -> None:
    minutes = ["2026-10-31T23:59", "2026-11-01T00:00", "2026-11-01T23:59", "2026-11-02T00:00"]
    batches = [one(1, minute_of(text)) for text in minutes]
    assert costs(report_of(*batches, by=("month", "team"))) == {("2026-10", "t"): 1, ("2026-11", "t"): 3}
    by_day = {("2026-10-31",): 1, ("2026-11-01",): 2, ("2026-11-02",): 1}
    assert costs(report_of(*batches, by=("day",))) == by_day


@pytest.mark.parametrize(
    ("window", "total"),
    [
        (Window(), 1111),
        (Window(first=date(2026, 11, 1)), 1110),
        (Window(last=date(2026, 11, 1)), 111),
        (Window(date(2026, 11, 1), date(2026, 11, 1)), 110),
        (Window(date(2027, 1, 1), date(9999, 12, 31)), 0),
    ],
)
def test_a_window_is_whole_days_both_included(window: Window, total: int) -> None:
    minutes = ["2026-10-31T23:59", "2026-11-01T00:00", "2026-11-01T23:59", "2026-11-02T00:00"]
    batches = [one(10**index, minute_of(text)) for index, text in enumerate(minutes)]
    assert report_of(*batches, window=window).total.figures["cost_nano_usd"] == total


def test_availability_is_the_share_that_did_not_fail() -> None:
    rows = {(MINUTE, labels()): row(requests=4, failures=1), (MINUTE, labels("cache")): row(attempts=1)}
    found = report_of(rows)
    assert [line.availability for line in found.lines] == [None, 0.75]


def test_models_whose_figures_are_missing_are_named() -> None:
    rows = {
        (MINUTE, labels(model="b")): row(unpriced=1),
        (MINUTE, labels(model="a", key="x")): row(unpriced=1),
        (MINUTE, labels(model="a", key="y")): row(unpriced=2),
        (MINUTE, labels(model="c")): row(unmetered=1),
        (MINUTE - 50_000, labels(model="old")): row(unpriced=1),
    }
    found = report_of(rows, window=Window(first=datetime.fromtimestamp(MINUTE * 60, UTC).date()))
    assert (found.unpriced_models, found.unmetered_models) == (["a", "b"], ["c"])


def test_sums_beyond_64_bits_are_exact() -> None:
    count = 200
    rows = {
        (MINUTE + index, labels()): row(cost_nano_usd=MAX_FIGURE, saved_nano_usd=-MAX_FIGURE)
        for index in range(count)
    }
    total = report_of(rows).total.figures
    assert total["cost_nano_usd"] == count * MAX_FIGURE > 2**63
    assert total["saved_nano_usd"] == -count * MAX_FIGURE


NAMES = st.sampled_from(["a", "b", "=c"])
ROWS = st.dictionaries(
    st.tuples(st.integers(MINUTE, MINUTE + 90_000), st.builds(labels, NAMES, NAMES, NAMES)),
    st.lists(st.integers(-MAX_FIGURE, MAX_FIGURE), min_size=len(FIGURES), max_size=len(FIGURES)),
    max_size=20,
)


GROUPINGS = [by for size in (1, 2, len(GROUPS)) for by in combinations(GROUPS, size)]


@settings(max_examples=15)
@given(ROWS)
def test_any_grouping_has_the_same_exact_total(rows: Rows) -> None:
    expected = [sum(figures) for figures in zip(row(), *rows.values(), strict=True)]
    with ledger_with(rows) as connection:
        for by in GROUPINGS:
            found = report(connection, by, Window())
            assert list(found.total.figures.values()) == expected
            assert len({line.group for line in found.lines}) == len(found.lines)


def test_an_empty_ledger_has_an_empty_report() -> None:
    found = report_of()
    assert found.lines == []
    assert set(found.total.figures.values()) == {0}


def test_a_report_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    store = Store(str(path))
    store.open()
    store.add(one(5))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    connection = open_read_only(str(path))
    assert report(connection, ("team",), Window()).total.figures["cost_nano_usd"] == 5
    connection.close()
    writer.close()
    store.close()
