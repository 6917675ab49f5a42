"""Many sidecars on one Redis, each with its own leases and its own callers, in one process.

Callers come at random moments (Poisson) and behave as the proxy does: take, else wait for one refill, else be
refused. Every admission is written down, so that the limit can be checked over every span of time there is.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence

from sidecar.fleet.bucket import BucketLease
from sidecar.fleet.lease import Lease
from sidecar.fleet.leases import Leases
from tests.support.redis import RedisServer, fleet_of
from tests.support.waiting import until


async def take_or_wait(leases: Leases, lease: Lease, amount: int = 1) -> bool:
    """One request, as the proxy treats it."""
    now_s = time.monotonic()
    if lease.take(now_s, amount):
        return True
    refilled = leases.need([(lease, amount)], now_s)
    if refilled is None:
        return False
    await refilled
    return lease.take(time.monotonic(), amount)


class Sidecar:
    """One of them: its leases, and the lease of the limit they share."""

    def __init__(self, leases: Leases, key: str, rate: int, capacity: int) -> None:
        self.leases = leases
        self.lease: BucketLease = leases.bucket(key, rate, capacity)
        self.offered = 0
        self.admitted: list[float] = []

    async def call(self) -> None:
        """One caller."""
        self.offered += 1
        if await take_or_wait(self.leases, self.lease):
            self.admitted.append(time.monotonic())

    async def load(self, per_s: float, until_s: float, draw: random.Random) -> None:
        """Callers at random moments."""
        calls: set[asyncio.Task[None]] = set()
        next_s = time.monotonic()
        while per_s:
            next_s += draw.expovariate(per_s)
            if next_s >= until_s:
                break
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            call = asyncio.create_task(self.call())
            calls.add(call)
            call.add_done_callback(calls.discard)
        if calls:
            await asyncio.wait(calls)


class Fleet:
    """`count` sidecars that share one limit of `rate` a minute, `capacity` at once."""

    def __init__(
        self, server: RedisServer, count: int, rate: int, capacity: int, *, period_s: float, timeout_s: float
    ) -> None:
        config = fleet_of(server.url, expected=count, timeout_s=timeout_s)
        self.server = server
        self.rate = rate
        self.capacity = capacity
        self.sidecars = [
            Sidecar(Leases(config, period_s=period_s), "req:shared", rate, capacity) for _ in range(count)
        ]
        self.took_s = 0.0

    async def run(self, per_s: Sequence[float], seconds: float, seed: int) -> None:
        """Let sidecar i have `per_s[i]` callers a second."""
        began_s = time.monotonic()
        draws = [random.Random(f"{seed}-{index}") for index in range(len(per_s))]
        loads = zip(self.sidecars, per_s, draws, strict=True)
        await asyncio.gather(*(one.load(rate, began_s + seconds, draw) for one, rate, draw in loads))
        self.took_s = time.monotonic() - began_s

    def admitted(self) -> list[float]:
        """When requests were let in, all sidecars together."""
        return sorted(moment for sidecar in self.sidecars for moment in sidecar.admitted)

    def peak(self) -> float:
        """The most that was admitted in any span of time, less what the rate refills in it: what has to be
        within the capacity."""
        peak = level = 0.0
        before_s = 0.0
        for moment in self.admitted():
            level = max(0.0, level - (moment - before_s) * self.rate / 60) + 1
            before_s = moment
            peak = max(peak, level)
        return peak

    def round_trips(self) -> int:
        """Of all sidecars, since their start."""
        return sum(sidecar.leases.round_trips for sidecar in self.sidecars)

    async def start(self) -> None:
        for sidecar in self.sidecars:
            sidecar.leases.start()
        await until(lambda: all(sidecar.leases.is_connected for sidecar in self.sidecars))

    async def stop(self) -> None:
        await asyncio.gather(*(sidecar.leases.stop() for sidecar in self.sidecars))


@contextlib.asynccontextmanager
async def fleet_on(
    server: RedisServer,
    count: int,
    rate: int,
    capacity: int,
    *,
    period_s: float = 1.0,
    timeout_s: float = 0.05,
) -> AsyncIterator[Fleet]:
    """A fleet that is connected; it returns its leases at the end."""
    fleet = Fleet(server, count, rate, capacity, period_s=period_s, timeout_s=timeout_s)
    await fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()
