"""Calls to the API server: what it refuses is said with what to do, and no token is ever in a message."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from sidecar.k8s import api as module
from sidecar.k8s.api import Api, ApiError, in_cluster
from tests.k8s.fake_api import SECRETS, TOKEN, FakeApi, fake_api

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeApi]:
    async with fake_api(tmp_path) as started:
        yield started


async def failure_of(api: Api) -> str:
    with pytest.raises(ApiError) as raised:
        await api.call("GET", f"{SECRETS}/tls")
    assert TOKEN not in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_an_object_is_written_and_read_back(fake: FakeApi) -> None:
    api = fake.client()
    status, written = await api.call("POST", SECRETS, {"metadata": {"name": "tls"}, "data": {"a": "b"}})
    assert status == 201
    assert await api.call("GET", f"{SECRETS}/tls") == (200, written)


@pytest.mark.parametrize("status", [404, 409, 422])
async def test_what_the_caller_can_act_upon_is_returned(fake: FakeApi, status: int) -> None:
    fake.broken = [(status, b"not even JSON")]
    assert await fake.client().call("GET", SECRETS) == (status, None)


async def test_a_missing_right_says_who_needs_it(fake: FakeApi) -> None:
    fake.broken = [(403, b'{"message": "secrets is forbidden"}')]
    assert await failure_of(fake.client()) == (
        f"GET {SECRETS}/tls: status 403, secrets is forbidden: give the injector's ServiceAccount this right"
    )


@pytest.mark.parametrize(
    "answer", [(500, b""), (302, b"{}"), (503, b"[]"), (200, b"[1]"), (200, b"x" * 9000)]
)
async def test_an_answer_that_is_none_is_an_error(fake: FakeApi, answer: tuple[int, bytes]) -> None:
    fake.broken = [answer]
    assert f"status {answer[0]}" in await failure_of(fake.client())


async def test_the_token_is_read_for_each_call(fake: FakeApi) -> None:
    api = fake.client()
    fake.token_file.write_text("old")
    assert "401" in await failure_of(api)
    fake.token_file.write_text(TOKEN)
    assert (await api.call("GET", f"{SECRETS}/tls"))[0] == 404


async def test_a_missing_token_is_named(fake: FakeApi) -> None:
    fake.token_file.unlink()
    assert "token cannot be read" in await failure_of(fake.client())


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    api = Api("http://127.0.0.1:1", tmp_path / "token")
    assert "http://127.0.0.1:1 is not reached" in await failure_of(api)
    await api.close()


async def test_a_server_that_keeps_silent_is_left(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    fake.is_held = asyncio.Event()
    assert "is not reached" in await failure_of(fake.client())
    fake.is_held.set()


async def test_a_stranger_in_its_place_is_not_talked_to(tmp_path: Path) -> None:
    asked = []
    stranger = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    server = await asyncio.start_server(lambda *_: asked.append(1), "127.0.0.1", 0, ssl=stranger)
    account(tmp_path)
    port = str(server.sockets[0].getsockname()[1])
    api, _ = in_cluster({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}, tmp_path)
    assert "certificate verify failed" in (await failure_of(api)).lower()
    assert asked == []
    await api.close()
    server.close()


def account(folder: Path) -> None:
    """The files of a ServiceAccount."""
    (folder / "token").write_text(TOKEN)
    (folder / "namespace").write_text("system\n")
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.crt"))


async def test_inside_a_cluster_everything_is_found(tmp_path: Path) -> None:
    account(tmp_path)
    for host, url in (("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")):
        api, namespace = in_cluster({**ENVIRON, "KUBERNETES_SERVICE_HOST": host}, tmp_path)
        assert namespace == "system"
        assert api._url == url
        await api.close()


async def test_outside_of_one_it_is_said_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="give --cert and --key"):
        in_cluster({}, tmp_path)
    with pytest.raises(ApiError, match="automountServiceAccountToken: true"):
        in_cluster(ENVIRON, tmp_path)
