"""One request, many callers: who gets what, and what happens when one of them leaves, waits or comes late."""

from collections.abc import Sequence

import pytest

from sidecar.cache import flight as flights
from sidecar.cache.flight import PATIENCE_S, Flights, Seat
from sidecar.errors import ClientGone, ProxyError
from sidecar.exchange import CacheNote, Exchange, Pausable, Reply, RequestHead
from sidecar.flow import Flow, Signal
from tests.support.manual_clock import ManualClock

NAME = (b"digest", "team", True, False)
LINES = [b"content-type: text/event-stream"]
DRAINED = ProxyError("DR", 503, "draining", "We are leaving.")


class Connection:
    """A caller's connection: what it was sent, and how that ended."""

    def __init__(self) -> None:
        self.x = Exchange(self, 0.0, RequestHead(b"POST", b"/v1/chat/completions"))
        self.x.stream = True
        self.got = b""
        self.status = 0
        self.ended = ""
        self.drops = 0
        self.source: Pausable | None = None

    def reply(self, x: Exchange, reply: Reply) -> None:
        x.status = reply.status
        self.respond(x, reply.status, reply.lines, reply.body)

    def respond(self, x: Exchange, status: int, lines: Sequence[bytes], body: bytes) -> None:
        assert x is self.x and not self.ended
        self.status, self.got = status, body
        self._finish("whole")

    def begin(self, x: Exchange, status: int, lines: Sequence[bytes], length: int | None) -> None:
        assert x is self.x and not self.status and list(lines) == LINES
        self.status = status

    def write(self, data: bytes) -> None:
        assert self.status and not self.ended
        self.got += data

    def end(self, x: Exchange) -> None:
        assert x is self.x
        self._finish("end")

    def cut(self, x: Exchange, last: bytes) -> None:
        assert x is self.x
        self.got += last
        self._finish("cut")

    def feed_from(self, source: Pausable | None) -> None:
        self.source = source

    def drop(self) -> None:
        self.drops += 1

    def is_served(self) -> bool:
        return self.x.is_open

    def lost(self, x: Exchange, flow: Flow) -> None:
        x.is_open = False
        flow.cancel(ClientGone())

    def _finish(self, how: str) -> None:
        assert not self.ended
        self.ended = how
        self.x.is_open = False


class Provider:
    """Where the answer comes from: held back, or not."""

    def __init__(self) -> None:
        self.holds: list[bool] = [False]

    def is_held(self) -> bool:
        return self.holds[-1]

    def pause_reading(self) -> None:
        self.holds.append(True)

    def resume_reading(self) -> None:
        self.holds.append(False)


class Waiting:
    """A request's flow that waits, and what it was ended with."""

    def __init__(self, seat: Seat | None = None) -> None:
        self.error: BaseException | None = None
        self._is_over = False
        self.flow = Flow(self._wait() if seat is None else seat.served(), self._ended)
        self.flow.resume()

    async def _wait(self) -> None:
        await Signal()

    def _ended(self, error: BaseException | None) -> None:
        self.error, self._is_over = error, True

    def is_over(self) -> bool:
        return self._is_over


class World:
    """A flight with its first caller and provider."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.flights = Flights(self.clock.ticker)
        self.first = Connection()
        opened = self.flights.open(NAME, self.first.x)
        assert opened is not None
        self.flight = opened
        self.provider = Provider()
        self.flow = Waiting()

    def begin(self) -> None:
        self.flight.begin(self.first.x, 200, LINES, None)
        self.flight.feed_from(self.provider)

    def join(self) -> tuple[Connection, Waiting]:
        caller = Connection()
        seat = self.flights.join(NAME, caller.x, CacheNote("collapsed", "", b""))
        assert seat is not None
        return caller, Waiting(seat)


def test_all_get_the_same_bytes_under_their_own_heads() -> None:
    world = World()
    early, early_flow = world.join()
    world.begin()
    world.flight.write(b"one ")
    world.flight.write(b"two ")
    late, late_flow = world.join()
    world.flight.write(b"three")
    world.flight.end(world.first.x)
    for caller in (world.first, early, late):
        assert (caller.status, caller.got, caller.ended) == (200, b"one two three", "end")
    assert early_flow.is_over() and late_flow.is_over()
    assert (early_flow.error, late_flow.error) == (None, None)
    assert (early.x.bytes_sent, late.x.bytes_sent) == (13, 13)
    assert len(world.flights) == 0


def test_who_joined_is_told_who_answered() -> None:
    world = World()
    caller, _ = world.join()
    x = world.first.x
    x.model, x.provider, x.region, x.endpoint, x.attempts = "m", "p", "eu", "http://a", 2
    world.begin()
    assert (caller.x.model, caller.x.provider, caller.x.region, caller.x.endpoint) == (
        "m", "p", "eu", "http://a",
    )  # fmt: skip
    assert caller.x.attempts == 0
    assert caller.x.first_token_s is not None


def test_a_whole_answer_and_a_refusal_go_to_all() -> None:
    for act in ("respond", "reply"):
        world = World()
        caller, flow = world.join()
        if act == "respond":
            world.flight.respond(world.first.x, 200, LINES, b"{}")
        else:
            world.flight.reply(world.first.x, Reply(429, b"{}", "PK"))
            assert (world.first.x.status, world.first.x.flag) == (429, "PK")
        assert (caller.status, caller.got) == (world.first.status, world.first.got)
        assert flow.is_over()


def test_a_stream_that_is_cut_is_cut_for_all() -> None:
    world = World()
    caller, flow = world.join()
    world.begin()
    world.flight.write(b"half")
    world.first.x.flag = "SD"
    world.flight.cut(world.first.x, b"error")
    assert (caller.got, caller.ended, caller.x.flag) == (b"halferror", "cut", "SD")
    assert flow.is_over()


def test_the_first_caller_may_leave_and_the_others_get_all() -> None:
    world = World()
    caller, flow = world.join()
    world.begin()
    world.flight.write(b"one ")
    world.first.x.client.lost(world.first.x, world.flow.flow)
    assert not world.flow.is_over() and world.first.is_served()
    world.flight.write(b"two")
    world.flight.end(world.first.x)
    assert (caller.got, caller.ended) == (b"one two", "end")
    assert (world.first.got, world.first.ended) == (b"one ", "")
    assert not world.first.is_served() and world.first.x.flag == "DC"
    assert flow.is_over()


def test_the_last_caller_that_leaves_ends_the_request() -> None:
    world = World()
    caller, flow = world.join()
    world.first.x.client.lost(world.first.x, world.flow.flow)
    assert not world.flow.is_over()
    caller.x.client.lost(caller.x, flow.flow)
    assert isinstance(flow.error, ClientGone)
    assert isinstance(world.flow.error, ClientGone)
    assert not world.first.is_served()


def test_alone_the_first_caller_ends_its_request_by_leaving() -> None:
    world = World()
    world.first.x.client.lost(world.first.x, world.flow.flow)
    assert isinstance(world.flow.error, ClientGone)
    assert not world.first.is_served()


def test_one_that_joined_may_leave_and_nobody_minds() -> None:
    world = World()
    caller, flow = world.join()
    world.begin()
    caller.x.client.lost(caller.x, flow.flow)
    world.flight.write(b"all")
    world.flight.end(world.first.x)
    assert caller.got == b"" and world.first.got == b"all"
    assert not world.flow.is_over()


def test_the_provider_is_held_back_only_when_nobody_reads() -> None:
    world = World()
    caller, _ = world.join()
    world.begin()
    assert world.first.source is not None and caller.source is not None
    world.first.source.pause_reading()
    assert not world.provider.is_held()
    caller.source.pause_reading()
    assert world.provider.is_held()
    world.first.source.resume_reading()
    assert not world.provider.is_held()


def behind(world: World, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """One more caller, who does not read and is too far behind."""
    monkeypatch.setattr(flights, "MAX_BYTES", 100)
    caller, _ = world.join()
    world.begin()
    assert caller.source is not None
    caller.source.pause_reading()
    world.flight.write(b"x" * 100)
    assert not world.provider.is_held()
    world.flight.write(b"x")
    assert world.provider.is_held()
    return caller


def test_others_wait_a_while_for_one_that_is_behind_and_then_it_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    caller = behind(world, monkeypatch)
    world.clock.advance(PATIENCE_S - 0.5)
    assert caller.drops == 0
    world.clock.advance(1.0)
    assert (caller.drops, world.first.drops) == (1, 0)


def test_one_that_catches_up_in_time_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    caller = behind(world, monkeypatch)
    world.clock.advance(PATIENCE_S - 0.5)
    assert caller.source is not None
    caller.source.resume_reading()
    assert not world.provider.is_held()
    world.clock.advance(3600.0)
    assert caller.drops == 0


def test_nobody_is_dropped_for_whom_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "MAX_BYTES", 100)
    world = World()
    world.begin()
    assert world.first.source is not None
    world.first.source.pause_reading()
    world.flight.write(b"x" * 101)
    assert world.provider.is_held()
    world.clock.advance(3600.0)
    assert world.first.drops == 0


def test_nothing_of_an_answer_is_held_when_it_is_over() -> None:
    world = World()
    world.begin()
    world.flight.write(b"x" * 1000)
    world.flight.end(world.first.x)
    assert world.flight._pieces == []


def test_another_source_of_the_same_answer_is_held_back_too() -> None:
    world = World()
    world.begin()
    assert world.first.source is not None
    world.first.source.pause_reading()
    world.flight.feed_from(None)
    another = Provider()
    world.flight.feed_from(another)
    assert another.is_held()


def test_nobody_joins_what_is_too_long_or_full_or_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "MAX_BYTES", 10)
    monkeypatch.setattr(flights, "MAX_SEATS", 2)
    note, stranger = CacheNote("collapsed", "", b""), Connection().x
    full = World()
    full.join()
    assert full.flights.join(NAME, stranger, note) is None
    long = World()
    long.begin()
    long.flight.write(b"x" * 11)
    assert long.flights.join(NAME, stranger, note) is None
    over = World()
    over.begin()
    over.flight.end(over.first.x)
    assert over.flights.join(NAME, stranger, note) is None
    assert over.flights.join((b"other", "team", True, False), stranger, note) is None
    assert stranger.cache is None


def test_of_two_that_ask_at_once_one_is_sent_alone() -> None:
    world = World()
    other = Connection()
    assert world.flights.open(NAME, other.x) is None
    assert other.x.client is other


def test_the_end_of_one_does_not_end_the_next_of_the_same_name() -> None:
    world = World()
    world.flight.respond(world.first.x, 200, LINES, b"{}")
    again = Connection()
    assert world.flights.open(NAME, again.x) is not None
    world.flight.close()
    assert len(world.flights) == 1


def test_when_the_doors_are_closed_the_next_who_asks_asks_anew() -> None:
    world = World()
    caller, _ = world.join()
    world.flights.close_doors()
    again = Connection()
    assert world.flights.join(NAME, again.x, CacheNote("collapsed", "", b"")) is None
    assert world.flights.open(NAME, again.x) is not None
    world.flight.respond(world.first.x, 200, LINES, b"{}")
    assert caller.ended == "whole" and again.ended == ""
    assert len(world.flights) == 1


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_request_that_fails_on_a_fault_of_ours_leaves_nobody_waiting(is_begun: bool) -> None:
    world = World()
    caller, flow = world.join()
    if is_begun:
        world.begin()
    world.flight.close()
    assert flow.is_over()
    assert (caller.ended, caller.status) == (("cut", 200) if is_begun else ("whole", 500))


@pytest.mark.parametrize("is_begun", [True, False])
def test_who_joined_is_told_when_the_sidecar_leaves(is_begun: bool) -> None:
    world = World()
    caller, flow = world.join()
    if is_begun:
        world.begin()
    flow.flow.cancel(DRAINED)
    assert flow.is_over() and flow.error is None
    assert caller.ended == ("cut" if is_begun else "whole")
    assert b"We are leaving." in caller.got
    assert caller.x.flag == "DR" or not is_begun
