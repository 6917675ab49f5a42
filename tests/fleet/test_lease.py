"""A lease: what is handed out, when it is over, and how much is asked for."""

import pytest

from sidecar.fleet.bucket import BucketLease
from sidecar.fleet.lease import DRY_PERIODS, LEASE_PERIODS, USABLE_PERIODS, Grant
from tests.fleet.support import START_S, bucket, budget, standing, take_all, told


def test_it_hands_out_what_was_granted_and_no_more() -> None:
    lease = bucket()
    assert not lease.take(START_S)
    told(lease, START_S, granted=5, own=5)
    assert take_all(lease, START_S) == 5


def test_it_takes_all_or_nothing() -> None:
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    assert not lease.take(START_S, 6)
    assert lease.take(START_S, 5)


def test_it_ends_before_the_server_gives_it_to_somebody_else() -> None:
    assert USABLE_PERIODS < LEASE_PERIODS
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    assert lease.take(START_S + USABLE_PERIODS - 0.001)
    assert not lease.take(START_S + USABLE_PERIODS)
    assert lease.held == 0


def test_it_counts_from_when_it_was_asked_for_not_from_the_answer() -> None:
    lease = bucket()
    report = lease.report(START_S)
    late_s = START_S + USABLE_PERIODS
    lease.learn(report, Grant(5, 0, 50, 0, 5, 0), START_S, late_s)
    assert not lease.take(late_s)


def test_a_lone_request_leases_nothing_in_store() -> None:
    lease = bucket()
    lease.ask(1)
    report = lease.report(START_S)
    assert (report.waiting, report.least, report.spare) == (1, 1, 0)


def test_steady_use_leases_twice_what_a_period_needs() -> None:
    lease = bucket(rate=6000, capacity=6000)
    told(lease, START_S, granted=600, own=600, available=5000)
    for second in range(1, 6):
        for _ in range(50):
            assert lease.take(START_S + second)
        report = told(lease, START_S + second, own=300, available=5000)
    # Of older seconds a part is still counted: 50 / (1 - 1/e) in the end.
    demand = 50 + 50 * 0.58
    assert lease.held == 300
    assert report.back + report.spare < 2 * demand
    assert not lease.is_low(START_S + 5.0)


def test_what_is_held_in_store_is_bounded_by_a_tenth_of_the_limit() -> None:
    lease = bucket(rate=50, capacity=50)
    lease.ask(40)
    report = lease.report(START_S)
    assert (report.waiting, report.spare) == (40, 5)


def test_an_unused_lease_goes_back_after_two_periods() -> None:
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    assert lease.take(START_S)
    assert not lease.is_unused(START_S + 1.9)
    assert lease.is_unused(START_S + 2.0)
    report = lease.report(START_S + 2.0)
    assert (report.used, report.back, report.spare) == (1, 4, 0)
    assert not lease.take(START_S + 2.0)


def test_a_lease_that_is_much_too_large_shrinks() -> None:
    lease = bucket(rate=6000, capacity=6000)
    told(lease, START_S, granted=600, own=600, available=5000)
    for _ in range(3):
        lease.take(START_S + 1.0)
    report = lease.report(START_S + 1.0)
    assert report.used == 3
    assert report.back == 600 - 3 - 6


def test_a_fleet_that_has_nothing_is_not_asked_again_before_it_can_have() -> None:
    lease = bucket()
    lease.ask(1)
    told(lease, START_S, wait_ms=800)
    assert not lease.may_get(START_S + 0.79, 1)
    assert lease.may_get(START_S + 0.81, 1)


def test_a_fleet_that_has_nothing_for_long_is_asked_again_before_since_others_put_back() -> None:
    lease = bucket(rate=60, capacity=60)
    lease.ask(20)
    told(lease, START_S, wait_ms=20_000)
    assert not lease.may_get(START_S + DRY_PERIODS - 0.01, 20)
    assert lease.may_get(START_S + DRY_PERIODS, 20)


def test_more_than_the_limit_ever_holds_is_never_asked_for() -> None:
    assert not bucket(capacity=60).may_get(START_S, 61)


def test_what_waiting_requests_get_counts_as_used_at_once() -> None:
    lease = bucket()
    lease.ask(3)
    told(lease, START_S, granted=5, outright=3, own=2)
    assert take_all(lease, START_S) == 5
    assert lease.report(START_S).used == 2


def test_what_a_request_that_went_away_did_not_take_can_be_used_and_returned() -> None:
    lease = bucket()
    lease.ask(1)
    told(lease, START_S, granted=1, outright=1, own=0)
    report = lease.report(START_S + 3.0)
    assert (report.used, report.back) == (-1, 1)


def test_what_is_given_back_can_be_taken_again() -> None:
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    assert lease.take(START_S, 5)
    lease.give_back(4)
    assert take_all(lease, START_S) == 4
    assert lease.report(START_S).used == 5


def test_what_was_taken_while_the_answer_was_on_its_way_is_not_forgotten() -> None:
    lease = bucket()
    told(lease, START_S, granted=5, own=5)
    assert lease.take(START_S, 2)
    report = lease.report(START_S)
    assert lease.take(START_S, 2)
    lease.learn(report, Grant(4, 0, 50, 0, 7, 0), START_S, START_S)
    assert lease.held == 5
    assert lease.report(START_S).used == 2


def test_nothing_held_and_nothing_to_tell_is_idle() -> None:
    of = standing()
    lease = bucket(of)
    assert lease.is_idle()
    told(lease, START_S, granted=1, own=1)
    assert not lease.is_idle()
    lease.take(START_S)
    assert not lease.is_idle()
    told(lease, START_S)
    assert lease.is_idle()


# --- without the server ----------------------------------------------------------------------------------


def test_without_redis_it_gives_one_part_of_the_limit() -> None:
    lease = bucket(standing(expected=10, is_local=True), rate=60, capacity=60)
    assert take_all(lease, START_S) == 6
    assert take_all(lease, START_S + 60.0) == 6
    assert lease.remaining(START_S + 80.0) == 2


def test_a_share_of_less_than_one_request_still_lets_one_through() -> None:
    lease = bucket(standing(expected=1000, is_local=True), rate=60, capacity=60)
    assert take_all(lease, START_S) == 1
    assert take_all(lease, START_S + 999.0) == 0
    assert take_all(lease, START_S + 1000.0) == 1


def test_what_is_left_of_the_lease_comes_before_the_share() -> None:
    of = standing(expected=10)
    lease = bucket(of)
    told(lease, START_S, granted=5, own=5, available=60)
    of.is_local = True
    assert take_all(lease, START_S) == 5 + 6


def test_the_share_is_one_part_of_what_the_fleet_had_left() -> None:
    of = standing(expected=10)
    lease = bucket(of)
    told(lease, START_S, available=20)
    of.is_local = True
    assert take_all(lease, START_S) == 2


def test_what_was_taken_from_the_share_is_told_when_redis_is_back() -> None:
    of = standing(expected=10, is_local=True)
    lease = bucket(of)
    assert take_all(lease, START_S) == 6
    of.is_local = False
    told(lease, START_S, available=60)
    lease.end_local_share(START_S)
    assert lease.report(START_S).used == 6


def test_of_a_long_outage_only_what_has_not_come_back_meanwhile_is_told() -> None:
    of = standing(expected=10, is_local=True)
    lease = bucket(of)
    for minute in range(30):
        assert take_all(lease, START_S + minute * 60.0) == 6
    of.is_local = False
    end_s = START_S + 29 * 60.0 + 30.0
    told(lease, end_s, available=60)
    lease.end_local_share(end_s)
    assert lease.report(end_s).used == 3


def test_a_key_the_server_does_not_serve_has_its_share_alone() -> None:
    of = standing(expected=10)
    lease, other = bucket(of), bucket(of)
    lease.learn(lease.report(START_S), None, START_S, START_S)
    assert take_all(lease, START_S) == 6
    assert take_all(other, START_S) == 0
    told(lease, START_S, granted=1, own=1, available=50)
    lease.end_local_share(START_S)
    assert not lease.is_refused


def test_with_no_time_to_ask_the_share_stands_in_until_the_report_and_all_of_it_is_told() -> None:
    lease = bucket(standing(expected=10))
    told(lease, START_S, available=60)
    lease.stand_alone()
    assert take_all(lease, START_S) == 6
    assert lease.report(START_S).used == 6
    assert not lease.take(START_S + 30.0)


def test_who_asked_in_vain_borrows_from_the_share_and_others_go_on_asking() -> None:
    lease = bucket(standing(expected=10))
    told(lease, START_S, available=60)
    assert lease.borrow(START_S, 4)
    assert not lease.take(START_S, 5)
    assert lease.take(START_S, 4)
    assert not lease.take(START_S)  # the share has 2, which are not for everybody
    assert not lease.borrow(START_S, 3)
    assert lease.report(START_S).used == 4


@pytest.mark.parametrize("make", [bucket, budget])
def test_of_a_limit_that_is_used_up_there_is_nothing_to_borrow(make: type) -> None:
    lease = make(standing(expected=10))
    told(lease, START_S, available=0)
    assert not lease.borrow(START_S, 1)
    assert lease.remaining(START_S) == 0
    if isinstance(lease, BucketLease):
        assert lease.wait_s(START_S) == 1.0  # as the fleet refills, not as the share does


def test_what_is_at_hand_need_not_be_borrowed() -> None:
    lease = bucket(standing(expected=10))
    told(lease, START_S, granted=5, own=5, available=55)
    assert lease.borrow(START_S, 5)
    assert lease.share is None


@pytest.mark.parametrize("make", [bucket, budget])
def test_the_last_report_returns_everything(make: type) -> None:
    lease = make()
    told(lease, START_S, granted=5, own=5)
    lease.take(START_S, 2)
    report = lease.report(START_S, is_last=True)
    assert report.back >= 3
    assert (report.waiting, report.spare) == (0, 0)
