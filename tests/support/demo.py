"""Simulated providers for tests: healthy and instant unless told otherwise, or paced token by token."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario

QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "How do rivers find the sea?"}]}
STREAM = {**QUESTION, "stream": True}


class Tap:
    """A provider's sleep that ends when the test says so: each allowed wait lets one token out."""

    def __init__(self) -> None:
        self._left = 0
        self._is_open = False
        self._turned = asyncio.Event()

    async def __call__(self, _seconds: float) -> None:
        while not self._is_open and not self._left:
            self._turned.clear()
            await self._turned.wait()
        self._left = max(0, self._left - 1)
        await asyncio.sleep(0)

    def allow(self, waits: int) -> None:
        """Let so many more waits end."""
        self._left += waits
        self._turned.set()

    def open(self) -> None:
        """Let all waits end from now on."""
        self._is_open = True
        self._turned.set()


@contextlib.asynccontextmanager
async def demo_provider(
    region: str = "us-east-1", *, tap: Tap | None = None, knobs: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[DemoProvider]:
    """A started provider; `knobs` change its scenario, `options` go to its constructor."""
    scenario = Scenario.instant()
    scenario.update(knobs or {})
    if tap is not None:
        options["sleep"] = tap
    provider = DemoProvider(region, scenario=scenario, **options)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
