"""Leases without a server: a standing that is connected, and answers as the script gives them."""

from sidecar.fleet.bucket import BucketLease
from sidecar.fleet.budget import BudgetLease
from sidecar.fleet.lease import Grant, Lease, Report, Standing

START_S = 1000.0
DOLLAR = 1_000_000_000


def standing(*, expected: int = 10, is_local: bool = False) -> Standing:
    made = Standing(expected, 1.0)
    made.is_local = is_local
    return made


def bucket(of: Standing | None = None, rate: int = 60, capacity: int = 60) -> BucketLease:
    return BucketLease(of or standing(), "req:a", rate, capacity)


def budget(of: Standing | None = None, limit: int = 50 * DOLLAR) -> BudgetLease:
    return BudgetLease(of or standing(), "usd:b:team:0", limit, 3600.0)


def told(
    lease: Lease,
    now_s: float,
    *,
    granted: int = 0,
    outright: int = 0,
    own: int = 0,
    available: int = 0,
    wait_ms: int = 0,
    spent: int = 0,
) -> Report:
    """One round trip at `now_s` with this answer; returns what was reported."""
    report = lease.report(now_s)
    lease.learn(report, Grant(granted, outright, available, wait_ms, own, spent), now_s, now_s)
    return report


def take_all(lease: Lease, now_s: float) -> int:
    count = 0
    while lease.take(now_s):
        count += 1
        assert count < 100_000, "it has no end"
    return count
