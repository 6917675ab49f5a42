"""The same question asked at once: one call, and everybody is answered, whoever leaves, waits or may not."""

import asyncio
import gc

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.cache.flight import Flight
from sidecar.cache.recording import Recording
from sidecar.demo.provider import DemoProvider
from tests.policy.support import hash_of
from tests.support.cached import PROMPT, SAME, body, post, status
from tests.support.http1 import client
from tests.support.raw import post as raw_post
from tests.support.running import Running, config_for, running
from tests.support.waiting import until


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hundred_at_once_are_one_call(cached: Running, provider: DemoProvider, stream: bool) -> None:
    provider.scenario.update({"first_token_s": 0.2, "head_s": 0.1})
    document = body(stream=stream)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        answers = await asyncio.gather(*(post(http, cached, document) for _ in range(100)))
    assert len(provider.requests) == 1
    assert len({told for _, told in answers}) == 1
    told = [response.headers["cache-status"] for response, _ in answers]
    assert told.count("sidecar; fwd=miss; collapsed") == 99


async def test_who_comes_late_gets_the_whole_stream_and_the_first_may_leave(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"tokens": 30, "token_interval_s": 0.02})
    document = body(stream=True)
    first = await http.post(f"{cached.url}/chat/completions", json=document)
    await first.content.readuntil(b"\n\n")
    late = asyncio.create_task(post(http, cached, document))
    await until(lambda: cached.sidecar.metrics.in_flight == 2)
    first.close()
    response, told = await late
    assert response.headers["cache-status"].endswith("collapsed")
    assert told.count(b"data: ") > 30 and told.endswith(b"data: [DONE]\n\n")
    assert len(provider.requests) == 1
    assert "hit" in await status(http, cached, document)


async def test_when_all_have_left_the_provider_is_let_go(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"tokens": 10_000, "token_interval_s": 0.01})
    document = body(stream=True)
    callers = [await http.post(f"{cached.url}/chat/completions", json=document) for _ in range(3)]
    assert len(provider.requests) == 1
    for caller in callers:
        caller.close()
    await until(lambda: cached.sidecar.metrics.in_flight == 0)
    provider.scenario.update({"tokens": 3})
    assert "fwd=miss" in await status(http, cached, body())


async def test_a_failure_is_told_to_all_who_asked_and_not_kept(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"error_ratio": 1.0, "head_s": 0.1})
    answers = await asyncio.gather(*(post(http, cached, body()) for _ in range(5)))
    assert {response.status for response, _ in answers} == {500}
    assert len(provider.requests) == 1
    provider.scenario.update({"error_ratio": 0.0})
    assert "fwd=miss" in await status(http, cached, body())


async def test_one_who_does_not_read_holds_up_nobody(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is larger than what the sockets and the flight hold together."""
    monkeypatch.setattr("sidecar.cache.flight.PATIENCE_S", 0.3)
    asked, all_are_here = 0, asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await all_are_here.wait()
        for text, finish in (*[("x" * 60_000, None)] * 200, ("", "stop")):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
            await response.write(b"data: %b\n\n" % orjson.dumps({"choices": [choice]}))
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    document = body(stream=True)
    async with TestServer(app) as provider:
        tree = config_for(f"http://127.0.0.1:{provider.port}/v1", cache={})
        async with running(tree) as here, client(here.port) as stuck:
            stuck.send(raw_post(orjson.dumps(document)))
            await until(lambda: here.sidecar.metrics.in_flight == 1)
            asking = asyncio.create_task(post(http, here, document))
            await until(lambda: here.sidecar.metrics.in_flight == 2)
            all_are_here.set()
            response, told = await asking
            assert response.headers["cache-status"].endswith("collapsed")
    assert len(told) > 12_000_000 and told.endswith(b"data: [DONE]\n\n")
    assert asked == 1


async def test_callers_with_other_budgets_do_not_share_what_is_fetched(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    """What one gets may be another model, as its budget is used up."""
    keys = [{"id": name, "team": "red", "hash": hash_of(name)} for name in ("ann", "bob")]
    tree = config_for(provider.url, cache={"scope": "team"}, keys=keys, auth={"mode": "keys"})
    provider.scenario.update({"head_s": 0.2})
    async with running(tree) as here:
        asked = [post(http, here, body(), authorization=f"Bearer {name}") for name in ("ann", "bob", "ann")]
        await asyncio.gather(*asked)
        assert len(provider.requests) == 2
        assert "hit" in await status(http, here, body(), authorization="Bearer bob")


async def test_who_wants_only_what_is_stored_does_not_wait_for_what_is_asked(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"head_s": 0.3})
    asked = asyncio.create_task(status(http, cached, body()))
    await until(lambda: len(provider.requests) == 1)
    response, _ = await post(http, cached, body(), cache_control="only-if-cached")
    assert response.status == 504
    assert not asked.done()
    await asked


async def test_while_hits_in_other_words_are_off_no_other_words_share_a_call(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"head_s": 0.2})
    async with running(config_for(provider.url, cache={"shadow": 0.5})) as here:
        assert here.sidecar.tiers is not None
        for _ in range(20):
            here.sidecar.tiers.shadow.note("", "canonical", False)
        await asyncio.gather(*(post(http, here, body(text)) for text in (PROMPT, SAME, PROMPT)))
        assert len(provider.requests) == 2


async def test_checks_of_one_answer_share_a_call(provider: DemoProvider, http: aiohttp.ClientSession) -> None:
    async with running(config_for(provider.url, cache={"shadow": 1.0})) as here:
        await post(http, here, body())
        provider.scenario.update({"head_s": 0.2})
        await asyncio.gather(*(post(http, here, body()) for _ in range(10)))
        assert len(provider.requests) == 2


async def test_streams_leave_nothing_behind(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    """Text is freed with the request, without a collection of cycles."""
    provider.scenario.update({"tokens": 50})
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            await post(http, cached, body(f"How do I boil {number} eggs?", stream=True))
        await until(lambda: cached.sidecar.metrics.requests == 20)
        left = [one for one in gc.get_objects() if isinstance(one, Recording | Flight)]
    finally:
        gc.enable()
    assert sum(len(one._runs) if isinstance(one, Recording) else len(one._pieces) for one in left) == 0
