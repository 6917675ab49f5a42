"""Looking up a provider's name, keeping what was good, and dialling the addresses that came of it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from sidecar.errors import Unreachable
from sidecar.tasks import spawn
from sidecar.upstream import pool as pool_module
from sidecar.upstream.connection import Connection
from sidecar.upstream.pool import Address, Pool
from sidecar.upstream.resolver import AVOID_S, IDLE_S, REFRESH_S, RETRY_S, Resolver
from tests.support.manual_clock import ManualClock
from tests.support.waiting import until

V4 = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
V6 = ("2001:db8::1", "2001:db8::2")


def answer(*hosts: str) -> list[tuple[Any, ...]]:
    """What getaddrinfo returns for these addresses, each of them twice as it may well."""
    kinds = [(socket.AF_INET6 if ":" in host else socket.AF_INET, host) for host in hosts for _ in "ab"]
    return [(family, socket.SOCK_STREAM, 6, "", (host, 443)) for family, host in kinds]


class Lookups:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self._pending: list[asyncio.Future[Iterable[tuple[Any, ...]]]] = []

    async def __call__(self, name: str, port: int) -> Iterable[tuple[Any, ...]]:
        self.asked.append((name, port))
        self._pending.append(asyncio.get_running_loop().create_future())
        return await self._pending[-1]

    async def say(self, outcome: Exception | list[tuple[Any, ...]]) -> None:
        """Answer the oldest question."""
        await turn()
        pending = self._pending.pop(0)
        if isinstance(outcome, Exception):
            pending.set_exception(outcome)
        else:
            pending.set_result(outcome)
        await turn()


async def turn() -> None:
    """Let what is ready happen."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def lookups() -> Lookups:
    return Lookups()


@pytest.fixture
def resolver(lookups: Lookups) -> Resolver:
    return Resolver("api.example", 443, lookups)


async def resolve(resolver: Resolver, lookups: Lookups, *hosts: str, now_s: float = 0.0) -> tuple[str, ...]:
    """The first answer."""
    first = spawn(resolver.first(now_s), "first")
    await lookups.say(answer(*hosts))
    return await first


FAILURES = [
    socket.gaierror(socket.EAI_NONAME, "NXDOMAIN"),
    socket.gaierror(socket.EAI_AGAIN, "SERVFAIL"),
    OSError("too many open files"),
    UnicodeError("label too long"),
    [],
]


# --- the first answer -----------------------------------------------------------------------------------


async def test_waits_for_the_first_answer_only(resolver: Resolver, lookups: Lookups) -> None:
    assert resolver.addresses(0.0) == ()
    assert await resolve(resolver, lookups, V4[0], V6[0]) == (V4[0], V6[0])
    assert lookups.asked == [("api.example", 443)]
    assert await resolver.first(1.0) == resolver.addresses(1.0)
    assert len(lookups.asked) == 1


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_lookup(lookups: Lookups, literal: str) -> None:
    resolver = Resolver(literal, 443, lookups)
    assert resolver.addresses(0.0) == await resolver.first(0.0) == (literal,)
    resolver.refresh(1000.0)
    await turn()
    assert lookups.asked == []


async def test_all_who_wait_share_one_lookup(resolver: Resolver, lookups: Lookups) -> None:
    waiting = [spawn(resolver.first(0.0), "first") for _ in range(10)]
    await turn()
    waiting[0].cancel()  # a caller left
    await lookups.say(answer(V4[0]))
    assert await asyncio.gather(*waiting[1:]) == [(V4[0],)] * 9
    assert len(lookups.asked) == 1


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_first_lookup_that_fails_is_asked_again_by_the_next(
    resolver: Resolver, lookups: Lookups, failure: Exception | list[tuple[Any, ...]]
) -> None:
    first = spawn(resolver.first(0.0), "first")
    await lookups.say(failure)
    assert await first == ()
    assert await resolve(resolver, lookups, V4[0]) == (V4[0],)


async def test_the_systems_own_resolver_is_the_default() -> None:
    hosts = await Resolver("localhost", 80).first(0.0)
    assert hosts
    assert set(hosts) <= {"127.0.0.1", "::1"}


# --- renewal --------------------------------------------------------------------------------------------


async def test_is_renewed_in_the_background_while_in_use(resolver: Resolver, lookups: Lookups) -> None:
    await resolve(resolver, lookups, V4[0])
    resolver.refresh(REFRESH_S - 0.1)
    await turn()
    assert len(lookups.asked) == 1
    resolver.refresh(REFRESH_S)
    await turn()
    assert len(lookups.asked) == 2
    assert resolver.addresses(REFRESH_S) == (V4[0],)  # nobody waits for it
    await lookups.say(answer(V4[1]))
    assert resolver.addresses(REFRESH_S) == (V4[1],)


async def test_one_lookup_is_in_flight_at_a_time(resolver: Resolver, lookups: Lookups) -> None:
    await resolve(resolver, lookups, V4[0])
    for second in range(30, 300):  # it hangs
        resolver.refresh(float(second))
        await turn()
    assert len(lookups.asked) == 2
    assert resolver.addresses(300.0) == (V4[0],)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_the_last_good_answer_stays_for_as_long_as_lookups_fail(
    resolver: Resolver, lookups: Lookups, failure: Exception | list[tuple[Any, ...]]
) -> None:
    await resolve(resolver, lookups, V4[0])
    for second in range(1, 901):
        asked = len(lookups.asked)
        resolver.refresh(float(second), is_used=True)
        await turn()
        if len(lookups.asked) > asked:
            await lookups.say(failure)
        assert resolver.addresses(float(second)) == (V4[0],)
    assert len(lookups.asked) == pytest.approx(1 + (900 - REFRESH_S) / RETRY_S, abs=2)


async def test_an_idle_name_is_left_alone_until_it_is_used_again(
    resolver: Resolver, lookups: Lookups
) -> None:
    await resolve(resolver, lookups, V4[0])
    resolver.refresh(IDLE_S)
    await turn()
    assert len(lookups.asked) == 1
    assert resolver.addresses(2 * IDLE_S) == (V4[0],)
    resolver.refresh(2 * IDLE_S)
    await turn()
    assert len(lookups.asked) == 2
    await lookups.say(answer(V4[0]))


async def test_an_open_connection_is_use(resolver: Resolver, lookups: Lookups) -> None:
    await resolve(resolver, lookups, V4[0])
    resolver.refresh(10 * IDLE_S, is_used=True)
    await lookups.say(answer(V4[1]))
    assert len(lookups.asked) == 2


# --- turns ----------------------------------------------------------------------------------------------


async def test_addresses_take_turns_and_families_alternate(resolver: Resolver, lookups: Lookups) -> None:
    orders = [await resolve(resolver, lookups, *V6, *V4)]
    orders += [resolver.addresses(0.0) for _ in range(5)]
    assert [order[0] for order in orders] == [V6[0], V6[1]] * 3
    assert [order[1] for order in orders] == [*V4, *V4]
    assert all(":" in order[0] and ":" not in order[1] and ":" in order[2] for order in orders)
    assert all(sorted(order) == sorted((*V4, *V6)) for order in orders)


async def test_an_address_whose_dial_failed_goes_last_for_a_while(
    resolver: Resolver, lookups: Lookups
) -> None:
    await resolve(resolver, lookups, *V4)
    resolver.failed(V4[1], 100.0)
    assert {resolver.addresses(100.0 + AVOID_S - 1.0)[-1] for _ in range(6)} == {V4[1]}
    assert {resolver.addresses(100.0 + AVOID_S)[0] for _ in range(6)} == set(V4)


async def test_an_address_that_can_be_dialled_again_is_forgiven(resolver: Resolver, lookups: Lookups) -> None:
    await resolve(resolver, lookups, *V4)
    resolver.failed(V4[1], 0.0)
    resolver.succeeded(V4[1])
    assert {resolver.addresses(0.0)[0] for _ in range(6)} == set(V4)


async def test_a_new_answer_neither_forgives_nor_hoards(resolver: Resolver, lookups: Lookups) -> None:
    await resolve(resolver, lookups, *V4)
    for host in V4[1:]:
        resolver.failed(host, REFRESH_S)
    resolver.refresh(REFRESH_S)
    await lookups.say(answer(*V4[:2]))
    assert {resolver.addresses(REFRESH_S)[-1] for _ in range(6)} == {V4[1]}
    assert set(resolver._avoided_until_s) == {V4[1]}


# --- dialling what was resolved -------------------------------------------------------------------------


class World:
    """A server on 127.0.0.1 and a pool whose name resolves to what the test says, at the server's port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clock = ManualClock()
        self.accepted: list[str] = []

    def pool(self, *hosts: str) -> Pool:
        async def lookup(name: str, port: int) -> Iterable[tuple[Any, ...]]:
            if not hosts:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return answer(*hosts)

        pool = Pool(Address("name.invalid", self.port, None), self.clock.ticker)
        pool.resolver = Resolver("name.invalid", self.port, lookup)
        return pool


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    try:
        yield World(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[str]:
    """An address at which dials get no answer: a listener whose backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.3", port))
        server.listen(0)
        for _ in range(4):
            dial = stack.enter_context(socket.socket())
            dial.setblocking(False)
            dial.connect_ex(server.getsockname())
        yield "127.0.0.3"


async def connected(pool: Pool) -> Connection:
    connection = await pool.connect()
    assert isinstance(connection, Connection)
    return connection


async def test_goes_on_to_the_next_address_when_one_is_refused(world: World) -> None:
    pool = world.pool("127.0.0.2", "127.0.0.1")
    connection = await connected(pool)
    assert (pool.open_count, pool.dialled) == (1, 1)
    assert pool.resolver.addresses(world.clock.ticker.now_s)[-1] == "127.0.0.2"
    connection.close()
    await until(lambda: pool.open_count == 0)


async def test_a_silent_address_does_not_hold_up_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "STAGGER_S", 0.01)
    tasks = len(asyncio.all_tasks())
    with black_hole(world.port) as hole:
        pool = world.pool(hole, "127.0.0.1")
        connection = await connected(pool)
        assert {pool.resolver.addresses(world.clock.ticker.now_s)[-1] for _ in range(4)} == {hole}
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        connection.close()
    await until(lambda: pool.open_count == 0)


async def test_measures_how_long_a_connection_takes(world: World) -> None:
    pool = world.pool("127.0.0.1")
    assert pool.connect_ewma.value(0.0, default=99.0) == 99.0
    (await connected(pool)).close()
    assert 0.0 < pool.connect_ewma.value(world.clock.now_s, default=99.0) < 1.0
    await until(lambda: pool.open_count == 0)


async def test_says_what_is_wrong_when_no_address_answers(world: World) -> None:
    pool = world.pool("127.0.0.2", "127.0.0.4")
    outcome = await pool.connect()
    assert isinstance(outcome, Unreachable)
    assert "refused" in outcome.message
    assert (pool.open_count, pool.connect_ewma.estimate) == (0, None)


async def test_a_name_that_does_not_resolve_is_a_dns_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "create_connection", fail)
    outcome = await world.pool().connect()
    assert isinstance(outcome, Unreachable)
    assert outcome.flag == "DF"


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.2", "127.0.0.1")], ids=["one", "two"])
async def test_a_dial_cancelled_at_any_turn_leaves_nothing_behind(
    world: World, hosts: tuple[str, ...]
) -> None:
    tasks = len(asyncio.all_tasks())
    for turns in range(25):
        pool = world.pool(*hosts)
        dial = spawn(pool.connect(), "dial")
        for _ in range(turns):
            await asyncio.sleep(0)
        dial.cancel()
        await asyncio.wait([dial])
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        if not dial.cancelled() and isinstance(made := dial.result(), Connection):
            pool.keep(made)
        assert pool.open_count == pool.idle_count
        pool.retire()
        await until(lambda: pool.open_count == 0)  # noqa: B023  # awaited inside the loop


async def test_the_pool_keeps_its_addresses_fresh(world: World) -> None:
    hosts = ["127.0.0.2"]
    pool = world.pool()

    async def lookup(name: str, port: int) -> Iterable[tuple[Any, ...]]:
        return answer(*hosts)

    pool.resolver = Resolver("name.invalid", world.port, lookup)
    assert isinstance(await pool.connect(), Unreachable)
    hosts[0] = "127.0.0.1"
    pool.expire(world.clock.now_s + REFRESH_S)
    await turn()
    (await connected(pool)).close()
    await until(lambda: pool.open_count == 0)
