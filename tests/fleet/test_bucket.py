"""The lease of a bucket stands where a local bucket would: the same questions, the same kind of answers."""

import inspect
import math

from sidecar.fleet.bucket import BucketLease
from sidecar.policy.buckets import Bucket
from tests.fleet.support import START_S, bucket, standing, told


def test_it_can_stand_in_for_a_local_bucket() -> None:
    for name, method in inspect.getmembers(Bucket, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(BucketLease, name)).parameters
            assert list(ours) == list(inspect.signature(method).parameters), name
    assert {"rate", "capacity"} <= set(dir(BucketLease))


def test_what_is_charged_is_owed_and_reported() -> None:
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    lease.charge(START_S, 20)
    assert not lease.take(START_S)
    assert lease.report(START_S).used == 20


def test_it_says_what_the_fleet_has_left() -> None:
    lease = bucket(rate=60, capacity=60)
    assert lease.remaining(START_S) == 60
    told(lease, START_S, granted=5, own=5, available=20)
    assert lease.remaining(START_S) == 25
    assert lease.remaining(START_S + 3.0) == 28
    assert lease.remaining(START_S + 3600.0) == 60
    assert lease.reset_s(START_S) == 35.0


def test_the_wait_is_for_the_fleet_or_for_the_next_round_trip() -> None:
    lease = bucket(rate=60, capacity=60)
    told(lease, START_S, available=-3)
    assert lease.wait_s(START_S, 2) == 5.0
    told(lease, START_S, available=50)
    assert lease.wait_s(START_S) == 1.0
    assert lease.wait_s(START_S, 61) == math.inf
    told(lease, START_S, granted=2, own=2)
    assert lease.wait_s(START_S, 2) == 0.0


def test_the_wait_that_is_told_is_for_the_refill_though_the_fleet_is_asked_before() -> None:
    lease = bucket(rate=60, capacity=60)
    lease.ask(20)
    told(lease, START_S, wait_ms=20_000)
    assert lease.wait_s(START_S, 20) == 20.0
    assert lease.dry_until_s < START_S + 20.0


def test_without_redis_the_wait_is_for_the_share() -> None:
    lease = bucket(standing(expected=10, is_local=True), rate=60, capacity=60)
    assert lease.take(START_S, 6)
    assert lease.wait_s(START_S) == 10.0
    assert not lease.take(START_S + 9.99)
    assert lease.take(START_S + 10.01)


def test_other_figures_leave_the_same_part_of_it() -> None:
    lease = bucket(rate=60, capacity=60)
    told(lease, START_S, available=30)
    lease.configure(120, 120, START_S)
    assert (lease.rate, lease.capacity) == (120, 120)
    assert lease.remaining(START_S) == 60


def test_it_is_full_only_when_nothing_is_to_be_told() -> None:
    lease = bucket()
    assert lease.is_full(START_S)
    told(lease, START_S, granted=1, own=1)
    assert not lease.is_full(START_S)


def test_the_server_keeps_it_until_it_is_full_again() -> None:
    assert bucket(rate=60, capacity=120).keep_ms >= 240_000
