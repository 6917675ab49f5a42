"""What was spent, told while the ledger goes on: each entry once, whenever it is asked and fetched."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.usage.inquiry import Inquiry
from sidecar.usage.ledger import Ledger
from sidecar.usage.store import Store
from tests.usage.support import MINUTE, UNIX_S, corrupt, entry, labels, one, total_of


class Wall:
    """The time of day."""

    def __init__(self) -> None:
        self.unix_s = UNIX_S

    def __call__(self) -> float:
        return self.unix_s


def ledger_of(path: Path, wall: Wall | None = None) -> Ledger:
    ledger = Ledger(str(path), wall or Wall())
    ledger.configure(frozenset({"m"}))
    ledger.start()
    return ledger


def wait_for(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


def told(inquiry: Inquiry) -> int:
    """The sum of what it says, once the thread has answered."""
    wait_for(lambda: inquiry.is_answered)
    return sum(row.cost_nano_usd for row in inquiry.told())


def test_the_file_the_rows_on_their_way_and_those_at_hand_are_told_together(path: Path) -> None:
    store = Store(str(path))
    store.open()
    store.add(one(1000))
    store.add(one(1, MINUTE - 1))
    store.close()
    ledger = ledger_of(path)
    ledger.record(entry(cost=200))
    ledger.flush(100.0)
    ledger.record(entry(cost=30))
    assert told(ledger.ask([UNIX_S])) == 1230
    ledger.close()
    assert total_of(path) == 1231


def test_what_comes_between_the_question_and_the_answer_counts_once(path: Path) -> None:
    wall = Wall()
    ledger = ledger_of(path, wall)
    total = 0
    for step in range(60):
        inquiry = ledger.ask([0.0])
        for moment in range(5):
            ledger.record(entry(cost=1 + step))
            total += 1 + step
            if moment != step % 5:
                ledger.flush(1000.0 * step + 10 * moment)  # before, while and after the thread takes it
        wait_for(lambda: inquiry.is_answered)  # noqa: B023  # at once
        ledger.record(entry(labels(key="other"), cost=5))
        total += 5
        wall.unix_s += 7  # the minutes go by
        assert told(inquiry) == total
    ledger.close()
    assert total_of(path) == total


def test_rows_that_cannot_be_written_are_told_too(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "usage.db"
    ledger = ledger_of(path)
    ledger.record(entry(cost=40))
    ledger.flush(100.0)
    wait_for(lambda: ledger.failures > 0)
    ledger.record(entry(cost=2))
    assert told(ledger.ask([0.0])) == 42
    path.parent.mkdir()
    ledger.close()
    assert total_of(path) == 42


def test_a_file_that_is_not_there_yet_holds_nothing(path: Path) -> None:
    ledger = ledger_of(path)
    assert told(ledger.ask([0.0])) == 0
    ledger.close()


def test_a_later_question_takes_the_place_of_one_that_nobody_fetched(path: Path) -> None:
    ledger = ledger_of(path)
    first = ledger.ask([0.0])
    second = ledger.ask([0.0])
    ledger.record(entry(cost=3))
    ledger.flush(100.0)
    assert told(second) == 3
    assert told(ledger.ask([0.0])) == 3
    assert not first._later
    ledger.close()


def test_a_question_that_was_fetched_gathers_nothing_more(path: Path) -> None:
    ledger = ledger_of(path)
    inquiry = ledger.ask([0.0])
    assert told(inquiry) == 0
    for step in range(50):
        ledger.record(entry())
        ledger.flush(100.0 + step)
    assert not inquiry._later
    ledger.close()


def test_a_file_that_is_no_sound_database_is_an_error_that_says_what_to_do(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.record(entry())
    ledger.flush(100.0)
    wait_for(lambda: total_of(path) == 7)
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    corrupt(path)
    inquiry = ledger.ask([0.0])
    wait_for(lambda: inquiry.is_answered)
    with pytest.raises(OSError, match=r"usage ledger .*usage\.db: is not a sound database .*leave `budgets`"):
        inquiry.told()
    ledger.close()


def test_a_disk_that_does_not_answer_is_an_error_and_nothing_is_kept_for_it(path: Path) -> None:
    unstarted = Ledger(str(path), Wall())
    inquiry = unstarted.ask([0.0])
    with pytest.raises(OSError, match="the disk does not answer"):
        inquiry.told()
    inquiry.note(one())
    assert not inquiry._later
