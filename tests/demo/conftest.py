"""A healthy provider that never waits, on a real socket, and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario
from tests.demo.support import Sleeps


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
async def provider(sleeps: Sleeps) -> AsyncIterator[DemoProvider]:
    demo = DemoProvider("eu-west-1", scenario=Scenario.instant(), sleep=sleeps, clock=lambda: 1_800_000_000.5)
    await demo.start()
    yield demo
    await demo.stop()


@pytest.fixture
async def sdk(provider: DemoProvider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
async def http(provider: DemoProvider) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(provider.origin) as session:
        yield session
