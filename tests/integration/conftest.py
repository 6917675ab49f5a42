"""A healthy, instant provider and a sidecar in front of it, both on real sockets."""

from collections.abc import AsyncIterator

import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.demo import demo_provider
from tests.support.running import Running, config_for, running


@pytest.fixture
async def provider() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as demo:
        yield demo


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url)) as started:
        yield started
