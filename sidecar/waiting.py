"""Answers in the place of a sidecar that cannot start yet, on its listeners, and says why.

It is live and ready, for Kubernetes starts the app's containers only once /readyz says so, and that the app
has no AI is no reason to take it out of service. Each request is a 503 that names the problems. The metrics
are those of a sidecar, so that the same alerts see it. When to begin and end is the caller's to know (`run`).
"""

import time
from typing import cast

import orjson

from sidecar.config.addresses import Address
from sidecar.config.model import Listen
from sidecar.exchange import Downstream, Exchange, RequestHead
from sidecar.lean import import_aiohttp
from sidecar.telemetry.metrics import Metrics

import_aiohttp()
from aiohttp import hdrs, web  # noqa: E402  # lean

from sidecar.downstream.listener import open_sites  # noqa: E402

MAX_SHOWN = 5

_HELD_UP = "waiting for a good configuration\n"


class StandIn:
    """Answers on the listeners of a sidecar that cannot start: `problems` are why, `metrics` are its own."""

    def __init__(self, team: str, metrics: Metrics) -> None:
        self.problems: tuple[str, ...] = ()
        self._team = team
        self._metrics = metrics
        self._runners: dict[str, web.ServerRunner] = {}
        self._at: dict[str, Address] = {}

    async def listen(self, listen: Listen) -> None:
        """Listen at these addresses only. OSError where that of data or health cannot be had; that of admin
        may be the very one that is taken."""
        wanted = {"health": listen.health, "data": listen.data, "admin": listen.admin}
        if wanted != self._at:
            await self.let_go()
        if not self._runners:
            handlers = {"health": self._health, "data": self._refuse, "admin": self._admin}
            for name, handler in handlers.items():
                # No access log: aiohttp's would be a line for each probe.
                runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=1.0)
                await runner.setup()
                self._runners[name] = runner
        for name, address in wanted.items():
            if self._runners[name].sites:
                continue
            try:
                await open_sites(self._runners[name], address)
            except OSError:
                if name != "admin":
                    await self.let_go()
                    raise
        self._at = wanted

    async def let_go(self) -> None:
        """Listen no more. Who is connected is still answered."""
        self._at = {}
        for runner in self._runners.values():
            for site in list(runner.sites):
                await site.stop()

    async def close(self) -> None:
        """Close everything."""
        for runner in self._runners.values():
            await runner.cleanup()
        self._runners.clear()
        self._at = {}

    async def _refuse(self, request: web.BaseRequest) -> web.Response:
        began_s = time.monotonic()
        error = {"message": self._said(), "type": "server_error", "param": None, "code": "not_configured"}
        # The SDK's own retries would not help: it takes a person to mend this.
        headers = {"x-should-retry": "false"}
        self._count(began_s)
        return web.Response(
            status=503, body=orjson.dumps({"error": error}), content_type="application/json", headers=headers
        )

    def _count(self, began_s: float) -> None:
        x = Exchange(cast(Downstream, None), began_s, RequestHead())
        x.team, x.status = self._team, 503
        self._metrics.finished(x, time.monotonic())

    async def _health(self, request: web.BaseRequest) -> web.Response:
        if request.path in ("/livez", "/readyz"):
            return web.Response(text=_HELD_UP)
        if request.path == "/metrics":
            return self._prometheus()
        return web.Response(status=404, text=f"Not while {_HELD_UP}")

    async def _admin(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/stats/prometheus":
            return self._prometheus()
        if request.path == "/ready":
            return web.Response(status=503, text="PRE_INITIALIZING\n")
        return web.Response(status=503, text=f"{self._said()}\n")

    def _prometheus(self) -> web.Response:
        from sidecar.telemetry.exposition import CONTENT_TYPE, Limits, expose  # 1 MB, as in admin/app.py

        body = expose(self._metrics, (), {}, Limits({}, {}, 0))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    def _said(self) -> str:
        return f"The sidecar cannot serve yet: {'; '.join(self.problems[:MAX_SHOWN])}"
