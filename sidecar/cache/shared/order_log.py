"""The orders of all sidecars, in two streams of Redis: purges, and pins, which purges must not push out.

A stream gives each order its place, and a sidecar asks for what came after the last it saw. Both hold the
last thousand orders and go a month after the last of them. What bears no seal of ours is passed over.
"""

import secrets

from sidecar.cache.shared.names import Names
from sidecar.cache.shared.orders import Order, read_order
from sidecar.cache.shared.redis import PATIENCE_S, Redis
from sidecar.cache.shared.sealing import Seals

MAX_ORDERS = 1000  # in each stream
KEPT_S = 30 * 86400
# Of a deletion: names asked for at once (half a millisecond of Redis), and how often, in case it has no end.
BATCH = 1000
MAX_BATCHES = 10_000

_FIELD = "order"


class OrderLog:
    """The log, as one sidecar sees it. Its methods raise what aiocache and redis-py do."""

    def __init__(self, redis: Redis, seals: Seals, names: Names) -> None:
        self.rejected = 0
        self._redis = redis
        self._seals = seals
        self._names = names
        self._sender = secrets.token_hex(8)
        self._seen = {names.purges: "0", names.pins: "0"}

    async def read(self, now_s: float) -> list[Order]:
        """What others ordered since the last time, and at the first time all that is left; `now_s` is Unix
        time."""
        orders: list[Order] = []
        seen = dict(self._seen)
        streams = await self._redis.raw("xread", self._seen, count=MAX_ORDERS, timeout=PATIENCE_S)
        for stream, entries in streams:
            for place, fields in entries:
                order = self._order_of(fields.get(_FIELD.encode(), b""), now_s)
                if order is not None:
                    orders.append(order)
                seen[stream.decode()] = place.decode()
        self._seen = seen
        return orders

    def _order_of(self, value: bytes, now_s: float) -> Order | None:
        written = self._seals.open_order(value)
        read = None if written is None else read_order(written)
        if read is None:
            self.rejected += 1
            return None
        sender, order = read
        if sender == self._sender or (order.is_pin and order.at_s < now_s - KEPT_S):
            return None
        return order

    async def send(self, order: Order) -> None:
        """Tell the others. What failed may have been sent; to send it again does no harm."""
        stream = self._names.pins if order.is_pin else self._names.purges
        fields = {_FIELD: self._seals.seal_order(order.written(self._sender))}
        limit = {"maxlen": MAX_ORDERS, "approximate": False}
        await self._redis.raw("xadd", stream, fields, **limit, timeout=PATIENCE_S)
        await self._redis.raw("expire", stream, KEPT_S, timeout=PATIENCE_S)

    async def delete_reached(self, purge: Order) -> int:
        """Delete the answers that a purge reaches; returns how many."""
        pattern = self._names.reached_by(purge)
        deleted = 0
        cursor = 0
        for _ in range(MAX_BATCHES):
            wanted = {"match": pattern, "count": BATCH}
            cursor, names = await self._redis.raw("scan", cursor, **wanted, timeout=PATIENCE_S)
            if names:
                deleted += await self._redis.raw("unlink", *names, timeout=PATIENCE_S)
            if not cursor:
                break
        return deleted
