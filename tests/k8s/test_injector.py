"""The whole injector: AdmissionReviews over real TLS, while certificates and the process come and go."""

import asyncio
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.k8s import given as given_module
from sidecar.k8s.given import Given
from sidecar.k8s.injector import Injector
from sidecar.k8s.keeper import Keeper
from sidecar.k8s.tls import Serving
from sidecar.k8s.webhook import MAX_BODY_BYTES
from tests.k8s.fake_api import NAMES, FakeApi, fake_api
from tests.k8s.pki import HOST, Authority, Files, serial_of, shown_serial, trusting
from tests.k8s.support import DEFAULTS, applied, patch_in, pod_of, response_in, review_of, sidecar_in
from tests.support.waiting import until

JSON = {"content-type": "application/json"}


@pytest.fixture
async def injector(files: Files, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Injector]:
    """One with a certificate from files, on free ports."""
    monkeypatch.setattr(given_module, "POLL_S", 0.01)

    def source(serving: Serving) -> Given:
        following = Given(str(files.certificate), str(files.key), serving)
        following.load()
        return following

    started = Injector(DEFAULTS, source, 0, 0)
    await started.start()
    yield started
    started.quit()
    await started.stop()


class ApiServer:
    """What calls the webhook: checks its certificate against the caBundle, keeps its connection."""

    def __init__(self, port: int, tls: ssl.SSLContext, host: str = HOST) -> None:
        self._url = f"https://127.0.0.1:{port}/inject"
        self._tls = tls
        self._host = host
        self.session = aiohttp.ClientSession()

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        async with self.session.post(
            self._url, data=BytesIO(body), headers=headers or JSON, ssl=self._tls, server_hostname=self._host
        ) as response:
            return response.status, await response.read()

    async def admit(self, pod: Any) -> Any:
        """The pod as it goes on into the cluster."""
        status, body = await self.post(orjson.dumps(review_of(pod)))
        assert status == 200
        response = response_in(body)
        return applied(pod, patch_in(response)) if "patch" in response else pod


@pytest.fixture
async def api_server(injector: Injector, authority: Authority) -> AsyncIterator[ApiServer]:
    server = ApiServer(injector.ports[0], authority.client)
    yield server
    await server.session.close()


async def health(injector: Injector, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{injector.ports[1]}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


# --- reviews ---


async def test_a_pod_is_injected_once(api_server: ApiServer) -> None:
    pod = await api_server.admit(pod_of())
    assert sidecar_in(pod)
    assert await api_server.admit(pod) == pod


async def test_what_became_of_reviews_is_counted(injector: Injector, api_server: ApiServer) -> None:
    pod = await api_server.admit(pod_of())
    await api_server.admit(pod)
    await api_server.admit(pod_of(hostNetwork=True))
    await api_server.post(b"nonsense")
    _, text = await health(injector, "/metrics")
    for result in ("injected", "skipped", "refused", "unreadable"):
        assert f'sidecar_injector_reviews_total{{result="{result}"}} 1.0' in text
    (line,) = [line for line in text.splitlines() if line.startswith("sidecar_injector_certificate_exp")]
    assert float(line.split()[1]) > 0


async def test_many_reviews_at_once_are_all_answered(api_server: ApiServer) -> None:
    pods = await asyncio.gather(
        *(api_server.admit(pod_of(annotations={"port": f"{9000 + i}"})) for i in range(50))
    )
    found = [pod["spec"]["containers"][0]["env"][0]["value"] for pod in pods]
    assert found == [f"http://127.0.0.1:{9000 + i}/v1" for i in range(50)]


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b"{}", {"content-type": ""}, 415, "application/json"),
        (b"not json", JSON, 400, "not an AdmissionReview"),
        (b"", JSON, 400, "not an AdmissionReview"),
        (
            orjson.dumps({**review_of(pod_of()), "apiVersion": "admission.k8s.io/v1beta1"}),
            JSON,
            400,
            "admissionReviewVersions: [v1]",
        ),
        (b" " * (MAX_BODY_BYTES + 1), JSON, 413, "larger than"),
    ],
)
async def test_what_is_no_review_is_refused_with_a_reason(
    body: bytes, headers: dict[str, str], status: int, reason: str, api_server: ApiServer
) -> None:
    answered, text = await api_server.post(body, headers)
    assert answered == status
    assert reason in text.decode()
    assert sidecar_in(await api_server.admit(pod_of()))


async def test_the_largest_pod_that_kubernetes_takes_is_answered(api_server: ApiServer) -> None:
    pod = pod_of({"name": "app", "args": ["x" * 1_000_000] * 3})
    assert sidecar_in(await api_server.admit(pod))


async def test_other_paths_and_methods_are_not_there(injector: Injector, authority: Authority) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path, status in (("GET", "/inject", 405), ("POST", "/", 404), ("GET", "/metrics", 404)):
            url = f"https://127.0.0.1:{injector.ports[0]}{path}"
            async with session.request(method, url, ssl=authority.client, server_hostname=HOST) as response:
                assert response.status == status


# --- the certificate ---


async def test_a_new_certificate_is_met_while_an_old_connection_still_works(
    injector: Injector, api_server: ApiServer, files: Files, authority: Authority
) -> None:
    assert sidecar_in(await api_server.admit(pod_of()))
    pair = authority.pair()
    before = injector.serving._current
    files.write(*pair)
    await until(lambda: injector.serving._current is not before)
    assert await shown_serial(injector.ports[0], authority.client) == serial_of(pair[0])
    (connection,) = (key for key in api_server.session.connector._conns.values())  # type: ignore[union-attr]
    assert len(connection) == 1
    assert sidecar_in(await api_server.admit(pod_of()))
    assert len(api_server.session.connector._conns) == 1  # type: ignore[union-attr]


async def test_a_review_half_sent_is_answered_after_the_certificate_changed(
    injector: Injector, files: Files, authority: Authority
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", injector.ports[0], ssl=authority.client, server_hostname=HOST
    )
    body = orjson.dumps(review_of(pod_of()))
    writer.write(
        b"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body[:100]
    )
    before = injector.serving._current
    files.write(*authority.pair())
    await until(lambda: injector.serving._current is not before)
    writer.write(body[100:])
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_clients_that_speak_no_tls_or_leave_half_way_hurt_nobody(
    injector: Injector, api_server: ApiServer
) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b""):
        _, writer = await asyncio.open_connection("127.0.0.1", injector.ports[0])
        writer.write(data)
        await writer.drain()
        writer.close()
    assert sidecar_in(await api_server.admit(pod_of()))


async def test_who_hangs_up_in_the_middle_of_a_review_leaves_no_trace_in_the_log(
    injector: Injector, api_server: ApiServer, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", injector.ports[0], ssl=authority.client, server_hostname=HOST
    )
    writer.write(
        b"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    )
    await writer.drain()
    assert sidecar_in(await api_server.admit(pod_of()))
    writer.transport.abort()
    injector.quit()
    await injector.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_without_a_certificate_the_injector_does_not_start(tmp_path: Path) -> None:
    def source(serving: Serving) -> Given:
        following = Given(str(tmp_path / "a"), str(tmp_path / "b"), serving)
        following.load()
        return following

    with pytest.raises(ValueError, match="cannot be read"):
        await Injector(DEFAULTS, source, 0, 0).start()


async def test_a_taken_port_is_an_error_and_nothing_stays_open(injector: Injector) -> None:
    class Nothing:
        is_closed = False

        async def run(self) -> None:
            raise AssertionError

        async def close(self) -> None:
            self.is_closed = True

    source = Nothing()
    second = Injector(DEFAULTS, lambda _: source, 0, injector.ports[1])
    with pytest.raises(OSError, match="in use"):
        await second.start()
    assert source.is_closed


# --- managed certificates ---


async def test_two_replicas_serve_what_the_api_server_trusts(tmp_path: Path) -> None:
    async with fake_api(tmp_path) as fake:
        fake.add_webhook()
        replicas = [managed(fake), managed(fake)]
        for replica in replicas:
            await replica.start()
        await until(lambda: all(replica.serving.is_ready for replica in replicas))
        (bundle,) = fake.bundles
        tls = trusting(b64decode(bundle or ""))
        for replica in replicas:
            assert (await health(replica, "/readyz"))[0] == 200
            server = ApiServer(replica.ports[0], tls, NAMES.hosts[0])
            assert sidecar_in(await server.admit(pod_of()))
            await server.session.close()
            replica.quit()
            await replica.stop()
        assert fake.count("POST") <= 2


def managed(fake: FakeApi) -> Injector:
    return Injector(DEFAULTS, lambda serving: Keeper(fake.client(), NAMES, serving), 0, 0)


async def test_an_injector_without_a_certificate_is_live_but_not_ready(tmp_path: Path) -> None:
    async with fake_api(tmp_path) as fake:
        started = managed(fake)
        await started.start()
        await until(lambda: fake.count("GET") >= 2)
        assert await health(started, "/readyz") == (503, "no certificate yet\n")
        assert await health(started, "/livez") == (200, "live\n")
        started.quit()
        await started.stop()


# --- leaving ---


async def test_while_leaving_reviews_are_answered_but_it_is_not_ready(
    injector: Injector, api_server: ApiServer
) -> None:
    leaving = asyncio.create_task(injector.stop(patience_s=60))
    await asyncio.sleep(0)
    assert (await health(injector, "/readyz"))[0] == 503
    assert sidecar_in(await api_server.admit(pod_of()))
    injector.quit()
    await leaving
    with pytest.raises(aiohttp.ClientConnectorError):
        await health(injector, "/readyz")


async def test_while_leaving_no_connection_is_kept_that_would_be_cut_off_later(
    injector: Injector, api_server: ApiServer
) -> None:
    assert sidecar_in(await api_server.admit(pod_of()))
    assert api_server.session.connector._conns  # type: ignore[union-attr]
    leaving = asyncio.create_task(injector.stop(patience_s=60))
    await asyncio.sleep(0)
    assert sidecar_in(await api_server.admit(pod_of()))
    assert not api_server.session.connector._conns  # type: ignore[union-attr]
    injector.quit()
    await leaving
