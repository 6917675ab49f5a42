"""What one sidecar tells the others of stored answers: drop them (purge), or mistrust a key for good (pin).

An order has its time. What was stored before a purge is never given again, whoever still has it: each sidecar
remembers the purges it heard of and holds them against the time of every answer that comes out of Redis. So
a purge is done when it is heard, as far as their clocks agree; the deletion that follows may fail.
"""

import orjson

from sidecar.cache.key import Key

MAX_PURGES = 1000

Reach = tuple[bytes | None, str | None, bytes | None]


class Order:
    """A purge of what has all that is given of `digest`, `route` and `scope` (nothing given: of everything),
    or a pin of `digest`. `at_s` is Unix time."""

    __slots__ = ("at_s", "digest", "is_pin", "route", "scope")

    def __init__(
        self,
        at_s: float,
        *,
        digest: bytes | None = None,
        route: str | None = None,
        scope: bytes | None = None,
        is_pin: bool = False,
    ) -> None:
        if is_pin and digest is None:
            raise ValueError("a pin is of a digest")
        self.at_s = at_s
        self.digest = digest
        self.route = route
        self.scope = scope
        self.is_pin = is_pin

    def written(self, sender: str) -> bytes:
        """As it is sent; `sender` tells a sidecar its own orders."""
        digest = None if self.digest is None else self.digest.hex()
        scope = None if self.scope is None else self.scope.hex()
        return orjson.dumps([sender, self.at_s, self.is_pin, digest, self.route, scope])


def read_order(written: bytes) -> tuple[str, Order] | None:
    """Sender and order; None where it is none that this version knows."""
    try:
        sender, at_s, is_pin, digest, route, scope = orjson.loads(written)
        if route is not None and type(route) is not str:
            return None
        order = Order(
            float(at_s),
            digest=None if digest is None else bytes.fromhex(digest),
            route=route,
            scope=None if scope is None else bytes.fromhex(scope),
            is_pin=is_pin,
        )
    except (TypeError, ValueError):
        return None
    return sender, order


class Purges:
    """The latest purges, by what they reach."""

    __slots__ = ("_at_s",)

    def __init__(self) -> None:
        self._at_s: dict[Reach, float] = {}

    def note(self, order: Order) -> None:
        """Remember a purge."""
        reach = (order.digest, order.route, order.scope)
        at_s = max(order.at_s, self._at_s.pop(reach, order.at_s))
        self._at_s[reach] = at_s
        while len(self._at_s) > MAX_PURGES:
            # To forget one would bring its answers back: the oldest is taken for a purge of everything.
            oldest = next(iter(self._at_s))
            everything: Reach = (None, None, None)
            forgotten_s = self._at_s.pop(oldest)
            self._at_s[everything] = max(forgotten_s, self._at_s.pop(everything, forgotten_s))

    def cover(self, key: Key, written_s: float) -> bool:
        """Whether an answer of that key, of that time, was purged since."""
        at_s = self._at_s
        if not at_s:
            return False
        for digest in (None, key.digest):
            for route in (None, key.route):
                for scope in (None, key.scope):
                    purged_s = at_s.get((digest, route, scope))
                    if purged_s is not None and written_s <= purged_s:
                        return True
        return False
