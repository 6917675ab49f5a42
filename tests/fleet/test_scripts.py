"""The script on a real server: what it grants, takes back, and never does twice."""

import itertools
import time
from collections.abc import Iterator

import pytest

from sidecar.fleet.batch import Batch
from sidecar.fleet.bucket import BucketLease
from sidecar.fleet.lease import Grant, Lease, Report
from sidecar.fleet.scripts import PREFIX, SETTLE
from sidecar.fleet.totals import Total
from tests.fleet.support import DOLLAR, bucket, budget
from tests.support.redis import RedisServer, redis_server

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.admin.flushall()
    return running


def slow() -> BucketLease:
    """One that hardly refills while a test runs."""
    return bucket(rate=1, capacity=60)


def send(
    server: RedisServer, batch: Batch, sidecar: str = "one", period_s: float = 1.0
) -> list[Grant | None]:
    keys = batch.keys(sidecar)
    return batch.grants(server.admin.eval(SETTLE, len(keys), *keys, *batch.arguments(sidecar, period_s)))


def ask(
    server: RedisServer,
    lease: Lease,
    sidecar: str = "one",
    *,
    used: int = 0,
    back: int = 0,
    waiting: int = 0,
    least: int = 0,
    spare: int = 0,
    period_s: float = 1.0,
) -> Grant:
    batch = Batch(next(numbers), [Report(lease, used, back, waiting, least, spare)], (), 0.0)
    (grant,) = send(server, batch, sidecar, period_s)
    assert grant is not None
    return grant


def test_who_waits_gets_what_there_is_and_no_more(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, waiting=40, least=1).granted == 40
    assert ask(server, lease, waiting=40, least=1).granted == 20
    dry = ask(server, lease, waiting=40, least=1)
    assert (dry.granted, dry.available) == (0, 0)
    assert 50 < dry.wait_s <= 60


def test_too_little_for_any_of_those_who_wait_is_left_for_others(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, waiting=70, least=61).granted == 0
    assert ask(server, lease, waiting=60, least=60).granted == 60


def test_what_is_for_later_is_shared_among_those_that_hold_a_lease(server: RedisServer) -> None:
    lease = slow()
    granted = [ask(server, lease, f"sidecar{number}", spare=60).granted for number in range(6)]
    assert granted[0] == 30
    assert granted == sorted(granted, reverse=True)
    assert sum(granted) < 60


def test_what_comes_back_can_be_had_by_others(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, "one", spare=10).own == 10
    assert ask(server, lease, "two", waiting=60, least=1).granted == 50
    assert ask(server, lease, "one", used=3, back=7).own == 0
    assert ask(server, lease, "two", waiting=60, least=1).granted == 7


def test_nobody_returns_more_than_it_has(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, waiting=60, least=1).granted == 60
    assert ask(server, lease, back=1000).available == 0


def test_a_bucket_refills_by_the_clock_of_the_server(server: RedisServer) -> None:
    lease = bucket(rate=60_000, capacity=100)
    assert ask(server, lease, waiting=100, least=1).granted == 100
    time.sleep(0.02)
    assert ask(server, lease).available >= 20
    time.sleep(0.2)
    assert ask(server, lease).available == 100


def test_a_bucket_and_its_leases_together_never_exceed_the_capacity(server: RedisServer) -> None:
    lease = bucket(rate=60_000, capacity=100)
    assert ask(server, lease, spare=40).own == 40
    time.sleep(0.2)
    assert ask(server, lease, "two", waiting=100, least=1).granted == 60


def test_use_without_a_lease_is_owed_by_all_down_to_one_capacity(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, used=70).available == -10
    assert ask(server, lease, used=7000).available == -60


def test_the_lease_of_a_sidecar_that_died_comes_back(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, "dead", spare=20, period_s=0.02).own == 20
    assert ask(server, lease, "two", waiting=60, least=1).granted == 40
    time.sleep(0.12)
    assert ask(server, lease, "two", waiting=60, least=1).granted == 20
    assert server.admin.zcard(f"{PREFIX}leases:req:a") == 0


def test_a_report_that_comes_after_its_lease_ran_out_is_counted(server: RedisServer) -> None:
    lease = slow()
    assert ask(server, lease, "late", spare=20, period_s=0.02).own == 20
    time.sleep(0.12)
    assert ask(server, lease, "two").available == 60
    assert ask(server, lease, "late", used=20).available == 40


def test_a_batch_that_is_sent_twice_counts_once_and_is_answered_alike(server: RedisServer) -> None:
    lease, dollars = slow(), budget()
    reports = [Report(lease, 2, 0, 5, 1, 3), Report(dollars, DOLLAR, 0, 0, 0, 10 * DOLLAR)]
    batch = Batch(next(numbers), reports, [Total(60, "a", "m", 1, 2, 3)], 0.0)
    answers = [send(server, batch) for _ in range(3)]
    first = answers[0]
    for answer in answers:
        for one, other in zip(answer, first, strict=True):
            assert one is not None and other is not None
            assert [getattr(one, name) for name in Grant.__slots__] == [
                getattr(other, name) for name in Grant.__slots__
            ]
    assert server.admin.hget(f"{PREFIX}limit:usd:b:team:0", "spent") == b"1000000000"
    assert server.admin.hgetall(f"{PREFIX}usage:1") == {
        b'requests [60,"a","m"]': b"1",
        b'tokens [60,"a","m"]': b"2",
        b'nano_usd [60,"a","m"]': b"3",
    }


def test_dollars_are_exact_to_the_last_nano(server: RedisServer) -> None:
    lease = budget(limit=9_000_000 * DOLLAR)
    odd = 8_999_999 * DOLLAR + 999_999_999
    assert ask(server, lease, used=odd).spent == odd
    assert ask(server, lease).available == 1
    assert ask(server, lease, waiting=2, least=1).granted == 1


def test_spent_and_leased_together_never_exceed_a_budget(server: RedisServer) -> None:
    lease = budget(limit=100)
    assert ask(server, lease, "one", waiting=30, least=1).own == 30
    assert ask(server, lease, "two", used=50).available == 20
    assert ask(server, lease, "two", waiting=30, least=1).granted == 20
    spent = ask(server, lease, "one", used=10, back=20)
    assert (spent.spent, spent.available, spent.own) == (60, 20, 0)


def test_a_server_that_lost_its_data_learns_again_what_was_spent(server: RedisServer) -> None:
    lease = budget(limit=100)
    lease.restore(70)
    server.admin.flushall()
    assert ask(server, lease, used=5).spent == 75
    assert ask(server, lease, used=5).spent == 80


def test_everything_has_a_prefix_and_an_end(server: RedisServer) -> None:
    batch = Batch(1, [Report(bucket(), 0, 0, 1, 1, 5), Report(budget(), 1, 0, 0, 0, 5)], [], 0.0)
    batch.totals = [Total(60, "a", "m", 1, 2, 3)]
    send(server, batch)
    keys = server.admin.keys()
    assert len(keys) == 6
    assert server.admin.keys(f"{PREFIX}*") == keys
    for key in keys:
        assert 0 < server.admin.ttl(key) <= 40 * 86400


def test_a_budget_without_end_is_kept_without_end(server: RedisServer) -> None:
    lease = budget()
    lease._keep_ms = 0
    ask(server, lease, used=5, spare=5)
    assert server.admin.ttl(f"{PREFIX}limit:usd:b:team:0") == -1


def test_a_key_of_another_kind_spoils_its_own_limit_only(server: RedisServer) -> None:
    server.admin.set(f"{PREFIX}limit:req:a", "not ours")
    server.admin.set(f"{PREFIX}usage:1", "not ours")
    reports = [Report(bucket(), 0, 0, 1, 1, 0), Report(budget(), 7, 0, 0, 0, 0)]
    broken, served = send(server, Batch(next(numbers), reports, [Total(60, "a", "m", 1, 1, 1)], 0.0))
    assert broken is None
    assert served is not None and served.spent == 7
    assert server.admin.get(f"{PREFIX}limit:req:a") == b"not ours"
