"""The lease of a budget: reserved, spent, and known by all."""

from tests.fleet.support import DOLLAR, START_S, budget, standing, told


def test_a_reservation_is_taken_and_only_the_cost_is_spent() -> None:
    lease = budget()
    told(lease, START_S, granted=DOLLAR, own=DOLLAR, available=49 * DOLLAR)
    assert lease.take(START_S, DOLLAR)
    lease.give_back(DOLLAR)
    lease.spend(DOLLAR // 4)
    assert lease.held == DOLLAR - DOLLAR // 4
    assert lease.spent == DOLLAR // 4
    assert lease.report(START_S).used == DOLLAR // 4


def test_what_is_reserved_is_neither_spent_nor_returned_and_keeps_its_lease() -> None:
    lease = budget()
    told(lease, START_S, granted=DOLLAR, own=DOLLAR, available=49 * DOLLAR)
    assert lease.take(START_S, DOLLAR)
    for second in range(1, 10):
        report = told(lease, START_S + second, own=DOLLAR, available=49 * DOLLAR)
        assert (report.used, report.back) == (0, 0)
        assert not lease.is_idle()
    lease.give_back(DOLLAR)
    assert lease.report(START_S + 20.0).back == 0  # it has run out by then
    assert lease.held == 0


def test_a_request_that_cost_more_than_reserved_takes_it_from_the_lease() -> None:
    lease = budget()
    told(lease, START_S, granted=DOLLAR, own=DOLLAR, available=49 * DOLLAR)
    assert lease.take(START_S, DOLLAR)
    lease.give_back(DOLLAR)
    lease.spend(3 * DOLLAR)
    assert not lease.take(START_S, 1)
    assert lease.spent == 3 * DOLLAR


def test_what_was_spent_stays_known_while_it_is_being_told() -> None:
    lease = budget()
    told(lease, START_S, spent=7 * DOLLAR, available=43 * DOLLAR)
    lease.spend(DOLLAR)
    report = lease.report(START_S)
    assert lease.spent == 8 * DOLLAR
    lease.learn(report, None, START_S, START_S)
    assert lease.spent == 8 * DOLLAR
    assert lease.report(START_S).used == DOLLAR


def test_the_share_of_dollars_is_a_part_of_what_was_left_and_does_not_come_back() -> None:
    of = standing(expected=10)
    lease = budget(of)
    told(lease, START_S, available=20 * DOLLAR, spent=30 * DOLLAR)
    of.is_local = True
    assert not lease.take(START_S, 2 * DOLLAR + 1)
    assert lease.take(START_S, 2 * DOLLAR)
    assert not lease.take(START_S + 1e6, 1)


def test_a_ledger_may_know_more_but_never_less() -> None:
    lease = budget()
    lease.restore(9 * DOLLAR)
    lease.restore(4 * DOLLAR)
    assert lease.spent == lease.known == 9 * DOLLAR
    told(lease, START_S, spent=11 * DOLLAR)
    assert lease.spent == 11 * DOLLAR


def test_another_limit_moves_what_is_left() -> None:
    lease = budget(limit=50 * DOLLAR)
    told(lease, START_S, available=10 * DOLLAR, spent=40 * DOLLAR)
    lease.configure(45 * DOLLAR)
    assert lease.remaining(START_S) == 5 * DOLLAR
