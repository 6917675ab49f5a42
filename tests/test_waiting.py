"""A sidecar that cannot start: it says why on its own addresses, and serves once that is mended."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__
from sidecar.k8s.container import container
from sidecar.k8s.settings import Settings
from tests.support.process import spawn, write_config

TREE: dict[str, Any] = {
    "providers": {"p": {"endpoints": [{"url": "http://127.0.0.1:1/v1"}]}},
    "models": {"*": {"provider": "p"}},
}
TEAM = "shop"
# Less than RETRY_S: what a change or a signal has to bring about must not come by itself.
WITHIN_S = 8.0


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on: their numbers must be known before the process starts."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and text; 0 where nobody answers."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def comes_to(port: int, path: str, status: int, text: str) -> str:
    """Ask until that is the answer; returns all of it."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            answered, body = await get(port, path)
            if answered == status and text in body:
                return body
            await asyncio.sleep(0.02)


def series(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What was scraped, by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


LABELS = {"code": "503", "model": "", "provider": "", "region": "", "route": "", "team": TEAM}
REQUESTS_503 = "sidecar_requests_total", tuple(LABELS.items())
CONFIG_GOOD = "sidecar_config_good", ()
BUILD = "sidecar_build_info", (("version", __version__),)


class Pod:
    """Where the sidecar of an injected pod finds its configuration, and what its environment says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "sidecar.yaml"
        self.data, self.admin, self.health = free_ports(3)
        settings = Settings(image="a", port=self.data, admin_port=self.admin, health_port=self.health)
        self.environ = {
            variable["name"]: variable["value"].replace("$(SIDECAR_POD_IP)", "127.0.0.1")
            for variable in container(settings)["env"]
            if "value" in variable
        }
        self.environ["SIDECAR_LISTEN_CONTROL"] = f"unix:{folder}/s"  # there is no /run/sidecar here
        self.environ["SIDECAR_TEAM"] = TEAM

    def write(self, **changes: Any) -> None:
        """Have a configuration that is good, but for these sections of it."""
        write_config(self.config, TREE | changes)


class Process(Pod):
    """`sidecar run --config` in such a pod."""

    process: asyncio.subprocess.Process

    async def ended(self, number: signal.Signals) -> tuple[int | None, str]:
        """Exit code and log after a signal."""
        self.process.send_signal(number)
        async with asyncio.timeout(WITHIN_S):
            _, errors = await self.process.communicate()
        assert b"Traceback" not in errors
        return self.process.returncode, errors.decode()


@asynccontextmanager
async def waiting(folder: Path, tree: dict[str, Any] | None = None, **environ: str) -> AsyncIterator[Process]:
    started = Process(folder)
    if tree is not None:
        write_config(started.config, tree)
    arguments = ("run", "--config", str(started.config))
    started.process = await spawn(*arguments, environ=started.environ | environ)
    try:
        yield started
    finally:
        if started.process.returncode is None:
            started.process.kill()
        await started.process.communicate()


@contextmanager
def taken_address() -> Iterator[str]:
    """Somebody listens there, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def unwritable(folder: Path) -> dict[str, str]:
    """A telemetry section whose log is in a folder that is not there."""
    return {"access_log": str(folder / "logs" / "access.log")}


# --- without a good configuration -----------------------------------------------------------------------


async def test_it_is_ready_answers_503_and_serves_once_the_file_is_there(tmp_path: Path) -> None:
    async with waiting(tmp_path) as sidecar:
        await comes_to(sidecar.data, "/v1/models", 503, "sidecar.yaml cannot be read")
        assert (await get(sidecar.health, "/readyz"))[0] == 200
        assert (await get(sidecar.health, "/livez"))[0] == 200
        assert (await get(sidecar.admin, "/ready"))[0] == 503
        write_config(sidecar.config, {"providers": {}})
        await comes_to(sidecar.data, "/v1/models", 503, "models")
        sidecar.write(listen={"data": "127.0.0.1:1", "health": "127.0.0.1:2"})
        await comes_to(sidecar.health, "/readyz", 200, "LIVE")
        await comes_to(sidecar.admin, "/ready", 200, "LIVE")
        assert (await sidecar.ended(signal.SIGINT))[0] == 0


async def test_its_log_has_a_line_for_each_problem_and_none_for_requests(tmp_path: Path) -> None:
    async with waiting(tmp_path, {"providers": {}, "drain": {"min": "soon"}}) as sidecar:
        await comes_to(sidecar.data, "/v1/models", 503, "drain.min")
        for _ in range(3):
            assert (await get(sidecar.health, "/readyz"))[0] == 200
            assert (await get(sidecar.data, "/v1/models"))[0] == 503
        _, errors = await sidecar.ended(signal.SIGTERM)
        problems = [line.partition("waiting, and answering 503: ")[2] for line in errors.splitlines()]
        assert sorted(problem.partition(":")[0] for problem in problems) == [
            "drain.min",
            "models",
            "providers",
        ]


# --- a good configuration that cannot be acted on -------------------------------------------------------


async def test_a_log_that_cannot_be_written_is_named_and_another_configuration_is_served(
    tmp_path: Path,
) -> None:
    async with waiting(tmp_path, TREE | {"telemetry": unwritable(tmp_path)}) as sidecar:
        said = await comes_to(sidecar.data, "/v1/models", 503, "telemetry.access_log: ")
        assert "logs/access.log: No such file or directory" in said
        assert (await get(sidecar.health, "/readyz"))[0] == 200
        sidecar.write()
        await comes_to(sidecar.health, "/readyz", 200, "LIVE")
        assert (await get(sidecar.data, "/v2"))[0] == 404
        code, errors = await sidecar.ended(signal.SIGINT)
        assert code == 0
        assert errors.count("waiting, and answering 503: telemetry.access_log: ") == 1


async def test_a_model_that_cannot_be_loaded_is_named_and_another_configuration_is_served(
    tmp_path: Path,
) -> None:
    packages = broken_packages(tmp_path)
    tree = TREE | {"cache": {"match": "semantic"}}
    async with waiting(tmp_path, tree, PYTHONPATH=packages) as sidecar:
        await comes_to(sidecar.data, "/v1/models", 503, "cache.semantic: cannot be used: numpy is installed")
        sidecar.write(cache={"match": "exact"})
        await comes_to(sidecar.health, "/readyz", 200, "LIVE")


def broken_packages(folder: Path) -> str:
    """Where the packages of the semantic cache are, found and not working, as in a broken image."""
    for name in ("numpy", "tokenizers", "wordllama"):
        package = folder / "packages" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('libgomp.so.1: no such file')\n")
    return str(folder / "packages")


async def test_an_admin_address_that_is_taken_keeps_no_request_from_its_503(tmp_path: Path) -> None:
    with taken_address() as address:
        async with waiting(tmp_path, TREE, SIDECAR_LISTEN_ADMIN=address) as sidecar:
            await comes_to(
                sidecar.data, "/v1/models", 503, f"listen.admin: {address}: Address already in use"
            )
            assert (await get(sidecar.health, "/readyz"))[0] == 200
            sidecar.process.send_signal(signal.SIGTERM)
            await sidecar.process.wait()


async def test_it_waits_where_the_file_says_once_it_could_be_read(tmp_path: Path) -> None:
    data, admin, health = free_ports(3)
    listen = {"data": f"127.0.0.1:{data}", "admin": f"127.0.0.1:{admin}", "health": f"127.0.0.1:{health}"}
    tree = TREE | {"telemetry": unwritable(tmp_path), "listen": listen}
    none = {f"SIDECAR_LISTEN_{name}": "" for name in ("DATA", "ADMIN", "HEALTH")}
    async with waiting(tmp_path, tree, **none) as sidecar:
        await comes_to(data, "/v1/models", 503, "telemetry.access_log")
        assert (await get(health, "/readyz"))[0] == 200
        write_config(sidecar.config, {"listen": listen})
        await comes_to(data, "/v1/models", 503, "providers")  # where it was, though the file is no good now


# --- what is seen of it ---------------------------------------------------------------------------------


async def test_it_has_the_metrics_of_a_sidecar_and_goes_on_counting_once_it_serves(tmp_path: Path) -> None:
    async with waiting(tmp_path) as sidecar:
        await comes_to(sidecar.health, "/metrics", 200, "sidecar_build_info")
        before = series((await get(sidecar.health, "/metrics"))[1])
        assert (before[CONFIG_GOOD], before[BUILD]) == (0.0, 1.0)
        assert REQUESTS_503 not in before
        for _ in range(3):
            assert (await get(sidecar.data, "/v1/models"))[0] == 503
        for port, path in ((sidecar.health, "/metrics"), (sidecar.admin, "/stats/prometheus")):
            assert series((await get(port, path))[1])[REQUESTS_503] == 3.0
        sidecar.write()
        await comes_to(sidecar.health, "/readyz", 200, "LIVE")
        assert (await get(sidecar.data, "/v2"))[0] == 404
        after = series(await comes_to(sidecar.health, "/metrics", 200, 'code="404"'))
        assert (after[CONFIG_GOOD], after[BUILD], after[REQUESTS_503]) == (1.0, 1.0, 3.0)
        names = {tuple(label for label, _ in labels) for name, labels in after if name == REQUESTS_503[0]}
        assert names == {tuple(label for label, _ in REQUESTS_503[1])}  # the sidecar's own are no others
