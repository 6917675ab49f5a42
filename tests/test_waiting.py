"""A sidecar without a good configuration: it says what is missing, and goes on once that is there."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from sidecar.k8s.container import container
from sidecar.k8s.settings import Settings
from tests.support.process import finished, spawn, write_config

TREE = {
    "providers": {"p": {"endpoints": [{"url": "http://127.0.0.1:1/v1"}]}},
    "models": {"*": {"provider": "p"}},
}


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on: their numbers must be known before the process starts."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports


class Waiting:
    """`sidecar run --config` with the environment of an injected pod."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "sidecar.yaml"
        self.data, self.admin, self.health = free_ports(3)
        settings = Settings(image="a", port=self.data, admin_port=self.admin, health_port=self.health)
        self.environ = {
            variable["name"]: variable["value"].replace("$(SIDECAR_POD_IP)", "127.0.0.1")
            for variable in container(settings)["env"]
            if "value" in variable
        }
        self.environ["SIDECAR_LISTEN_CONTROL"] = f"unix:{folder}/s"  # there is no /run/sidecar here
        self.process: asyncio.subprocess.Process

    async def get(self, port: int, path: str) -> tuple[int, str]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}{path}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def comes_to(self, port: int, path: str, status: int, text: str) -> None:
        """Ask until that is the answer."""
        async with asyncio.timeout(15):
            while True:
                answered, body = await self.get(port, path)
                if answered == status and text in body:
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[Waiting]:
    started = Waiting(folder)
    started.process = await spawn("run", "--config", str(started.config), environ=started.environ)
    try:
        yield started
    finally:
        if started.process.returncode is None:
            started.process.kill()
        await started.process.communicate()


async def test_it_is_ready_answers_503_and_serves_once_the_file_is_there(tmp_path: Path) -> None:
    async with waiting(tmp_path) as sidecar:
        await sidecar.comes_to(sidecar.data, "/v1/models", 503, "sidecar.yaml cannot be read")
        assert (await sidecar.get(sidecar.health, "/readyz"))[0] == 200
        assert (await sidecar.get(sidecar.health, "/livez"))[0] == 200
        write_config(sidecar.config, {"providers": {}})
        await sidecar.comes_to(sidecar.data, "/v1/models", 503, "models")
        write_config(sidecar.config, TREE | {"listen": {"data": "127.0.0.1:1", "health": "127.0.0.1:2"}})
        await sidecar.comes_to(sidecar.health, "/metrics", 200, "sidecar_build_info")
        await sidecar.comes_to(sidecar.admin, "/ready", 200, "LIVE")
        sidecar.process.send_signal(signal.SIGINT)
        assert await sidecar.process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_leaves_when_it_is_told_to(number: signal.Signals, tmp_path: Path) -> None:
    async with waiting(tmp_path) as sidecar:
        await sidecar.comes_to(sidecar.health, "/livez", 200, "waiting")
        sidecar.process.send_signal(number)
        _, errors = await sidecar.process.communicate()
        assert sidecar.process.returncode == 0
        assert b"Traceback" not in errors


async def test_it_is_not_asked_for_by_a_bad_configuration_alone(tmp_path: Path) -> None:
    code, _, errors = await finished("run", "--config", str(tmp_path / "none"), environ={})
    assert code == 2
    assert "cannot be read" in errors


async def test_a_bad_address_to_wait_on_is_named(tmp_path: Path) -> None:
    environ = {"SIDECAR_WAIT_FOR_CONFIG": "true", "SIDECAR_LISTEN_HEALTH": "here"}
    code, _, errors = await finished("run", "--config", str(tmp_path / "none"), environ=environ)
    assert code == 2
    assert errors.startswith("sidecar: SIDECAR_LISTEN_HEALTH: ")
