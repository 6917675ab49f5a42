"""Counting entries, and adding rows up without losing anything."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from sidecar.exchange import Usage
from sidecar.usage.rows import FIGURES, Entry, Row, Rows, bounded, count, merge
from tests.usage.support import MINUTE, labels, row

NAMES = st.sampled_from("abc")
KEYS = st.tuples(
    st.integers(MINUTE, MINUTE + 5000),
    st.builds(labels, NAMES, st.integers(0, 50).map(str), NAMES, st.sampled_from([2, 4, 5])),
)
ROWS = st.dictionaries(
    KEYS,
    st.lists(st.integers(-(10**20), 10**20), min_size=len(FIGURES), max_size=len(FIGURES)),
    max_size=12,
)


def counted(*entries: Entry) -> dict[str, int]:
    """The figures that are not 0 after these entries."""
    total = row()
    for entry in entries:
        count(total, entry)
    return {name: figure for name, figure in zip(FIGURES, total, strict=True) if figure}


def sums(rows: Rows) -> Row:
    return [sum(column) for column in zip(row(), *rows.values(), strict=True)]


# --- entries ---


def test_an_answer_is_counted_with_all_its_figures() -> None:
    entry = Entry(labels(), Usage(10, 5, 4, 3), 70, saved_nano_usd=-20, attempts=2, duration_ms=33)
    assert counted(entry, entry) == {
        "requests": 2,
        "attempts": 4,
        "input_tokens": 20,
        "output_tokens": 10,
        "cached_tokens": 8,
        "reasoning_tokens": 6,
        "cost_nano_usd": 140,
        "saved_nano_usd": -40,
        "duration_ms": 66,
    }


def test_a_failed_attempt_that_cost_something_is_charged_but_is_no_request() -> None:
    part = Entry(labels(), Usage(10, 5), 70, duration_ms=9, failed=True, is_request=False)
    whole = Entry(labels(), Usage(10, 6), 80, duration_ms=33)
    found = counted(part, whole)
    assert (found["requests"], found["attempts"], found["duration_ms"]) == (1, 2, 33)
    assert (found["cost_nano_usd"], found["output_tokens"]) == (150, 11)
    assert "failures" not in found


def test_tokens_without_a_price_are_unpriced_and_save_nothing() -> None:
    found = counted(Entry(labels(version=""), Usage(10, 5), None, saved_nano_usd=9))
    assert found["unpriced"] == 1
    assert "cost_nano_usd" not in found and "saved_nano_usd" not in found


def test_an_answer_out_of_the_cache_saves_and_wants_no_figures() -> None:
    found = counted(Entry(labels(), None, None, saved_nano_usd=9, attempts=0))
    assert found == {"requests": 1, "saved_nano_usd": 9}


def test_what_is_free_is_priced_and_no_tokens_need_no_price() -> None:
    assert "unpriced" not in counted(Entry(labels(), Usage(10, 5), 0))
    assert "unpriced" not in counted(Entry(labels(), Usage(0, 0), None))


def test_what_has_no_figures_or_estimated_ones_is_unmetered() -> None:
    none = Entry(labels(), None, None, is_unmetered=True)
    assert counted(none) == {"requests": 1, "attempts": 1, "unmetered": 1}
    found = counted(Entry(labels(), Usage(10, 5), 150, is_unmetered=True))
    assert (found["unmetered"], found["cost_nano_usd"], found["output_tokens"]) == (1, 150, 5)


def test_what_has_all_its_figures_or_needs_none_is_not() -> None:
    assert "unmetered" not in counted(Entry(labels(), Usage(10, 5), 150))
    assert "unmetered" not in counted(Entry(labels(status_class=5), None, None, failed=True))


# --- sums ---


@given(st.lists(ROWS, max_size=6), st.randoms())
def test_batches_add_up_to_the_same_in_any_order(batches: list[Rows], random: object) -> None:
    one, other = Rows(), Rows()
    before = copy.deepcopy(batches)
    for batch in batches:
        merge(one, batch)
    random.shuffle(batches)  # type: ignore[attr-defined]
    for batch in batches:
        merge(other, batch)
    assert one == other
    assert sorted(map(repr, batches)) == sorted(map(repr, before))


@given(ROWS, st.integers(1, 30))
def test_rows_in_bounds_have_the_same_sums(rows: Rows, limit: int) -> None:
    before = sums(rows)
    fewer = bounded(rows, limit)
    assert sums(fewer) == before
    days = {minute // 1440 for minute, _ in rows}
    assert len(fewer) <= max(limit, 3 * len(days))


def test_rows_within_bounds_keep_every_detail() -> None:
    rows = {(MINUTE + index, labels()): row(requests=1) for index in range(10)}
    assert bounded(rows, 10) is rows


def test_detail_goes_by_steps_minutes_first_and_labels_last() -> None:
    hour = MINUTE - MINUTE % 60
    rows = {
        (hour + minute, labels(key=key, model=model)): row(requests=1)
        for minute in (0, 1)
        for key in "xyz"
        for model in "ab"
    }
    assert {minute for minute, _ in bounded(rows, 6)} == {hour}
    by_model = bounded(rows, 2)
    assert {key[1][1] for key in by_model} == {"other"} and {key[1][3] for key in by_model} == {"a", "b"}
    ((_, bare),) = bounded(rows, 1)
    assert set(bare[:7]) == {"other"} and bare[7] == 2


def test_a_flood_of_rows_ends_in_few() -> None:
    rows = {(MINUTE + i % 1440, labels(team=f"t{i}", key=f"k{i}")): row(requests=1) for i in range(5000)}
    assert len(bounded(rows, 100)) <= 2
    assert sums(bounded(rows, 100))[0] == 5000
