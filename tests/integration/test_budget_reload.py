"""Budgets over a reload: what was spent before, and what is under way, counts in every one that is new."""

import sqlite3
import time
from pathlib import Path

import pytest

from sidecar import server
from tests.support.books import EVERYTHING, NANO_A_TOKEN, Desk, asking, desk, tokens_in
from tests.support.http1 import client
from tests.support.waiting import until
from tests.usage.support import total_of

CAP = {**EVERYTHING, "usd": 0.025}  # two answers of 1,200 tokens and not a third


async def in_the_file(here: Desk) -> None:
    """Book what has ended, and wait until it is written."""
    here.settle()
    await until(lambda: total_of(here.folder / "usage.db", "requests"))


async def held_up(here: Desk) -> sqlite3.Connection:
    """The thread of the ledger has something to write, and waits for whoever has this lock."""
    lock = sqlite3.connect(here.folder / "usage.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    await here.ask("refused")
    here.settle()
    ledger = here.sidecar.accounts.ledger
    assert ledger is not None
    await until(lambda: not (ledger._rows or ledger._handed))
    return lock


async def test_a_budget_that_comes_by_reload_stands_at_what_was_spent_and_what_is_under_way(
    tmp_path: Path,
) -> None:
    """To the last token: rows in the file and in memory, requests not settled, others not ended, parts."""
    other = {**EVERYTHING, "name": "other"}
    async with desk(tmp_path, budgets=[]) as here:
        await here.ask("told")
        await in_the_file(here)
        await here.ask("s-told")
        async with client(here.port) as caller, client(here.port) as resumed:
            caller.send(asking("s-stalls"))
            await caller.head()
            resumed.send(asking("r-stalls"))
            await resumed.head()
            await until(lambda: here.running.endpoint().requests == 5)
            for budgets in ([EVERYTHING], [other], [EVERYTHING, other], [{**EVERYTHING, "window": "month"}]):
                await here.ask("s-silent")
                await here.reload(budgets=budgets)
            await here.reload(budgets=[{**EVERYTHING, "models": ["none"]}])
            await here.ask("told")
            await here.reload(budgets=[EVERYTHING, {**EVERYTHING, "name": "team", "per": "team"}])
            caller.abort()
            resumed.abort()
        await until(lambda: not here.sidecar.metrics.in_flight)
    books = here.books.check()
    assert set(books.budgets) == {"all", "team"}
    assert books.ledger == (
        tokens := 3 * 1000 + 4 * tokens_in("s-silent") + tokens_in("s-stalls") + 2 * tokens_in("r-stalls"),
        output := 3 * 200 + 4 * 2 + 3 + 3,
        (tokens + output) * NANO_A_TOKEN,
    )


async def test_a_cap_that_is_used_up_stays_so_whatever_becomes_of_its_name(tmp_path: Path) -> None:
    async with desk(tmp_path, budgets=[CAP]) as here:
        for status in (200, 200, 429):
            assert (await here.ask("told")).status == status
            here.settle()
        for changes in ({"name": "b"}, {"per": "team"}, {"window": "month"}, {"models": ["told", "s-*"]}):
            await here.reload(budgets=[{**CAP, **changes}])
            assert (await here.ask("told")).status == 429
        await here.reload(budgets=[])
        await here.reload(budgets=[CAP])
        assert (await here.ask("told")).status == 429
        await here.reload(budgets=[{**CAP, "usd": 1}])
        assert (await here.ask("told")).status == 200
    here.books.check((3000, 600))


async def test_until_the_ledger_has_answered_the_budgets_in_use_hold(tmp_path: Path) -> None:
    async with desk(tmp_path, budgets=[CAP]) as here:
        assert [(await here.ask("told")).status for _ in range(2)] == [200, 200]
        await in_the_file(here)
        lock = await held_up(here)
        here.change(budgets=[{**CAP, "name": "b"}])
        for _ in range(3):
            assert (await here.ask("told")).status == 429
        assert here.sidecar.metrics.reloads["ok"] == 0
        lock.close()
        await until(lambda: here.sidecar.metrics.reloads["ok"] == 1)
        assert (await here.ask("told")).status == 429
    assert here.books.check((2000, 400)).budgets["b"] == (2400 * NANO_A_TOKEN, 0)


async def test_a_ledger_that_does_not_answer_refuses_new_budgets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LEDGER_S", 0.0)
    async with desk(tmp_path) as here:
        await here.ask("told")
        await in_the_file(here)
        lock = await held_up(here)
        here.change(budgets=[{**EVERYTHING, "name": "b"}])
        await until(lambda: here.sidecar.metrics.reloads["failed"] == 1)
        assert "the disk does not answer" in caplog.text
        lock.close()
    assert set(here.books.check((1000, 200)).budgets) == {"all"}


async def test_a_ledger_that_cannot_be_read_refuses_new_budgets_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as here:
        await here.ask("told")
        await in_the_file(here)
        await here.reload(budgets=[{**EVERYTHING, "usd": 2}])
        (tmp_path / "usage.db").rename(tmp_path / "aside.db")
        (tmp_path / "usage.db").mkdir()
        here.change(budgets=[{**EVERYTHING, "name": "b"}])
        await until(lambda: here.sidecar.metrics.reloads["failed"] == 1)
        assert "what was spent of a new budget is not known" in caplog.text
        assert [status.name for status in here.sidecar.accounts.budgets.status(time.time())] == ["all"]
        await here.reload(budgets=[{**EVERYTHING, "usd": 3}])
        (tmp_path / "usage.db").rmdir()
        (tmp_path / "aside.db").rename(tmp_path / "usage.db")
        await here.reload(budgets=[{**EVERYTHING, "name": "b"}])
    here.books.check((1000, 200))


async def test_a_newer_configuration_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.ask("told")
        here.change(budgets=[{**EVERYTHING, "name": "first"}])
        await here.reload(budgets=[{**EVERYTHING, "name": "second"}])
        assert here.sidecar.metrics.reloads == {"ok": 1, "failed": 0}
        assert here.sidecar._coming is None
    assert set(here.books.check((1000, 200)).budgets) == {"second"}
