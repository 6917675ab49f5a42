"""Faults of Redis: slow, dead, lying, busy; none of them is a request's, and nothing is left behind."""

import asyncio
import gc
import logging
import random

import pytest

from sidecar.cache.shared.backlog import MAX_WRITES
from sidecar.cache.shared.orders import Order
from sidecar.cache.shared.tier import LOOK_S, MAX_FAILURES, MAX_LOOKS, OFF_S, PERIOD_S, SharedTier
from sidecar.config.secrets import Secret
from tests.cache.shared.between import between
from tests.cache.shared.shared_tier import (
    MAX_BYTES,
    RECORD,
    SECRET,
    START_S,
    Clock,
    errors,
    keep,
    key,
    look,
    running,
    tier_at,
)
from tests.support.leaks import open_descriptors
from tests.support.redis import lying_server, redis_server
from tests.support.waiting import until


@pytest.fixture
def in_earnest(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is about lateness."""
    monkeypatch.setattr("sidecar.cache.shared.tier.LOOK_S", LOOK_S)


@pytest.mark.usefixtures("in_earnest")
async def test_a_slow_redis_is_a_miss_and_its_late_answer_is_nobodys() -> None:
    with redis_server() as server:
        async with between(server.port) as proxy, tier_at(proxy.url) as tier:
            await keep(tier, key("a"), RECORD + b" of a")
            await keep(tier, key("b"), RECORD + b" of b")
            proxy.passes.clear()
            for _ in range(MAX_FAILURES - 1):
                assert await look(tier, key("a")) is None
            assert (tier.is_on, errors(tier)) == (True, (MAX_FAILURES - 1, 0, 0))
            proxy.passes.set()
            assert (found := await look(tier, key("b"))) is not None
            assert found.record == RECORD + b" of b"
            await until(lambda: proxy.open == 1)


@pytest.mark.usefixtures("in_earnest")
async def test_three_failures_in_a_row_switch_off_and_one_success_starts_anew() -> None:
    with redis_server() as server:
        async with between(server.port) as proxy, tier_at(proxy.url) as tier:
            for _ in range(3):
                for _ in range(MAX_FAILURES - 1):
                    proxy.passes.clear()
                    await look(tier)
                proxy.passes.set()
                await look(tier)
            was_on = tier.is_on
            proxy.passes.clear()
            for _ in range(MAX_FAILURES):
                await look(tier)
            assert (was_on, tier.is_on) == (True, False)
            assert tier.look(key()) is None
            assert tier.stats.skipped == 1


async def test_after_ten_seconds_one_probe_decides_and_no_request_is_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sidecar")
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as tier:
            server.kill()
            for _ in range(MAX_FAILURES):
                await look(tier)
            for _ in range(3):
                tried = tier.stats.unreachable
                clock.now_s += OFF_S - 0.1
                await tier.turn()
                assert errors(tier) == (0, 0, tried)
                clock.now_s += 0.1
                await tier.turn()
                assert errors(tier) == (0, 0, tried + 1)
                assert tier.look(key()) is None
            server.start()
            clock.now_s += OFF_S
            await tier.turn()
            assert tier.is_on
            assert await look(tier) is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert f"Redis cannot be used: 127.0.0.1:{server.port} cannot be reached" in caplog.text


async def test_a_redis_that_is_dead_at_the_start_is_found_later() -> None:
    clock = Clock()
    with redis_server() as server:
        server.kill()
        async with tier_at(server.url, clock, is_on=False) as tier:
            assert tier.look(key()) is None
            tier.keep(key(), RECORD, True, 1.0, 3600.0)
            await tier.turn()
            server.start()
            clock.now_s += OFF_S
            await tier.turn()
            assert await look(tier) is not None, "what was kept meanwhile is written then"


async def test_a_log_that_cannot_be_read_switches_off_although_look_ups_work() -> None:
    """Who hears of no purge gives nothing."""
    clock = Clock()
    with redis_server() as server:
        async with tier_at(server.url, clock) as tier:
            server.admin.acl_setuser("default", nopass=True, enabled=True, commands=["+@all", "-xread"])
            clock.now_s += PERIOD_S
            was_on = []
            for _ in range(MAX_FAILURES):
                was_on.append(tier.is_on)
                await tier.turn()
            assert (was_on, tier.is_on) == ([True] * MAX_FAILURES, False)
            assert errors(tier) == (0, MAX_FAILURES, 0)


async def test_a_redis_that_takes_nothing_is_still_read(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            await keep(tier)
            server.admin.config_set("maxmemory", "1")
            for number in range(2 * MAX_FAILURES):
                await keep(tier, key(f"n{number}"))
            assert tier.is_on
            assert (tier.stats.written, tier.stats.refused) == (1, 2 * MAX_FAILURES)
            assert await look(tier) is not None
    assert caplog.text.count("out of memory") == 1


async def test_no_more_than_so_many_wait_to_be_written() -> None:
    with redis_server() as server:
        server.kill()
        async with tier_at(server.url, is_on=False) as tier:
            for number in range(MAX_WRITES + 7):
                tier.keep(key(str(number)), RECORD, True, 1.0, 3600.0)
            assert (len(tier.backlog), tier.backlog.dropped) == (MAX_WRITES, 7)


async def test_no_more_than_so_many_look_at_once() -> None:
    with redis_server() as server:
        async with between(server.port) as proxy, tier_at(proxy.url) as tier:
            await keep(tier)
            futures = [tier.look(key()) for _ in range(MAX_LOOKS + 5)]
            assert futures.count(None) == tier.stats.skipped == 5
            found = await asyncio.gather(*(future for future in futures if future is not None))
            assert tier.stats.hits + tier.stats.late == len(found) == MAX_LOOKS
            assert proxy.connections <= MAX_LOOKS + 2


async def test_a_caller_that_leaves_costs_no_connection_and_disturbs_nobody() -> None:
    draw = random.Random(4)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    with redis_server() as server:
        async with between(server.port) as proxy, tier_at(proxy.url) as tier:
            for name in "abc":
                await keep(tier, key(name), RECORD + name.encode())
            for number in range(100):
                leaving = tier.look(key("a"))
                assert leaving is not None
                for _ in range(draw.randrange(12)):
                    await asyncio.sleep(0)
                leaving.cancel()
                name = "bc"[number % 2]
                assert (found := await look(tier, key(name))) is not None
                assert found.record == RECORD + name.encode()
            assert (tier.stats.late, faults) == (0, [])
            assert proxy.connections <= 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$99999999999\r\n",
        b":1\r\n",
        b"+x\r\n",
        b"*0\r\n",
        b"-x\r\n",
        b"",
    ],
)
@pytest.mark.usefixtures("in_earnest")
async def test_what_is_no_redis_never_switches_on_or_is_a_miss(answer: bytes) -> None:
    async with lying_server(answer) as url:
        tier = SharedTier(Secret(url), SECRET, MAX_BYTES, lambda order: None)
        await tier.turn()
        if tier.is_on:  # what it says may pass for an empty log
            assert await look(tier) is None
        await tier.stop()


async def test_a_redis_that_turns_into_something_else_is_left_alone() -> None:
    with redis_server() as server:
        async with tier_at(server.url) as tier:
            port = server.port
            server.kill()

            async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
                await reader.read()
                writer.close()

            liar = await asyncio.start_server(lie, "127.0.0.1", port)
            for _ in range(MAX_FAILURES):
                assert await look(tier) is None
            assert not tier.is_on
            liar.close()


async def test_writes_orders_and_look_ups_go_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.cache.shared.tier.PERIOD_S", 0.05)
    heard: list[Order] = []
    with redis_server() as server:
        async with running(server.url) as one, running(server.url, heard.append) as other:
            await until(lambda: one.is_on and other.is_on)
            one.keep(key(), RECORD, True, 1.0, 3600.0)
            await until(lambda: one.stats.written == 1)
            assert await look(other) is not None
            one.order(Order(START_S * 2, route="auto"))
            await until(lambda: one.stats.deleted == 1)
            await until(lambda: len(heard) == 1)


class HurriedClock(Clock):
    """Half a second passes at each look."""

    def monotonic(self) -> float:
        self.now_s += 0.5
        return self.now_s


async def test_writing_makes_way_for_the_log_and_goes_on_at_once() -> None:
    with redis_server() as server:
        async with tier_at(server.url, clock := HurriedClock()) as tier:
            for number in range(20):
                tier.keep(key(str(number)), RECORD, True, 1.0, 3600.0)
            await tier.turn()
            assert 0 < len(tier.backlog) < 20
            tier.start()
            await until(lambda: tier.stats.written == 20, within_s=PERIOD_S / 2)
            assert clock.now_s > 1000.0 + 2 * PERIOD_S


async def test_a_burst_is_written_whole() -> None:
    with redis_server() as server:
        async with running(server.url) as tier:
            await until(lambda: tier.is_on)
            for number in range(MAX_WRITES):
                tier.keep(key(str(number)), RECORD, True, 1.0, 3600.0)
            await until(lambda: tier.stats.written == MAX_WRITES)
            assert tier.backlog.dropped == 0


async def test_an_order_that_cannot_be_applied_switches_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.cache.shared.tier.PERIOD_S", 0.05)

    def fail(order: Order) -> None:
        raise RuntimeError("a fault of ours")

    with redis_server() as server:
        async with tier_at(server.url) as one, running(server.url, fail) as other:
            await until(lambda: other.is_on)
            one.order(Order(START_S))
            await one.turn()
            await until(lambda: not other.is_on)
    assert "a fault of ours" in caplog.text


async def test_it_ends_in_the_middle_of_everything_and_leaves_nothing() -> None:
    with redis_server() as server:
        async with between(server.port) as proxy:
            async with tier_at(proxy.url):
                pass
            before = open_descriptors()
            tier = SharedTier(Secret(proxy.url), SECRET, MAX_BYTES, lambda order: None)
            tier.start()
            await until(lambda: tier.is_on)
            proxy.passes.clear()
            futures = [tier.look(key()) for _ in range(8)]
            tier.keep(key(), RECORD, True, 1.0, 3600.0)
            tier.order(Order(START_S))
            await asyncio.sleep(0)
            await tier.stop()
            for future in futures:
                assert future is not None
                assert await future is None
            assert tier.look(key()) is None
            assert not tier._tasks
            proxy.passes.set()
            await until(lambda: proxy.open == 0)
            gc.collect()
            await until(lambda: open_descriptors() <= before)


async def test_it_ends_at_whatever_moment() -> None:
    """On Python 3.11 a cancellation that comes along with an answer is lost in `wait_for`."""
    draw = random.Random(6)
    with redis_server() as server:
        for _ in range(100):
            async with asyncio.timeout(5):
                async with tier_at(server.url, HurriedClock()) as tier:
                    for number in range(3):
                        tier.keep(key(str(number)), RECORD, True, 1.0, 3600.0)
                    tier.start()
                    for _ in range(draw.randrange(60)):
                        await asyncio.sleep(0)
                assert (tier.is_on, tier._tasks) == (False, set())


async def test_what_is_no_url_is_an_error_that_does_not_show_it() -> None:
    for url in ("s3cret", "http://:s3cret@x", "redis://:s3/cret@x"):
        with pytest.raises(ValueError, match=r"cache\.redis") as failed:
            SharedTier(Secret(url), SECRET, MAX_BYTES, lambda order: None)
        assert "s3" not in str(failed.value)
        assert failed.value.__cause__ is None
