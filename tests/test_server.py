"""The life of a sidecar inside one process: what is bound, what is released, and when it counts as ready."""

import asyncio
import contextlib
import socket
from pathlib import Path

import orjson
import pytest

from sidecar.config.load import parse
from sidecar.server import Sidecar
from tests.support.demo import QUESTION, STREAM, Tap, demo_provider
from tests.support.http1 import ask, client
from tests.support.leaks import open_descriptors
from tests.support.raw import OK, post, raw_provider
from tests.support.running import ENVIRON, config_for, port_of, running
from tests.support.waiting import until

URL = "http://127.0.0.1:1/v1"


def sidecar_of(**changes: object) -> Sidecar:
    return Sidecar(parse(orjson.dumps(config_for(URL, **changes)), ENVIRON), team="t")


def is_open(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(address))) == 0


async def test_it_listens_from_start_to_stop() -> None:
    sidecar = sidecar_of()
    assert (sidecar.phase, sidecar.is_ready) == ("PRE_INITIALIZING", False)
    await sidecar.start()
    bound = [addresses[0] for addresses in sidecar.bound.values()]
    assert list(sidecar.bound) == ["health", "admin", "data"]
    assert (sidecar.phase, sidecar.is_ready) == ("LIVE", True)
    assert [is_open(address) for address in bound] == [True] * 3
    sidecar.quit()
    await sidecar.wait_stopped()
    assert (sidecar.phase, sidecar.is_ready) == ("DRAINING", False)
    assert [is_open(address) for address in bound] == [False] * 3


async def test_on_127_0_0_1_it_is_reached_by_ipv6_too_where_there_is_any() -> None:
    with contextlib.ExitStack() as stack:
        probe = stack.enter_context(socket.socket(socket.AF_INET6))
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6 loopback")
    async with running(config_for(URL)) as sidecar:
        assert sidecar.sidecar.bound["data"][1] == f"[::1]:{sidecar.port}"
        reader, writer = await asyncio.open_connection("::1", sidecar.port)
        writer.write(b"GET /v2 HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        writer.close()
        await writer.wait_closed()


async def test_a_unix_socket_serves_data(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sidecar = sidecar_of(listen={"data": f"unix:{path}"})
    await sidecar.start()
    assert sidecar.bound["data"] == [f"unix:{path}"]
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.close()
    sidecar.quit()
    await sidecar.stop()


async def test_a_control_socket_is_there_from_start_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sidecar = sidecar_of(listen={"control": f"unix:{path}"})
    await sidecar.start()
    assert list(sidecar.bound) == ["health", "admin", "control", "data"]
    assert sidecar.bound["control"] == [f"unix:{path}"]
    assert path.is_socket()
    sidecar.quit()
    await sidecar.stop()
    assert list(tmp_path.iterdir()) == []


async def test_a_control_socket_of_a_running_sidecar_fails_the_next_ones_start(tmp_path: Path) -> None:
    listen = {"control": f"unix:{tmp_path}/s"}
    async with running(config_for(URL, listen=listen)):
        second = sidecar_of(listen=listen)
        with pytest.raises(OSError, match="another process or user has it"):
            await second.start()
        assert not any(is_open(addresses[0]) for addresses in second.bound.values())
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("listener", ["health", "admin", "data"])
async def test_a_start_that_fails_leaves_nothing_open(listener: str) -> None:
    fds = open_descriptors()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sidecar = sidecar_of(listen={listener: f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(OSError):
            await sidecar.start()
    assert not any(is_open(address) for addresses in sidecar.bound.values() for address in addresses[:1])
    await until(lambda: open_descriptors() <= fds + 1)  # /dev/urandom and the like are opened once


async def test_a_log_that_cannot_be_written_fails_the_start(tmp_path: Path) -> None:
    sidecar = sidecar_of(telemetry={"access_log": str(tmp_path / "no" / "log")})
    with pytest.raises(FileNotFoundError):
        await sidecar.start()
    assert sidecar.bound == {}


async def test_starting_and_stopping_leaves_no_descriptor_behind() -> None:
    async with demo_provider() as provider:
        counts = []
        for _ in range(4):
            async with running(config_for(provider.url)) as sidecar:
                assert (await ask(sidecar.port, post(orjson.dumps(QUESTION)))).status == 200
            await until(lambda: provider.open_connections == 0)
            counts.append(open_descriptors())
    assert counts[3] == counts[1]


async def test_stop_waits_for_a_request_in_progress() -> None:
    tap = Tap()
    async with demo_provider(tap=tap) as provider:
        sidecar = Sidecar(
            parse(orjson.dumps(config_for(provider.url, drain={"min": "60ms", "max": "20s"})), ENVIRON),
            team="t",
        )
        await sidecar.start()
        async with client(port_of(sidecar.bound["data"][0])) as caller:
            caller.send(post(orjson.dumps(STREAM)))
            await until(lambda: sidecar.metrics.in_flight == 1)
            stopping = asyncio.create_task(sidecar.stop())
            tap.allow(2)
            await caller.head()
            assert not stopping.done()
            tap.open()
            while await caller.chunk():
                pass
            await stopping


async def test_the_idle_connections_to_providers_are_closed_at_the_end() -> None:
    async with raw_provider() as provider:
        async with running(config_for(provider.url)) as sidecar:
            await ask(sidecar.port, post(orjson.dumps(QUESTION)))
            assert provider.closed == 0
        await until(lambda: provider.closed == 1)


async def test_a_stream_that_came_before_draining_ends_its_connection_cleanly() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await provider.read_request(reader)
            await may_answer.wait()
            writer.write(OK)

    may_answer = asyncio.Event()
    async with (
        raw_provider(answer) as provider,
        running(config_for(provider.url)) as sidecar,
        client(sidecar.port) as caller,
    ):
        caller.send(post(orjson.dumps(QUESTION), close=False))
        await until(lambda: provider.requests)
        sidecar.sidecar.drain()
        may_answer.set()
        answered = await caller.answer()
        assert (answered.status, answered.head.get("connection")) == (200, "close")
        assert await caller.has_ended()
