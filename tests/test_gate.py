"""Who is let in by the head of the request alone."""

import orjson
import pytest

from tests.support.demo import QUESTION
from tests.support.http1 import ask
from tests.support.raw import post, raw_provider
from tests.support.running import config_for, running

HOSTS = ["ai-gateway", "ai-gateway.team.svc.cluster.local"]


async def status_for(host: bytes) -> int:
    """What a request with this Host gets, of a gateway that is called HOSTS."""
    request = post(orjson.dumps(QUESTION)).replace(b"Host: localhost", b"Host: " + host)
    async with (
        raw_provider() as provider,
        running(config_for(provider.url, listen={"hosts": HOSTS})) as sidecar,
    ):
        return (await ask(sidecar.port, request)).status


@pytest.mark.parametrize(
    "host",
    [
        b"ai-gateway",
        b"ai-gateway.",
        b"ai-gateway.team.svc.cluster.local",
        b"ai-gateway.team.svc.cluster.local.",
        b"AI-Gateway.Team.svc.cluster.local.:80",
        b"localhost.",
        b"127.0.0.1:8080",
        b"[::1]:8080",
    ],
)
async def test_a_configured_or_loopback_name_is_let_in_with_the_roots_dot_or_without(host: bytes) -> None:
    assert await status_for(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"ai-gateway..",
        b".ai-gateway",
        b".",
        b"..",
        b"",
        b"ai-gateway.:",
        b"ai-gateway.80",
        b"ai-gateway.:80.",
        b"evil.example.",
        b"ai-gateway.team.svc.cluster.local.evil.example",
    ],
)
async def test_one_dot_is_taken_away_and_nothing_else(host: bytes) -> None:
    assert await status_for(host) in (400, 403)
