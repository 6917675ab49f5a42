"""Slots and the queue before them: who goes first, who is refused and when, and that nothing is lost."""

import heapq
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clock import PERIOD_S
from sidecar.flow import Flow
from sidecar.upstream.queue import HOPELESS, OVERLOADED, TIMEOUT, Slots, Ticket
from tests.support.manual_clock import ManualClock

TIMEOUT_S = 5.0


class Desk:
    """Slots on a clock of the test's, and the requests that were granted, in order, by name."""

    def __init__(self, max_requests: int = 1, max_queue: int = 100, timeout_s: float = TIMEOUT_S) -> None:
        self.clock = ManualClock()
        self.slots = Slots(max_requests, max_queue, timeout_s, self.clock.ticker)
        self.served: list[str] = []
        self.tickets: dict[str, Ticket] = {}

    def ask(self, name: str, priority: int = 0, team: str = "") -> Ticket:
        """A request; its team is the first letter of its name unless it is given."""
        ticket = self.slots.request(priority, team or name[0], self.clock.ticker.now_s)
        self.tickets[name] = ticket
        return ticket

    def hold(self, count: int = 1) -> list[Ticket]:
        """Take that many slots."""
        held = [self.slots.request(0, "holder", self.clock.ticker.now_s) for _ in range(count)]
        assert all(ticket.is_granted for ticket in held)
        return held

    def serve_all(self, ticket: Ticket) -> str:
        """Release, and then each that is granted, one after the other; the names in order."""
        order = ""
        waiting = {id(t): name for name, t in self.tickets.items() if not (t.is_granted or t.refused)}
        while True:
            ticket.cancel()
            granted = [t for t in self.tickets.values() if t.is_granted and id(t) in waiting]
            if not granted:
                return order
            (ticket,) = granted
            order += f"{waiting.pop(id(ticket))} "

    def learn(self, service_s: float, count: int = 20) -> None:
        """Have requests take that long, so that the pace is known."""
        for _ in range(count):
            (ticket,) = self.hold()
            self.clock.advance(service_s)
            ticket.cancel()


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- slots ----------------------------------------------------------------------------------------------


def test_a_free_slot_is_granted_at_once() -> None:
    desk = Desk(max_requests=2)
    assert desk.ask("a").is_granted
    assert desk.ask("b").is_granted
    assert not desk.ask("c").is_granted
    assert (desk.slots.in_use, desk.slots.waiting) == (2, 1)


def test_a_freed_slot_goes_to_the_one_who_waits(desk: Desk) -> None:
    (held,) = desk.hold()
    ticket = desk.ask("a")
    assert not ticket.ready.is_set
    desk.slots.release(held)
    assert (ticket.is_granted, ticket.ready.is_set) == (True, True)
    assert (desk.slots.in_use, desk.slots.waiting) == (1, 0)


def test_nothing_is_freed_twice(desk: Desk) -> None:
    (held,) = desk.hold()
    first, second = desk.ask("a"), desk.ask("b")
    for _ in range(3):
        desk.slots.release(held)
        held.cancel()
    assert first.is_granted
    assert not second.is_granted
    assert desk.slots.in_use == 1


def test_one_who_leaves_the_queue_frees_its_place(desk: Desk) -> None:
    (held,) = desk.hold()
    first, second = desk.ask("a"), desk.ask("b")
    first.cancel()
    first.cancel()
    assert desk.slots.waiting == 1
    held.cancel()
    assert not first.is_granted
    assert not first.ready.is_set  # its flow is being ended by another hand
    assert second.is_granted


def test_one_who_leaves_after_it_was_granted_frees_the_slot(desk: Desk) -> None:
    (held,) = desk.hold()
    first, second = desk.ask("a"), desk.ask("b")
    held.cancel()
    first.cancel()
    assert second.is_granted
    assert desk.slots.in_use == 1


# --- order ----------------------------------------------------------------------------------------------


def order_of(desk: Desk, *names: str, priorities: dict[str, int] | None = None) -> list[str]:
    (held,) = desk.hold()
    for name in names:
        desk.ask(name, (priorities or {}).get(name, 0))
    return desk.serve_all(held).split()


def test_first_come_first_served_within_a_team(desk: Desk) -> None:
    assert order_of(desk, "a1", "a2", "a3") == ["a1", "a2", "a3"]


def test_higher_priorities_go_first(desk: Desk) -> None:
    assert order_of(desk, "a1", "b1", "c1", priorities={"b1": 10, "c1": -5}) == ["b1", "a1", "c1"]


def test_teams_take_turns_however_much_one_sends(desk: Desk) -> None:
    names = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    assert order_of(desk, *names) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_a_team_that_was_silent_has_saved_nothing_up(desk: Desk) -> None:
    (held,) = desk.hold()
    for name in ("a1", "a2", "a3", "a4", "a5", "a6"):
        desk.ask(name)
    for name in ("a1", "a2", "a3"):
        held.cancel()
        held = desk.tickets[name]
    for name in ("b1", "b2", "b3"):
        desk.ask(name)
    assert desk.serve_all(held).split() == ["b1", "a4", "b2", "a5", "b3", "a6"]


def test_those_who_left_have_not_used_up_their_teams_turns(desk: Desk) -> None:
    (held,) = desk.hold()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2"):
        desk.ask(name)
    for name in ("a1", "a2", "a3"):
        desk.tickets.pop(name).cancel()
    assert desk.serve_all(held).split() == ["a4", "b1", "b2"]


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_queue", "timeout_s"), [(0, 5.0), (10, 0.0)])
def test_without_a_queue_a_request_without_a_slot_is_refused(max_queue: int, timeout_s: float) -> None:
    desk = Desk(1, max_queue, timeout_s)
    desk.hold()
    assert desk.ask("a").refused == OVERLOADED
    assert desk.slots.waiting == 0


def test_a_full_queue_refuses(desk: Desk) -> None:
    desk.slots.configure(1, 2, TIMEOUT_S)
    desk.hold()
    assert [desk.ask(name).refused for name in ("a1", "a2", "a3")] == ["", "", OVERLOADED]
    assert desk.slots.waiting == 2


def test_a_higher_priority_pushes_the_youngest_of_the_lowest_out_of_a_full_queue(desk: Desk) -> None:
    desk.slots.configure(1, 3, TIMEOUT_S)
    (held,) = desk.hold()
    low_1, low_2, middle = desk.ask("l1", -1), desk.ask("l2", -1), desk.ask("m1", 0)
    high = desk.ask("h1", 1)
    assert (low_1.refused, low_2.refused, middle.refused, high.refused) == ("", OVERLOADED, "", "")
    assert low_2.ready.is_set
    assert desk.ask("z1", -2).refused == OVERLOADED
    assert desk.slots.waiting == 3
    assert desk.serve_all(held).split() == ["h1", "m1", "l1"]


def test_one_team_cannot_fill_the_queue_against_the_others(desk: Desk) -> None:
    desk.slots.configure(1, 4, TIMEOUT_S)
    desk.hold()
    for name in ("a1", "a2", "a3", "a4"):
        desk.ask(name)
    assert desk.ask("b1").refused == desk.ask("b2").refused == ""
    assert desk.ask("b3").refused == OVERLOADED  # two each
    assert desk.ask("a5").refused == OVERLOADED
    assert [desk.tickets[name].refused for name in ("a1", "a2", "a3", "a4")] == [
        "",
        "",
        OVERLOADED,
        OVERLOADED,
    ]


def test_who_waited_its_time_is_refused(desk: Desk) -> None:
    (held,) = desk.hold()
    early = desk.ask("a1")
    desk.clock.advance(TIMEOUT_S / 2)
    late = desk.ask("a2")
    desk.clock.advance(TIMEOUT_S / 2 + PERIOD_S)
    assert (early.refused, late.refused) == (TIMEOUT, "")
    assert early.ready.is_set
    assert not early.is_granted
    held.cancel()
    assert late.is_granted
    desk.clock.advance(10 * TIMEOUT_S)
    assert (late.refused, late.is_granted) == ("", True)  # a request in progress is never the victim


def test_who_cannot_make_its_deadline_is_refused_at_once() -> None:
    desk = Desk(max_requests=2)
    desk.learn(service_s=2.0)  # so a slot comes free every second
    desk.hold(2)
    refused = [desk.ask(f"a{i}").refused for i in range(8)]
    assert refused == [""] * 6 + [HOPELESS] * 2


def test_hope_is_judged_by_ones_own_turn() -> None:
    desk = Desk(max_requests=2)
    desk.learn(service_s=2.0)
    desk.hold(2)
    for i in range(6):
        desk.ask(f"a{i}")
    assert [desk.ask(f"b{i}").refused for i in range(4)] == ["", "", "", HOPELESS]
    assert [desk.ask(f"c{i}", priority=1).refused for i in range(3)] == [""] * 3
    assert desk.ask("d0").refused == ""


def test_the_next_in_turn_is_never_hopeless(desk: Desk) -> None:
    desk.learn(service_s=60.0)
    desk.hold()
    assert desk.ask("a").refused == ""
    assert desk.ask("b").refused == HOPELESS


def test_without_measurements_nobody_is_hopeless(desk: Desk) -> None:
    desk.learn(service_s=60.0, count=9)
    desk.hold()
    assert [desk.ask(f"a{i}").refused for i in range(20)] == [""] * 20


def test_the_pace_follows_the_load() -> None:
    desk = Desk(max_requests=1)
    desk.learn(service_s=10.0, count=30)
    desk.learn(service_s=0.1, count=60)
    desk.hold()
    assert [desk.ask(f"a{i}").refused for i in range(20)] == [""] * 20


def test_retry_after_is_about_the_time_the_queue_needs() -> None:
    desk = Desk(max_requests=2, timeout_s=100.0)
    assert desk.slots.retry_after_s() == 1.0
    desk.learn(service_s=2.0)
    desk.hold(2)
    for i in range(9):
        desk.ask(f"a{i}")
    assert desk.slots.retry_after_s() == pytest.approx(10.0)


# --- reload ---------------------------------------------------------------------------------------------


def test_more_slots_are_handed_out_at_once(desk: Desk) -> None:
    desk.hold()
    tickets = [desk.ask(f"a{i}") for i in range(4)]
    desk.slots.configure(3, 100, TIMEOUT_S)
    assert [ticket.is_granted for ticket in tickets] == [True, True, False, False]


def test_fewer_slots_take_none_away() -> None:
    desk = Desk(max_requests=3)
    held = desk.hold(3)
    waiting = desk.ask("a")
    desk.slots.configure(1, 0, 0.0)
    assert all(ticket.is_granted for ticket in held)
    held[0].cancel()
    held[1].cancel()
    assert not waiting.is_granted
    held[2].cancel()
    assert waiting.is_granted


# --- flows ----------------------------------------------------------------------------------------------


class Left(Exception):
    """What a flow is ended with when its caller leaves."""


def start(desk: Desk, name: str, log: list[str]) -> Flow:
    """A flow that asks for a slot, waits, and gives it back right away."""

    async def work() -> None:
        ticket = desk.ask(name)
        try:
            if not (ticket.is_granted or ticket.refused):
                await ticket.ready
            log.append(f"{name} {ticket.refused or 'served'}")
        finally:
            ticket.cancel()

    flow = Flow(work(), lambda error: None)
    flow.resume()
    return flow


def test_a_flow_goes_on_in_the_moment_it_is_granted_or_refused(desk: Desk) -> None:
    (held,) = desk.hold()
    log: list[str] = []
    for name in ("a1", "b1"):
        start(desk, name, log)
    desk.clock.advance(TIMEOUT_S + PERIOD_S)
    assert sorted(log) == ["a1 timeout", "b1 timeout"]
    start(desk, "c1", log)
    held.cancel()
    assert log[2:] == ["c1 served"]
    assert desk.slots.in_use == desk.slots.waiting == 0


def test_a_caller_who_leaves_while_it_waits_frees_its_place(desk: Desk) -> None:
    (held,) = desk.hold()
    log: list[str] = []
    flow = start(desk, "a1", log)
    start(desk, "a2", log)
    flow.cancel(Left())
    assert desk.slots.waiting == 1
    held.cancel()
    assert log == ["a2 served"]
    assert desk.slots.in_use == desk.slots.waiting == 0


def test_a_long_queue_that_fails_at_once_does_not_nest() -> None:
    desk = Desk(max_queue=5000)
    (held,) = desk.hold()
    log: list[str] = []
    for i in range(5000):
        start(desk, f"a{i}", log)
    held.cancel()
    assert log == [f"a{i} served" for i in range(5000)]
    assert desk.slots.in_use == 0


def test_who_asks_while_slots_are_handed_out_does_not_jump_the_queue(desk: Desk) -> None:
    (held,) = desk.hold()
    log: list[str] = []

    async def asks_again() -> None:
        ticket = desk.ask("a1")
        await ticket.ready
        ticket.cancel()
        start(desk, "a3", log)

    Flow(asks_again(), lambda error: None).resume()
    start(desk, "a2", log)
    held.cancel()
    assert log == ["a2 served", "a3 served"]


# --- whatever happens -----------------------------------------------------------------------------------

EVENT = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from("abc")),
    st.tuples(st.just("release"), st.integers(0, 50), st.just("")),
    st.tuples(st.just("leave"), st.integers(0, 50), st.just("")),
    st.tuples(st.just("wait"), st.integers(1, 40), st.just("")),
    st.tuples(st.just("slots"), st.integers(1, 4), st.just("")),
)


def state(ticket: Ticket, ended: set[Ticket]) -> str:
    if ticket in ended:
        return "ended"
    return "granted" if ticket.is_granted else "refused" if ticket.refused else "waiting"


@given(st.lists(EVENT, max_size=80))
def test_every_request_has_one_fate_and_no_slot_is_lost(events: list[tuple[str, int, str]]) -> None:
    desk = Desk(max_requests=2, max_queue=5)
    slots, tickets, ended = desk.slots, list[Ticket](), set[Ticket]()
    most = 2
    for what, number, team in events:
        if what == "ask":
            tickets.append(slots.request(number, team, desk.clock.ticker.now_s))
        elif what == "wait":
            desk.clock.advance(number * PERIOD_S)
        elif what == "slots":
            slots.configure(number, 5, TIMEOUT_S)
            most = max(number, slots.in_use)
        else:
            wanted = "granted" if what == "release" else "waiting"
            of_kind = [t for t in tickets if state(t, ended) == wanted]
            if of_kind:
                ticket = of_kind[number % len(of_kind)]
                ended.add(ticket)
                ticket.cancel()
        states = Counter(state(ticket, ended) for ticket in tickets)
        assert (states["granted"], states["waiting"]) == (slots.in_use, slots.waiting)
        assert slots.in_use <= most
        assert slots.waiting <= 5
        assert not slots.waiting or slots.in_use >= slots._max_requests
        assert len(desk.clock.ticker._armed) == slots.waiting
        assert all(t.ready.is_set for t in tickets if state(t, ended) in ("granted", "refused"))
    for ticket in tickets:
        ticket.cancel()
        ticket.cancel()
    assert (slots.in_use, slots.waiting, slots._levels) == (0, 0, {})


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd")), min_size=1, max_size=60))
def test_the_order_is_that_of_start_time_fair_queueing(requests: list[tuple[int, str]]) -> None:
    desk = Desk(max_queue=60)
    (held,) = desk.hold()
    places: Counter[tuple[int, str]] = Counter()
    tagged: list[tuple[int, int]] = []
    for priority, team in requests:
        tagged.append((-priority, places[priority, team]))  # all arrive at virtual time 0
        places[priority, team] += 1
    for i, (priority, team) in enumerate(requests):
        desk.ask(str(i), priority, team)
    served = [int(name) for name in desk.serve_all(held).split()]
    assert [tagged[i] for i in served] == heapq.nsmallest(len(tagged), tagged)
    for key in places:
        mine = [i for i in served if requests[i] == key]
        assert mine == sorted(mine)
