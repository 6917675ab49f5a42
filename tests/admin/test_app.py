"""The admin and health listeners of a running sidecar: what they show, and whom they refuse."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM, demo_provider
from tests.support.http1 import ask, client
from tests.support.running import Running, config_for, port_of, running

GUARD = {"x-sidecar-admin": "1"}
POSTS = ["/healthcheck/fail", "/healthcheck/ok", "/drain_listeners", "/logging?level=info", "/quitquitquit"]
GETS = ["/", "/ready", "/stats", "/stats/prometheus", "/clusters", "/config_dump", "/server_info"]


@pytest.fixture
async def provider() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as demo:
        yield demo


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    tree = config_for(provider.url, provider={"headers": {"x-team-token": "a-secret"}})
    async with running(tree) as started:
        yield started


@pytest.fixture
async def admin(sidecar: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sidecar.admin_url) as session:
        yield session


@pytest.fixture
async def health(sidecar: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sidecar.health_url) as session:
        yield session


async def talk(sidecar: Running, count: int = 1) -> None:
    """Plain and streamed requests that succeed."""
    async with aiohttp.ClientSession() as session:
        for question in [QUESTION, STREAM] * count:
            async with session.post(f"{sidecar.url}/chat/completions", json=question) as response:
                assert response.status == 200
                await response.read()


# --- what is shown ---


@pytest.mark.parametrize("path", GETS)
async def test_every_page_is_there(admin: aiohttp.ClientSession, path: str) -> None:
    response = await admin.get(path)
    assert response.status == 200
    assert await response.read()


async def test_stats_say_the_same_as_text_and_as_json(admin: aiohttp.ClientSession, sidecar: Running) -> None:
    await talk(sidecar, 2)
    values = await (await admin.get("/stats?format=json")).json()
    text = await (await admin.get("/stats")).text()
    assert [line.split(": ")[0] for line in text.splitlines()] == list(values)
    assert "http.requests_total: 4\n" in text
    assert values["http.requests_total"] == 4
    assert (values["http.requests_in_flight"], values["http.errors_total"]) == (0, 0)
    assert 0 < values["http.first_token_p50_ms"] <= values["http.first_token_p99_ms"] < 5000
    assert values["server.memory_bytes"] > 1_000_000


async def test_stats_as_prometheus_are_those_of_the_health_listener(
    admin: aiohttp.ClientSession, health: aiohttp.ClientSession
) -> None:
    bodies = []
    for session, path in (
        (admin, "/stats?format=prometheus"),
        (admin, "/stats/prometheus"),
        (health, "/metrics"),
    ):
        response = await session.get(path)
        assert response.headers["content-type"].startswith("text/plain; version=")
        bodies.append(await response.text())
    assert bodies[0] == bodies[1] == bodies[2]
    assert list(text_string_to_metric_families(bodies[0]))


async def test_clusters_show_each_endpoint_with_its_counters(
    admin: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider
) -> None:
    await talk(sidecar)
    (cluster,) = await (await admin.get("/clusters?format=json")).json()
    (endpoint,) = cluster["endpoints"]
    assert (cluster["name"], endpoint["url"], endpoint["health"]) == ("p", provider.url, "up")
    assert (endpoint["rq_total"], endpoint["rq_error"], endpoint["rq_active"]) == (2, 0, 0)
    assert (endpoint["cx_total"], endpoint["cx_active"], endpoint["cx_idle"]) == (1, 1, 1)
    text = await (await admin.get("/clusters")).text()
    assert f"p::{provider.url}::rq_total::2\n" in text


async def test_a_failing_endpoint_is_shown_as_down_with_its_reason(
    admin: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider
) -> None:
    await provider.stop()
    async with aiohttp.ClientSession() as session:
        await session.post(f"{sidecar.url}/chat/completions", json=QUESTION)
    (cluster,) = await (await admin.get("/clusters?format=json")).json()
    assert cluster["endpoints"][0]["health"] == "down"
    assert "refused" in cluster["endpoints"][0]["last_error"]


async def test_the_configuration_is_dumped_without_its_secrets(admin: aiohttp.ClientSession) -> None:
    response = await admin.get("/config_dump")
    dump = await response.json()
    assert dump["providers"]["p"]["api_key"] == "***"
    assert dump["providers"]["p"]["headers"] == {"x-team-token": "***"}
    assert dump["drain"]["max"] == "1s"
    text = await response.text()
    assert "sk-provider-secret" not in text
    assert "a-secret" not in text


async def test_server_info_names_version_state_and_addresses(
    admin: aiohttp.ClientSession, sidecar: Running
) -> None:
    info = await (await admin.get("/server_info")).json()
    assert info["state"] == "LIVE"
    assert info["listeners"] == sidecar.sidecar.bound
    assert set(info["libraries"]) == {"aiohttp", "httptools", "orjson", "uvloop"}


# --- what is changed ---


async def test_health_fails_and_recovers_by_hand(
    admin: aiohttp.ClientSession, health: aiohttp.ClientSession
) -> None:
    assert (await health.get("/readyz")).status == 200
    assert (await admin.post("/healthcheck/fail", headers=GUARD)).status == 200
    assert (await health.get("/readyz")).status == 503
    assert (await admin.get("/ready")).status == 503
    assert (await health.get("/livez")).status == 200
    assert (await admin.post("/healthcheck/ok", headers=GUARD)).status == 200
    assert (await health.get("/readyz")).status == 200


async def test_draining_by_hand_fails_readiness_and_goes_on_serving(
    admin: aiohttp.ClientSession, sidecar: Running
) -> None:
    assert (await admin.post("/drain_listeners", headers=GUARD)).status == 200
    ready = await admin.get("/ready")
    assert (ready.status, await ready.text()) == (503, "DRAINING\n")
    await talk(sidecar)


async def test_readiness_does_not_depend_on_providers(
    health: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider
) -> None:
    await provider.stop()
    async with aiohttp.ClientSession() as session:
        for _ in range(10):
            response = await session.post(f"{sidecar.url}/chat/completions", json=QUESTION)
            assert response.status == 503
    assert (await health.get("/readyz")).status == 200


async def test_an_unknown_log_level_is_refused(admin: aiohttp.ClientSession) -> None:
    response = await admin.post("/logging?level=loud", headers=GUARD)
    assert response.status == 400
    assert "debug" in await response.text()


# --- who is refused ---


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("headers", [{}, {"x-sidecar-admin": "true"}], ids=["none", "wrong"])
async def test_a_change_without_the_header_is_refused(
    admin: aiohttp.ClientSession, sidecar: Running, path: str, headers: dict[str, str]
) -> None:
    assert (await admin.post(path, headers=headers)).status == 403
    assert sidecar.sidecar.is_ready


@pytest.mark.parametrize("path", POSTS)
async def test_a_change_by_get_is_refused(admin: aiohttp.ClientSession, sidecar: Running, path: str) -> None:
    assert (await admin.get(path, headers=GUARD)).status == 405
    assert sidecar.sidecar.is_ready


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:9901"},
        {"Host": "localhost.evil.example"},
        {"Host": "10.0.0.1:9901"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9901"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: "-".join(*headers.items()),
)
async def test_a_web_page_or_a_foreign_name_is_refused(
    admin: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for path in ("/config_dump", "/no-such-page"):
        assert (await admin.get(path, headers=headers)).status == 403
    response = await admin.post("/quitquitquit", headers={**GUARD, **headers})
    assert response.status == 403
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("host", ["localhost", "localhost:9901", "127.0.0.1", "[::1]:9901", "LocalHost:1"])
async def test_loopback_names_are_let_in(admin: aiohttp.ClientSession, host: str) -> None:
    assert (await admin.get("/ready", headers={"Host": host})).status == 200


async def test_over_a_unix_socket_any_host_name_will_do(
    provider: DemoProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "admin.sock"
    async with (
        running(config_for(provider.url, listen={"admin": f"unix:{path}"})),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        assert (await session.get("http://sidecar/ready")).status == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_health_serves_its_three_paths_under_any_name(health: aiohttp.ClientSession, path: str) -> None:
    assert (await health.get(path, headers={"Host": "10.1.2.3:9902"})).status == 200


@pytest.mark.parametrize("path", [*GETS, "/v1/models", "/livez/", "/metrics/x", "/healthcheck/fail"])
async def test_health_serves_nothing_else(health: aiohttp.ClientSession, path: str) -> None:
    assert (await health.get(path)).status == 404
    assert (await health.post(path, headers=GUARD)).status == 404


@pytest.mark.parametrize("path", ["/stats", "/config_dump", "/metrics", "/readyz", "/"])
async def test_the_data_listener_has_no_admin_page(sidecar: Running, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    assert (await ask(sidecar.port, request)).status == 404


async def test_the_admin_listener_forwards_nothing(sidecar: Running, provider: DemoProvider) -> None:
    async with client(port_of(sidecar.admin_url)) as caller:
        caller.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await caller.answer()).status == 404
    assert provider.attempts == 0
