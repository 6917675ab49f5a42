"""The answers that all sidecars share, in Redis, behind the memory of each.

Theory of operation. A request that finds nothing in memory may look here, which takes 50 ms at most. All else
is one background task: it writes new answers out of a bounded queue, drops bad values, sends orders (purge,
pin) and reads those of others every two seconds. Nothing here ever fails a request or makes it wait longer.

The tier is off until the log of orders was read, and again after three commands in a row failed. Ten seconds
later the log is read again: that is the probe, and no request pays for it. A log that cannot be read is tried
again at once, until the tier is off: while it is on, it knows what was purged, a few seconds late at most.

A purge counts from when it is heard of (orders.py). The sidecar that gave it then deletes what it reaches, in
batches; should that fail, nothing of it is given all the same.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from sidecar.cache.key import Key
from sidecar.cache.shared.backlog import Backlog, Write
from sidecar.cache.shared.names import Names
from sidecar.cache.shared.order_log import MAX_ORDERS, OrderLog
from sidecar.cache.shared.orders import Order, Purges
from sidecar.cache.shared.redis import PATIENCE_S, Redis, is_late, is_refusal, reason_of
from sidecar.cache.shared.sealing import HEAD_BYTES, MAX_RECORD_BYTES, Found, Seals
from sidecar.config.secrets import Secret
from sidecar.tasks import spawn

LOOK_S = 0.05
PERIOD_S = 2.0
OFF_S = 10.0
MAX_FAILURES = 3
MAX_LOOKS = 32  # at the same time, each with a connection; who comes then goes without
MAX_DOOMED = 256

_log = logging.getLogger("sidecar")


class Stats:
    """What the tier did since its start. `SharedTier.backlog.dropped` and `.log.rejected` belong to it."""

    __slots__ = (
        *("applied", "deleted", "expired", "hits", "late", "misses", "ordered", "oversized", "purged"),
        *("refused", "rejected", "skipped", "unreachable", "unsent", "written"),
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0  # of all kinds, but not those that failed
        self.skipped = 0  # not looked up: the tier is off or busy
        # Misses although there was something
        self.rejected = 0  # no seal of ours: changed, cut short, put elsewhere, of another version
        self.expired = 0
        self.purged = 0
        self.oversized = 0  # also answers that were not written
        # Commands that failed
        self.late = 0
        self.refused = 0
        self.unreachable = 0  # or answered with garbage
        # In the background
        self.written = 0
        self.deleted = 0  # after purges
        self.ordered = 0
        self.unsent = 0  # orders, for want of room while Redis was away
        self.applied = 0  # orders of others


class SharedTier:
    """The shared answers of one fleet: of all sidecars with the same Redis and the same `secret`.

    `max_record_bytes` is of a record as it is stored, compressed. `apply` is called in the background with
    each order that another sidecar gave, and at the start with all that are left. For metrics: `stats`, and
    `is_on`. A ValueError where `url` or `secret` cannot be used.
    """

    def __init__(
        self,
        url: Secret,
        secret: bytes,
        max_record_bytes: int,
        apply: Callable[[Order], None],
        *,
        purges: Purges | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stats = Stats()
        self.is_on = False
        self._apply = apply
        self._clock = clock
        self._wall = wall
        # Redis, and what is known of it
        self._max_value_bytes = max_record_bytes + HEAD_BYTES
        self._seals = Seals(secret)
        self._names = Names(self._seals.fleet)
        self._redis = Redis(
            url,
            timeout_s=LOOK_S,
            max_value_bytes=self._max_value_bytes,
            max_connections=MAX_LOOKS + 2,
        )
        self._failures = 0
        self._retry_s = float("-inf")
        self._next_poll_s = float("-inf")
        self._has_complained = False
        # What waits for the background
        self.backlog = Backlog()
        self.log = OrderLog(self._redis, self._seals, self._names)
        self._orders: deque[Order] = deque()
        self._purges = Purges() if purges is None else purges
        self._reached: deque[Order] = deque()
        self._doomed: dict[str, None] = {}
        self._wake = asyncio.Event()
        # What runs
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looks = 0
        self._is_deleting = False

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; the tier is on once the log was read."""
        self._hold(self._work(), "shared answers")

    async def stop(self) -> None:
        """End; what was not written is lost, look-ups under way find nothing."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # Again, if need be: on Python 3.11 `wait_for`, which aiocache uses, loses a cancellation that
            # comes along with the answer.
            await asyncio.wait(self._tasks, timeout=0.02)
        self.is_on = False
        self._retry_s = float("inf")
        try:
            await self._redis.close(timeout=PATIENCE_S)
        except Exception as error:
            _log.debug("cache: a connection to Redis did not close in time: %s", type(error).__name__)

    # --- for requests: nothing of it waits ----------------------------------------------------------------

    def look(self, key: Key) -> asyncio.Future[Found | None] | None:
        """What is stored under a key, in LOOK_S at most; None where it is not worth asking now.

        The future never raises, and may be cancelled.
        """
        if not self.is_on or self._looks >= MAX_LOOKS:
            self.stats.skipped += 1
            return None
        future: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._looks += 1

        # The look-up goes on when the request ends: cut off, it would cost the connection.
        def done(task: asyncio.Task[Found | None]) -> None:
            self._looks -= 1
            if not future.done():
                future.set_result(None if task.cancelled() or task.exception() else task.result())

        self._hold(self._look(key), "shared answer").add_done_callback(done)
        return future

    def keep(self, key: Key, record: bytes, has_usage: bool, took_s: float, ttl_s: float) -> None:
        """Have an answer written; it is `ttl_s` good from now."""
        if len(record) > MAX_RECORD_BYTES:
            self.stats.oversized += 1
            return
        write = Write(
            self._names.of(key),
            key.exact,
            record,
            has_usage,
            took_s=took_s,
            written_s=self._wall(),
            ttl_s=ttl_s,
        )
        self.backlog.put(write)
        if self.is_on:
            self._wake.set()

    def order(self, order: Order) -> None:
        """Tell all other sidecars. The shared answers heed it at once; memory is the caller's."""
        if not order.is_pin:
            self._purges.note(order)
        self._orders.append(order)
        if len(self._orders) > MAX_ORDERS:
            self._orders.popleft()
            self.stats.unsent += 1
        self._wake.set()

    # --- a look-up ----------------------------------------------------------------------------------------

    async def _look(self, key: Key) -> Found | None:
        name = self._names.of(key)
        try:
            value = await self._redis.get(name)
        except Exception as error:
            self._failed(error)
            return None
        self._failures = 0
        found = None if value is None else self._judge(key, name, value)
        if found is None:
            self.stats.misses += 1
        else:
            self.stats.hits += 1
        return found

    def _judge(self, key: Key, name: str, value: bytes) -> Found | None:
        """What a value holds, if that may be given; a bad value is dropped."""
        stats = self.stats
        if len(value) > self._max_value_bytes:
            stats.oversized += 1
        elif (found := self._seals.open(name, value, self._wall())) is None:
            stats.rejected += 1
        elif found.age_s >= found.ttl_s:
            stats.expired += 1
        elif self._purges.cover(key, found.written_s):
            stats.purged += 1
        else:
            return found
        if len(self._doomed) < MAX_DOOMED:
            self._doomed[name] = None
            self._wake.set()
        return None

    # --- in the background --------------------------------------------------------------------------------

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self.turn()
                if self.is_on and (self.backlog or self._clock() >= self._next_poll_s):
                    continue  # writing made way for the log, or the log could not be read
                timer = loop.call_later(PERIOD_S, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
                self._wake.clear()
        finally:
            self.is_on = False  # who hears of no purge gives nothing

    async def turn(self) -> None:
        """Do what is due: the step of the background task, for tests that have its clock."""
        now_s = self._clock()
        if not self.is_on and now_s < self._retry_s:
            return
        if (not self.is_on or now_s >= self._next_poll_s) and not await self._poll():
            return
        await self._send_orders()
        await self._drop_doomed()
        while self.is_on and self.backlog and self._clock() < self._next_poll_s:
            await self._write(self.backlog.take())

    async def _poll(self) -> bool:
        """Read the orders of others; the first that is read switches the tier on."""
        try:
            orders = await self.log.read(self._wall())
        except Exception as error:
            self._failed(error)
            return False
        for order in orders:
            if not order.is_pin:
                self._purges.note(order)
            self.stats.applied += 1
            self._apply(order)
        self._next_poll_s = self._clock() + PERIOD_S
        self._failures = 0
        if not self.is_on:
            self.is_on = True
            if self._has_complained:
                self._has_complained = False
                _log.info("cache: Redis answers again, answers are shared again")
        return True

    async def _send_orders(self) -> None:
        while self.is_on and self._orders:
            order = self._orders[0]
            try:
                await self.log.send(order)
            except Exception as error:
                return self._not_taken(error)  # it stays the next to be sent
            if self._orders and self._orders[0] is order:
                self._orders.popleft()
            self.stats.ordered += 1
            if not order.is_pin and len(self._reached) < MAX_ORDERS:
                self._reached.append(order)
        if self._reached and not self._is_deleting:
            self._is_deleting = True
            self._hold(self._delete_reached(), "shared answers: purge")

    async def _delete_reached(self) -> None:
        try:
            while self._reached:
                self.stats.deleted += await self.log.delete_reached(self._reached.popleft())
        except Exception as error:
            self._not_taken(error)  # what is left is never given, and goes when its time is over
        finally:
            self._is_deleting = False

    async def _drop_doomed(self) -> None:
        while self.is_on and self._doomed:
            name = next(iter(self._doomed))
            del self._doomed[name]
            try:
                await self._redis.delete(name, timeout=PATIENCE_S)
            except Exception as error:
                self._not_taken(error)

    async def _write(self, write: Write) -> None:
        # By no more than it was given, should the clock have been set back since.
        left_s = min(write.ttl_s, write.written_s + write.ttl_s - self._wall())
        if left_s < 0.001:
            return
        value = self._seals.seal(
            write.name,
            write.record,
            write.exact,
            write.has_usage,
            written_s=write.written_s,
            ttl_s=write.ttl_s,
            took_s=write.took_s,
        )
        if len(value) > self._max_value_bytes:
            self.stats.oversized += 1
            return
        try:
            await self._redis.set(write.name, value, ttl=float(left_s), timeout=PATIENCE_S)
        except Exception as error:
            self._not_taken(error)
        else:
            self.stats.written += 1

    # --- faults -------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        self._count(error)
        self._failures += 1
        if self.is_on and self._failures < MAX_FAILURES:
            return
        if self.is_on or not self._has_complained:
            self._has_complained = True
            _log.warning(
                "cache: Redis cannot be used: %s %s; until it can, this sidecar has its own answers only",
                self._redis.place,
                reason_of(error),
            )
        self.is_on = False
        self._retry_s = self._clock() + OFF_S

    def _not_taken(self, error: Exception) -> None:
        """A command that changes something failed. Who only says no is there: look-ups go on."""
        if not is_refusal(error):
            return self._failed(error)
        self._count(error)
        if not self._has_complained:
            self._has_complained = True
            reason = reason_of(error)
            _log.warning("cache: Redis takes no answers or orders: %s %s", self._redis.place, reason)

    def _count(self, error: Exception) -> None:
        if is_late(error):
            self.stats.late += 1
        elif is_refusal(error):
            self.stats.refused += 1
        else:
            self.stats.unreachable += 1

    def _hold(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
