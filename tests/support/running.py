"""A sidecar in this process, on real sockets and free ports."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from sidecar.config.load import parse
from sidecar.server import Sidecar
from sidecar.upstream.endpoint import Endpoint

ENVIRON = {"KEY": "sk-provider-secret"}


class Running:
    """A started sidecar and where it listens."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.port = port_of(sidecar.bound["data"][0])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.admin_url = f"http://{sidecar.bound['admin'][0]}"
        self.health_url = f"http://{sidecar.bound['health'][0]}"

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of one series as it is scraped; None where there is none."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.health_url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        for family in families:
            for sample in family.samples:
                if sample.name == name and sample.labels == {**_no_route(sample.labels), **labels}:
                    return float(sample.value)
        return None

    def endpoint(self, index: int = 0, provider: str = "p") -> Endpoint:
        """A live endpoint, with its counters and its pool."""
        return self.sidecar.snapshot.providers[provider].endpoints[index]


def _no_route(labels: Mapping[str, str]) -> dict[str, str]:
    """Where a series has a route, none is meant unless a test names one."""
    return {"route": ""} if "route" in labels else {}


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def config_for(*urls: str, **changes: Any) -> dict[str, Any]:
    """A configuration tree: one provider `p` with a key and these endpoints, every model; free ports.

    `changes` replace top-level sections; `provider` is merged into the provider.
    """
    provider: dict[str, Any] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": url} for url in urls]}
    # What one try does, however often it fails; tests/faults has what follows from failures.
    provider["retry"] = {"attempts": 1}
    provider["circuit_breaker"] = {"consecutive_failures": 1_000_000, "min_requests": 1_000_000}
    provider.update(changes.pop("provider", {}))
    tree: dict[str, Any] = {
        "listen": {"data": "127.0.0.1:0", "admin": "127.0.0.1:0", "health": "127.0.0.1:0"},
        "drain": {"min": "0s", "max": "1s"},
        "providers": {"p": provider},
        "models": {"*": {"provider": "p"}},
        "telemetry": {"access_log": "off"},
    }
    tree["listen"].update(changes.pop("listen", {}))
    tree.update(changes)
    return tree


@contextlib.asynccontextmanager
async def running(tree: Mapping[str, Any], environ: Mapping[str, str] = ENVIRON) -> AsyncIterator[Running]:
    """A sidecar with this configuration; stopped at the end."""
    sidecar = Sidecar(parse(orjson.dumps(tree), {**os.environ, **environ}), team="test")
    await sidecar.start()
    try:
        yield Running(sidecar)
    finally:
        sidecar.quit()
        await sidecar.stop()
