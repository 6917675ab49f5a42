"""The ledger: exact whatever the batching, and never the reason that a request waits."""

import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.exchange import Usage
from sidecar.usage.ledger import FLUSH_S, MAX_LEARNED_MODELS, Ledger
from sidecar.usage.rows import Entry
from sidecar.usage.store import Spent
from tests.usage.support import MINUTE, UNIX_S, entry, labels, messages, total_of


class Wall:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.unix_s = UNIX_S

    def __call__(self) -> float:
        return self.unix_s


def ledger_of(path: Path, clock: Callable[[], float] | None = None) -> Ledger:
    ledger = Ledger(str(path), clock or Wall())
    ledger.configure(frozenset({"m"}))
    return ledger


def stored(path: Path, columns: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT {columns} FROM usage ORDER BY 1").fetchall()
    finally:
        connection.close()


def wait_for(condition: Callable[[], object]) -> None:
    """Poll for what the ledger's own thread does."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


# --- what is counted ---


def test_what_was_recorded_is_in_the_file_at_the_end(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.start()
    for _ in range(3):
        ledger.record(entry(cost=7))
    ledger.close()
    assert stored(path, "minute, team, model, requests, cost_nano_usd, output_tokens") == [
        (MINUTE, "t", "m", 3, 21, 15)
    ]


def test_rows_are_handed_over_twice_a_second_and_not_oftener(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.start()
    for at_s in (100.0, 100.1, 100.1 + FLUSH_S - 0.2):
        ledger.record(entry())
        ledger.flush(at_s)
    wait_for(lambda: total_of(path, "requests") == 1)
    assert len(ledger._rows) == 1
    ledger.flush(100.0 + FLUSH_S)
    wait_for(lambda: total_of(path, "requests") == 3)
    ledger.close()


def test_each_minute_has_its_own_rows(path: Path) -> None:
    wall = Wall()
    ledger = ledger_of(path, wall)
    ledger.start()
    for unix_s in (
        UNIX_S + 59.9,
        UNIX_S + 60.0,
        UNIX_S + 60.1,
        UNIX_S + 30.0,
    ):  # the last: the clock set back
        wall.unix_s = unix_s
        ledger.flush(100.0)
        ledger.record(entry())
    ledger.close()
    assert stored(path, "minute, requests") == [(MINUTE, 2), (MINUTE + 1, 2)]


PARTS = st.tuples(st.sampled_from("ab"), st.sampled_from("mn"), st.integers(0, 10**13), st.booleans())


@settings(max_examples=15)
@given(st.lists(st.tuples(PARTS, st.sampled_from([0.0, 0.1, 1.0, 61.0])), max_size=40))
def test_costs_add_up_exactly_whatever_the_batching(
    parts: list[tuple[tuple[str, str, int, bool], float]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usage.db"
        wall, now_s = Wall(), 100.0
        ledger = ledger_of(path, wall)
        ledger.start()
        for (team, model, cost, is_request), pause_s in parts:
            ledger.record(Entry(labels(team, model=model), Usage(1, 1), cost, is_request=is_request))
            wall.unix_s += pause_s
            now_s += pause_s
            ledger.flush(now_s)
        ledger.close()
        if parts:
            assert total_of(path) == sum(part[2] for part, _ in parts)
            assert total_of(path, "requests") == sum(part[3] for part, _ in parts)


def test_models_that_callers_make_up_share_one_row(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.start()
    for index in range(500):
        ledger.record(Entry(labels(model=f"made-up-{index}", status_class=4), None, None, failed=True))
    ledger.record(Entry(labels(status_class=5), None, None, failed=True))  # configured
    ledger.close()
    assert stored(path, "model, requests") == [("m", 1), ("other", 500)]


def test_a_model_that_only_reads_has_its_row(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.start()
    ledger.record(entry(labels(model="embedder"), tokens=(10, 0)))
    ledger.close()
    assert stored(path, "model, requests") == [("embedder", 1)]


def test_a_model_that_answered_with_tokens_has_its_row_up_to_a_number(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.start()
    for index in range(MAX_LEARNED_MODELS + 20):
        ledger.record(entry(labels(model=f"real-{index}")))
    ledger.close()
    assert total_of(path, "1") == MAX_LEARNED_MODELS + 1
    assert total_of(path, "requests") == MAX_LEARNED_MODELS + 20


# --- budgets ---


def test_what_was_spent_outlives_a_restart(path: Path) -> None:
    first = ledger_of(path)
    first.start()
    first.record(entry(cost=7))
    first.record(entry(labels(key="other"), cost=8))
    first.close()
    second = ledger_of(path)
    assert second.spent([UNIX_S]) == [Spent(MINUTE, "t", "k", "m", 7), Spent(MINUTE, "t", "other", "m", 8)]
    assert second.spent([UNIX_S + 60]) == []


def test_a_file_that_cannot_be_read_begins_budgets_at_nothing_and_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"this is no database" * 500)
    assert ledger_of(path).spent([0.0]) == []
    assert len(caplog.records) == 1 and "budgets begin at 0" in caplog.text


def test_a_file_that_is_not_there_yet_is_no_news(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ledger_of(path).spent([0.0]) == []
    assert caplog.records == []


# --- trouble ---


def test_a_broken_path_is_no_reason_not_to_start_and_heals_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ledger", "writer"):
        monkeypatch.setattr(f"sidecar.usage.{module}.RETRY_S", 0.01)
    path = tmp_path / "folder" / "usage.db"
    ledger = ledger_of(path)
    ledger.start()
    ledger.record(entry())
    ledger.flush(100.0)
    wait_for(lambda: ledger.failures > 0)
    path.parent.mkdir()
    wait_for(lambda: len(caplog.records) == 2)  # written again, with no new rows
    ledger.close()
    assert total_of(path, "requests") == 1
    assert len(caplog.records) == 2


def test_a_thread_that_is_stuck_holds_nobody_up_and_the_loss_is_said(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.usage.ledger.CLOSE_S", 0.05)
    monkeypatch.setattr("sidecar.usage.store.BUSY_TIMEOUT_S", 30.0)
    ledger = ledger_of(path)
    ledger.start()
    ledger.record(entry())
    ledger.flush(100.0)
    wait_for(lambda: total_of(path, "requests") == 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for index in range(100):
        ledger.record(entry())
        ledger.flush(200.0 + index)
    ledger.close()
    assert "the disk does not answer" in messages(caplog.records)[-1]
    other.close()
    wait_for(lambda: total_of(path, "requests") == 101)
    thread = ledger._thread
    assert thread is not None
    thread.join()


def test_closing_twice_or_without_a_start_does_no_harm(path: Path) -> None:
    before = threading.active_count()
    ledger_of(path).close()
    ledger = ledger_of(path)
    ledger.start()
    ledger.record(entry())
    ledger.close()
    ledger.close()
    assert total_of(path, "requests") == 1
    assert threading.active_count() == before


# --- several processes, and their ends ---

WRITES = """
import itertools, sys, time
from sidecar.exchange import Usage
from sidecar.usage.ledger import Ledger
from sidecar.usage.rows import Entry

path, limit = sys.argv[1], float(sys.argv[2])
ledger = Ledger(path)
ledger.configure(frozenset({"m"}))
ledger.start()
for number in itertools.count(1):
    if number > limit:
        break
    ledger.record(Entry(("t", "k", "", "m", "p", "r", "v", 2), Usage(1, 1), 1))
    if number % 50 == 0:
        sys.stdout.write(f"{number} {time.monotonic()}\\n")
        sys.stdout.flush()
        ledger.flush(time.monotonic())
        time.sleep(0.001)
ledger.close()
"""


async def writing(path: Path, limit: float) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES, str(path), str(limit), stdout=asyncio.subprocess.PIPE
    )


async def test_two_processes_on_one_file_lose_nothing(path: Path) -> None:
    processes = [await writing(path, 5000) for _ in range(2)]
    async with asyncio.timeout(20):
        for process in processes:
            await process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    assert total_of(path, "requests") == 10_000


async def test_a_process_that_is_killed_loses_at_most_the_last_second(path: Path) -> None:
    process = await writing(path, float("inf"))
    said: list[tuple[int, float]] = []
    async with asyncio.timeout(20):
        assert process.stdout is not None
        while not said or said[-1][1] - said[0][1] < 1.6:
            number, at_s = (await process.stdout.readline()).split()
            said.append((int(number), float(at_s)))
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    whole = rest[: rest.rfind(b"\n") + 1].split()
    said += zip(map(int, whole[::2]), map(float, whole[1::2]), strict=True)
    a_second_before = max(number for number, at_s in said if at_s < said[-1][1] - 1.0)
    assert a_second_before <= total_of(path, "requests") <= said[-1][0] + 50
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert os.listdir(path.parent) == [path.name]  # the log was written back


async def test_a_killed_process_is_followed_by_one_that_goes_on(path: Path) -> None:
    process = await writing(path, float("inf"))
    async with asyncio.timeout(20):
        assert process.stdout is not None
        while not total_of(path):
            await process.stdout.readline()
        process.kill()
        await process.communicate()
        before = total_of(path, "requests")
        follower = await writing(path, 1000)
        await follower.communicate()
    assert total_of(path, "requests") == before + 1000
