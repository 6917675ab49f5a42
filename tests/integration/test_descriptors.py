"""A sidecar that is out of file descriptors: it says so, blames nobody, does not spin, and recovers."""

import asyncio
import os
import resource
from pathlib import Path

import aiohttp
import orjson

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, demo_provider
from tests.support.descriptors import no_descriptor_left
from tests.support.http1 import Client, client
from tests.support.process import SidecarProcess, sidecar_process, write_config
from tests.support.raw import post
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

ASK = post(orjson.dumps(QUESTION), close=False)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_request_that_needs_a_dial_is_a_503_that_names_what_is_missing(
    provider: DemoProvider, sidecar: Running
) -> None:
    endpoint = sidecar.endpoint()
    async with client(sidecar.port) as caller:
        with no_descriptor_left():
            for _ in range(20):
                caller.send(ASK)
                answer = await caller.answer()
                error = orjson.loads(answer.body)["error"]
                assert (answer.status, error["code"]) == (503, "overloaded")
                assert "EMFILE" in error["message"]
                assert (answer.head.get("retry-after"), answer.head.get("x-should-retry")) == ("1", None)
        assert (endpoint.failures, endpoint.last_error) == (0, "")
        assert endpoint.breaker.failure_share(asyncio.get_running_loop().time()) == 0
        caller.send(ASK)
        assert (await caller.answer()).status == 200


async def test_a_kept_alive_connection_serves_on(provider: DemoProvider, sidecar: Running) -> None:
    async with client(sidecar.port) as caller:
        caller.send(ASK)
        assert (await caller.answer()).status == 200
        with no_descriptor_left():
            caller.send(ASK)
            assert (await caller.answer()).status == 200


async def test_an_endpoint_with_a_connection_to_spare_answers_for_the_one_without() -> None:
    async with demo_provider() as first, demo_provider() as second:
        tree = config_for(first.url, second.url, locality={"region": "near"})
        near, far = tree["providers"]["p"]["endpoints"]
        near["region"], far["region"] = "near", "far"
        async with running(tree) as sidecar, client(sidecar.port) as caller:
            endpoint = sidecar.endpoint()
            endpoint.is_checked_out = True
            caller.send(ASK)
            assert (await caller.answer()).status == 200
            endpoint.is_checked_out = False
            with no_descriptor_left():
                caller.send(ASK)
                answer = await caller.answer()
            region, tries = answer.head.get("x-sidecar-region"), answer.head.get("x-sidecar-attempts")
            assert (answer.status, region, tries) == (200, "far", "1")


async def test_health_checks_that_cannot_be_made_take_nobody_out(provider: DemoProvider) -> None:
    check = {"path": "/models", "interval": "10ms", "timeout": "1s"}
    async with running(config_for(provider.url, provider={"health_check": check})) as sidecar:
        endpoint = sidecar.endpoint()
        dialled = endpoint.pool.dialled
        with no_descriptor_left():
            await until(lambda: endpoint.pool.dialled > dialled + 5)
            assert not endpoint.is_checked_out


async def fill(process: SidecarProcess) -> list[Client]:
    """Callers until nobody more is let in: the last ones are turned away."""
    callers: list[Client] = []
    while len(callers) < 200:
        callers.append(await Client.connect(process.port))
        try:
            async with asyncio.timeout(0.05):
                if await callers[-1].reader.read(1) == b"":
                    return callers
        except TimeoutError:
            pass
        except ConnectionError:
            return callers
    raise AssertionError("the limit was never met")


async def test_callers_that_take_every_descriptor_break_nothing_and_cost_no_cpu(
    provider: DemoProvider, tmp_path: Path
) -> None:
    tree = config_for(provider.url)
    tree["providers"]["p"].pop("circuit_breaker")
    async with sidecar_process(write_config(tmp_path / "config", tree)) as process:
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 8, before[1]))
        callers = await fill(process)
        for caller in callers[:5]:
            for _ in range(4):
                caller.send(ASK)
                assert (await caller.answer()).status == 503
        began_s = cpu_s(process.pid)
        await asyncio.sleep(1.0)
        assert cpu_s(process.pid) - began_s < 0.5
        for caller in callers:
            await caller.close()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{process.url}/chat/completions", json=QUESTION) as response:
                assert response.status == 200
            async with session.get(f"{process.admin_url}/clusters") as response:
                assert "breaker::closed" in await response.text()
        lines = [line for line in process.errors.splitlines() if "no file descriptor is left" in line]
        assert len(lines) == 1 and f"of {used + 8}:" in lines[0]
        assert "Traceback" not in process.errors
