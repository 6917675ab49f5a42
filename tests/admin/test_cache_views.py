"""What a running sidecar shows of its cache: as JSON, in /stats and as metrics."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sidecar.demo.provider import DemoProvider
from sidecar.exchange import CacheNote
from tests.support.exchanges import finished
from tests.support.redis import redis_server
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

EGG, SAME = "How do I boil an egg?", "how can I boil an egg"
PRICED = {"*": {"provider": "p", "price": {"input": 1.0, "output": 2.0}}}


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url, cache={}, models=PRICED)) as started:
        yield started


async def ask(here: Running, text: str, **more: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.url}/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        await response.read()


async def shown(admin: aiohttp.ClientSession, path: str = "/cache") -> dict[str, Any]:
    response = await admin.get(path)
    assert response.status == 200
    found: dict[str, Any] = await response.json()
    return found


async def test_a_fresh_cache_has_nothing_to_tell(admin: aiohttp.ClientSession) -> None:
    cache = await shown(admin)
    assert (cache["match"], cache["scope"], cache["ttl_s"]) == ("canonical", "key", 3600.0)
    assert (cache["entries"], cache["bytes"], cache["budget_bytes"]) == (0, 0, 32 * 2**20)
    assert cache["hit_ratio"] is None
    assert (cache["hits"], cache["misses"], cache["bypasses"], cache["checks"]) == ([], {}, {}, [])
    assert (cache["shared"], cache["semantic"], cache["questions_under_way"]) == (None, None, 0)


async def test_what_requests_did_is_told_by_route_tier_and_reason(
    sidecar: Running, admin: aiohttp.ClientSession
) -> None:
    for text in (EGG, EGG, SAME):
        await ask(sidecar, text)
    await ask(sidecar, EGG, temperature=1)
    cache = await shown(admin)
    assert cache["requests"] == {"hit": 2, "miss": 1, "bypass": 1, "collapsed": 0, "shadow": 0}
    assert cache["hit_ratio"] == 0.6667
    assert (cache["misses"], cache["bypasses"]) == ({"stored": 1}, {"temperature": 1})
    assert [(hit["route"], hit["tier"], hit["hits"]) for hit in cache["hits"]] == [
        ("", "canonical", 1),
        ("", "exact", 1),
    ]
    assert cache["saved_usd"] > 0
    assert cache["saved_usd"] == pytest.approx(sum(hit["saved_usd"] for hit in cache["hits"]))
    assert cache["entries"] == 1 and 0 < cache["bytes"] < 10_000


async def test_hits_are_counted_against_what_was_looked_up(
    sidecar: Running, admin: aiohttp.ClientSession
) -> None:
    metrics = sidecar.sidecar.metrics
    for result in ("hit", "miss", "miss", "collapsed", "bypass", "shadow"):
        metrics.finished(finished(cache=CacheNote(result, "", b"")), 10.5)
    assert (await shown(admin))["hit_ratio"] == 0.25


async def test_stats_and_metrics_say_the_same(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    for text in (EGG, EGG, SAME):
        await ask(sidecar, text)
    cache, stats = await shown(admin), await shown(admin, "/stats?format=json")
    assert stats["cache.hit_total"] == cache["requests"]["hit"] == 2
    assert stats["cache.entries"] == await sidecar.metric("sidecar_cache_entries") == 1
    assert stats["cache.bytes"] == await sidecar.metric("sidecar_cache_bytes") == cache["bytes"]
    assert stats["cache.saved_usd_total"] == cache["saved_usd"]
    assert await sidecar.metric("sidecar_cache_saved_usd_total") == cache["saved_usd"]
    assert await sidecar.metric("sidecar_cache_total", result="hit", detail="exact") == 1


async def test_checks_and_tiers_that_are_off_are_told(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    assert sidecar.sidecar.tiers is not None
    shadow = sidecar.sidecar.tiers.shadow
    shadow.note("auto", "exact", True)
    for _ in range(20):
        shadow.note("", "canonical", False)
    cache = await shown(admin)
    off, on = cache["checks"]
    assert (off["tier"], off["checks"], off["disagreed"], off["on"]) == ("canonical", 20, 20, False)
    assert (on["route"], on["checks"], on["disagreed"], on["on"]) == ("auto", 1, 0, True)
    assert (await shown(admin, "/stats?format=json"))["cache.tiers_off"] == 1
    assert (await shown(admin, "/server_info"))["cache_off"] == ["canonical hits without a route"]
    assert await sidecar.metric("sidecar_cache_tier_on", tier="canonical") == 0
    assert await sidecar.metric("sidecar_cache_shadow_total", tier="canonical", result="disagreed") == 20


async def test_questions_under_way_are_counted(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    assert sidecar.sidecar.tiers is not None
    sidecar.sidecar.tiers.flights.open((b"digest", "t", False, False), finished())
    assert (await shown(admin))["questions_under_way"] == 1


async def test_without_a_cache_nothing_is_told_of_one(provider: DemoProvider) -> None:
    async with (
        running(config_for(provider.url)) as here,
        aiohttp.ClientSession(here.admin_url) as admin,
    ):
        response = await admin.get("/cache")
        assert response.status == 404
        assert await response.text() == "There is no cache: add `cache` to the configuration.\n"
        stats = await shown(admin, "/stats?format=json")
        assert not [name for name in stats if name.startswith("cache.")]
        assert (await shown(admin, "/server_info"))["cache_off"] == []
        assert await here.metric("sidecar_cache_entries") is None


async def test_the_shared_tier_tells_how_it_is(provider: DemoProvider) -> None:
    with redis_server() as redis:
        tree = config_for(provider.url, cache={"redis": {"env": "REDIS"}})
        async with (
            running(tree, {"KEY": "sk-provider-secret", "REDIS": redis.url}) as here,
            aiohttp.ClientSession(here.admin_url) as admin,
        ):
            assert here.sidecar.tiers is not None and here.sidecar.tiers.shared is not None
            shared = here.sidecar.tiers.shared
            await until(lambda: shared.is_on)
            await ask(here, EGG)
            await until(lambda: shared.stats.written)
            told = (await shown(admin))["shared"]
            assert told["on"] is True
            assert (told["results"]["miss"], told["results"]["written"], told["results"]["hit"]) == (1, 1, 0)
            assert await here.metric("sidecar_cache_shared_on") == 1
            assert await here.metric("sidecar_cache_shared_total", result="written") == 1
            await shared.stop()
            assert (await shown(admin))["shared"]["on"] is False
            assert await here.metric("sidecar_cache_shared_on") == 0
