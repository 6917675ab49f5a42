"""The ledger's file: sums in SQLite, shared by processes, and never somebody else's database."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from sidecar.usage.store import (
    APPLICATION_ID,
    MAX_FIGURE,
    VERSION,
    Spent,
    Store,
    StoreError,
    open_read_only,
    spent,
)
from tests.usage.support import MINUTE, corrupt, labels, one, row, total_of


def opened(path: Path) -> Store:
    store = Store(str(path))
    store.open()
    return store


def made(
    path: Path, *batches: dict[tuple[int, tuple[str, str, str, str, str, str, str, int]], list[int]]
) -> None:
    store = opened(path)
    for batch in batches:
        store.add(batch)
    store.close()


# --- writing ---


def test_rows_are_added_to_those_that_stand_there(path: Path) -> None:
    made(path, one(5), one(6), one(7, team="other"))
    made(path, one(100))
    assert total_of(path) == 118
    assert total_of(path, "requests") == 4
    assert total_of(path, "1") == 2  # rows


def test_the_file_says_whose_it_is_and_others_may_not_read_it(path: Path) -> None:
    made(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO == 0


def test_an_empty_file_is_brought_to_todays_form(path: Path) -> None:
    path.touch()
    made(path, one(5))
    assert total_of(path) == 5


def test_a_batch_is_written_whole_or_not_at_all(path: Path) -> None:
    store = opened(path)
    store.add(one(5))
    broken = one(6, team="a") | {(2**70, labels("b")): row(cost_nano_usd=1)}
    with pytest.raises(OverflowError):
        store.add(broken)
    store.close()
    assert total_of(path) == 5


def test_figures_no_database_could_hold_are_cut_off_and_do_no_harm(path: Path) -> None:
    store = opened(path)
    for _ in range(3):
        store.add({(MINUTE, labels()): row(cost_nano_usd=10**30, saved_nano_usd=-(10**30), requests=1)})
    store.close()
    assert total_of(path) == MAX_FIGURE
    assert total_of(path, "saved_nano_usd") == -MAX_FIGURE
    assert total_of(path, "requests") == 3


@pytest.mark.parametrize("name", ["\udcff", "a\0b", "'; DROP TABLE usage; --", "河流 🌊", ""])
def test_any_name_can_be_stored(path: Path, name: str) -> None:
    made(path, one(5, team=name), one(6, team=name))
    assert total_of(path) == 11
    assert total_of(path, "1") == 1


def test_old_minutes_are_dropped(path: Path) -> None:
    store = opened(path)
    store.add(one(5, MINUTE - 1) | one(6, MINUTE))
    store.drop_before(MINUTE)
    store.close()
    assert total_of(path) == 6


def test_two_writers_at_once_lose_nothing(path: Path) -> None:
    failures: list[Exception] = []

    def write() -> None:
        try:
            store = opened(path)
            for _ in range(40):
                store.add(one(1))
            store.close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert total_of(path) == 120


# --- what cannot be written to ---


def test_a_database_of_something_else_is_left_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE usage (photos TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="something else: give another path"):
        opened(path)
    assert path.read_bytes() == before


def test_a_database_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    made(path, one(5))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    for use in (opened, lambda path: open_read_only(str(path))):
        with pytest.raises(StoreError, match="newer version") as raised:
            use(path)
        assert not raised.value.is_corrupt


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere/usage.db", "No such file or directory"), (".", "is a directory"), ("x" * 300, "too long")],
)
def test_a_path_that_cannot_be_is_said_plainly(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        opened(tmp_path / name)


def test_a_locked_file_is_an_error_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.usage.store.BUSY_TIMEOUT_S", 0.01)
    store = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.add(one())
    other.close()
    store.close()


def test_garbage_and_broken_pages_are_told_from_other_troubles(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be sure of it" * 50)
    with pytest.raises(StoreError) as garbage:
        opened(path)
    path.unlink()
    made(path, one(5))
    corrupt(path)
    with pytest.raises(StoreError) as broken:
        made(path, one(6))
    assert garbage.value.is_corrupt and broken.value.is_corrupt


def test_a_file_moved_aside_keeps_its_content_and_makes_room(path: Path) -> None:
    store = opened(path)
    store.add(one(5))
    moved = Path(store.move_aside(".corrupt-1"))
    assert moved == path.with_name("usage.db.corrupt-1")
    assert not path.exists() and total_of(moved) == 5


def test_what_is_still_in_the_log_is_moved_with_the_file(path: Path) -> None:
    store = opened(path)
    store.add(one(5))
    reader = open_read_only(str(path))  # keeps the log from being written back at the end
    moved = Path(store.move_aside(".corrupt-1"))
    assert sorted(found.name for found in path.parent.iterdir()) == [
        moved.name,
        f"{moved.name}-shm",
        f"{moved.name}-wal",
    ]
    reader.close()
    assert total_of(moved) == 5


def test_the_new_file_of_a_faster_process_is_not_moved_aside(path: Path) -> None:
    slower, faster = opened(path), opened(path)
    faster.move_aside(".corrupt-1")
    made(path, one(7))
    assert slower.move_aside(".corrupt-2") == ""
    assert total_of(path) == 7


def test_a_store_knows_when_its_file_is_gone(path: Path) -> None:
    store = opened(path)
    states = [store.is_in_place]
    path.unlink()
    states.append(store.is_in_place)
    made(path)
    states.append(store.is_in_place)
    store.close()
    assert states == [True, False, False]


# --- reading ---


def test_what_was_spent_is_told_by_caller_from_each_minute_asked_for_to_the_next(path: Path) -> None:
    made(
        path, one(5), one(6), one(1, MINUTE - 1), one(7, key="other"), one(0, MINUTE + 1), one(2, MINUTE + 9)
    )
    assert spent(str(path), [MINUTE]) == [
        Spent(MINUTE, "t", "k", "m", 13),
        Spent(MINUTE, "t", "other", "m", 7),
    ]
    assert spent(str(path), [MINUTE + 1, 0, MINUTE]) == [
        Spent(0, "t", "k", "m", 1),
        Spent(MINUTE, "t", "k", "m", 11),
        Spent(MINUTE, "t", "other", "m", 7),
        Spent(MINUTE + 1, "t", "k", "m", 2),
    ]
    assert spent(str(path), [MINUTE + 10]) == []


def test_lies_that_add_up_to_more_than_64_bits_are_told_exactly(path: Path) -> None:
    made(path, *(one(10**18, MINUTE + minute) for minute in range(100)), one(7))
    assert spent(str(path), [0]) == [Spent(0, "t", "k", "m", 100 * MAX_FIGURE)]
    assert 100 * MAX_FIGURE > 2**63


def test_readers_see_what_is_committed_while_a_writer_is_at_work(path: Path) -> None:
    made(path, one(5))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE usage SET cost_nano_usd = 1000")
    assert [line.cost_nano_usd for line in spent(str(path), [0])] == [5]
    writer.close()


def test_a_reader_cannot_write(path: Path) -> None:
    made(path, one(5))
    connection = open_read_only(str(path))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM usage")
    connection.close()


@pytest.mark.parametrize("name", ["usage db?mode=rw#1%20.db", "河.db", ":memory:"])
def test_a_name_with_signs_of_a_url_is_a_name(tmp_path: Path, name: str) -> None:
    made(tmp_path / name, one(5))
    assert [line.cost_nano_usd for line in spent(str(tmp_path / name), [0])] == [5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"", "no usage yet"), (b"x" * 5000, "not a sound database")],
)
def test_what_cannot_be_read_is_said_plainly_and_left_as_it_is(
    path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=reason):
        open_read_only(str(path))
    assert (path.read_bytes() if path.exists() else None) == content
