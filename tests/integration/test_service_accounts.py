"""A gateway that knows its callers by their pods' tokens: all is real but the API server, a small one."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from sidecar import issuer as issuer_module
from sidecar.demo.provider import DemoProvider
from tests.integration.test_reload import RELOADED, Volume
from tests.support.demo import QUESTION, demo_provider
from tests.support.http1 import ask
from tests.support.process import sidecar_process, write_config
from tests.support.raw import exchange, post
from tests.support.running import Running, config_for, running
from tests.support.tokens import ApiServer, account, api_server, by_hand, claims_at, signer
from tests.support.waiting import until

BODY = orjson.dumps(QUESTION)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, signer()) as started:
        yield started


@pytest.fixture
async def provider() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as started:
        yield started


def gateway(provider: DemoProvider, server: ApiServer, **changes: Any) -> dict[str, Any]:
    """Its configuration: checkout of payments may call, and all of search."""
    callers = [{"namespace": "payments", "name": "checkout"}, {"namespace": "search", "team": "find"}]
    accounts = {**server.settings, "callers": callers}
    return config_for(provider.url, auth={"mode": "keys", "service_accounts": accounts}, **changes)


def token(**claims: Any) -> str:
    return signer().token(time.time(), **claims)


def request(key: str, path: str = "/v1/chat/completions") -> bytes:
    return post(BODY, path, headers=f"Authorization: Bearer {key}\r\n")


async def status_of(sidecar: Running, key: str) -> int:
    return (await ask(sidecar.port, request(key))).status


async def test_who_shows_a_token_of_a_listed_account_is_served(
    provider: DemoProvider, server: ApiServer, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    async with running(gateway(provider, server, telemetry={"access_log": str(log)})) as sidecar:
        assert await status_of(sidecar, token()) == 200
        assert await status_of(sidecar, token(**account("search", "crawler"))) == 200
    assert [orjson.loads(line)["team"] for line in log.read_text().splitlines()] == ["payments", "find"]
    assert [received.api_key for received in provider.requests] == ["sk-provider-secret"] * 2


REFUSED = {
    "another account": (lambda: token(**account("payments", "admin")), 403),
    "another audience": (lambda: token(aud=["vault"]), 401),
    "expired": (lambda: token(exp=time.time() - 60), 401),
    "not yet valid": (lambda: token(nbf=time.time() + 60), 401),
    "another issuer": (lambda: token(iss="https://evil.example"), 401),
    "another cluster's key": (lambda: signer("two").token(time.time()), 401),
    "no algorithm": (lambda: by_hand({"alg": "none", "kid": "one"}, claims_at(time.time())), 401),
    "a key": (lambda: "sk-something", 401),
    "nothing": (lambda: "", 401),
}


@pytest.mark.parametrize(("key", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_everybody_else_is_refused_and_the_provider_hears_nothing(
    provider: DemoProvider, server: ApiServer, key: Any, status: int
) -> None:
    async with running(gateway(provider, server)) as sidecar:
        assert await status_of(sidecar, key()) == status
    assert not provider.requests


async def test_two_tokens_in_one_head_are_refused(provider: DemoProvider, server: ApiServer) -> None:
    twice = f"Authorization: Bearer {token()}\r\n" * 2
    two = f"Authorization: Bearer {token()}\r\nx-api-key: {token(jti='another')}\r\n"
    async with running(gateway(provider, server)) as sidecar:
        assert [(await ask(sidecar.port, post(BODY, headers=head))).status for head in (twice, two)] == [
            400,
            401,
        ]
    assert not provider.requests


async def test_token_goes_to_nobody_and_into_no_log(
    provider: DemoProvider, server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log = tmp_path / "access.log"
    shown = [token(), token(exp=time.time() - 60), signer("two").token(time.time()), token(aud="vault")]
    upload = b"Content-Type: multipart/form-data; boundary=b"
    listing = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    seen = b""
    async with running(gateway(provider, server, telemetry={"access_log": str(log)})) as sidecar:
        for key in shown:
            for sent in (
                request(key),
                request(key, "/v1/files").replace(b"Content-Type: application/json", upload),
                f"{listing}x-api-key: {key}\r\n\r\n".encode(),
            ):
                seen += await exchange(sidecar.port, sent)
        await until(lambda: log.stat().st_size)
    assert {received.api_key for received in provider.requests} == {"sk-provider-secret"}
    everything = seen.decode("latin-1") + log.read_text() + caplog.text
    everything += "".join(f"{received.headers}{received.path}" for received in provider.requests)
    assert "sk-provider-secret" in everything
    for key in shown:
        assert not any(part[-24:] in everything for part in key.split(".")[1:])


async def test_new_key_is_fetched_when_its_first_token_comes(
    provider: DemoProvider, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_module, "PAUSE_S", 0.0)
    monkeypatch.setattr("sidecar.policy.service_accounts.FRESH_S", 0.0)
    async with running(gateway(provider, server)) as sidecar:
        old, new = token(), signer("two").token(time.time())
        assert await status_of(sidecar, old) == 200
        server.signers.append(signer("two"))
        answer = await ask(sidecar.port, request(new))
        assert (answer.status, answer.head.all("retry-after")) == (503, ["1"])
        await until(lambda: server.rounds >= 2)
        async with AsyncOpenAI(base_url=sidecar.url, api_key=new, max_retries=2) as client:
            assert (await client.chat.completions.create(**QUESTION)).choices  # type: ignore[call-overload]
        assert await status_of(sidecar, old) == 200

        server.signers[:] = [signer("two")]
        rounds = server.rounds
        assert await status_of(sidecar, signer("three").token(time.time())) == 503
        await until(lambda: server.rounds > rounds)
        monkeypatch.setattr("sidecar.policy.service_accounts.FRESH_S", 60.0)
        await until(lambda: sidecar.sidecar.snapshot.callers._by_token == {})
        assert await status_of(sidecar, old) == 401  # its key is gone, though its head was known


async def test_gateway_starts_without_the_api_server_and_says_so(
    provider: DemoProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_module, "PAUSE_S", 0.001)
    async with api_server(tmp_path, signer()) as server:
        server.says(b"", status=500)
        async with running(gateway(provider, server)) as sidecar:
            answer = await ask(sidecar.port, request(token()))
            assert answer.status == 503
            assert b"The API server's keys are not here" in answer.body
            server.answer = None
            while await status_of(sidecar, token()) != 200:
                await asyncio.sleep(0.002)


async def test_each_account_has_limits_of_its_own(provider: DemoProvider, server: ApiServer) -> None:
    tree = gateway(provider, server, tiers={"standard": {"requests_per_minute": 1}})
    async with running(tree) as sidecar:
        one, renewed, other = token(), token(jti="new"), token(**account("search", "crawler"))
        assert [await status_of(sidecar, key) for key in (one, renewed, other)] == [200, 429, 200]


async def test_reload_keeps_the_keys_and_takes_other_callers(
    provider: DemoProvider, server: ApiServer, tmp_path: Path
) -> None:
    tree = gateway(provider, server)
    path = write_config(tmp_path / "config", tree)
    async with sidecar_process(path) as process:
        assert (await ask(process.port, request(token()))).status == 200
        tree["auth"]["service_accounts"]["callers"] = [{"namespace": "search"}]
        write_config(path, tree)
        await until(lambda: RELOADED in process.errors)
        assert (await ask(process.port, request(token()))).status == 403
        assert (await ask(process.port, request(token(**account("search", "a"))))).status == 200
        assert server.rounds == 1
        tree["auth"] = {"mode": "passthrough"}
        write_config(path, tree)
        await until(lambda: process.errors.count(RELOADED) == 2)
        assert (await ask(process.port, request("anything"))).status == 200


async def test_sidecar_calls_the_gateway_by_its_pods_token_and_follows_its_renewal(
    provider: DemoProvider, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_module, "PAUSE_S", 0.0)
    (tmp_path / "mounted").mkdir()
    volume = Volume(tmp_path / "mounted")
    volume.write(token=token())
    async with running(gateway(provider, server)) as central:
        key = {"api_key": {"file": str(volume.folder / "token")}}
        path = write_config(tmp_path / "config", config_for(central.url, provider=key))
        async with sidecar_process(path) as beside:
            assert (await ask(beside.port, post(BODY))).status == 200
            # An hour later. In between the API server began to publish its next key, and then to use it.
            server.signers.append(signer("two"))
            issuer = central.sidecar.runtime._issuer
            assert issuer is not None
            issuer.refresh_soon()
            await until(lambda: issuer.keys is not None and len(issuer.keys.keys) == 2)
            volume.write(token=signer("two").token(time.time()))
            await until(lambda: RELOADED in beside.errors)
            before = len(central.sidecar.snapshot.callers._by_token)
            assert (await ask(beside.port, post(BODY))).status == 200
            assert len(central.sidecar.snapshot.callers._by_token) == before + 1
    assert {received.api_key for received in provider.requests} == {"sk-provider-secret"}


async def test_openai_sdk_reads_the_token_for_each_request(
    provider: DemoProvider, server: ApiServer, tmp_path: Path
) -> None:
    mounted = tmp_path / "token"
    mounted.write_text(token())

    async def read() -> str:
        return mounted.read_text()

    async with (
        running(gateway(provider, server)) as sidecar,
        AsyncOpenAI(base_url=sidecar.url, api_key=read, max_retries=0) as client,
    ):
        for _ in range(2):
            answer = await client.chat.completions.create(**QUESTION)  # type: ignore[call-overload]
            assert answer.choices
            mounted.write_text(token(**account("search", "crawler")))
        callers = sidecar.sidecar.snapshot.callers
        assert {caller.id for caller in callers._by_token.values()} == {
            "sa:payments/checkout",
            "sa:search/crawler",
        }
