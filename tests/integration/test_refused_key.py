"""A provider that refuses the sidecar's own key: said honestly, everywhere alike, until it is over."""

import asyncio
import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.config.load import parse
from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM, demo_provider
from tests.support.http1 import Answer, ask
from tests.support.process import sidecar_process, write_config
from tests.support.raw import post, raw_provider
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until

ASK = post(orjson.dumps(QUESTION))
REFUSED = "the provider refuses its api_key"


def refuse(provider: DemoProvider, status: int = 401) -> None:
    provider.scenario.update({"error_ratio": 1.0, "error_status": status, "error_code": "invalid_api_key"})


def accept(provider: DemoProvider) -> None:
    provider.scenario.update({"error_ratio": 0.0})


def probe(sidecar: Running, *, is_due: bool, provider: str = "p") -> None:
    """Whether the next request is let through as the last resort; else none ever is."""
    sidecar.sidecar.snapshot.providers[provider]._panic._next_s = 0.0 if is_due else math.inf


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the log says of endpoints."""
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    return [(level, text) for level, text in said if text.startswith("provider ")]


async def shown(sidecar: Running) -> tuple[str, str, float | None]:
    """Health and last error of the first endpoint in /clusters, and whether it is up in the metrics."""
    async with aiohttp.ClientSession(sidecar.admin_url) as admin:
        (cluster, *_) = await (await admin.get("/clusters?format=json")).json()
        text = await (await admin.get("/clusters")).text()
    endpoint = cluster["endpoints"][0]
    assert f"::health::{endpoint['health']}\n" in text
    labels = {"provider": cluster["name"], "endpoint": endpoint["url"], "region": endpoint["region"]}
    up = await sidecar.metric("sidecar_endpoint_up", **labels)
    return endpoint["health"], endpoint["last_error"], up


async def explained(sidecar: Running) -> dict[str, Any]:
    async with aiohttp.ClientSession(sidecar.admin_url) as admin:
        response = await admin.get("/explain", params={"model": "demo"})
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(answer.body)["error"]
    return error


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("question", [QUESTION, STREAM], ids=["plain", "stream"])
async def test_all_is_refused_with_a_503_that_names_the_key_until_a_probe_is_accepted(
    provider: DemoProvider, caplog: pytest.LogCaptureFixture, status: int, question: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO)
    request = post(orjson.dumps(question))
    async with running(config_for(provider.url)) as sidecar:
        assert (await ask(sidecar.port, request)).status == 200
        refuse(provider, status)
        assert (await ask(sidecar.port, request)).status == status  # the provider's own words
        assert await shown(sidecar) == (
            "down",
            f"{REFUSED}, until that is replaced or accepted again: status {status}",
            0.0,
        )
        assert (await explained(sidecar))["would"].startswith(f"send to {provider.url} as a probe")

        probe(sidecar, is_due=False)
        tries = provider.attempts
        for _ in range(5):
            answer = await ask(sidecar.port, request)
            error = error_of(answer)
            assert (answer.status, error["code"]) == (503, "no_healthy_upstream")
            assert "`p` (providers.p.api_key)" in error["message"] and "/clusters" in error["message"]
            assert answer.head.get("x-should-retry") == "false"
        assert provider.attempts == tries
        told = await explained(sidecar)
        assert told["error"] == {
            "status": 503,
            "code": "no_healthy_upstream",
            "message": error["message"],
        }
        assert REFUSED in told["targets"][0]["why"]

        accept(provider)
        probe(sidecar, is_due=True)
        assert (await ask(sidecar.port, request)).status == 200
        probe(sidecar, is_due=False)
        assert (await ask(sidecar.port, request)).status == 200  # and needs no probe any more
        assert await shown(sidecar) == ("up", "", 1.0)
    where = f"provider p, endpoint {provider.url}: "
    (out, back) = lines(caplog)
    assert out == ("WARNING", f"{where}{REFUSED}, until that is replaced or accepted again: status {status}")
    assert back[0] == "INFO" and back[1].startswith(f"{where}back after ")


async def test_one_request_a_second_is_let_through(provider: DemoProvider) -> None:
    async with running(config_for(provider.url)) as sidecar:
        refuse(provider)
        started_s = time.monotonic()
        for _ in range(2):  # the one that finds out, and the first probe
            assert (await ask(sidecar.port, ASK)).status == 401
        answers = await asyncio.gather(*(ask(sidecar.port, ASK) for _ in range(20)))
        assert {answer.status for answer in answers} <= {401, 503}
        assert 2 <= provider.attempts <= 2 + int(time.monotonic() - started_s + 1)
        accept(provider)

        async def heals() -> None:
            while (await ask(sidecar.port, ASK)).status != 200:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(heals(), 5)


async def test_of_two_endpoints_the_other_one_serves_and_nobody_is_told(
    provider: DemoProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async with demo_provider("eu-west-1") as other:
        tree = config_for(
            provider.url, other.url, provider={"retry": {"attempts": 2}}, locality={"region": "us"}
        )
        for region, endpoint in zip(("us", "eu"), tree["providers"]["p"]["endpoints"], strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            refuse(provider)
            answers = [await ask(sidecar.port, ASK) for _ in range(5)]
            assert [answer.status for answer in answers] == [200] * 5
            assert [answer.head.get("x-sidecar-attempts") for answer in answers] == ["2", "1", "1", "1", "1"]
            assert (provider.attempts, other.attempts) == (1, 5)
            assert (await shown(sidecar))[0] == "down"
            told = await explained(sidecar)
            assert [(one["region"], one["in"]) for one in told["targets"]] == [("eu", True), ("us", False)]
            place = {"provider": "p", "endpoint": provider.url, "region": "us"}
            failed = await sidecar.metric("sidecar_failed_attempts_total", reason="credential", **place)
            assert failed == 1
            # Both refuse: each has its turn as the last resort.
            refuse(other)
            assert (await ask(sidecar.port, ASK)).status == 401
            for _ in range(4):
                probe(sidecar, is_due=True)
                assert (await ask(sidecar.port, ASK)).status == 401
            assert (provider.attempts, other.attempts) == (3, 8)
            assert {text.split(" (")[1][:2] for _, text in lines(caplog)} == {"us", "eu"}


async def test_a_fallback_model_of_another_provider_serves(provider: DemoProvider) -> None:
    async with demo_provider("eu-west-1") as other:
        models = {"demo": {"provider": "p", "fallback": ["spare"]}, "spare": {"provider": "q"}}
        tree = config_for(provider.url, provider={"retry": {"attempts": 2}}, models=models)
        tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": other.url}]}
        async with running(tree) as sidecar:
            refuse(provider)
            for attempts in ("2", "1"):
                answer = await ask(sidecar.port, ASK)
                assert (answer.status, answer.head.get("x-sidecar-provider")) == (200, "q")
                assert answer.head.get("x-sidecar-attempts") == attempts
            assert provider.attempts == 1
            await other.stop()
            sidecar.endpoint(provider="q").is_checked_out = True
            probe(sidecar, is_due=False)
            probe(sidecar, is_due=False, provider="q")
            error = error_of(await ask(sidecar.port, ASK))
            assert "`p`" in error["message"] and "`q`" not in error["message"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_of_a_callers_is_its_own_affair(
    provider: DemoProvider, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    provider.scenario.update({"error_keys": ["sk-bad"]})
    async with running(config_for(provider.url, provider={"api_key": None})) as sidecar:
        refuse(provider, status)
        for key, expected in (("sk-bad", status), ("sk-good", 200), ("sk-bad", status), ("sk-good", 200)):
            request = post(orjson.dumps(QUESTION), headers=f"Authorization: Bearer {key}\r\n")
            assert (await ask(sidecar.port, request)).status == expected
        assert provider.attempts == 4
        assert await shown(sidecar) == ("up", "", 1.0)
        assert sidecar.endpoint().parking.ends == {}
    assert lines(caplog) == []


@pytest.mark.parametrize("key", ["sk-another", ENVIRON["KEY"]], ids=["rotated", "mended"])
async def test_a_reload_asks_again_at_once(
    provider: DemoProvider, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level(logging.INFO)
    async with running(config_for(provider.url)) as sidecar:
        refuse(provider)
        assert (await ask(sidecar.port, ASK)).status == 401
        probe(sidecar, is_due=False)
        assert (await ask(sidecar.port, ASK)).status == 503
        accept(provider)
        tree = orjson.dumps(config_for(provider.url))
        sidecar.sidecar.runtime.apply(parse(tree, {"KEY": key}).config)
        probe(sidecar, is_due=False)
        assert (await ask(sidecar.port, ASK)).status == 200
        assert provider.requests[-1].api_key == key
        assert sidecar.endpoint().parking.ends == {}
        assert await shown(sidecar) == ("up", "", 1.0)
    assert [level for level, _ in lines(caplog)] == ["WARNING", "INFO"]


async def test_a_key_file_that_is_replaced_ends_it(provider: DemoProvider, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-old")
    provider.scenario.update({"error_keys": ["sk-old"]})
    refuse(provider)
    tree = config_for(provider.url, provider={"api_key": {"file": str(key)}})
    async with sidecar_process(write_config(tmp_path / "config", tree)) as process:
        assert (await ask(process.port, ASK)).status == 401
        while (status := (await ask(process.port, ASK)).status) != 503:
            assert status == 401  # a probe
        key.write_text("sk-new")
        process.send(signal.SIGHUP)
        await until(lambda: "configuration reloaded" in process.errors)
        assert (await ask(process.port, ASK)).status == 200
        assert provider.requests[-1].api_key == "sk-new"
        assert process.errors.count(REFUSED) == 1
        assert process.errors.count("back after") == 1
        for secret in ("sk-old", "sk-new"):
            assert secret not in process.errors


async def test_what_is_passed_on_unread_frees_no_key_that_is_refused() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await provider.read_request(reader)
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")

    unread = b"GET /v1/batches/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with raw_provider(refuses) as provider, running(config_for(provider.url)) as sidecar:
        for request in (ASK, unread):  # the second one is the probe
            assert (await ask(sidecar.port, request)).status == 401
        probe(sidecar, is_due=False)
        for request in (ASK, unread):
            assert (await ask(sidecar.port, request)).status == 503


async def test_many_at_once_are_one_line(provider: DemoProvider, caplog: pytest.LogCaptureFixture) -> None:
    async with running(config_for(provider.url)) as sidecar:
        refuse(provider)
        answers = await asyncio.gather(*(ask(sidecar.port, ASK) for _ in range(30)))
        assert {answer.status for answer in answers} <= {401, 503}
    assert len(lines(caplog)) == 1


async def test_a_key_refused_and_another_endpoint_limited_is_the_429_of_that(provider: DemoProvider) -> None:
    async with demo_provider() as other:
        tree = config_for(provider.url, other.url, provider={"retry": {"attempts": 2}})
        async with running(tree) as sidecar:
            refuse(provider)
            other.scenario.update({"error_ratio": 1.0, "error_status": 429, "retry_after": "60"})
            while len({e for e in (0, 1) if sidecar.endpoint(e).parking.ends}) < 2:
                assert (await ask(sidecar.port, ASK)).status in (401, 429)
            probe(sidecar, is_due=False)
            answer = await ask(sidecar.port, ASK)
            assert (answer.status, error_of(answer)["code"]) == (429, "rate_limit_exceeded")
            assert 0 < int(answer.head.get("retry-after") or 0) <= 60
