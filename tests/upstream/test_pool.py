"""The pool of one endpoint: which connection is taken, and when the idle ones are let go. No sockets."""

import pytest

from sidecar.upstream.connection import Connection, State
from sidecar.upstream.pool import IDLE_LIMIT_S, MAX_IDLE, Address, Pool
from tests.support.manual_clock import ManualClock
from tests.support.transport import FakeTransport
from tests.support.upstream import RecordingSink


class Pooled:
    """A pool, its clock, and connections as dialling would have made them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pool = Pool(Address("127.0.0.1", 1, None), self.clock.ticker)
        self.transports: dict[Connection, FakeTransport] = {}

    def connect(self, *lines: bytes) -> Connection:
        """A connection that has served a request, with these header lines, and gave itself back."""
        connection = Connection(self.pool.keep, lambda was_idle: None)
        transport = FakeTransport()
        self.transports[connection] = transport
        connection.connection_made(transport)
        self.serve(connection, *lines)
        return connection

    def serve(self, connection: Connection, *lines: bytes) -> None:
        head = b"".join(line + b"\r\n" for line in lines)
        connection.send(b"a request", RecordingSink())
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + head + b"\r\n")

    def wait(self, seconds: float) -> None:
        """Let time pass; the pool is looked at as once a second."""
        self.clock.advance(seconds)
        self.pool.expire(self.clock.ticker.now_s)

    def is_closed(self, connection: Connection) -> bool:
        return self.transports[connection].is_closed


@pytest.fixture
def pooled() -> Pooled:
    return Pooled()


def test_takes_the_connection_given_back_last(pooled: Pooled) -> None:
    first, second, third = pooled.connect(), pooled.connect(), pooled.connect()
    assert [pooled.pool.take() for _ in range(4)] == [third, second, first, None]


def test_a_connection_that_served_is_the_next_one_taken(pooled: Pooled) -> None:
    pooled.connect()
    warm = pooled.connect()
    assert pooled.pool.take() is warm
    pooled.serve(warm)
    assert pooled.pool.take() is warm


def test_passes_over_what_was_closed_meanwhile(pooled: Pooled) -> None:
    good, closing, lost = pooled.connect(), pooled.connect(), pooled.connect()
    pooled.transports[closing].close()
    lost.connection_lost(None)
    assert pooled.pool.take() is good
    assert pooled.pool.take() is None


def test_closes_what_has_been_idle_too_long_the_oldest_first(pooled: Pooled) -> None:
    old = pooled.connect()
    pooled.wait(IDLE_LIMIT_S - 1.0)
    young = pooled.connect()
    assert not pooled.is_closed(old)
    pooled.wait(1.5)
    assert pooled.is_closed(old)
    assert not pooled.is_closed(young)
    assert pooled.pool.idle_count == 1
    pooled.wait(IDLE_LIMIT_S)
    assert pooled.is_closed(young)
    assert pooled.pool.take() is None


def test_use_starts_the_idle_time_anew(pooled: Pooled) -> None:
    connection = pooled.connect()
    for _ in range(3):
        pooled.wait(IDLE_LIMIT_S - 1.0)
        taken = pooled.pool.take()
        assert taken is connection
        pooled.serve(connection)
    assert not pooled.is_closed(connection)


def test_a_providers_shorter_patience_is_believed(pooled: Pooled) -> None:
    connection = pooled.connect(b"Keep-Alive: timeout=5")
    pooled.wait(3.5)
    assert not pooled.is_closed(connection)
    pooled.wait(1.0)
    assert pooled.is_closed(connection)


def test_a_shorter_patience_counts_behind_a_longer_one(pooled: Pooled) -> None:
    """The servers behind one address need not all say the same."""
    patient = pooled.connect()
    hasty = pooled.connect(b"Keep-Alive: timeout=5")
    pooled.wait(6.0)
    assert pooled.is_closed(hasty)
    assert not pooled.is_closed(patient)


def test_a_providers_longer_patience_does_not_stretch_ours(pooled: Pooled) -> None:
    connection = pooled.connect(b"Keep-Alive: timeout=600")
    pooled.wait(IDLE_LIMIT_S + 0.5)
    assert pooled.is_closed(connection)


def test_keeps_no_more_than_its_limit(pooled: Pooled) -> None:
    connections = [pooled.connect() for _ in range(MAX_IDLE + 1)]
    assert pooled.pool.idle_count == MAX_IDLE
    assert pooled.is_closed(connections[-1])


def test_retiring_closes_the_idle_and_later_the_busy(pooled: Pooled) -> None:
    busy, idle = pooled.connect(), pooled.connect()
    pooled.pool.take()
    assert pooled.pool.take() is busy
    pooled.pool.keep(idle)
    busy.send(b"a request", RecordingSink())
    pooled.pool.retire()
    assert pooled.is_closed(idle)
    assert not pooled.is_closed(busy)
    busy.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert pooled.is_closed(busy)
    assert busy.state is State.CLOSED
    assert pooled.pool.take() is None
