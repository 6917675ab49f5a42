"""A client of the admin listener of a test's own sidecar."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.running import Running


@pytest.fixture
async def admin(sidecar: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sidecar.admin_url) as session:
        yield session
