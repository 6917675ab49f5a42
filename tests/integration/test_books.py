"""One request, one cost: budget, ledger, log and metrics say the same of it, wherever it came to its end."""

import asyncio
import time
from pathlib import Path
from random import Random

import pytest

from tests.support.books import EVERYTHING, MOST, ROUTES, SAYS, asking, desk, tokens_in
from tests.support.http1 import client
from tests.support.waiting import until

# --- an answer that came to its end ---


@pytest.mark.parametrize(
    ("model", "tokens", "unmetered"),
    [
        ("told", (1000, 200), 0),
        ("s-told", (1000, 200), 0),
        ("silent", (tokens_in("silent"), MOST), 1),
        ("empty", (tokens_in("empty"), MOST), 1),
        ("total", (tokens_in("total"), MOST), 1),
        ("s-silent", (tokens_in("s-silent"), 2), 1),
        ("s-empty", (tokens_in("s-empty"), 3), 1),
        ("failed", (0, 0), 0),
        ("refused", (0, 0), 0),
        ("s-error", (0, 0), 0),
    ],
)
async def test_an_answer_costs_what_it_tells_and_else_what_came_or_was_reserved(
    tmp_path: Path, model: str, tokens: tuple[int, int], unmetered: int
) -> None:
    async with desk(tmp_path) as here:
        await here.ask(model)
    assert here.books.check(tokens).unmetered == unmetered


# --- a stream that broke off ---


async def test_a_stream_that_is_cut_costs_what_it_told_and_a_token_for_each_event_at_least(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as here:
        assert not (await here.ask("s-cut")).is_whole
        assert not (await here.ask("s-cut-silent")).is_whole
    assert here.books.check((1000 + tokens_in("s-cut-silent"), 30 + 3)).unmetered == 1


@pytest.mark.parametrize(
    ("route", "by_model", "is_whole"),
    [
        ("r-nowhere", {"s-cut": (1, 1, 1000, 30)}, False),
        ("r-silent", {"s-cut-silent": (1, 1, tokens_in("r-silent"), 3)}, False),
        ("r-on", {"s-cut": (0, 1, 1000, 30), "s-whole": (1, 1, 1000, 60)}, True),
        (
            "r-other",
            {"s-cut": (0, 1, 1000, 30), "s-other": (0, 1, 1000, 40), "s-whole": (1, 1, 1000, 60)},
            True,
        ),
        (
            "r-none",
            {"s-cut-silent": (1, 1, tokens_in("r-none"), 3), "s-other": (0, 1, 1000, 40)},
            False,
        ),
        ("r-early", {"s-early": (0, 2, 1400, 0), "s-whole": (1, 1, 1000, 60)}, True),
    ],
)
async def test_each_stream_of_a_request_is_paid_for_once_with_who_gave_it(
    tmp_path: Path, route: str, by_model: dict[str, tuple[int, ...]], is_whole: bool
) -> None:
    async with desk(tmp_path) as here:
        assert (await here.ask(route)).is_whole is is_whole
    books = here.books.check()
    found = {model: figures[:4] for model, figures in books.by_model.items()}
    assert found == by_model


@pytest.mark.parametrize(
    ("route", "tokens"),
    [("s-cut", (1000, 30)), ("r-nowhere", (1000, 30)), ("r-on", (2000, 90)), ("r-other", (3000, 130))],
)
async def test_where_nothing_is_paid_for_the_tokens_that_were_told_are_counted_once_too(
    tmp_path: Path, route: str, tokens: tuple[int, int]
) -> None:
    async with desk(tmp_path, budgets=[], models={"*": {"provider": "p"}}, usage=None) as here:
        assert not here.sidecar.accounts.is_on
        await here.ask(route)
    rows = here.sidecar.metrics.rows.values()
    assert (sum(row.tokens[0] for row in rows), sum(row.tokens[1] for row in rows)) == tokens


# --- a caller that left ---


@pytest.mark.parametrize("model", ["hangs", "s-hangs", "r-hangs"])
async def test_a_caller_that_leaves_before_the_answer_pays_for_what_was_asked(
    tmp_path: Path, model: str
) -> None:
    async with desk(tmp_path) as here:
        await here.leave(model)
    books = here.books.check((tokens_in(model), 0))
    assert books.unmetered == 1
    named = "s-hangs" if model == "r-hangs" else model
    assert {name: figures[:2] for name, figures in books.by_model.items()} == {named: (1, 1)}


async def test_a_caller_that_leaves_a_stream_pays_for_what_came(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.leave("s-stalls")
    assert here.books.check((tokens_in("s-stalls"), 3)).unmetered == 1


async def test_a_caller_that_leaves_while_its_stream_is_gone_on_with_pays_for_both(tmp_path: Path) -> None:
    async with desk(tmp_path) as here, client(here.port) as caller:
        caller.send(asking("r-stalls"))
        await caller.head()
        await caller.chunk()
        await until(lambda: here.running.endpoint().requests == 2)
        caller.abort()
    books = here.books.check((2 * tokens_in("r-stalls"), 3))
    assert {name: figures[:2] for name, figures in books.by_model.items()} == {
        "s-cut-silent": (0, 1),
        "s-hangs": (1, 1),
    }


async def test_a_sidecar_that_leaves_books_what_is_under_way(tmp_path: Path) -> None:
    async with desk(tmp_path) as here, client(here.port) as caller:
        caller.send(asking("s-stalls"))
        await caller.head()
        await caller.chunk()
        waiting = asyncio.create_task(here.ask("hangs"))
        await until(lambda: here.running.endpoint().requests == 2)
        here.sidecar.quit()
        await here.sidecar.stop()
        assert (await waiting).status == 503
    here.books.check((tokens_in("s-stalls") + tokens_in("hangs"), 3))


# --- any mix ---


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_mix_nothing_is_reserved_and_every_book_has_the_same_sum(
    tmp_path: Path, seed: int
) -> None:
    draw = Random(seed)
    ending = [*(model for model, said in SAYS.items() if "wait" not in said), *ROUTES]
    ending = [model for model in ending if model not in ("r-stalls", "r-hangs")]
    leaving = ["hangs", "s-hangs", "s-stalls", "s-big", "r-hangs"]
    async with desk(tmp_path, tiers={"standard": {"tokens_per_minute": 10_000_000}}) as here:
        for turn in range(6):
            await asyncio.gather(
                *(here.ask(draw.choice(ending)) for _ in range(8)),
                *(here.leave(draw.choice(leaving)) for _ in range(3)),
                here.reload(budgets=[{**EVERYTHING, "name": f"b{turn // 2}"}]),
            )
        await until(lambda: not here.sidecar.metrics.in_flight)
        here.settle()
        limiter = here.sidecar.accounts.limiter
        (buckets,) = limiter._named.values()
        assert buckets.tokens is not None
        used = 10_000_000 - buckets.tokens.remaining(time.monotonic())
    books = here.books.check()
    assert books.ledger[2] > 0
    # What limits count is the same, less what has come back meanwhile.
    assert sum(books.ledger[:2]) - 10_000_000 / 60 * 20 < used <= sum(books.ledger[:2])
