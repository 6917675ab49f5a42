"""A Redis of one's own: Debian's redis-server on a free port, with nothing on disk.

Where it is not installed it is installed by apt, if that is possible; else the test is skipped.
"""

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from sidecar.config.model import Fleet
from sidecar.config.secrets import Secret
from sidecar.fleet.leases import Leases
from tests.support.waiting import until

WITHIN_S = 5.0


@functools.cache
def redis_binary() -> str | None:
    """The path of redis-server, installed if need be; None where there is none to be had."""
    if not shutil.which("redis-server") and shutil.which("apt-get") and os.geteuid() == 0:
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "-y", "--no-install-recommends", "redis-server")):
            with contextlib.suppress(subprocess.SubprocessError):
                subprocess.run(("apt-get", "-qq", *command), env=environ, capture_output=True, timeout=120)
    return shutil.which("redis-server")


class RedisServer:
    """A running redis-server; `admin` is a plain client of it."""

    def __init__(self, *options: str, password: str = "") -> None:
        self.password = password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._options = options
        self.admin = redis.Redis(port=self.port, password=password or None, socket_timeout=WITHIN_S)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, on the same port as before; returns once it answers."""
        binary = redis_binary()
        if binary is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        arguments += ["--enable-debug-command", "yes", *self._options]
        if self.password:
            arguments += ["--requirepass", self.password]
        self._process = subprocess.Popen((binary, *arguments), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                self.admin.ping()
                return
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.01)

    def pause(self) -> None:
        """It stands still, connections and all."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it stood."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, with all it knew."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """For the end of a test."""
        self.admin.close()
        self.kill()

    def calls(self) -> int:
        """How many scripts were run, each in one round trip."""
        stats = self.admin.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def redis_server(*options: str, password: str = "") -> Iterator[RedisServer]:
    """A started server, killed at the end."""
    server = RedisServer(*options, password=password)
    server.start()
    try:
        yield server
    finally:
        server.close()


def fleet_of(url: str, *, expected: int = 10, timeout_s: float = 0.05) -> Fleet:
    return Fleet(redis=Secret(url), expected=expected, timeout_s=timeout_s)


@contextlib.asynccontextmanager
async def leases_of(
    url: str,
    *,
    expected: int = 10,
    timeout_s: float = 0.25,
    period_s: float = 0.2,
    patience_s: float = 1.0,
    is_connected: bool = True,
) -> AsyncIterator[Leases]:
    """Started leases, in shorter periods than in earnest; connected, unless told otherwise."""
    fleet = fleet_of(url, expected=expected, timeout_s=timeout_s)
    leases = Leases(fleet, period_s=period_s, patience_s=patience_s)
    leases.start()
    try:
        if is_connected:
            await until(lambda: leases.is_connected)
        yield leases
    finally:
        await leases.stop()


# What is said by things that are no Redis; None: nothing.
GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
    "binary": bytes(range(256)) * 40,
    "no number": b":abc\r\n",
    "a negative length": b"$-5\r\n",
    "a length without end": b"$99999999999\r\n" + b"x" * 1000,
    "an array without end": b"*1000000000\r\n" + b":1\r\n" * 1000,
    "an array in an array in an array": b"*1\r\n" * 100_000,
    "a line without end": b"+" + b"x" * 200_000,
    "half an answer": b"$10\r\nhal",
    "not text": b"-\xff\xfe\xfd\r\n",
    "a closed connection": b"",
    "silence": None,
}


@contextlib.asynccontextmanager
async def lying_server(*answers: bytes | None) -> AsyncIterator[str]:
    """The URL of something that is no Redis: it answers the first command of each connection with the next of
    `answers`, again and again; None: it says nothing. An empty answer closes the connection."""
    turns = itertools.cycle(answers)
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        answer = next(turns)
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            if answer:
                writer.write(answer)
                await writer.drain()
            while answer != b"" and await reader.read(65536):
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
