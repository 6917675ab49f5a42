from __future__ import annotations

import asyncio
import ssl

import aiohttp
import openai
import pytest
import trustme
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario
from tests.demo.support import QUESTION, STREAM, request_bytes, talk, until


async def test_every_answer_carries_a_providers_headers(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/chat/completions", json=QUESTION) as answer:
        headers = answer.headers
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-processing-ms"] == "0"
    assert headers["x-demo-region"] == "eu-west-1"
    for what in ("requests", "tokens"):
        for kind in ("limit", "remaining", "reset"):
            assert headers[f"x-ratelimit-{kind}-{what}"]
    assert headers["date"]


async def test_the_header_knobs_are_seen_on_the_wire(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update(
        {
            "ratelimit_remaining_requests": 0,
            "ratelimit_remaining_tokens": 12,
            "ratelimit_limit_requests": 60,
            "ratelimit_reset_requests": "1.5s",
            "response_headers": {"x-extra": "yes"},
            "omit_content_type": True,
        }
    )
    async with http.post("/v1/chat/completions", json=QUESTION) as answer:
        headers = answer.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-remaining-tokens"] == "12"
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-reset-requests"] == "1.5s"
    assert headers["x-extra"] == "yes"
    assert "content-type" not in headers


async def test_close_after_response_says_so_and_does_so(provider: DemoProvider) -> None:
    provider.scenario.close_after_response = True
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(request_bytes(QUESTION).replace(b"connection: close\r\n", b""))
    answer = await reader.read()  # to the end of the connection
    assert b"connection: close\r\n" in answer.lower()
    writer.close()


async def test_a_wrong_key_is_a_401_and_either_header_will_do() -> None:
    demo = DemoProvider(scenario=Scenario.instant(), api_keys={"sk-good"})
    await demo.start()
    async with AsyncOpenAI(base_url=demo.url, api_key="sk-bad", max_retries=0) as sdk:
        with pytest.raises(openai.AuthenticationError) as refused:
            await sdk.models.list()
    assert refused.value.code == "invalid_api_key"
    async with aiohttp.ClientSession() as http:
        for headers in ({"authorization": "Bearer sk-good"}, {"x-api-key": "sk-good"}):
            async with http.get(f"{demo.url}/models", headers=headers) as answer:
                assert answer.status == 200
    await demo.stop()


async def test_a_client_that_leaves_a_stream_is_counted(provider: DemoProvider) -> None:
    provider.scenario.tokens = 20_000  # more than the sockets hold, so it cannot end first
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(request_bytes(STREAM))
    await reader.readuntil(b"\n\n")
    writer.transport.abort()
    await until(lambda: provider.cancelled == 1)
    assert provider.open_requests == 0
    await until(lambda: provider.open_connections == 0)


async def test_attempts_and_connections_are_counted(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        async with http.get("/v1/models") as answer:
            await answer.read()
    await talk(provider, QUESTION)
    assert (provider.attempts, provider.connections, len(provider.requests)) == (3, 2, 3)
    provider.reset()
    assert (provider.attempts, provider.connections, len(provider.requests)) == (0, 0, 0)


async def test_idle_connections_can_be_closed_under_the_client(provider: DemoProvider) -> None:
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: provider.open_requests == 0)
    provider.close_idle_connections()
    await reader.read()
    assert reader.at_eof()
    writer.close()


async def test_stop_refuses_new_connections_and_start_brings_the_port_back(provider: DemoProvider) -> None:
    port = provider.port
    await provider.stop()
    with pytest.raises(ConnectionRefusedError):
        await talk(provider, QUESTION)
    await provider.start(port=port)
    assert provider.port == port
    assert b" 200 " in (await talk(provider, QUESTION)).head
    assert provider.attempts == 1


async def test_it_cannot_be_started_twice_at_once(provider: DemoProvider) -> None:
    with pytest.raises(RuntimeError, match="already listening"):
        await provider.start()


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(provider: DemoProvider) -> None:
    other = DemoProvider()
    with pytest.raises(OSError, match=r"address already in use|in use"):
        await other.start(port=provider.port)
    assert other.open_connections == 0


async def test_it_speaks_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    demo = DemoProvider(scenario=Scenario.instant(), ssl_context=context)
    await demo.start()
    assert demo.url.startswith("https://")
    async with aiohttp.ClientSession() as http, http.get(f"{demo.url}/models", ssl=trusting) as answer:
        assert answer.status == 200
    demo.scenario.cut_after_events = 2
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with http.post(f"{demo.url}/chat/completions", json=STREAM, ssl=trusting) as answer:
                await answer.read()
    await demo.stop()


# The control endpoint


async def test_the_scenario_is_read_changed_and_put_back(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    initial = provider.scenario.as_dict()
    async with http.patch("/_demo/scenario", data=b'{"error_ratio": 1, "hang": null}') as answer:
        assert answer.status == 200
        assert (await answer.json())["error_ratio"] == 1
    async with http.post("/v1/chat/completions", json=QUESTION) as failed:
        assert failed.status == 500
    async with http.get("/_demo/scenario") as answer:
        assert (await answer.json())["error_ratio"] == 1
    async with http.delete("/_demo/scenario") as answer:
        assert await answer.json() == initial == provider.scenario.as_dict()


@pytest.mark.parametrize(
    ("body", "named"),
    [(b'{"errors": 1}', "'errors'"), (b'{"tokens": "many"}', "`tokens`"), (b"[]", "object"), (b"{", "")],
)
async def test_a_wrong_change_is_a_400_naming_the_knob(
    provider: DemoProvider, http: aiohttp.ClientSession, body: bytes, named: str
) -> None:
    async with http.patch("/_demo/scenario", data=body) as answer:
        assert answer.status == 400
        assert named in (await answer.json())["error"]["message"]


async def test_control_works_while_everything_else_hangs_and_is_not_counted(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"hang": "accept", "omit_content_type": True})
    async with http.get("/_demo/stats") as answer:
        assert await answer.json() == {
            "region": "eu-west-1",
            "attempts": 0,
            "open_requests": 0,
            "cancelled": 0,
            "connections": 1,
            "open_connections": 1,
        }
    async with http.post("/_demo/stats") as answer:
        assert answer.status == 404
    assert not provider.requests
