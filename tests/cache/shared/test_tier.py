"""The shared tier on a real Redis: what one sidecar keeps others find, and nothing that is not right."""

import asyncio
import os
import random

from sidecar.cache.shared.orders import Order
from sidecar.cache.shared.sealing import HEAD_BYTES, MAX_RECORD_BYTES, Found
from sidecar.flow import Flow
from tests.cache.shared.shared_tier import (
    MAX_BYTES,
    OTHER,
    RECORD,
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

# --- kept and found ---------------------------------------------------------------------------------------


async def test_what_one_sidecar_keeps_another_finds_with_its_true_age() -> None:
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as one, tier_at(server.url, clock) as other:
            assert await look(other) is None
            await keep(one, key(exact=b"as asked"), ttl_s=3600.0)
            clock.now_s += 100.0
            found = await look(other, key(exact=b"in other"))
            assert found is not None
            assert (found.record, found.exact, found.has_usage, found.took_s) == (
                RECORD,
                b"as asked",
                True,
                2.5,
            )
            assert (found.age_s, found.ttl_s) == (100.0, 3600.0)
            assert (other.stats.hits, other.stats.misses, one.stats.written) == (1, 1, 1)
            assert 3_590_000 < int(server.admin.pttl(name_of(key()))) <= 3_600_000


async def test_an_answer_outlives_the_sidecar_that_made_it() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as one:
            await keep(one)
        async with tier_at(server.url) as again:
            assert await look(again) is not None


async def test_an_answer_that_waited_lives_no_longer_for_it() -> None:
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as tier:
            tier.keep(key("a"), RECORD, True, 1.0, 100.0)
            tier.keep(key("b"), RECORD, True, 1.0, 40.0)
            clock.now_s += 60.0
            await tier.turn()
            assert 39_000 < int(server.admin.pttl(name_of(key("a")))) <= 40_000
            assert not server.admin.exists(name_of(key("b")))
            assert (found := await look(tier)) is not None
            assert found.age_s == 60.0


async def test_after_its_time_an_answer_is_a_miss_and_goes() -> None:
    """Though Redis still has it: its clock need not be ours."""
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as tier:
            await keep(tier, ttl_s=60.0)
            server.admin.persist(name_of(key()))
            clock.now_s += 59.9
            assert await look(tier) is not None
            clock.now_s += 0.1
            assert await look(tier) is None
            assert tier.stats.expired == 1
            await tier.turn()
            assert not server.admin.exists(name_of(key()))


async def test_a_clock_that_is_ahead_makes_no_answer_older_or_younger_than_new() -> None:
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock, ahead_s=500.0) as ahead, tier_at(server.url, clock) as tier:
            await keep(ahead, ttl_s=60.0)
            assert (found := await look(tier)) is not None
            assert found.age_s == 0.0
            await keep(tier, key("b"), ttl_s=60.0)
            assert await look(ahead, key("b")) is None


async def test_long_records_are_compressed_and_come_back() -> None:
    record = RECORD * 1000
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier, record=record)
            assert int(server.admin.strlen(name_of(key()))) < len(record) / 20
            assert (found := await look(tier)) is not None
            assert found.record == record


async def test_what_is_too_large_is_not_written() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier, record=os.urandom(MAX_BYTES))
            assert await look(tier) is not None
            await keep(tier, key("b"), os.urandom(MAX_BYTES + 1))
            await keep(tier, key("c"), bytes(MAX_RECORD_BYTES + 1))
            assert (tier.stats.written, tier.stats.oversized) == (1, 2)
            assert int(server.admin.dbsize()) == 1


async def test_a_flow_without_a_task_awaits_a_look_up() -> None:
    found: list[Found | None] = []
    ended: list[BaseException | None] = []
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier)

            async def request() -> None:
                assert asyncio.current_task() is None
                future = tier.look(key())
                assert future is not None
                found.append(await future)

            loop = asyncio.get_running_loop()
            loop.call_soon(Flow(request(), ended.append).resume)
            await until(lambda: ended)
            assert ended == [None]
            assert found[0] is not None


# --- what must not be found -------------------------------------------------------------------------------


async def test_a_bad_value_is_a_miss_and_is_deleted() -> None:
    draw = random.Random(2)
    with redis_server() as server:
        async with tier_at(server.url) as tier, tier_at(server.url) as other:
            await keep(tier)
            value = stored(server)
            bad = [b"x", b"\0" * 200, value[:-1], value[: HEAD_BYTES - 1], value + b"x", b"\0" + value[1:]]
            bad += [
                value[:n] + bytes((value[n] ^ 1 << draw.randrange(8),)) + value[n + 1 :] for n in range(99)
            ]
            for number, one in enumerate(bad):
                server.admin.set(name_of(key()), one)
                assert await look(other) is None
                assert other.stats.rejected == number + 1
                await other.turn()
                assert not server.admin.exists(name_of(key()))
            server.admin.set(name_of(key()), value)
            assert await look(other) is not None


async def test_a_value_that_was_put_elsewhere_is_a_miss() -> None:
    elsewhere = (key("b"), key(route="manual"), key(scope=OTHER))
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier)
            for other in elsewhere:
                server.admin.copy(name_of(key()), name_of(other))
                assert await look(tier, other) is None
            assert tier.stats.rejected == len(elsewhere)
            assert await look(tier) is not None


async def test_a_huge_value_is_not_read_and_is_deleted() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            server.admin.set(name_of(key()), bytes(100_000_000))
            assert await look(tier) is None
            assert (tier.stats.oversized, tier.stats.misses) == (1, 1)
            await tier.turn()
            assert not server.admin.exists(name_of(key()))
            assert int(server.admin.info()["total_net_output_bytes"]) < 1_000_000


async def test_fleets_with_other_secrets_neither_share_nor_spoil() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as one, tier_at(server.url, secret=b"another") as other:
            await keep(one)
            assert await look(other) is None
            await keep(other)
            other.order(Order(START_S + 10))
            await other.turn()
            await until(lambda: other.stats.deleted == 1)
            assert await look(one) is not None
            assert (one.stats.rejected, other.stats.rejected) == (0, 0)
