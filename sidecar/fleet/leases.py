"""Leases of every limit, and the one background task that talks to Redis for all of them.

Theory of operation. A limit hands out what its lease holds, without a wait. Once a period (a second) at most,
and every two at least, one round trip reports what was used and spent, returns what nobody needs, and asks
for what will be needed soon; with nothing to say there is none. A request that finds its lease empty waits
for a round trip of its own, which it shares with all others that wait. All are paid from one purse, which
gets four in five periods and saves up to ten: so the average is below one a period, whatever happens.

Redis away. When an answer takes longer than a request may wait, or is an error, each lease goes on with a
fair local share of its limit. An unanswered batch is kept and sent again each period; its answer ends the
local share, and what was used of it is told.

How far the limits can be exceeded. In any time T all sidecars together take at most

    capacity + rate * T + what dead sidecars had used of their leases and not told
                        + what sidecars took of their local shares and have not told yet

A lease in store is at most a tenth of the limit, two seconds of its rate, or one request, whichever is most:
5 of 50 requests a minute, 200,000 of 2,000,000 tokens a minute, for each sidecar that dies, once. Of dollars
it is a hundredth (0.50 of 50 USD), and what the requests under way cost that die along.

A local share is 1/`expected` of what the fleet had left when it was last heard of. It stands in where round
trips are used up (many callers, each seen once in a while) and for a request that has waited for one in vain
(it was late, or somebody who came after it was faster), is told within two seconds, and is paid back by the
fleet: the average stays exact. So it is one more capacity at the very worst, and next to nothing where
a limit is busy. Without Redis N sidecars take N/`expected` times capacity + rate * T, beside what they held.
A Redis that lost its data begins with full buckets, which is one capacity more; what was spent is told to
it again by those that remember.
"""

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable

from sidecar.config.model import Fleet
from sidecar.fleet.batch import Batch, GarbledError
from sidecar.fleet.bucket import BucketLease
from sidecar.fleet.budget import BudgetLease
from sidecar.fleet.lease import UNUSED_PERIODS, Grant, Lease, Standing
from sidecar.fleet.redis import Link, LinkError, Script
from sidecar.fleet.scripts import SETTLE
from sidecar.fleet.totals import ROWS_PER_BATCH, Totals
from sidecar.tasks import spawn

PERIOD_S = 1.0
PATIENCE_S = 1.0
MAX_LIMITS = 256  # in one round trip: what keeps Redis busy for about 3 ms; the rest comes with the next
# A purse for round trips: what a period brings, and what may be saved up; no minute sees more than sixty.
EARNED_TRIPS = 0.8
SAVED_TRIPS = 10
LOOKS = 4  # in a period
# Of `timeout`: trips for requests that wait keep this distance, so that those that come meanwhile share one.
GAP_PART = 0.4

_SCRIPT = Script(SETTLE)
_log = logging.getLogger("sidecar")


class Leases:
    """All leases of this process.

    For metrics: `is_connected`, `round_trips`, `failures`, `local_share_since_s` (monotonic, None: leases
    come from Redis). The clock is monotonic seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        period_s: float = PERIOD_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.totals = Totals()
        self.is_connected = False
        self.round_trips = 0  # attempts, answered or not
        self.failures = 0
        self.local_share_since_s: float | None = clock()
        self._fleet = fleet
        self._period_s = period_s
        self._patience_s = patience_s
        self._clock = clock
        self._standing = Standing(fleet.expected, period_s)
        # Connection
        self._id = secrets.token_hex(8)
        self._number = 0
        self._link = Link(fleet.redis, patience_s)
        self._task: asyncio.Task[None] | None = None
        self._unanswered: Batch | None = None
        self._retry_s = 0.0
        # Round trips
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._served_next: list[asyncio.Future[None]] = []
        self._last_s = self._counted_s = -float("inf")
        self._saved = float(SAVED_TRIPS)

    # --- for limits and budgets -----------------------------------------------------------------------

    def bucket(self, key: str, rate: int, capacity: int) -> BucketLease:
        """A lease of a limit of requests or tokens: `rate` a minute, `capacity` at once. `key` names the
        limit for the whole fleet and never holds a caller's key."""
        return BucketLease(self._standing, key, rate, capacity)

    def budget(self, key: str, limit_nano_usd: int, keep_s: float | None) -> BudgetLease:
        """A lease of a budget's window, which `key` names along with budget and spender; it is kept for
        `keep_s` after the last word of it, None: for ever."""
        return BudgetLease(self._standing, key, limit_nano_usd, keep_s)

    def need(self, wants: Iterable[tuple[Lease, int]], now_s: float) -> asyncio.Future[None] | None:
        """Ask for amounts that are not there; the future is done after the next round trip, at most
        `timeout` from now, whatever came of it: try to take again then. None: waiting would not help.

        Each call has a future of its own, which may be cancelled. Where there was no answer in time the local
        share stands in; also, and then at once, where no round trip is left to spend.
        """
        wants = tuple(wants)
        if self._standing.is_local or self._task is None:
            return None
        if not all(lease.may_get(now_s, amount) for lease, amount in wants):
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timeout_s = self._fleet.timeout_s
        if self._urgent_s(self._clock()) - self._clock() > timeout_s:
            for lease, _ in wants:
                lease.stand_alone()
            future.set_result(None)
            return future
        for lease, amount in wants:
            lease.ask(amount)
        deadline = loop.call_later(timeout_s, _too_late, wants, future)
        future.add_done_callback(lambda _: deadline.cancel())
        self._waiters.append(future)
        self._wake.set()
        return future

    # --- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to talk to Redis, in the background; until it answers the local share holds."""
        self._task = spawn(self._run(), "fleet leases")

    async def stop(self) -> None:
        """Tell what is left to tell, return everything, and close; without Redis after `patience_s`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
            self._release((*self._served_next, *self._waiters))
            unsent = max(1, len(self._standing.active) / MAX_LIMITS, len(self.totals) / ROWS_PER_BATCH)
            for _ in range(math.ceil(unsent) + (self._unanswered is not None)):
                await self._round_trip(is_last=True)
                if not self.is_connected:
                    break
        await self._link.close()

    def configure(self, fleet: Fleet) -> None:
        """Go on with other settings; leases stay as they are."""
        before, self._fleet = self._fleet, fleet
        self._standing.expected = fleet.expected
        if fleet.redis != before.redis:
            self._relink()

    def _relink(self) -> None:
        """Talk to Redis over a new connection from now on."""
        spawn(self._link.close(), "fleet close")
        self._link = Link(self._fleet.redis, self._patience_s)

    # --- when -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now_s = self._clock()
            due_s = self._due_s(now_s)
            if due_s <= now_s:
                await self._round_trip()
            else:
                await self._sleep(min(due_s - now_s, self._period_s / LOOKS))

    async def _sleep(self, seconds: float) -> None:
        handle = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        handle.cancel()
        self._wake.clear()

    def _due_s(self, now_s: float) -> float:
        """When the next round trip is due, as things stand."""
        if not self.is_connected:
            return self._retry_s
        if self._waiters:
            return self._urgent_s(now_s)
        since_s = now_s - self._last_s
        active = self._standing.active
        if since_s >= UNUSED_PERIODS * self._period_s:
            is_due = bool(active or self.totals)
        else:
            is_due = since_s >= self._period_s and (
                len(active) > MAX_LIMITS
                or any(lease.is_unused(now_s) or lease.is_low(now_s) for lease in active)
            )
        return self._affordable_s(now_s) if is_due else float("inf")

    def _urgent_s(self, now_s: float) -> float:
        gap_s = GAP_PART * self._fleet.timeout_s
        return max(self._affordable_s(now_s), self._last_s + gap_s)

    def _affordable_s(self, now_s: float) -> float:
        """When a round trip is next in the purse."""
        periods = (now_s - self._counted_s) / self._period_s
        self._saved = min(SAVED_TRIPS, self._saved + periods * EARNED_TRIPS)
        self._counted_s = now_s
        return now_s + max(0.0, 1 - self._saved) / EARNED_TRIPS * self._period_s

    # --- one round trip -------------------------------------------------------------------------------

    async def _round_trip(self, *, is_last: bool = False) -> None:
        now_s = self._clock()
        self._affordable_s(now_s)
        self._saved = max(0.0, self._saved - 1)
        self._last_s = now_s
        self.round_trips += 1
        batch = self._unanswered
        if batch is None:
            batch = self._unanswered = self._gather(now_s, is_last=is_last)
            self._served_next, self._waiters = self._waiters, []
        else:
            batch.ask_for_nothing()
        late = asyncio.get_running_loop().call_later(self._fleet.timeout_s, self._go_local)
        try:
            keys, arguments = batch.keys(self._id), batch.arguments(self._id, self._period_s)
            answer = await self._link.run(_SCRIPT, keys, arguments)
            grants = batch.grants(answer)
        except LinkError as error:
            self._failed(str(error))
        except GarbledError:
            self._relink()
            self._failed("its answer is not what the script gives: is it Redis 5 or newer?")
        else:
            self._unanswered = None
            self._answered(batch, grants)
        finally:
            late.cancel()
            served, self._served_next = self._served_next, []
            self._release(served)

    def _gather(self, now_s: float, *, is_last: bool) -> Batch:
        self._number += 1
        active = self._standing.active
        chosen = list(active)
        if len(chosen) > MAX_LIMITS:
            chosen.sort(key=Lease.urgency)
            del chosen[MAX_LIMITS:]
        reports = [lease.report(now_s, is_last=is_last) for lease in chosen]
        return Batch(self._number, reports, self.totals.drain(), now_s)

    def _answered(self, batch: Batch, grants: list[Grant | None]) -> None:
        now_s = self._clock()
        if not self.is_connected:
            self.is_connected = True
            if self.failures:
                _log.info("fleet: Redis answers again, limits are shared again")
        self._standing.is_local = False
        self.local_share_since_s = None
        for report, grant in zip(batch.reports, grants, strict=True):
            lease = report.lease
            if grant is None and not lease.is_refused:
                _log.warning(
                    "fleet: Redis has another kind of data in the keys of %s: delete them", lease.key
                )
            lease.learn(report, grant, batch.sent_s, now_s)
        for lease in tuple(self._standing.active):
            lease.end_local_share(now_s)
            if lease.is_idle():
                self._standing.active.discard(lease)

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if self.is_connected or self.failures == 1:
            share = f"1/{self._fleet.expected} of each limit"
            _log.warning("fleet: Redis cannot be used: %s; until it can, this sidecar has %s", reason, share)
        self.is_connected = False
        # Sidecars that lost Redis together do not come back together.
        self._retry_s = self._clock() + self._period_s * random.uniform(0.8, 1.2)
        self._go_local()

    def _go_local(self) -> None:
        """Every lease has its local share from now on, and nobody waits any longer."""
        if not self._standing.is_local:
            self._standing.is_local = True
            self.local_share_since_s = self._clock()
        for lease in self._standing.active:
            lease.stop_asking()
        waiters, self._waiters = (*self._served_next, *self._waiters), []
        self._served_next = []
        self._release(waiters)

    def _release(self, waiters: Iterable[asyncio.Future[None]]) -> None:
        for future in waiters:
            _finish(future)


def _too_late(wants: Iterable[tuple[Lease, int]], future: asyncio.Future[None]) -> None:
    for lease, _ in wants:
        lease.stand_alone()
    _finish(future)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
