"""A sidecar in front of a healthy, instant provider, both on real sockets."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.redis import RedisServer, redis_server
from tests.support.running import Running, config_for, running


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url)) as started:
        yield started


@pytest.fixture
async def cached(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url, cache={})) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server
