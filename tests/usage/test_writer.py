"""Whatever is wrong with the file, nothing is lost that memory can hold."""

import logging
import os
import sqlite3
from pathlib import Path

import pytest

from sidecar.usage.rows import Rows
from sidecar.usage.writer import RETENTION_DAYS, RETRY_S, Writer
from tests.usage.support import (
    MINUTE,
    UNIX_S,
    corrupt,
    full_disk,
    labels,
    messages,
    one,
    row,
    total_of,
)


class Clocked:
    """A writer whose clock the test moves on."""

    def __init__(self, path: Path, **options: int) -> None:
        self.writer = Writer(str(path), **options)
        self.now_s = 100.0

    def write(self, rows: Rows | None = None, *, after_s: float = 0.5, is_last: bool = False) -> bool:
        """Write, some time later; returns whether all is in the file."""
        self.now_s += after_s
        self.writer.write(rows or {}, self.now_s, UNIX_S + self.now_s, is_last=is_last)
        return not self.writer.is_degraded and not self.writer.waiting


def test_rows_are_in_the_file_at_once(path: Path) -> None:
    clocked = Clocked(path)
    assert clocked.write(one(5)) and clocked.write(one(6))
    assert total_of(path) == 11
    assert clocked.writer.failures == 0


@pytest.mark.parametrize("trouble", ["folder is missing", "is a directory"])
def test_a_path_in_trouble_costs_memory_until_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    path = tmp_path / "folder" / "usage.db"
    if trouble == "is a directory":
        path.mkdir(parents=True)
    clocked = Clocked(path)
    for _ in range(20):
        assert not clocked.write(one(1))
    assert clocked.writer.is_degraded
    assert 1 < clocked.writer.failures < 20  # not every time
    assert len(caplog.records) == 1 and "kept in memory" in caplog.text and str(path) in caplog.text
    if trouble == "is a directory":
        path.rmdir()
    path.parent.mkdir(exist_ok=True)
    assert clocked.write(one(1), after_s=RETRY_S)
    assert total_of(path) == 21
    assert len(caplog.records) == 2 and "nothing was lost" in caplog.text


def test_a_full_disk_costs_memory_until_there_is_room(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clocked = Clocked(path)
    assert clocked.write(one(1))
    with full_disk(os.path.getsize(path) + 4096):
        written = 1
        while clocked.write(big_batch(written)):
            written += 1
            assert written < 100
        assert not clocked.write(big_batch(written + 1), after_s=RETRY_S)
    assert clocked.writer.is_degraded and clocked.writer.failures == 2
    assert len(caplog.records) == 1
    assert clocked.write(after_s=RETRY_S)
    assert total_of(path, "requests") == 1 + 50 * (written + 1)


def big_batch(number: int) -> Rows:
    return {(MINUTE, labels(team=f"{number}-{i}" * 20)): row(requests=1) for i in range(50)}


def test_a_file_held_by_another_costs_memory_until_it_is_free(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.usage.store.BUSY_TIMEOUT_S", 0.01)
    clocked = Clocked(path)
    assert clocked.write(one(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not clocked.write(one(2))
    other.close()
    assert clocked.write(one(4), after_s=RETRY_S)
    assert total_of(path) == 7


def test_a_corrupt_file_is_moved_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"this is no database" * 500)
    clocked = Clocked(path)
    assert clocked.write(one(5))
    assert total_of(path) == 5
    (moved,) = [found for found in path.parent.iterdir() if ".corrupt-" in found.name]
    assert moved.read_bytes() == b"this is no database" * 500
    assert messages(caplog.records) == [
        f"usage ledger {path} is not a sound database (file is not a database):"
        f" moved to {moved}, a new one is begun"
    ]


def test_a_file_that_breaks_while_it_is_written_to_is_replaced(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(str(path))
    writer.write(one(5), 0.0, UNIX_S)
    writer.close()  # so that all is in the one file
    clocked = Clocked(path)
    corrupt(path)
    assert clocked.write(one(6))
    assert total_of(path) == 6
    assert len(caplog.records) == 1


def test_a_database_of_something_else_is_neither_written_nor_moved(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    assert not Clocked(path).write(one(5))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_that_was_deleted_is_made_again(path: Path) -> None:
    clocked = Clocked(path)
    assert clocked.write(one(5))
    for found in path.parent.iterdir():
        found.unlink()
    assert clocked.write(one(6))
    assert total_of(path) == 6


def test_memory_is_bounded_and_no_cent_is_lost(tmp_path: Path) -> None:
    clocked = Clocked(tmp_path / "folder" / "usage.db", max_rows=50)
    for index in range(500):
        clocked.write(one(1, MINUTE + index, team=f"t{index}"))
        assert len(clocked.writer.waiting) <= 50
    (tmp_path / "folder").mkdir()
    assert clocked.write(after_s=RETRY_S)
    assert total_of(tmp_path / "folder" / "usage.db") == 500


def test_the_last_time_is_tried_at_once_and_a_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / "usage.db"
    clocked = Clocked(path)
    assert not clocked.write(one(1_500_000_000))
    clocked.write(after_s=0.0, is_last=True)
    assert clocked.writer.failures == 2
    clocked.writer.close()
    assert messages(caplog.records)[-1] == (
        f"usage ledger {path}: 1 rows, 1.500000 USD, could not be written and are lost"
    )
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_minutes_beyond_retention_are_dropped_once_a_day(path: Path) -> None:
    day_s = 86400.0
    writer = Writer(str(path))
    old = MINUTE - (RETENTION_DAYS + 1) * 1440
    writer.write(one(1, old) | one(2), 0.0, UNIX_S)
    assert total_of(path) == 2
    writer.write(one(1, old), 1.0, UNIX_S + 1)
    assert total_of(path) == 3
    writer.write({}, 2.0, UNIX_S + day_s)
    assert total_of(path) == 2
