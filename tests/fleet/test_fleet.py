"""Many sidecars on one Redis: the limit holds for all of them together, in every span of time."""

import asyncio
import time

from sidecar.fleet.leases import EARNED_TRIPS, SAVED_TRIPS
from tests.fleet.simulation import fleet_on, take_or_wait
from tests.support.redis import redis_server

PERIOD_S = 0.25
SECONDS = 2.5


def most_round_trips(seconds: float) -> float:
    """Of one sidecar: what a period brings, and those that were saved up."""
    return SAVED_TRIPS + EARNED_TRIPS * seconds / PERIOD_S + 1


def test_no_sidecar_makes_more_than_sixty_round_trips_a_minute() -> None:
    assert SAVED_TRIPS + 60 * EARNED_TRIPS <= 60


async def test_fifty_sidecars_hold_fifty_requests_a_minute_together() -> None:
    with redis_server() as server:
        async with fleet_on(server, 50, rate=50, capacity=50, period_s=PERIOD_S) as fleet:
            began, calls = fleet.round_trips(), server.calls()
            await fleet.run([6.0] * 50, SECONDS, seed=1)
            assert sum(sidecar.offered for sidecar in fleet.sidecars) > 500
            assert fleet.peak() <= 50 + 1e-6
            assert len(fleet.admitted()) >= 45
            # One for each in a period on the average; INFO knows of no other than those counted here.
            round_trips = fleet.round_trips() - began
            assert round_trips <= 50 * fleet.took_s / PERIOD_S
            assert server.calls() - calls <= round_trips + 50
            for sidecar in fleet.sidecars:
                assert sidecar.leases.round_trips <= most_round_trips(fleet.took_s)
                assert sidecar.leases.failures == 0


async def test_one_busy_sidecar_gets_the_whole_limit_while_the_others_are_idle() -> None:
    with redis_server() as server:
        async with fleet_on(server, 50, rate=50, capacity=50, period_s=PERIOD_S) as fleet:
            idle = [sidecar.leases.round_trips for sidecar in fleet.sidecars[1:]]
            await fleet.run([60.0] + [0.0] * 49, SECONDS, seed=2)
            assert fleet.peak() <= 50 + 1e-6
            assert len(fleet.admitted()) >= 48
            assert [sidecar.leases.round_trips for sidecar in fleet.sidecars[1:]] == idle


async def test_what_one_sidecar_leaves_unused_another_gets() -> None:
    with redis_server() as server:
        async with fleet_on(server, 2, rate=1, capacity=40, period_s=PERIOD_S) as fleet:
            first, second = fleet.sidecars
            for _ in range(6):
                await first.call()
            assert len(first.admitted) == 6
            assert first.lease.own > 0
            until_s = time.monotonic() + 12 * PERIOD_S
            while len(second.admitted) < 34 and time.monotonic() < until_s:
                await second.call()
                await asyncio.sleep(0.01)
            assert len(second.admitted) == 34


async def test_tokens_that_one_sidecar_reserved_and_did_not_use_another_gets_soon() -> None:
    with redis_server() as server:
        async with fleet_on(server, 2, rate=60, capacity=60, period_s=PERIOD_S) as fleet:
            first, second = fleet.sidecars
            assert await take_or_wait(first.leases, first.lease, 60)
            assert not await take_or_wait(second.leases, second.lease, 30)
            first.lease.give_back(50)
            # By refill alone 30 would be there after 30 s.
            until_s = time.monotonic() + 12 * PERIOD_S
            is_taken = False
            while not is_taken and time.monotonic() < until_s:
                is_taken = await take_or_wait(second.leases, second.lease, 30)
                await asyncio.sleep(0.01)
            assert is_taken


async def test_a_limit_that_is_not_reached_holds_nobody_up() -> None:
    with redis_server() as server:
        async with fleet_on(server, 20, rate=3000, capacity=3000, period_s=PERIOD_S) as fleet:
            await fleet.run([20.0] * 20, SECONDS, seed=3)
            assert all(len(sidecar.admitted) == sidecar.offered for sidecar in fleet.sidecars)


async def test_sidecars_without_redis_take_their_parts_of_the_limit_together() -> None:
    with redis_server() as server:
        async with fleet_on(server, 20, rate=60, capacity=60, period_s=PERIOD_S) as fleet:
            server.kill()
            await fleet.run([10.0] * 20, SECONDS, seed=4)
            admitted = len(fleet.admitted())
            # Each of the 20 has one twentieth: 3 at once and one every 20 s.
            assert 55 <= admitted <= 60 + 60 / 60 * fleet.took_s
            for sidecar in fleet.sidecars:
                assert 2 <= len(sidecar.admitted) <= 4


async def test_dead_sidecars_leave_no_more_than_their_leases() -> None:
    with redis_server() as server:
        async with fleet_on(server, 10, rate=1, capacity=100, period_s=PERIOD_S) as fleet:
            # Each uses all it has right after its report, and dies without telling.
            dead, alive = fleet.sidecars[:5], fleet.sidecars[5]
            at_stake = 0
            for sidecar in dead:
                for _ in range(4):
                    await sidecar.call()
                assert sidecar.leases._task is not None
                sidecar.leases._task.cancel()
                await sidecar.leases._link.close()
                sidecar.leases._task = None
                untold = 0
                while sidecar.lease.take(time.monotonic()):
                    sidecar.admitted.append(time.monotonic())
                    untold += 1
                at_stake += untold + max(0, sidecar.lease.taken - untold)
                assert untold <= 10, "a tenth of the limit is the most there is in store"
            until_s = time.monotonic() + 12 * PERIOD_S
            while time.monotonic() < until_s:
                if await take_or_wait(alive.leases, alive.lease):
                    alive.admitted.append(time.monotonic())
                await asyncio.sleep(0.01)
            assert at_stake > 0
            assert 100 <= fleet.peak() <= 100 + at_stake
