"""A sidecar as a process of its own: `python -m sidecar ...` on free ports, with its signals and its exit."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import orjson

from tests.support.running import ENVIRON, port_of

_LISTENING = re.compile(r"listening: health ([^\s,]+).*, admin ([^\s,]+).*, data ([^\s,]+)")


class SidecarProcess:
    """A running `sidecar run`; `errors` is what it wrote to stderr so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.errors = ""
        self.port = 0
        self.health_url = ""
        self.admin_url = ""
        self._is_listening = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        while line := await stream.readline():
            self.errors += line.decode()
            if found := _LISTENING.search(line.decode()):
                self.health_url, self.admin_url = f"http://{found[1]}", f"http://{found[2]}"
                self.port = port_of(found[3])
                self._is_listening.set()
        self._is_listening.set()

    async def listening(self) -> None:
        """Return once it serves; fails when it left instead."""
        async with asyncio.timeout(20):
            await self._is_listening.wait()
        assert self.port, f"it did not start: {self.errors}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self, *, within_s: float = 15.0) -> int:
        """Wait for its end."""
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reader
        return code

    async def get(self, url: str) -> tuple[int, str]:
        """Status and text of an admin or health page."""
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()

    async def metric(self, series: str) -> float:
        """The value of one series on the health listener."""
        _, text = await self.get(f"{self.health_url}/metrics")
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(series)), 0.0)

    def peak_bytes(self) -> int:
        """The most memory it ever had resident."""
        return self._memory("VmHWM")

    def resident_bytes(self) -> int:
        """What is resident now."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


async def spawn(*arguments: str, environ: Mapping[str, str] = ENVIRON, stdout: int = PIPE) -> Process:
    """Start `python -m sidecar` with nothing of this process's environment but its search path."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sidecar",
        *arguments,
        env={"PATH": os.environ["PATH"], **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=PIPE,
    )


async def finished(*arguments: str, environ: Mapping[str, str] = ENVIRON) -> tuple[int, str, str]:
    """Run a command to its end: exit code, stdout, stderr."""
    process = await spawn(*arguments, environ=environ)
    async with asyncio.timeout(20):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


def write_config(path: Path, tree: Mapping[str, object]) -> Path:
    """Write a tree as a file; JSON is YAML."""
    path.write_bytes(orjson.dumps(tree))
    return path


@contextlib.asynccontextmanager
async def sidecar_process(
    config: Path, *, environ: Mapping[str, str] = ENVIRON, stdout: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[SidecarProcess]:
    """`sidecar run --config`, serving; killed at the end where it still runs."""
    running = SidecarProcess(await spawn("run", "--config", str(config), environ=environ, stdout=stdout))
    try:
        await running.listening()
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
        await running.exit_code()
