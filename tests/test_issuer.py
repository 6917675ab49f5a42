"""The issuer's keys from a real server over TLS: fetched, kept fresh, kept through all it can do wrong."""

import asyncio
import contextlib
import functools
import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar import issuer as module
from sidecar.config.addresses import Url
from sidecar.config.auth import ServiceAccountRule, ServiceAccounts
from sidecar.issuer import DISCOVERY, MAX_BYTES, Issuer, source_of
from tests.support.certificates import self_signed
from tests.support.tokens import ISSUER, OWN_TOKEN, ApiServer, api_server, key_set, signer
from tests.support.waiting import until


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, signer()) as started:
        yield started


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two fetches, and no round without a wish."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)


class Watched:
    """An issuer, and how often its keys became others."""

    def __init__(self, server: ApiServer, **changes: Any) -> None:
        self.changes = 0
        settings = {**server.settings, "api_server": Url.parse(server.url), **changes}
        config = ServiceAccounts(callers=(ServiceAccountRule(namespace="*"),), **settings)
        self.issuer = Issuer(config, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def ids(self) -> list[str]:
        return [] if self.issuer.keys is None else list(self.issuer.keys.keys)


def _more_than(server: ApiServer, rounds: int) -> bool:
    return server.rounds > rounds


@contextlib.asynccontextmanager
async def watched(server: ApiServer, **changes: Any) -> AsyncIterator[Watched]:
    """One whose first fetch is over."""
    made = Watched(server, **changes)
    try:
        await made.issuer.tried()
        yield made
    finally:
        made.issuer.stop()
        await asyncio.sleep(0)


# --- good ------------------------------------------------------------------------------------------------


async def test_issuer_and_keys_come_from_the_api_server_itself(server: ApiServer) -> None:
    async with watched(server) as one:
        assert one.issuer.keys is not None
        assert one.issuer.keys.issuer == ISSUER
        assert one.ids == ["one"]
        assert server.asked == [DISCOVERY, "/openid/v1/jwks"]
        assert one.changes == 1


async def test_wish_has_the_keys_fetched_again_and_a_change_is_told_once(
    server: ApiServer, eager: None
) -> None:
    async with watched(server) as one:
        server.signers.append(signer("two"))
        one.issuer.refresh_soon()
        await until(lambda: one.ids == ["one", "two"])
        assert one.changes == 2
        for _ in range(2):
            rounds = server.rounds
            one.issuer.refresh_soon()
            await until(functools.partial(_more_than, server, rounds))
        assert one.changes == 2


async def test_key_that_was_taken_out_is_gone(server: ApiServer, eager: None) -> None:
    async with watched(server) as one:
        server.signers[:] = [signer("two")]
        one.issuer.refresh_soon()
        await until(lambda: one.ids == ["two"])


async def test_they_are_fetched_round_after_round(
    server: ApiServer, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_S", 0.001)
    async with watched(server):
        await until(lambda: server.rounds >= 4)


async def test_any_number_of_wishes_is_one_fetch_and_never_soon(server: ApiServer) -> None:
    async with watched(server) as one:
        for _ in range(1000):
            one.issuer.refresh_soon()
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.rounds == 1


async def test_token_and_authority_are_read_for_each_fetch(server: ApiServer, eager: None) -> None:
    server.token_file.write_text("an-old-token")
    async with watched(server) as one:
        assert one.ids == []
        server.token_file.write_text(OWN_TOKEN)
        await until(lambda: one.ids == ["one"])


def test_files_are_the_pods_own_where_none_are_named() -> None:
    config = ServiceAccounts(callers=(ServiceAccountRule(namespace="a"),))
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert source_of(config) == ("https://kubernetes.default.svc", f"{folder}/ca.crt", f"{folder}/token")


# --- bad -------------------------------------------------------------------------------------------------

HUGE = key_set(signer()) + b" " * MAX_BYTES
WRONG: dict[str, tuple[bytes, int, str]] = {
    "garbage": (b"<html>", 200, "no JSON Web Key Set"),
    "empty": (b"", 200, "no JSON Web Key Set"),
    "no keys": (b'{"keys": []}', 200, "no RSA key"),
    "huge": (HUGE, 200, "more than 256 KiB"),
    "error": (b"{}", 500, "status 500"),
    "not found": (b"{}", 404, "status 404 for /openid/v1/jwks"),
    "forbidden": (b"{}", 403, "bind the ClusterRole system:service-account-issuer-discovery"),
    "redirect": (key_set(signer()), 302, "status 302"),
    "compressed": (gzip.compress(key_set(signer())), 200, "no JSON Web Key Set"),
}


@pytest.mark.parametrize(("body", "status", "said"), WRONG.values(), ids=WRONG.keys())
async def test_bad_answer_changes_nothing_and_is_said_once(
    server: ApiServer, eager: None, caplog: pytest.LogCaptureFixture, body: bytes, status: int, said: str
) -> None:
    async with watched(server) as one:
        encoding = {"content-encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
        server.says(body, status, location="https://evil.example/", **encoding)
        one.issuer.refresh_soon()
        await until(lambda: server.rounds >= 4)
        assert one.ids == ["one"]
        assert one.changes == 1
        (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert said in record.getMessage()
        assert "its last keys hold for a day" in record.getMessage()
        assert OWN_TOKEN not in caplog.text
        server.answer = None
        server.signers.append(signer("two"))
        await until(lambda: one.ids == ["one", "two"])


async def test_bad_discovery_document_is_refused(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    server.issuer = None  # type: ignore[assignment]
    async with watched(server) as one:
        assert one.issuer.keys is None
    assert "names no issuer; tokens are refused until it answers" in caplog.text


async def test_slow_server_is_given_up(
    server: ApiServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    never = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"keys":')
        await never.wait()
        return response

    server.answer = drip
    async with watched(server) as one:
        assert one.issuer.keys is None
    assert caplog.text.count("tokens are refused until it answers") == 1
    never.set()


async def test_dead_server_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with api_server(tmp_path, signer()) as gone:
        pass
    async with watched(gone) as one:
        assert one.issuer.keys is None
    assert "tokens are refused until it answers" in caplog.text


async def test_keys_go_on_while_the_server_is_away(tmp_path: Path, eager: None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(api_server(tmp_path, signer()))
        async with watched(server) as one:
            await stack.aclose()
            one.issuer.refresh_soon()
            await until(lambda: one.issuer._trouble)
            assert one.ids == ["one"]


async def test_server_of_another_authority_is_shown_nothing(tmp_path: Path) -> None:
    async with api_server(tmp_path, signer(), tls=self_signed(tmp_path, "127.0.0.1")) as server:
        async with watched(server) as one:
            assert one.issuer.keys is None
        assert server.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token_file": "/nowhere/token"}, "file /nowhere/token cannot be read"),
        ({"ca_file": "/nowhere/ca.crt"}, "authority file /nowhere/ca.crt cannot be used"),
    ],
)
async def test_missing_file_is_named(
    server: ApiServer, caplog: pytest.LogCaptureFixture, changes: dict[str, str], said: str
) -> None:
    async with watched(server, **changes) as one:
        assert one.issuer.keys is None
        assert server.asked == []
    assert said in caplog.text


async def test_stopped_half_way_it_leaves_nothing_behind(server: ApiServer) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        reached.set()
        await never.wait()
        return web.Response()

    server.answer = hang
    one = Watched(server)
    await reached.wait()
    one.issuer.stop()
    await one.issuer.tried()
    await until(lambda: one.issuer._task.done())
    assert one.changes == 0
    one.issuer.refresh_soon()
    never.set()
