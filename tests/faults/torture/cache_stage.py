"""A sidecar with everything a cache can have, in this process, so that what it holds can be looked at."""

import asyncio
import contextlib
import ctypes
import gc
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil  # type: ignore[import-untyped]

from sidecar.cache.flight import Flight, Seat
from sidecar.caching.tiers import Tiers
from sidecar.config.load import parse
from sidecar.server import Sidecar
from sidecar.usage.store import open_read_only
from tests.faults.torture.cache_book import TEAMS, Book, Purge
from tests.faults.torture.cache_provider import Provider
from tests.policy.support import hash_of
from tests.support.redis import RedisServer, redis_server
from tests.support.running import ENVIRON, Running, config_for
from tests.support.waiting import until

SLOTS = 12
REDIS = {"redis": {"env": "REDIS_URL"}}
BASE: dict[str, Any] = {"ttl": "1s", "shadow": 0.02, **REDIS}
MAX_OUTPUT = 100


def tree_of(url: str, folder: str) -> dict[str, Any]:
    """Few slots and a queue, retries, another model to fall back on, budgets, a ledger, an access log."""
    price = {"price": {"input": 1.0, "output": 1.0}, "max_output": MAX_OUTPUT}
    main = {"provider": "p", "fallback": ["backup"], "on_stream_cut": "resume", **price}
    keys = [{"id": name, "team": TEAMS[name], "hash": hash_of(name)} for name in TEAMS if name]
    return config_for(
        url,
        provider={
            "retry": {"attempts": 3},
            "concurrency": {"max_requests": SLOTS, "max_queue": 50},
            "capabilities": ["stream_usage"],
        },
        models={"main": main, "backup": {"provider": "p", **price}},
        routes={"auto": {"split": [{"model": "main", "weight": 1}], "on_stream_cut": "resume"}},
        keys=keys,
        tiers={"standard": {"requests_per_minute": 10_000_000, "tokens_per_minute": 100_000_000}},
        budgets=[{"name": "each", "per": "team", "usd": 100}, {"name": "all", "per": "all", "usd": 1000}],
        usage={"path": f"{folder}/usage.db"},
        telemetry={"access_log": f"{folder}/access.log"},
        cache=BASE,
    )


class Stage:
    """The sidecar, its provider, and the book of what was done to it."""

    def __init__(self, provider: Provider, redis: RedisServer, folder: str) -> None:
        self.provider = provider
        self.book = Book()
        self.folder = Path(folder)
        self.tree = tree_of(provider.url, folder)
        self._environ = {**os.environ, **ENVIRON, "REDIS_URL": redis.url}
        self.sidecar = Sidecar(parse(orjson.dumps(self.tree), self._environ), "test", self._read)
        self.book.settings.append((time.monotonic(), BASE))
        self.reloads = 0
        self.http: aiohttp.ClientSession

    async def start(self) -> None:
        await self.sidecar.start()
        self.running = Running(self.sidecar)
        self.port = self.running.port
        self.http = aiohttp.ClientSession(headers={"x-sidecar-admin": "1"})
        await self.redis_is_on()

    async def stop(self) -> None:
        await self.http.close()
        self.sidecar.quit()
        await self.sidecar.stop()

    # --- what an operator does ------------------------------------------------------------------------

    def _read(self) -> Any:
        """The sidecar reads its configuration: from here on it is in force."""
        loaded = parse(orjson.dumps(self.tree), self._environ)
        self.book.settings.append((time.monotonic(), self.tree.get("cache")))
        return loaded

    async def reload(self, cache: Mapping[str, Any] | None) -> None:
        """Put other settings of the cache in force; None: none."""
        self.tree = {name: section for name, section in self.tree.items() if name != "cache"}
        if cache is not None:
            self.tree["cache"] = cache
        self.reloads += 1
        self.sidecar.reload_soon()
        await until(lambda: sum(self.sidecar.metrics.reloads.values()) == self.reloads, within_s=30.0)

    async def redis_is_on(self) -> None:
        """Wait until answers are shared."""
        await until(lambda: self.tiers.shared is not None and self.tiers.shared.is_on, within_s=30.0)

    async def purge(self, **what: str) -> None:
        """Purge; of what is purged in part, nothing is told afterwards."""
        asked_s = time.monotonic()
        if await self._post("/cache/purge", what) == 200 and "all" in what:
            self.book.purges.append(Purge(asked_s, time.monotonic()))

    async def report_false_hit(self) -> None:
        """Report the answer that was used last."""
        answers = self.tiers.answers
        key = next(reversed(answers.store._entries), None) if answers is not None else None
        if key is not None and await self._post("/cache/false_hit", {"key": key.hex()}) == 200:
            self.book.pins.setdefault(key.hex(), time.monotonic())

    async def _post(self, path: str, query: Mapping[str, str]) -> int:
        async with self.http.post(f"{self.running.admin_url}{path}", params=query) as response:
            return response.status

    # --- what it holds --------------------------------------------------------------------------------

    @property
    def tiers(self) -> Tiers:
        assert self.sidecar.tiers is not None
        return self.sidecar.tiers

    @property
    def looks(self) -> int:
        """Look-ups in Redis under way."""
        return 0 if self.tiers.shared is None else self.tiers.shared._looks

    def held(self) -> dict[str, int]:
        """What must be nothing when nobody asks for anything."""
        sidecar, endpoint = self.sidecar, self.running.endpoint()
        slots = sidecar.snapshot.providers["p"].slots
        balances = sidecar.accounts.budgets.status(time.time())
        background = {"shared answer", "shared answers: purge", "stop to share answers"}
        return {
            "requests in flight": sidecar.metrics.in_flight,
            "streams open": sidecar.metrics.streams_open,
            "callers' connections": len(sidecar._listener._fast),
            "slots in use": slots.in_use,
            "waiting in the queue": slots.waiting,
            "attempts at the endpoint": endpoint.in_flight,
            "questions under way": len(self.tiers.flights),
            "deadlines armed": len(sidecar._ticker._armed),
            "look-ups in Redis": self.looks,
            "tasks": sum(task.get_name() in background for task in asyncio.all_tasks()),
            "reserved, nano-USD": sum(balance.reserved_nano_usd for balance in balances),
        }

    def alive(self) -> int:
        """This sidecar's flights and seats that nobody has let go of."""
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, Flight | Seat)]
        flights = [one._flight if isinstance(one, Seat) else one for one in kept]
        return sum(flight._ticker is self.sidecar._ticker for flight in flights)

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log; after the end."""
        return [orjson.loads(line) for line in (self.folder / "access.log").read_bytes().splitlines()]

    def booked(self) -> int:
        """Requests in the ledger; after the end."""
        with contextlib.closing(open_read_only(str(self.folder / "usage.db"))) as connection:
            return int(connection.execute("SELECT SUM(requests) FROM usage").fetchone()[0])


def resident_mib() -> float:
    """What this process has in memory, without what the allocator keeps for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    return float(psutil.Process().memory_info().rss) / 2**20


@contextlib.asynccontextmanager
async def stage(folder: str, seed: int) -> AsyncIterator[Stage]:
    """All of it, started; afterwards the log and the ledger in `folder` are whole."""
    with redis_server() as redis:
        provider = Provider(seed)
        await provider.start()
        here = Stage(provider, redis, folder)
        try:
            await here.start()
            yield here
        finally:
            await here.stop()
            await provider.stop()
