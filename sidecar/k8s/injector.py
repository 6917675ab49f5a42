"""The life of the injector's process: certificate, listeners, signals, leaving.

On SIGTERM readiness fails, and reviews are answered for a while more: the API server goes on calling until
it has learned that this replica is leaving.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from sidecar.k8s.settings import Settings
from sidecar.k8s.tls import Serving
from sidecar.k8s.webhook import Health, Metrics, webhook_app
from sidecar.tasks import spawn

LEAVE_S = 5.0
SHUTDOWN_S = 5.0

_log = logging.getLogger("sidecar.injector")


class Source(Protocol):
    """Where the certificate comes from."""

    async def run(self) -> None:
        """Keep the certificate good, for ever."""

    async def close(self) -> None:
        """Release what it holds."""


class Injector:
    """`start`, then `wait_stopped` or `stop`. Port 0 takes any free port; `ports` are those bound."""

    def __init__(
        self, defaults: Settings, source: Callable[[Serving], Source], port: int, health_port: int
    ) -> None:
        self.serving = Serving()
        self.ports: tuple[int, int] = (port, health_port)
        self._metrics = Metrics(self.serving)
        self._health = Health(self.serving, self._metrics)
        self._defaults = defaults
        self._make_source = source
        self._source: Source | None = None
        self._task: asyncio.Task[None] | None = None
        self._runners: list[web.AppRunner] = []
        self._leave = asyncio.Event()
        self._hurry = asyncio.Event()

    async def start(self) -> None:
        """Listen, and begin to look after the certificate. OSError, ApiError or ValueError when it cannot."""
        port, health_port = self.ports
        try:
            self._source = self._make_source(self.serving)
            webhook = webhook_app(self._defaults, self._metrics, self._health)
            bound = await self._listen(webhook, port, is_tls=True)
            self.ports = bound, await self._listen(self._health.app(), health_port, is_tls=False)
            self._task = spawn(self._source.run(), "certificate")
        except BaseException:
            await self._release()
            raise
        _log.info("listening: webhook %d, health %d", *self.ports)

    def handle_signals(self) -> None:
        """SIGTERM leaves with a little patience; SIGINT or a second SIGTERM at once."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self.quit)

    async def wait_stopped(self) -> None:
        """Serve until a signal says to leave; then leave."""
        await self._leave.wait()
        await self.stop()

    async def stop(self, patience_s: float = LEAVE_S) -> None:
        """Fail readiness, serve on for `patience_s`, and close everything."""
        self._health.is_leaving = True
        timer = asyncio.get_running_loop().call_later(patience_s, self._hurry.set)
        await self._hurry.wait()
        timer.cancel()
        await self._release()
        _log.info("stopped")

    def quit(self) -> None:
        """Leave without patience."""
        self._hurry.set()
        self._leave.set()

    def _terminate(self) -> None:
        if self._leave.is_set():
            self._hurry.set()
        self._leave.set()

    async def _listen(self, app: web.Application, port: int, *, is_tls: bool) -> int:
        """Serve on all interfaces, IPv4 and IPv6; returns the port bound."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        self._runners.append(runner)
        listening = _socket(port)
        tls = self.serving.context if is_tls else None
        await web.SockSite(runner, listening, ssl_context=tls).start()
        return int(listening.getsockname()[1])

    async def _release(self) -> None:
        if self._task is not None:
            self._task.cancel()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._source is not None:
            await self._source.close()
            self._source = None


def _socket(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
