"""Leases and their background task against a real Redis: alive, slow, gone, empty, lying."""

import asyncio
import logging
import time
from functools import partial

import pytest

from sidecar.config.secrets import Secret
from sidecar.fleet.leases import SAVED_TRIPS, Leases
from sidecar.fleet.redis import Link
from sidecar.fleet.totals import Total, read_totals
from sidecar.flow import Flow
from tests.fleet.simulation import take_or_wait
from tests.fleet.support import DOLLAR, take_all
from tests.support.redis import RedisServer, fleet_of, leases_of, lying_server, redis_server
from tests.support.waiting import until

PERIOD_S = 0.2


def level(server: RedisServer, key: str) -> float:
    return float(server.admin.hget(f"sidecar:1:limit:{key}", "level") or 0)


def has_share(leases: Leases) -> bool:
    return leases.local_share_since_s is not None and not leases.is_connected


def _failed_since(leases: Leases, failures: int) -> bool:
    return leases.failures > failures


# --- Redis is well ---------------------------------------------------------------------------------------


async def test_a_request_with_an_empty_lease_waits_for_one_refill() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease = leases.bucket("req:a", 60, 60)
            now_s = time.monotonic()
            assert not lease.take(now_s)
            refilled = leases.need([(lease, 1)], now_s)
            assert refilled is not None
            await refilled
            assert lease.take(time.monotonic())


async def test_requests_that_wait_together_share_one_round_trip() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease, other = leases.bucket("req:a", 60, 60), leases.bucket("tok:a", 60_000, 60_000)
            before = leases.round_trips
            calls = [take_or_wait(leases, lease) for _ in range(20)]
            calls += [take_or_wait(leases, other, 500) for _ in range(20)]
            assert all(await asyncio.gather(*calls))
            assert leases.round_trips == before + 1


async def test_one_wait_is_enough_for_requests_tokens_and_dollars() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            wants = [
                (leases.bucket("req:a", 60, 60), 1),
                (leases.bucket("tok:a", 60_000, 60_000), 4000),
                (leases.budget("usd:b:team:0", 50 * DOLLAR, 3600.0), DOLLAR),
            ]
            refilled = leases.need(wants, time.monotonic())
            assert refilled is not None
            await refilled
            assert all(lease.take(time.monotonic(), amount) for lease, amount in wants)


async def test_a_flow_can_wait_and_leave_without_a_trace() -> None:
    ended: list[BaseException | None] = []
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease = leases.bucket("req:a", 60, 60)

            async def request() -> None:
                assert await take_or_wait(leases, lease)

            leaving = Flow(request(), ended.append)
            leaving.resume()
            staying = Flow(request(), ended.append)
            staying.resume()
            leaving.cancel(ConnectionResetError())
            await until(lambda: len(ended) == 2)
            assert isinstance(ended[0], ConnectionResetError)
            assert ended[1] is None


async def test_a_limit_that_is_used_up_is_known_here_and_costs_no_round_trips() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease = leases.bucket("req:a", 1, 5)
            while await take_or_wait(leases, lease):
                pass
            before = leases.round_trips
            now_s = time.monotonic()
            assert all(leases.need([(lease, 1)], now_s) is None for _ in range(1000))
            assert lease.wait_s(now_s) > 30
            assert leases.round_trips == before


async def test_an_unused_lease_returns_and_an_idle_sidecar_makes_no_round_trips() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease = leases.bucket("req:a", 1, 60)
            for _ in range(2):
                assert await take_or_wait(leases, lease)
            await until(lambda: lease.own > 0)
            await until(lambda: lease.is_idle(), within_s=6 * PERIOD_S)
            assert level(server, "req:a") == pytest.approx(58, abs=0.2)
            before = leases.round_trips
            await asyncio.sleep(4 * PERIOD_S)
            assert leases.round_trips == before


async def test_many_callers_seen_once_are_served_without_a_round_trip_each() -> None:
    with redis_server() as server:
        async with leases_of(server.url, timeout_s=0.02, period_s=1.0) as leases:
            began_s = time.monotonic()
            for number in range(200):
                assert await take_or_wait(leases, leases.bucket(f"req:{number}", 1, 60))
            assert leases.round_trips <= SAVED_TRIPS + 1 + (time.monotonic() - began_s)
            await until(lambda: not leases._standing.active, within_s=4.0)
            assert all(level(server, f"req:{number}") < 60 for number in range(200))


async def test_stopping_returns_everything_and_tells_the_rest() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            lease = leases.bucket("req:a", 1, 60)
            money = leases.budget("usd:b:team:0", 50 * DOLLAR, 3600.0)
            assert await take_or_wait(leases, lease, 10)
            assert await take_or_wait(leases, money, DOLLAR)
            money.give_back(DOLLAR)
            money.spend(7)
            leases.totals.add(60, "a", "m", 1, 2, 3)
        assert level(server, "req:a") == pytest.approx(50, abs=0.2)
        state = server.admin.hgetall("sidecar:1:limit:usd:b:team:0")
        assert state == {b"spent": b"7", b"out": b"0"}
        assert server.admin.hlen("sidecar:1:usage:1") == 3


async def test_the_lease_of_a_killed_sidecar_comes_back() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            # It dies without a word: its lease is never returned, nor its use told.
            dead = Leases(fleet_of(server.url), period_s=PERIOD_S)
            dead.start()
            await until(lambda: dead.is_connected)
            held = dead.budget("usd:b:team:0", 100, 3600.0)
            assert await take_or_wait(dead, held, 100)
            assert dead._task is not None
            dead._task.cancel()
            await dead._link.close()
            lease = leases.budget("usd:b:team:0", 100, 3600.0)
            assert not await take_or_wait(leases, lease, 100)
            began_s = time.monotonic()
            while not await take_or_wait(leases, lease, 100):
                assert time.monotonic() - began_s < 4.0
                await asyncio.sleep(0.02)


async def test_spending_of_two_sidecars_is_known_to_both() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as one, leases_of(server.url) as two:
            first, second = (each.budget("usd:b:team:0", 100, 3600.0) for each in (one, two))
            first.spend(60)
            second.spend(30)
            await until(lambda: int(server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") or 0) == 90)
            assert not await take_or_wait(two, second, 11)
            assert second.spent == 90
            assert await take_or_wait(one, first, 10)


async def test_totals_of_all_are_read_together() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as one, leases_of(server.url) as two:
            one.totals.add(120, "a", "m", 1, 100, 7)
            two.totals.add(120, "a", "m", 2, 50, 1)
            two.totals.add(185, "b", "m/x", 1, 1, 0)
        link = Link(Secret(server.url), 1.0)
        rows = await read_totals(link.command, 0, 186 * 60)
        assert rows == [Total(120, "a", "m", 3, 150, 8), Total(185, "b", "m/x", 1, 1, 0)]
        assert await read_totals(link.command, 0, 120 * 60) == []
        await link.close()


async def test_another_url_is_taken_on_without_losing_what_was_spent() -> None:
    with redis_server() as old, redis_server() as new:
        async with leases_of(old.url) as leases:
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            money.spend(60)
            await until(lambda: money.spent == 60 and money.is_idle())
            leases.configure(fleet_of(new.url))
            money.spend(1)
            await until(lambda: new.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"61")
        await until(lambda: old.admin.info()["connected_clients"] == 1)


# --- Redis is not well -----------------------------------------------------------------------------------


async def test_a_sidecar_that_starts_without_redis_has_its_share() -> None:
    with redis_server() as server:
        server.kill()
        async with leases_of(server.url, expected=10, is_connected=False) as leases:
            lease = leases.bucket("req:a", 60, 60)
            await until(lambda: leases.failures > 0)
            assert has_share(leases)
            assert take_all(lease, time.monotonic()) == 6
            assert leases.need([(lease, 1)], time.monotonic()) is None
            server.start()
            await until(lambda: leases.is_connected and leases.local_share_since_s is None)
            # What was taken meanwhile is told to the fleet.
            await until(lambda: 0 < level(server, "req:a") < 56)


async def test_a_redis_that_is_killed_and_comes_back_empty() -> None:
    with redis_server() as server:
        async with leases_of(server.url, expected=10) as leases:
            lease = leases.bucket("req:a", 600, 600)
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            money.spend(40)
            assert await take_or_wait(leases, lease)
            await until(lambda: money.is_idle())
            server.kill()
            lease.take(time.monotonic())
            money.spend(5)
            await until(lambda: not leases.is_connected)
            assert await take_or_wait(leases, lease)
            # A tenth of the 60 that were left, less the 5 that were spent since.
            assert money.take(time.monotonic(), 1)
            assert not money.take(time.monotonic(), 1)
            assert money.spent == 45
            server.start()
            await until(lambda: leases.is_connected)
            await until(lambda: server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"45")
            assert await take_or_wait(leases, lease)


async def test_a_redis_that_stands_still_delays_nobody_beyond_the_timeout() -> None:
    with redis_server() as server:
        async with leases_of(server.url, expected=10, timeout_s=0.05, patience_s=0.5) as leases:
            lease = leases.bucket("req:a", 60, 60)
            # Known to be full, so that the share is, too.
            assert await take_or_wait(leases, lease)
            server.pause()
            admitted = await asyncio.gather(*(take_or_wait(leases, lease) for _ in range(20)))
            assert sum(admitted) in (5, 6)
            await until(lambda: leases.local_share_since_s is not None)
            assert leases.failures == 0, "they waited until Redis was given up"
            server.resume()
            await until(lambda: leases.local_share_since_s is None and leases.is_connected)


async def test_use_is_told_once_although_the_answer_was_lost() -> None:
    with redis_server() as server:
        async with leases_of(server.url, patience_s=0.15) as leases:
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            leases.totals.add(60, "a", "m", 1, 2, 3)
            money.spend(30)
            for _ in range(3):
                # What was sent is carried out when it goes on, after its sender has given up.
                server.pause()
                failures = leases.failures
                money.spend(1)
                await until(partial(_failed_since, leases, failures))
                server.resume()
                await until(lambda: leases.is_connected)
            await until(lambda: server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"33")
            await until(money.is_idle)
            assert server.admin.hget("sidecar:1:usage:1", 'requests [60,"a","m"]') == b"1"
            assert server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"33"


async def test_a_task_cancelled_in_the_middle_of_a_round_trip_tells_everything_once() -> None:
    with redis_server() as server:
        async with leases_of(server.url) as leases:
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            money.spend(30)
            server.pause()
            await until(lambda: leases._unanswered is not None)
            assert leases._task is not None
            stopping = asyncio.ensure_future(leases.stop())
            await asyncio.sleep(0)
            server.resume()
            await stopping
        assert server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"30"


async def test_a_replica_changes_nothing_and_leaves_the_share() -> None:
    with redis_server() as server:
        async with leases_of(server.url, expected=10) as leases:
            lease = leases.bucket("req:a", 60, 60)
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            server.admin.replicaof("127.0.0.1", "1")
            money.spend(30)
            await until(lambda: not leases.is_connected)
            assert take_all(lease, time.monotonic()) == 6
            server.admin.replicaof("NO", "ONE")
            await until(lambda: server.admin.hget("sidecar:1:limit:usd:b:team:0", "spent") == b"30")


async def test_a_key_of_another_kind_leaves_one_limit_to_its_share(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server:
        server.admin.set("sidecar:1:limit:req:a", "not ours")
        async with leases_of(server.url, expected=10) as leases:
            broken, served = leases.bucket("req:a", 60, 60), leases.bucket("req:b", 60, 60)
            assert not await take_or_wait(leases, broken) or broken.is_refused
            assert await take_or_wait(leases, served)
            assert take_all(broken, time.monotonic()) in (5, 6)
            assert leases.is_connected
            warnings = [record.message for record in caplog.records if "another kind" in record.message]
            assert len(warnings) == 1 and "req:a" in warnings[0]
            server.admin.delete("sidecar:1:limit:req:a")
            await until(lambda: not broken.is_refused)


LIES = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a word": b"+OK\r\n",
    "nothing": b"$-1\r\n",
    "an empty list": b"*0\r\n",
    "too few": b"*1\r\n:0\r\n",
    "too many": b"*9\r\n" + b":0\r\n" * 9,
    "words for numbers": b"*2\r\n*6\r\n" + b"+x\r\n" * 6 + b":0\r\n",
    "lists for numbers": b"*2\r\n*6\r\n" + b"*0\r\n" * 6 + b":0\r\n",
    "rubbish": bytes(range(256)) * 16,
    "an error": b"-ERR s3cret\r\n",
    "a wrong password": b"-WRONGPASS s3cret\r\n",
    "a closed connection": b"",
    "silence": None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_whatever_answers_each_sidecar_keeps_its_share(
    lie: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with lying_server(lie) as url:
        address = url.replace("//", "//:s3cret@")
        options = {"expected": 10, "patience_s": 0.15, "is_connected": False, "period_s": 0.05}
        async with leases_of(address, **options) as leases:  # type: ignore[arg-type]
            lease = leases.bucket("req:a", 60, 60)
            money = leases.budget("usd:b:team:0", 100, 3600.0)
            assert take_all(lease, time.monotonic()) == 6
            assert money.take(time.monotonic(), 10)
            money.spend(5)
            await until(lambda: leases.failures >= 2)
            assert not leases.is_connected
            assert take_all(lease, time.monotonic()) == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "1/10 of each limit" in warnings[0]
    assert "s3cret" not in caplog.text
