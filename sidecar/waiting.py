"""Serves while there is no good configuration yet: says what is missing, and goes on once it is there.

For pods that were given a sidecar by somebody else: their app must start, whether or not its ConfigMap and
its Secret are there and good. So this is live and ready, and each request is a 503 that names the problems.
`SIDECAR_WAIT_FOR_CONFIG=true` asks for it; without, a bad configuration ends the process with exit code 2.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping

import orjson
import uvloop

from sidecar.config.load import Loaded, listen_from, load
from sidecar.config.problems import ConfigError
from sidecar.config.watch import Watcher
from sidecar.lean import import_aiohttp

import_aiohttp()
from aiohttp import web  # noqa: E402  # lean

from sidecar.downstream.listener import open_sites  # noqa: E402

POLL_S = 0.5
MAX_SHOWN = 5

_log = logging.getLogger("sidecar")


def wait_for(path: str, error: ConfigError, environ: Mapping[str, str]) -> Loaded | None:
    """The configuration once it is good; None when the process is told to leave first.

    OSError when a port is taken, ConfigError when the addresses to wait on are themselves wrong.
    """
    waiting = _Waiting(path, error, environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(waiting.wait())


class _Waiting:
    def __init__(self, path: str, error: ConfigError, environ: Mapping[str, str]) -> None:
        self._path = path
        self._error = error
        self._environ = environ
        self._listen = listen_from(environ)
        self._watcher = Watcher(error.files or (path,), interval_s=POLL_S)
        self._leave = asyncio.Event()

    async def wait(self) -> Loaded | None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the file is looked at anyway
        self._tell()
        data = web.ServerRunner(web.Server(self._refuse), shutdown_timeout=1.0)
        health = web.ServerRunner(web.Server(self._health), shutdown_timeout=1.0)
        try:
            for runner, address in ((health, self._listen.health), (data, self._listen.data)):
                await runner.setup()
                await open_sites(runner, address)
            return await self._found()
        finally:
            await data.cleanup()
            await health.cleanup()

    async def _found(self) -> Loaded | None:
        while not self._leave.is_set():
            try:
                # Also at once: a file may have come between the first look and the first mark of it.
                return load(self._path, self._environ)
            except ConfigError as error:
                if error.problems != self._error.problems:
                    self._error = error
                    self._tell()
                self._watcher.watch(error.files or (self._path,))
            await self._something_new()
        return None

    async def _something_new(self) -> None:
        while True:
            await asyncio.sleep(POLL_S / 2)
            if self._leave.is_set() or self._watcher.changed(time.monotonic()):
                return

    def _tell(self) -> None:
        for problem in self._error.problems:
            _log.error("waiting for a good configuration: %s", problem)

    async def _refuse(self, _: web.BaseRequest) -> web.Response:
        problems = "; ".join(map(str, self._error.problems[:MAX_SHOWN]))
        message = f"The sidecar has no good configuration yet: {problems}"
        error = {"message": message, "type": "server_error", "param": None, "code": "not_configured"}
        # The SDK's own retries would not help: it takes a person to mend this.
        headers = {"x-should-retry": "false"}
        return web.Response(
            status=503, body=orjson.dumps({"error": error}), content_type="application/json", headers=headers
        )

    async def _health(self, request: web.BaseRequest) -> web.Response:
        if request.path in ("/livez", "/readyz"):
            return web.Response(text="waiting for a good configuration\n")
        return web.Response(status=404, text="Not while waiting for a good configuration.\n")
