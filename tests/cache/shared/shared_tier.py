"""Sidecars that share answers, for tests: tiers on one clock, and the usual key."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sidecar.cache.key import Key, Place
from sidecar.cache.shared.names import Names
from sidecar.cache.shared.orders import Order
from sidecar.cache.shared.sealing import Found, Seals
from sidecar.cache.shared.tier import SharedTier
from sidecar.config.secrets import Secret
from tests.support.redis import RedisServer

SECRET = b"secret of the fleet"
SCOPE, OTHER = b"scope___________", b"other___________"
RECORD = b'[[["content",["Six minutes."]]],null,{},{},{}]'
MAX_BYTES = 10_000
START_S = 1_800_000_000.0


class Clock:
    """Wall and monotonic time, moved by hand; a sidecar's own may be off by `ahead_s`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self, ahead_s: float = 0.0) -> Callable[[], float]:
        return lambda: START_S - 1000.0 + self.now_s + ahead_s


def key(name: str = "a", route: str = "auto", scope: bytes = SCOPE, exact: bytes = b"exact___") -> Key:
    return Key(Place(scope, route, "p/m"), b"partition", name.encode().ljust(16), exact, "text")


def name_of(key: Key, secret: bytes = SECRET) -> str:
    return Names(Seals(secret).fleet).of(key)


@asynccontextmanager
async def tier_at(
    url: str,
    clock: Clock | None = None,
    *,
    apply: Callable[[Order], None] = lambda order: None,
    secret: bytes = SECRET,
    ahead_s: float = 0.0,
    is_on: bool = True,
) -> AsyncIterator[SharedTier]:
    """A tier whose background is done by `turn`; it is on, unless told otherwise."""
    clock = clock or Clock()
    tier = SharedTier(Secret(url), secret, MAX_BYTES, apply, clock=clock.monotonic, wall=clock.wall(ahead_s))
    try:
        await tier.turn()
        assert tier.is_on is is_on
        yield tier
    finally:
        await tier.stop()


@asynccontextmanager
async def running(url: str, apply: Callable[[Order], None] = lambda order: None) -> AsyncIterator[SharedTier]:
    """A tier that runs by itself, in real time."""
    tier = SharedTier(Secret(url), SECRET, MAX_BYTES, apply)
    tier.start()
    try:
        yield tier
    finally:
        await tier.stop()


async def look(tier: SharedTier, wanted: Key | None = None) -> Found | None:
    future = tier.look(wanted or key())
    assert future is not None
    return await future


async def keep(
    tier: SharedTier, kept: Key | None = None, record: bytes = RECORD, ttl_s: float = 3600.0
) -> None:
    tier.keep(kept or key(), record, True, 2.5, ttl_s)
    await tier.turn()


def stored(server: RedisServer) -> bytes:
    """The value that is stored for the usual key."""
    value = server.admin.get(name_of(key()))
    assert isinstance(value, bytes)
    return value


def errors(tier: SharedTier) -> tuple[int, int, int]:
    return tier.stats.late, tier.stats.refused, tier.stats.unreachable
