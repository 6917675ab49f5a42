"""All tests run on uvloop, as the product does; those that talk to a provider have a healthy, instant one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import settings

from sidecar.demo.provider import DemoProvider
from tests.support.demo import Tap, demo_provider

# The same examples each time, whatever they take. Others are searched by --hypothesis-profile search.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("same")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """What a test does to the level of the sidecar's log is not for the next."""
    log = logging.getLogger("sidecar")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def tap() -> Tap | None:
    """None: the provider never waits. Where answers are held back a file has a Tap in its place."""
    return None


@pytest.fixture
async def provider(tap: Tap | None) -> AsyncIterator[DemoProvider]:
    async with demo_provider(tap=tap) as demo:
        yield demo
