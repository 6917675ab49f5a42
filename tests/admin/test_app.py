"""The admin and health listeners of a running sidecar: what they show, and whom they refuse."""

import re
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.config.model import CircuitBreaker
from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM
from tests.support.http1 import ask, client
from tests.support.running import Running, config_for, port_of, running

GUARD = {"x-sidecar-admin": "1"}
POSTS = ["/healthcheck/fail", "/healthcheck/ok", "/drain_listeners", "/logging?level=info", "/quitquitquit"]
GETS = ["/", "/ready", "/stats", "/stats/prometheus", "/clusters", "/config_dump", "/server_info"]


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    tree = config_for(provider.url, provider={"headers": {"x-team-token": "a-secret"}})
    async with running(tree) as started:
        yield started


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


async def seen(admin: aiohttp.ClientSession, sidecar: Running) -> list[tuple[str, float | None, bool]]:
    """Of each endpoint: its health in /clusters, in the metrics, and whether /explain sends there."""
    (cluster,) = await (await admin.get("/clusters?format=json")).json()
    text = await (await admin.get("/clusters")).text()
    told = await (await admin.get("/explain", params={"model": "demo"})).json()
    is_in = {one["endpoint"]: one["in"] for one in told["targets"]}
    found = []
    for one in cluster["endpoints"]:
        assert f"p::{one['url']}::health::{one['health']}\n" in text
        labels = {"provider": "p", "endpoint": one["url"], "region": one["region"]}
        up = await sidecar.metric("sidecar_endpoint_up", **labels)
        found.append((one["health"], up, is_in[one["url"]]))
    return found


async def test_one_failure_takes_nobody_out_and_its_reason_stays_for_information(
    admin: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider
) -> None:
    await provider.stop()
    async with aiohttp.ClientSession() as session:
        await session.post(f"{sidecar.url}/chat/completions", json=QUESTION)
    (cluster,) = await (await admin.get("/clusters?format=json")).json()
    assert "refused" in cluster["endpoints"][0]["last_error"]
    assert await seen(admin, sidecar) == [("up", 1.0, True)]


DOWN = {
    "breaker": "circuit breaker open for 30.0 s more: status 503",
    "checks": "its health checks fail, until one succeeds",
    "refused": "the provider refuses its api_key, until that is replaced or accepted again: status 401",
}


@pytest.mark.parametrize("why", DOWN)
async def test_every_view_says_alike_who_is_out_and_why(
    admin: aiohttp.ClientSession, sidecar: Running, why: str
) -> None:
    endpoint, now_s = sidecar.endpoint(), time.monotonic()
    if why == "breaker":
        endpoint.breaker.configure(CircuitBreaker(consecutive_failures=1))
        endpoint.observe("status 503")
        endpoint.breaker.record(False, now_s)
    elif why == "checks":
        endpoint.is_checked_out = True
    else:
        endpoint.refuse(endpoint.own_credential, "status 401", now_s)
    assert await seen(admin, sidecar) == [("down", 0.0, False)]
    assert endpoint.health(now_s) == (False, DOWN[why])
    (cluster,) = await (await admin.get("/clusters?format=json")).json()
    told = await (await admin.get("/explain", params={"model": "demo"})).json()
    said = [cluster["endpoints"][0]["last_error"], told["targets"][0]["why"]]
    assert [re.sub(r"\d+\.\d", "30.0", text) for text in said] == [DOWN[why]] * 2


async def test_a_limit_of_one_model_is_told_and_takes_nobody_out(
    admin: aiohttp.ClientSession, sidecar: Running
) -> None:
    endpoint, now_s = sidecar.endpoint(), time.monotonic()
    endpoint.limit(endpoint.own_credential, "other\nline", now_s + 60.0, now_s)
    assert await seen(admin, sidecar) == [("up", 1.0, True)]
    text = await (await admin.get("/clusters")).text()
    assert r"::last_error::limited by the provider (429): 'other\nline' for " in text


async def test_clusters_as_text_leave_what_is_not_known_empty(
    admin: aiohttp.ClientSession, provider: DemoProvider
) -> None:
    text = await (await admin.get("/clusters")).text()
    assert f"p::{provider.url}::first_token_p50_ms::\n" in text
    assert "None" not in text


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
    assert info["data_path"] in ("compiled", "pure Python")
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


# --- where changes have a socket of their own ---


@pytest.fixture
async def parted(
    provider: DemoProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Running, aiohttp.ClientSession, aiohttp.ClientSession, str]]:
    """A sidecar with a control socket; sessions with its admin listener and with the socket; the address."""
    path = tmp_path_factory.mktemp("s") / "control.sock"
    async with (
        running(config_for(provider.url, listen={"control": f"unix:{path}"})) as started,
        aiohttp.ClientSession(started.admin_url) as shown,
        aiohttp.ClientSession("http://sidecar", connector=aiohttp.UnixConnector(str(path))) as control,
    ):
        yield started, shown, control, f"unix:{path}"


Parted = tuple[Running, aiohttp.ClientSession, aiohttp.ClientSession, str]
CHANGES = [
    *POSTS,
    "/break_glass?for=30m&reason=r",
    "/break_glass?off",
    "/cache/purge?all=1",
    "/cache/false_hit?key=00000000000000000000000000000000",
    "/cache/reset",
    "/cache",
    "/stats",
    "/no-such-page",
    "/explain/",
]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("headers", [{}, GUARD], ids=["plain", "guarded"])
async def test_the_admin_listener_then_changes_nothing_and_says_who_does(
    parted: Parted, path: str, headers: dict[str, str]
) -> None:
    sidecar, shown, _, address = parted
    for method in ("POST", "PUT", "DELETE"):
        response = await shown.request(method, path, headers=headers)
        assert response.status == 403
        assert await response.text() == f"Nothing is changed here: changes are taken on {address}.\n"
    assert sidecar.sidecar.is_ready
    assert not sidecar.sidecar.break_glass.is_on


@pytest.mark.parametrize("path", GETS)
async def test_both_show_every_page(parted: Parted, path: str) -> None:
    _, shown, control, _ = parted
    assert (await shown.get(path)).status == (await control.get(path)).status == 200


async def test_a_question_with_a_body_is_no_change(parted: Parted) -> None:
    _, shown, control, _ = parted
    for session in (shown, control):
        response = await session.post("/explain", json=QUESTION, headers=GUARD)
        assert (response.status, response.content_type) == (200, "application/json")
    assert (await shown.post("/explain", json=QUESTION)).status == 403


async def test_the_socket_takes_changes(parted: Parted) -> None:
    sidecar, shown, control, _ = parted
    assert (await control.post("/healthcheck/fail", headers=GUARD)).status == 200
    assert (await shown.get("/ready")).status == 503
    assert (await control.post("/healthcheck/ok", headers=GUARD)).status == 200
    assert (await shown.get("/ready")).status == 200
    assert (await control.post("/drain_listeners", headers=GUARD)).status == 200
    assert sidecar.sidecar.phase == "DRAINING"


async def test_the_socket_takes_changes_of_the_cache(
    provider: DemoProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "control.sock"
    tree = config_for(provider.url, listen={"control": f"unix:{path}"}, cache={})
    async with (
        running(tree) as sidecar,
        aiohttp.ClientSession(sidecar.admin_url) as shown,
        aiohttp.ClientSession("http://sidecar", connector=aiohttp.UnixConnector(str(path))) as control,
    ):
        await talk(sidecar)
        assert (await shown.post("/cache/purge?all=1", headers=GUARD)).status == 403
        assert (await (await shown.get("/cache")).json())["entries"] == 1
        assert await (await control.post("/cache/purge?all=1", headers=GUARD)).json() == {
            "dropped": 1,
            "others_told": False,
        }
        assert (await (await shown.get("/cache")).json())["entries"] == 0


async def test_the_socket_wants_the_header_too(parted: Parted) -> None:
    sidecar, _, control, _ = parted
    assert (await control.post("/healthcheck/fail")).status == 403
    assert (await control.post("/healthcheck/fail", headers={**GUARD, "Origin": "null"})).status == 403
    assert sidecar.sidecar.is_ready


async def test_pages_and_foreign_names_are_refused_before_anything_is_told(parted: Parted) -> None:
    _, shown, _, address = parted
    for headers in ({"Host": "evil.example"}, {"Origin": "null"}):
        response = await shown.post("/quitquitquit", headers={**GUARD, **headers})
        assert response.status == 403
        assert address not in await response.text()


# --- health, and what is served nowhere ---


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
