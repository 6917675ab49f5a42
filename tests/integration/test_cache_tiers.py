"""The cache on real sockets, further out: shared by Redis, by meaning, and what a reload does to it."""

import contextlib
import signal
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from sidecar.cache.meaning.embedding import EmbedderError
from sidecar.cache.meaning.local_embedder import LocalEmbedder
from sidecar.caching.tiers import Tiers
from sidecar.demo.provider import DemoProvider
from tests.support.cached import body, status
from tests.support.process import sidecar_process, write_config
from tests.support.redis import RedisServer
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until
from tests.support.web import serving

# No rule makes these the same text; the guards let one answer serve both.
CLOSE = ("What are the side effects of aspirin?", "What side effects does aspirin have?")
OTHER = "What are the side effects of paracetamol?"


def tiers_of(sidecar: Running) -> Tiers:
    tiers = sidecar.sidecar.tiers
    assert tiers is not None
    return tiers


# --- shared -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def two(
    redis: RedisServer, provider: DemoProvider, **cache: Any
) -> AsyncIterator[tuple[Running, Running]]:
    """Two sidecars that share answers, once both may."""
    tree = config_for(provider.url, cache={"redis": {"env": "REDIS_URL"}, **cache})
    environ = {**ENVIRON, "REDIS_URL": redis.url}
    async with running(tree, environ) as one, running(tree, environ) as other:
        for each in (one, other):
            shared = tiers_of(each).shared
            assert shared is not None
            await until(lambda shared=shared: shared.is_on)  # type: ignore[misc]
        yield one, other


async def written(sidecar: Running, count: int) -> None:
    shared = tiers_of(sidecar).shared
    assert shared is not None
    await until(lambda: shared.stats.written == count)


async def test_what_one_sidecar_asked_the_other_need_not(
    redis: RedisServer, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with two(redis, provider) as (one, other):
        assert "stored" in await status(http, one, body())
        await written(one, 1)
        assert "hit" in await status(http, other, body())
        assert "hit" in await status(http, other, body(stream=True))
        assert len(provider.requests) == 1
        shared = tiers_of(other).shared
        assert shared is not None and shared.stats.hits == 1  # the second came out of memory


async def test_a_purge_reaches_all_who_share(
    redis: RedisServer, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with two(redis, provider) as (one, other):
        await status(http, one, body())
        await written(one, 1)
        assert "hit" in await status(http, other, body())
        assert tiers_of(one).purge() == 1
        answers = tiers_of(other).answers
        assert answers is not None
        await until(lambda: answers.store.stats.entries == 0)
        assert "miss" in await status(http, other, body())


async def test_without_redis_requests_go_on(
    redis: RedisServer, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with two(redis, provider) as (one, other):
        await status(http, one, body())
        redis.kill()
        assert "miss" in await status(http, other, body())
        assert "hit" in await status(http, other, body())


# --- by meaning ---------------------------------------------------------------------------------------------


class Embeddings:
    """A provider of embeddings: a text's words, each in a place of its own. `fails` makes it a broken one."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.fails = False

    async def embed(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/embeddings"
        text = (await request.json())["input"]
        self.texts.append(text)
        if self.fails:
            return web.Response(status=500, text="no")
        vector = [0.0] * 64
        for word in text.lower().split():
            vector[zlib.crc32(word.encode()) % 64] += 1.0
        return web.json_response({"data": [{"embedding": vector}]})


@pytest.fixture
async def embeddings() -> AsyncIterator[tuple[Embeddings, str]]:
    pytest.importorskip("numpy")
    service = Embeddings()
    async with serving(service.embed) as url:
        yield service, url


def by_meaning(provider: DemoProvider, url: str, **semantic: Any) -> dict[str, Any]:
    settings = {"embedder": "endpoint", "provider": "e", "model": "words", "threshold": 0.5, **semantic}
    tree = config_for(provider.url, cache={"match": "semantic", "semantic": settings})
    tree["providers"]["e"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": url, "region": "eu"}]}
    return tree


async def test_a_question_that_means_the_same_is_answered(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str]
) -> None:
    service, url = embeddings
    async with running(by_meaning(provider, url)) as here:
        assert "miss" in await status(http, here, body(CLOSE[0]))
        assert (await status(http, here, body(CLOSE[1]))).endswith("detail=semantic")
        assert "miss" in await status(http, here, body(OTHER))
        assert "miss" in await status(http, here, body(CLOSE[1]), x_sidecar_cache="canonical")
        assert len(service.texts) == 3
        assert len(provider.requests) == 3


async def test_a_caller_may_ask_for_a_closer_one_never_for_a_further_one(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str]
) -> None:
    _, url = embeddings
    async with running(by_meaning(provider, url, threshold=0.999)) as here:
        await status(http, here, body(CLOSE[0]))
        assert "miss" in await status(http, here, body(CLOSE[1]), x_sidecar_cache_threshold="0.1")
    async with running(by_meaning(provider, url, threshold=0.5)) as here:
        await status(http, here, body(CLOSE[0]))
        assert "miss" in await status(http, here, body(CLOSE[1]), x_sidecar_cache_threshold="0.999")


async def test_with_a_broken_embedder_requests_go_on(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str]
) -> None:
    service, url = embeddings
    service.fails = True
    async with running(by_meaning(provider, url)) as here:
        for number in range(6):
            assert "miss" in await status(http, here, body(f"What are the side effects of {number} pills?"))
        assert len(service.texts) == 3  # and then it is left alone
        assert "hit" in await status(http, here, body("What are the side effects of 1 pills?"))


async def test_in_shadow_only_every_hit_is_checked_and_none_given(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str]
) -> None:
    _, url = embeddings
    async with running(by_meaning(provider, url, shadow_only=True)) as here:
        await status(http, here, body(CLOSE[0]))
        assert await status(http, here, body(CLOSE[1])) == "sidecar; fwd=request"
        assert len(provider.requests) == 2
        ((_, tier, checks, *_),) = tiers_of(here).shadow.report()
        assert (tier, checks) == ("semantic", 1)
        # Its own answer is stored now, and that may be given.
        assert (await status(http, here, body(CLOSE[1]))).endswith("detail=exact")


async def test_a_reported_false_hit_is_not_given_again(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str], tmp_path: Path
) -> None:
    _, url = embeddings
    log = tmp_path / "log"
    tree = by_meaning(provider, url) | {"telemetry": {"access_log": str(log)}}
    async with running(tree) as here:
        await status(http, here, body(CLOSE[0]))
        assert "semantic" in await status(http, here, body(CLOSE[1]))
        await until(lambda: log.read_bytes().count(b"\n") == 2)
        logged = orjson.loads(log.read_bytes().splitlines()[-1])
        assert tiers_of(here).report_false_hit(bytes.fromhex(logged["cache"]["key"]))
        assert "miss" in await status(http, here, body(CLOSE[1]))
        assert "miss" in await status(http, here, body(CLOSE[0]))  # nor the other's answer in its place
        assert "miss" in await status(http, here, body("Please, " + CLOSE[1]), x_sidecar_cache="exact")
        assert "exact" in await status(http, here, body(CLOSE[0]))


async def test_of_a_question_about_words_no_other_wording_is_answered(
    provider: DemoProvider, http: aiohttp.ClientSession, embeddings: tuple[Embeddings, str]
) -> None:
    service, url = embeddings
    async with running(by_meaning(provider, url)) as here:
        for question in (*CLOSE, "how can I boil an egg", "How do I boil an egg?"):
            document = body(question)
            document["messages"].insert(0, {"role": "system", "content": "Translate into German."})
            assert "miss" in await status(http, here, document)
        assert service.texts == []


@pytest.fixture
def words() -> None:
    try:
        LocalEmbedder().close()
    except EmbedderError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("words")
async def test_what_another_sidecar_fetched_is_found_by_meaning(
    redis: RedisServer, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with two(redis, provider, match="semantic") as (one, other):
        await status(http, one, body(CLOSE[0]))
        await written(one, 1)
        assert "exact" in await status(http, other, body(CLOSE[0]))
        assert "semantic" in await status(http, other, body(CLOSE[1]))
        assert len(provider.requests) == 1


@pytest.mark.usefixtures("words")
async def test_the_words_in_the_package_find_what_means_the_same(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with running(config_for(provider.url, cache={"match": "semantic"})) as here:
        await status(http, here, body(CLOSE[0]))
        assert "semantic" in await status(http, here, body(CLOSE[1]))
        assert "miss" in await status(http, here, body(OTHER))


# --- reload -------------------------------------------------------------------------------------------------


async def test_a_reload_puts_a_cache_in_and_takes_it_out(
    provider: DemoProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    plain, path = config_for(provider.url), tmp_path / "sidecar.yaml"
    write_config(path, plain)

    async def told() -> str:
        request = http.post(f"http://127.0.0.1:{process.port}/v1/chat/completions", json=body())
        async with request as response:
            return response.headers.get("cache-status", "")

    async with sidecar_process(path) as process:
        assert not await told()
        for cache, expected in (({}, "stored"), (None, ""), ({"match": "exact"}, "stored")):
            before = process.errors.count("configuration reloaded")
            write_config(path, {**plain, "cache": cache})
            process.send(signal.SIGHUP)
            await until(lambda before=before: process.errors.count("configuration reloaded") > before)  # type: ignore[misc]
            assert (await told()).endswith(expected) if expected else not await told()
