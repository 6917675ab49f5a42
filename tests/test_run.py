"""Starts that fail are tried again, whole, until one does not; and meanwhile nothing is left of them."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar import run as run_module
from sidecar.config.addresses import Address
from sidecar.config.model import Listen
from sidecar.run import Waiting
from sidecar.server import Sidecar
from tests.support.certificates import Authority
from tests.support.leaks import open_descriptors
from tests.support.process import finished, write_config
from tests.support.redis import RedisServer, redis_server
from tests.support.waiting import until
from tests.test_waiting import (
    CONFIG_GOOD,
    TEAM,
    TREE,
    WITHIN_S,
    Pod,
    comes_to,
    free_ports,
    get,
    series,
    taken_address,
    unwritable,
    waiting,
)

# --- how it ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_leaves_when_it_is_told_to(number: signal.Signals, tmp_path: Path) -> None:
    async with waiting(tmp_path) as sidecar:
        await comes_to(sidecar.health, "/livez", 200, "waiting")
        assert (await sidecar.ended(number))[0] == 0


async def test_it_is_not_asked_for_by_a_bad_configuration_alone(tmp_path: Path) -> None:
    code, _, errors = await finished("run", "--config", str(tmp_path / "none"), environ={})
    assert code == 2
    assert "cannot be read" in errors


async def test_a_bad_address_to_wait_on_is_named(tmp_path: Path) -> None:
    environ = {"SIDECAR_WAIT_FOR_CONFIG": "true", "SIDECAR_LISTEN_HEALTH": "here"}
    code, _, errors = await finished("run", "--config", str(tmp_path / "none"), environ=environ)
    assert code == 2
    assert errors.startswith("sidecar: SIDECAR_LISTEN_HEALTH: ")


@pytest.mark.parametrize("listener", ["DATA", "HEALTH"])
async def test_an_address_that_nobody_could_be_told_on_ends_it(listener: str, tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    pod.write()
    with taken_address() as address:
        environ = pod.environ | {f"SIDECAR_LISTEN_{listener}": address}
        code, _, errors = await finished("run", "--config", str(pod.config), environ=environ)
    assert code == 1
    assert errors == f"sidecar: cannot start: [Errno 98] {address}: Address already in use\n"


# --- while a start is under way -------------------------------------------------------------------------


class SilentServer:
    """An API server that accepts and never answers: a start waits three seconds for it."""

    def __init__(self, folder: Path) -> None:
        self.asked = asyncio.Event()
        self.url = ""
        self._folder = folder

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        writer.close()

    def tree(self, **changes: Any) -> dict[str, Any]:
        """A configuration that asks it."""
        key = self._folder / "key"
        key.write_text("sk-provider")
        accounts = {"callers": [{"namespace": "shop"}], "api_server": self.url, "token_file": str(key)}
        accounts["ca_file"] = Authority(self._folder).ca_file
        provider = TREE["providers"]["p"] | {"api_key": {"file": str(key)}}
        auth = {"mode": "keys", "service_accounts": accounts}
        return TREE | {"providers": {"p": provider}, "auth": auth} | changes


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[SilentServer]:
    silent = SilentServer(tmp_path)
    server = await asyncio.start_server(silent.take, "127.0.0.1", 0)
    silent.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield silent
    server.close()


@pytest.mark.parametrize("is_first", [True, False])
async def test_it_leaves_in_the_middle_of_a_start(
    is_first: bool, silent: SilentServer, tmp_path: Path
) -> None:
    async with waiting(tmp_path, silent.tree() if is_first else None) as sidecar:
        if not is_first:
            await comes_to(sidecar.data, "/v1/models", 503, "cannot be read")
            write_config(sidecar.config, silent.tree())
        async with asyncio.timeout(WITHIN_S):
            await silent.asked.wait()
        code, errors = await sidecar.ended(signal.SIGTERM)
        assert code == 0
        assert "auth.service_accounts" not in errors  # so it did not wait for the answer
        assert "listening" not in errors


@pytest.mark.parametrize("fails", [True, False])
async def test_of_changes_while_a_start_is_under_way_the_last_counts(
    fails: bool, silent: SilentServer, tmp_path: Path
) -> None:
    async with waiting(tmp_path) as sidecar:
        await comes_to(sidecar.data, "/v1/models", 503, "cannot be read")
        write_config(sidecar.config, silent.tree(telemetry=unwritable(tmp_path)) if fails else silent.tree())
        async with asyncio.timeout(WITHIN_S):
            await silent.asked.wait()
        sidecar.config.write_text("models: [half a fi")
        assert (await get(sidecar.data, "/v1/models"))[0] == 503  # it still answers
        sidecar.write(routes={"the-last": {"split": [{"model": "m", "weight": 1}]}})
        await comes_to(sidecar.admin, "/config_dump", 200, "the-last")
        assert series((await get(sidecar.health, "/metrics"))[1])[CONFIG_GOOD] == 1.0


async def test_sighup_has_it_try_again(tmp_path: Path) -> None:
    async with waiting(tmp_path, TREE | {"telemetry": unwritable(tmp_path)}) as sidecar:
        await comes_to(sidecar.data, "/v1/models", 503, "telemetry.access_log")
        (tmp_path / "logs").mkdir()
        sidecar.process.send_signal(signal.SIGHUP)
        await comes_to(sidecar.health, "/readyz", 200, "LIVE")


# --- one start after another ----------------------------------------------------------------------------


class Starts:
    """Starts in this process. `ended` counts those that are over; each is held up before its first listener
    until `may_listen`."""

    def __init__(self, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended = 0
        self.may_listen: Callable[[], bool] = lambda: True
        self._pod = pod
        starts = self

        class Counted(Sidecar):
            async def start(self, make_way: Callable[[], Awaitable[None]] | None = None) -> None:
                async def later() -> None:
                    await until(starts.may_listen)
                    if make_way is not None:
                        await make_way()

                try:
                    await super().start(later)
                finally:
                    starts.ended += 1

        monkeypatch.setattr(run_module, "Sidecar", Counted)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator["asyncio.Task[Sidecar | None]"]:
        """The task that brings the sidecar, which is stopped at the end."""
        waiting = Waiting(str(self._pod.config), TEAM, self._pod.environ)
        task = asyncio.create_task(waiting.started())
        try:
            yield task
        finally:
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                sidecar = await task
                assert sidecar is not None
                sidecar.quit()
                await sidecar.stop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                asyncio.get_running_loop().remove_signal_handler(number)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


@pytest.fixture
def starts(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(pod, monkeypatch)


async def test_it_tries_again_by_itself_what_no_file_tells_of(
    pod: Pod, starts: Starts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "RETRY_S", 0.05)
    pod.write(telemetry=unwritable(pod.folder))
    async with starts.run() as task:
        await until(lambda: starts.ended >= 3)
        (pod.folder / "logs").mkdir()
        sidecar = await task
        assert sidecar is not None
        assert sidecar.is_ready
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1  # the same trouble is told once


async def test_where_the_file_names_an_address_that_is_taken_it_waits_at_that_of_the_environment(
    pod: Pod, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("data", "admin", "health")
    of = {name: Address.parse(pod.environ.pop(f"SIDECAR_LISTEN_{name.upper()}")) for name in names}
    own = Listen(data=of["data"], admin=of["admin"], health=of["health"])
    monkeypatch.setattr(run_module, "listen_from", lambda _: own)  # the default ports may be taken here
    listen = dict(zip(names, (f"127.0.0.1:{port}" for port in free_ports(3)), strict=True))
    with taken_address() as taken:
        pod.write(listen=listen | {"data": taken})
        async with starts.run() as task:
            await comes_to(pod.data, "/v1/models", 503, f"listen.data: {taken}: Address already in use")
            pod.write(listen=listen)
            async with asyncio.timeout(WITHIN_S):
                assert await task is not None


async def test_a_start_that_failed_leaves_nothing_behind(pod: Pod, starts: Starts) -> None:
    with redis_server() as redis, taken_address() as taken:
        pod.environ |= {"SIDECAR_LISTEN_CONTROL": f"unix:{pod.folder}/no/s", "REDIS": redis.url, "KEY": "sk"}
        endpoint = {"url": f"http://{taken}/v1"}  # it never answers a health check
        pod.write(
            providers={
                "p": {"api_key": {"env": "KEY"}, "endpoints": [endpoint], "health_check": {"path": "/models"}}
            },
            fleet={"redis": {"env": "REDIS"}, "expected": 2},
            cache={"match": "exact", "redis": {"env": "REDIS"}},
            usage={"path": str(pod.folder / "usage.db")},
            telemetry={"access_log": str(pod.folder / "access.log")},
        )
        threads = threading.active_count()
        starts.may_listen = lambda: clients_of(redis) > 2 and threading.active_count() == threads + 2
        async with starts.run() as task:
            tasks = {task, asyncio.current_task()}
            descriptors = []
            for count in range(1, 5):
                await until(lambda count=count: starts.ended == count)  # type: ignore[misc]
                await until(lambda: asyncio.all_tasks() == tasks)
                await until(lambda: clients_of(redis) == 1)  # who asks
                assert threading.active_count() == threads
                descriptors.append(open_descriptors())
                signal.raise_signal(signal.SIGHUP)
            assert descriptors[1] == descriptors[3]


def clients_of(redis: RedisServer) -> int:
    return len(redis.admin.client_list())
