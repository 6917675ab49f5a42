"""A sidecar that keeps every book, before a provider that does what a model's name says.

The books are the budgets, the ledger, the access log and the metrics; a token costs the same everywhere.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sidecar.config.load import parse
from sidecar.exchange import NANO_USD
from tests.support.http1 import Answer, ask, client
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until

PRICE = {"input": 10.0, "output": 10.0}  # 10,000 nano-USD a token
NANO_A_TOKEN = 10_000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MOST = 500
EVERYTHING = {"name": "all", "per": "all", "usd": 1000, "window": "never"}


def event(text: str = "", *, end: bool = False, usage: tuple[int, int] | None = None) -> bytes:
    delta = {"content": text} if text else {}
    chunk: dict[str, Any] = {
        "choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if end else None}]
    }
    if usage is not None:
        chunk["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    data = b"data: %b\n\n" % orjson.dumps(chunk)
    return b"%x\r\n%b\r\n" % (len(data), data)


def role(usage: tuple[int, int] | None = None) -> bytes:
    return event("", usage=usage)


END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
ERROR = b'data: {"error": {"message": "no"}}\n\n'


def plain(usage: object) -> bytes:
    answer: dict[str, Any] = {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]
    }
    if usage is not None:
        answer["usage"] = usage
    body = orjson.dumps(answer)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


# What a provider says for each model before it hangs up, or asks for the next: "cut" is to hang up midway,
# "wait" to say nothing more until its caller has left.
SAYS: dict[str, tuple[bytes | str, ...]] = {
    "told": (plain({"prompt_tokens": 1000, "completion_tokens": 200}),),
    "silent": (plain(None),),
    "empty": (plain({}),),
    "total": (plain({"total_tokens": 2000}),),
    "failed": (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",),
    "refused": (b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\n{}",),
    "s-told": (HEAD, role(), event("a "), event(end=True, usage=(1000, 200)), END),
    "s-silent": (HEAD, role(), event("a "), event(end=True), END),
    "s-empty": (HEAD, role(), event("a "), event("b "), event(end=True), END),
    "s-error": (HEAD, b"%x\r\n%b\r\n0\r\n\r\n" % (len(ERROR), ERROR)),
    "s-cut": (HEAD, role(), event("a "), event("b ", usage=(1000, 30)), event("c "), "cut"),
    "s-cut-silent": (HEAD, role(), event("a "), event("b "), event("c "), "cut"),
    "s-early": (HEAD, role(usage=(700, 0)), "cut"),
    "s-other": (
        HEAD,
        role(),
        event("a "),
        event("X ", usage=(1000, 40)),
        event(end=True, usage=(1000, 50)),
        END,
    ),
    "s-whole": (
        HEAD,
        role(),
        event("a "),
        event("b "),
        event("c "),
        event("d "),
        event(end=True, usage=(1000, 60)),
        END,
    ),
    "hangs": ("wait",),
    "s-hangs": (HEAD, role(), "wait"),
    "s-stalls": (HEAD, role(), event("a "), event("b "), event("c "), "wait"),
    "s-big": (HEAD, role(), event("a " * 40_000), event("b "), "wait"),
}


async def speak(provider: RawProvider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        request = await provider.read_request(reader)
        model = orjson.loads(request.partition(b"\r\n\r\n")[2])["model"]
        for said in SAYS[model.partition("@")[0]]:
            if said == "wait":
                await writer.drain()
                await reader.read(1)
            if isinstance(said, str):
                return
            writer.write(said)


class Books(NamedTuple):
    """Tokens in and out and nano-USD, by each book; budgets have no tokens, and what is reserved."""

    ledger: tuple[int, int, int]
    log: tuple[int, int, int]
    metrics: tuple[int, int, int]
    budgets: dict[str, tuple[int, int]]
    unmetered: int
    by_model: dict[str, tuple[int, int, int, int, int]]  # requests, attempts, tokens, nano-USD

    def check(self, tokens: tuple[int, int] | None = None) -> "Books":
        cost = self.ledger[2]
        assert self.ledger == self.log == self.metrics
        assert self.budgets == dict.fromkeys(self.budgets, (cost, 0))
        assert cost == sum(self.ledger[:2]) * NANO_A_TOKEN
        if tokens is not None:
            assert self.ledger[:2] == tokens
        return self


class Desk:
    """A sidecar that keeps every book; what they say is there once it has stopped."""

    def __init__(self, folder: Path, url: str, running: Running) -> None:
        self.folder = folder
        self.running = running
        self.sidecar = running.sidecar
        self._url = url

    @property
    def port(self) -> int:
        return self.running.port

    async def ask(self, model: str, **facts: Any) -> Answer:
        return await ask(self.port, asking(model, **facts))

    async def leave(self, model: str, **facts: Any) -> None:
        """Ask, and go once the provider has been asked and, of a stream, something came."""
        before = self.running.endpoint().requests
        async with client(self.port) as caller:
            caller.send(asking(model, **facts))
            if model.endswith(("stalls", "big")):
                await caller.head()
                await caller.chunk()
            else:
                await until(lambda: self.running.endpoint().requests > before)
            caller.abort()

    def settle(self) -> None:
        """Book what has ended."""
        self.sidecar.metrics  # noqa: B018

    def change(self, **sections: Any) -> None:
        """Another configuration, as a changed file brings it."""
        tree = tree_for(self._url, self.folder, **sections)
        self.sidecar._reload_now(lambda: parse(orjson.dumps(tree), ENVIRON))

    async def reload(self, **sections: Any) -> None:
        """Another configuration, once it is taken; it is good."""
        before = dict(self.sidecar.metrics.reloads)
        self.change(**sections)
        await until(lambda: self.sidecar.metrics.reloads != before)
        assert self.sidecar.metrics.reloads["failed"] == before["failed"]

    @property
    def books(self) -> Books:
        path = self.folder / "usage.db"
        connection = sqlite3.connect(path)
        sums = (
            "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cost_nano_usd), 0)"
        )
        ledger = connection.execute(f"SELECT {sums} FROM usage").fetchone()
        unmetered = connection.execute("SELECT coalesce(sum(unmetered), 0) FROM usage").fetchone()[0]
        rows = connection.execute(
            f"SELECT model, sum(requests), sum(attempts), {sums} FROM usage GROUP BY model"
        ).fetchall()
        connection.close()
        lines = [orjson.loads(line) for line in (self.folder / "log").read_bytes().splitlines()]
        logged = (
            sum(line["tokens_in"] or 0 for line in lines),
            sum(line["tokens_out"] or 0 for line in lines),
            sum(round((line["cost_usd"] or 0) * NANO_USD) for line in lines),
        )
        counted = self.sidecar.metrics.rows.values()
        metrics = (
            sum(row.tokens[0] for row in counted),
            sum(row.tokens[1] for row in counted),
            sum(row.cost_nano_usd for row in counted),
        )
        statuses = self.sidecar.accounts.budgets.status(time.time())
        budgets = {status.name: (status.spent_nano_usd, status.reserved_nano_usd) for status in statuses}
        return Books(ledger, logged, metrics, budgets, unmetered, {row[0]: row[1:] for row in rows})


def asking(model: str, **facts: Any) -> bytes:
    messages = [{"role": "user", "content": "x" * 100}]
    document = {"model": model, "messages": messages, "max_tokens": MOST, **facts}
    if model.startswith(("s-", "r-")):
        document["stream"] = True
    return post(orjson.dumps(document), close=False)


def tokens_in(model: str) -> int:
    """As estimated: a token for four bytes."""
    return -(-len(asking(model).partition(b"\r\n\r\n")[2]) // 4)


ROUTES = {
    "r-nowhere": ["s-cut"],
    "r-silent": ["s-cut-silent"],
    "r-on": ["s-cut", "s-whole"],
    "r-other": ["s-cut", "s-other", "s-whole"],
    "r-none": ["s-cut-silent", "s-other"],
    "r-stalls": ["s-cut-silent", "s-hangs"],
    "r-early": ["s-early", "s-whole"],
    "r-hangs": ["s-hangs"],
    "r-failed": ["failed", "told"],
}


def tree_for(url: str, folder: Path, **sections: Any) -> dict[str, Any]:
    routes = {
        name: {"split": [{"model": first, "weight": 1}], "fallback": rest, "on_stream_cut": "resume"}
        for name, (first, *rest) in ROUTES.items()
    }
    usual = {
        "provider": {"retry": {"attempts": 4}},
        "models": {"*": {"provider": "p", "price": PRICE}},
        "routes": routes,
        "budgets": [EVERYTHING],
        "usage": {"path": str(folder / "usage.db")},
        "telemetry": {"access_log": str(folder / "log")},
    }
    return config_for(url, **{**usual, **sections})


@contextlib.asynccontextmanager
async def desk(folder: Path, **sections: Any) -> AsyncIterator[Desk]:
    """A started one; at its end nothing is in flight."""
    async with (
        raw_provider(lambda reader, writer: speak(provider, reader, writer)) as provider,
        running(tree_for(provider.url, folder, **sections)) as sidecar,
    ):
        made = Desk(folder, provider.url, sidecar)
        yield made
        await until(lambda: not made.sidecar.metrics.in_flight)
