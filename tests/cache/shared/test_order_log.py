"""The log of orders, in a real Redis: each sidecar hears each order of the others once, and no forgery."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from sidecar.cache.shared.names import Names
from sidecar.cache.shared.order_log import BATCH, KEPT_S, MAX_ORDERS, OrderLog
from sidecar.cache.shared.orders import Order
from sidecar.cache.shared.redis import Redis
from sidecar.cache.shared.sealing import Seals
from sidecar.config.secrets import Secret
from tests.support.redis import lying_server, redis_server

NOW_S = 1_800_000_000.0
SEALS = Seals(b"secret")
NAMES = Names(SEALS.fleet)
DIGEST = b"digest__________"


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[OrderLog]:
    redis = Redis(Secret(url), timeout_s=1.0, max_value_bytes=1000, max_connections=4)
    try:
        yield OrderLog(redis, SEALS, NAMES)
    finally:
        await redis.close()


async def routes(log: OrderLog) -> list[str | None]:
    return [order.route for order in await log.read(NOW_S)]


async def test_each_hears_each_order_of_the_others_once_and_in_order() -> None:
    with redis_server() as server:
        async with log_at(server.url) as one, log_at(server.url) as other:
            for name in "abc":
                await one.send(Order(NOW_S, route=name))
            assert await routes(other) == ["a", "b", "c"]
            assert await routes(other) == []
            await one.send(Order(NOW_S, route="d"))
            await other.send(Order(NOW_S, route="e"))
            assert await routes(other) == ["d"]
            assert await routes(one) == ["e"]


async def test_who_starts_later_hears_what_is_left() -> None:
    with redis_server() as server:
        async with log_at(server.url) as one:
            await one.send(Order(NOW_S, digest=DIGEST, is_pin=True))
            await one.send(Order(NOW_S, scope=DIGEST))
        async with log_at(server.url) as later:
            orders = await later.read(NOW_S)
            assert sorted((order.is_pin, order.digest, order.scope) for order in orders) == [
                (False, None, DIGEST),
                (True, DIGEST, None),
            ]


async def test_both_logs_hold_so_many_and_go_in_the_end() -> None:
    with redis_server() as server:
        async with log_at(server.url) as one, log_at(server.url) as other:
            await one.send(Order(NOW_S, digest=DIGEST, is_pin=True))
            for number in range(MAX_ORDERS + 5):
                await one.send(Order(NOW_S, route=str(number)))
            orders = await other.read(NOW_S)
            assert len(orders) == MAX_ORDERS + 1
            assert sum(order.is_pin for order in orders) == 1
            for log in (NAMES.pins, NAMES.purges):
                assert 0 < int(server.admin.ttl(log)) <= KEPT_S


async def test_a_pin_is_kept_for_a_month() -> None:
    with redis_server() as server:
        async with log_at(server.url) as one, log_at(server.url) as early, log_at(server.url) as late:
            await one.send(Order(NOW_S, digest=DIGEST, is_pin=True))
            assert len(await early.read(NOW_S + KEPT_S - 1)) == 1
            assert len(await late.read(NOW_S + KEPT_S + 1)) == 0


async def test_a_forged_order_is_passed_over_and_counted() -> None:
    genuine = Order(NOW_S, route="genuine").written("somebody")
    with redis_server() as server:
        async with log_at(server.url) as log:
            for value in (
                *(b"", b"x" * 100_000, genuine, Seals(b"another").seal_order(genuine)),
                SEALS.seal_order(genuine)[:-1],
                SEALS.seal(NAMES.purges, genuine, b"exact___", True, written_s=0.0, ttl_s=1.0, took_s=0.0),
                SEALS.seal_order(b"no order"),
            ):
                server.admin.xadd(NAMES.purges, {"order": value})
            server.admin.xadd(NAMES.purges, {"something": "else"})
            server.admin.xadd(NAMES.purges, {"order": SEALS.seal_order(genuine)})
            assert await routes(log) == ["genuine"]
            assert log.rejected == 8


async def test_an_order_that_is_sent_twice_is_heard_twice() -> None:
    """Which does no harm: what fails is sent again, as it may not have arrived."""
    with redis_server() as server:
        async with log_at(server.url) as one, log_at(server.url) as other:
            order = Order(NOW_S, route="a")
            await one.send(order)
            await one.send(order)
            assert await routes(other) == ["a", "a"]


async def test_a_redis_that_lost_its_data_is_heard_again() -> None:
    with redis_server() as server:
        async with log_at(server.url) as one, log_at(server.url) as other:
            await one.send(Order(NOW_S, route="a"))
            assert await routes(other) == ["a"]
            server.kill()
            server.start()
            await asyncio.sleep(0.01)  # until the ends of the connections have come through
            await one.send(Order(NOW_S, route="b"))
            assert await routes(other) == ["b"]


async def test_another_kind_of_data_in_place_of_the_log_is_an_error() -> None:
    with redis_server() as server:
        server.admin.set(NAMES.pins, "x")
        async with log_at(server.url) as log:
            with pytest.raises(ResponseError):
                await log.read(NOW_S)


async def test_what_is_no_answer_to_a_reading_is_an_error_and_moves_nothing() -> None:
    half = b"*1\r\n*2\r\n$%d\r\n%b\r\n" % (len(NAMES.purges), NAMES.purges.encode())
    half += b"*2\r\n*2\r\n$3\r\n7-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n:1\r\n"
    answers = (half, b"+fine\r\n", b":1\r\n", b"*1\r\n*2\r\n$1\r\nx\r\n:3\r\n", b"*1\r\n:1\r\n")
    for answer in answers:
        async with lying_server(answer) as url, log_at(url) as log:
            before = dict(log._seen)
            with pytest.raises((ValueError, TypeError, AttributeError)):
                await log.read(NOW_S)
            assert log._seen == before


async def test_what_a_purge_reaches_is_deleted_in_batches_and_nothing_else() -> None:
    scope, other = "aa" * 16, "bb" * 16
    prefix = NAMES.purges.removesuffix(":purges")
    with redis_server() as server:
        count = 3 * BATCH
        for name in (scope, other):
            server.admin.mset({f"{prefix}:any-form:{name}:{'0' * 16}:{n:032x}": "x" for n in range(count)})
        server.admin.set(f"sidecar:answers:0ther000:any-form:{scope}:0:0", "of another fleet")
        server.admin.set("mine", "of somebody else")
        async with log_at(server.url) as log:
            await log.send(Order(NOW_S))
            assert await log.delete_reached(Order(NOW_S, scope=bytes.fromhex(scope))) == count
            assert await log.delete_reached(Order(NOW_S, scope=bytes.fromhex(scope))) == 0
            assert int(server.admin.dbsize()) == count + 3
            assert await log.delete_reached(Order(NOW_S)) == count
            assert int(server.admin.dbsize()) == 3
            assert server.admin.exists(NAMES.purges)


async def test_a_scan_without_end_comes_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.cache.shared.order_log.MAX_BATCHES", 3)
    async with lying_server(b"*2\r\n$1\r\n7\r\n*0\r\n" * 100) as url, log_at(url) as log:
        assert await log.delete_reached(Order(NOW_S)) == 0
