"""A sidecar in front of a healthy, instant provider, both on real sockets."""

from collections.abc import AsyncIterator

import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.running import Running, config_for, running


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url)) as started:
        yield started
