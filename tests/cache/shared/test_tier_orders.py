"""Orders in the shared tier: a purge reaches all sidecars, and no one gives what it has not heard of."""

import pytest

from sidecar.cache.shared.names import Names
from sidecar.cache.shared.order_log import MAX_ORDERS
from sidecar.cache.shared.orders import Order
from sidecar.cache.shared.sealing import Seals
from sidecar.cache.shared.tier import MAX_FAILURES, OFF_S, PERIOD_S, SharedTier
from sidecar.config.secrets import Secret
from tests.cache.shared.shared_tier import (
    MAX_BYTES,
    OTHER,
    RECORD,
    SCOPE,
    SECRET,
    START_S,
    Clock,
    keep,
    key,
    look,
    name_of,
    stored,
    tier_at,
)
from tests.support.redis import redis_server
from tests.support.waiting import until

PURGES = {
    "all": Order(START_S + 5),
    "a route": Order(START_S + 5, route="auto"),
    "a scope": Order(START_S + 5, scope=SCOPE),
    "a digest": Order(START_S + 5, digest=key().digest),
    "one answer": Order(START_S + 5, digest=key().digest, route="auto", scope=SCOPE),
}
APART = key("b", "manual", OTHER)


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES)
async def test_a_purge_reaches_redis_and_all_sidecars(purge: Order) -> None:
    clock = Clock()
    heard: list[Order] = []
    own: list[Order] = []
    with redis_server() as server:
        async with (
            tier_at(server.url, clock, apply=own.append) as one,
            tier_at(server.url, clock, apply=heard.append) as other,
        ):
            await keep(other)
            await keep(other, APART)
            clock.now_s += 5.0
            one.order(purge)
            await one.turn()
            await until(lambda: one.stats.deleted)
            assert not server.admin.exists(name_of(key()))
            assert bool(server.admin.exists(name_of(APART))) is (purge is not PURGES["all"])
            await other.turn()
            assert [(order.digest, order.route, order.scope) for order in heard] == [
                (purge.digest, purge.route, purge.scope)
            ]
            clock.now_s += PERIOD_S
            await one.turn()
            assert own == [], "its own order does not come back to it"
            await keep(other)
            assert await look(one) is not None, "what is newer than the purge is given"


async def test_who_gives_an_order_heeds_it_at_once() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier)
            tier.order(Order(START_S, scope=SCOPE))
            assert await look(tier) is None
            assert tier.stats.purged == 1


async def test_what_was_purged_is_not_given_although_it_is_still_there() -> None:
    """The sidecar that gave the order died before it could delete, or an older one wrote it again."""
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as one, tier_at(server.url, clock) as other:
            await keep(one)
            value = stored(server)
            clock.now_s += 5.0
            one.order(Order(clock.wall()(), route="auto"))
            await one.turn()
            await until(lambda: one.stats.deleted)
            server.admin.set(name_of(key()), value)
            await other.turn()
            assert await look(other) is None
            assert other.stats.purged == 1
            async with tier_at(server.url, clock) as later:
                server.admin.set(name_of(key()), value)
                assert await look(later) is None


async def test_an_answer_that_waits_while_it_is_purged_is_never_given() -> None:
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as tier:
            tier.keep(key(), RECORD, True, 1.0, 100.0)
            clock.now_s += 1.0
            tier.order(Order(clock.wall()()))
            await tier.turn()
            assert await look(tier) is None


async def test_who_starts_later_hears_of_pins_before_it_gives_anything() -> None:
    clock = Clock()
    heard: list[Order] = []
    with redis_server() as server:
        async with tier_at(server.url, clock) as one:
            one.order(Order(START_S, digest=key().digest, is_pin=True))
            await keep(one)
            assert await look(one) is not None, "a pin is no purge"
        later = SharedTier(
            Secret(server.url), SECRET, MAX_BYTES, heard.append, clock=clock.monotonic, wall=clock.wall()
        )
        assert later.look(key()) is None
        await later.turn()
        assert [(order.is_pin, order.digest) for order in heard] == [(True, key().digest)]
        assert await look(later) is not None
        await later.stop()


async def test_orders_given_while_redis_is_away_are_sent_when_it_is_back() -> None:
    clock = Clock()
    heard: list[Order] = []
    with redis_server() as server:
        async with tier_at(server.url, clock) as one:
            server.kill()
            for _ in range(MAX_FAILURES):
                await look(one)
            for number in range(MAX_ORDERS + 2):
                one.order(Order(clock.wall()(), route=str(number)))
            await one.turn()
            assert (one.is_on, one.stats.unsent) == (False, 2)
            server.start()
            clock.now_s += OFF_S
            await one.turn()
            assert one.stats.ordered == MAX_ORDERS
            async with tier_at(server.url, clock, apply=heard.append):
                assert [order.route for order in heard] == [str(n) for n in range(2, MAX_ORDERS + 2)]


async def test_a_forged_order_is_counted_and_not_heeded() -> None:
    heard: list[Order] = []
    with redis_server() as server:
        names = Names(Seals(SECRET).fleet)
        server.admin.xadd(names.purges, {"order": Order(START_S + 9).written("somebody")})
        async with tier_at(server.url, apply=heard.append) as tier:
            await keep(tier)
            assert await look(tier) is not None
            assert (heard, tier.log.rejected) == ([], 1)
