"""The answer cache in the way of real requests: real clients, real sockets, a simulated provider behind."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from tests.policy.support import hash_of
from tests.support.cached import SAME, body, post, status
from tests.support.running import Running, config_for, running
from tests.support.waiting import until

USAGE = {"include_usage": True}


async def test_the_second_asking_costs_no_call(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    first, told = await post(http, cached, body())
    again, repeated = await post(http, cached, body(SAME))
    assert first.headers["cache-status"] == "sidecar; fwd=miss; stored"
    assert again.headers["cache-status"].startswith("sidecar; hit; ttl=")
    assert again.headers["cache-status"].endswith("detail=canonical")
    assert again.headers["age"] == "0"
    assert again.headers["x-sidecar-attempts"] == "0"
    one, other = orjson.loads(told), orjson.loads(repeated)
    assert one.pop("id") != other.pop("id")
    one.pop("created"), other.pop("created")
    assert one == other
    assert len(provider.requests) == 1


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_streamed_and_plain_answers_serve_each_other(
    cached: Running, provider: DemoProvider, streamed_first: bool
) -> None:
    async with AsyncOpenAI(base_url=cached.url, api_key="sk-caller", max_retries=0) as client:
        plain, streamed = {"stream": False}, {"stream": True, "stream_options": USAGE}
        texts, usages = [], []
        for more in (streamed, plain, streamed) if streamed_first else (plain, streamed, plain):
            answer: Any = await client.chat.completions.create(**body(**more))
            if more["stream"]:
                chunks = [chunk async for chunk in answer]
                texts.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
                usages.append(chunks[-1].usage)
                assert len({chunk.id for chunk in chunks}) == 1
            else:
                texts.append(answer.choices[0].message.content)
                usages.append(answer.usage)
    assert len(set(texts)) == 1 and texts[0]
    assert usages[0] == usages[1] == usages[2]
    assert usages[0] is not None
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"tool_call": True}, "tools"),
        ({"finish_reason": "length"}, "finish"),
        ({"cut_after_events": 3}, "cut"),
        ({"error_at_event": 3}, "failed"),
        ({"stall_after_events": 3}, "cut"),
    ],
)
async def test_what_is_not_whole_and_clean_is_not_kept(
    provider: DemoProvider, http: aiohttp.ClientSession, knobs: dict[str, Any], reason: str
) -> None:
    tree = config_for(provider.url, cache={}, provider={"timeouts": {"idle": "200ms"}})
    async with running(tree) as here:
        provider.scenario.update({"tokens": 10, **knobs})
        for _ in range(2):
            try:
                assert "fwd=miss" in await status(http, here, body(stream=True))
            except aiohttp.ClientError:
                pass
        assert len(provider.requests) == 2
        await until(lambda: here.sidecar.metrics.requests == 2)
        counted = {key: row.requests for key, row in here.sidecar.metrics.cache_rows.items()}
        assert counted == {("", "miss", reason): 2}


async def test_directives_of_the_caller(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    response, told = await post(http, cached, body(), cache_control="only-if-cached")
    assert response.status == 504 and orjson.loads(told)["error"]["code"] == "not_cached"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers.getall("cache-status") == ["sidecar; detail=only-if-cached"]
    refused, _ = await post(http, cached, body(n=2), cache_control="only-if-cached")
    assert refused.status == 504
    assert refused.headers.getall("cache-status") == ["sidecar; detail=only-if-cached"]
    assert await status(http, cached, body(), cache_control="no-store") == (
        "sidecar; fwd=bypass; detail=no-store"
    )
    assert "fwd=miss" in await status(http, cached, body())
    assert "hit" in await status(http, cached, body(), cache_control="only-if-cached")
    assert await status(http, cached, body(), cache_control="no-cache") == "sidecar; fwd=request; stored"
    assert "fwd=request" in await status(http, cached, body(), cache_control="max-age=0")
    assert "fwd=miss" in await status(http, cached, body(SAME), x_sidecar_cache="exact")
    assert len(provider.requests) == 5


async def test_what_varies_by_its_nature_is_passed_by(cached: Running, http: aiohttp.ClientSession) -> None:
    for more, reason in (
        ({"temperature": 1}, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "choices"),
        ({"logprobs": True}, "logprobs"),
    ):
        assert await status(http, cached, body(**more)) == f"sidecar; fwd=bypass; detail={reason}"


async def test_a_fallbacks_answer_is_given_but_not_kept(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    models = {"first": {"provider": "p", "fallback": ["second"]}, "*": {"provider": "p"}}
    tree = config_for(provider.url, cache={}, models=models, provider={"retry": {"attempts": 2}})
    async with running(tree) as here:
        provider.scenario.update({"error_ratio": 1.0, "error_models": ["first"]})
        response, _ = await post(http, here, {**body(), "model": "first"})
        assert (response.status, response.headers["x-sidecar-model"]) == (200, "second")
        provider.scenario.update({"error_ratio": 0.0})
        response, _ = await post(http, here, {**body(), "model": "first"})
        assert response.headers["cache-status"] == "sidecar; fwd=miss; stored"
        assert response.headers["x-sidecar-model"] == "first"


async def test_callers_share_answers_by_key_or_by_team(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    listed = {"ann": ("ann-key", "red"), "bob": ("bob-key", "red"), "cyd": ("cyd-key", "blue")}
    keys = [{"id": name, "team": team, "hash": hash_of(key)} for name, (key, team) in listed.items()]
    for scope, calls in (("key", 3), ("team", 2), ("all", 1)):
        provider.requests.clear()
        tree = config_for(provider.url, cache={"scope": scope}, keys=keys, auth={"mode": "keys"})
        async with running(tree) as here:
            for _ in range(2):
                for key, _ in listed.values():
                    await post(http, here, body(), authorization=f"Bearer {key}")
        assert len(provider.requests) == calls


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"authorization": "Basic YW5uOmE="}, {"authorization": "Basic Ym9iOmI="}),
        ({"authorization": "Basic YW5uOmE="}, {}),
        ({"authorization": "Bearer a"}, {"authorization": "bearer a"}),
        ({"authorization": "Bearer a", "x_api_key": "b"}, {"authorization": "Bearer c", "x_api_key": "d"}),
        ({"x_api_key": "a"}, {"authorization": "Bearer a"}),
        ({"authorization": f"Bearer {'e' * 600}.good"}, {"authorization": f"Bearer {'e' * 600}.forged"}),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_callers_whose_credentials_go_on_share_nothing(
    provider: DemoProvider,
    http: aiohttp.ClientSession,
    one: dict[str, str],
    other: dict[str, str],
    at_once: bool,
) -> None:
    tree = config_for(provider.url, cache={"scope": "all"})
    del tree["providers"]["p"]["api_key"]
    async with running(tree) as here:
        provider.scenario.update({"head_s": 0.1 if at_once else 0.0})
        asked = [status(http, here, body(), **headers) for headers in (one, other)]
        told = await asyncio.gather(*asked) if at_once else [await each for each in asked]
        assert told == ["sidecar; fwd=miss; stored"] * 2
        assert "hit" in await status(http, here, body(), **one)


async def test_a_caller_bound_to_a_region_gets_no_answer_of_others(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    keys = [
        {"id": name, "hash": hash_of(name), "regions": regions}
        for name, regions in (("free", []), ("bound", ["eu"]))
    ]
    endpoints = [{"url": provider.url, "region": "eu"}]
    tree = config_for(
        cache={"scope": "all"}, keys=keys, auth={"mode": "keys"}, provider={"endpoints": endpoints}
    )
    async with running(tree) as here:
        for name in ("free", "bound", "free", "bound"):
            await post(http, here, body(), authorization=f"Bearer {name}")
    assert len(provider.requests) == 2


async def test_a_hit_spends_a_request_but_no_tokens_and_no_dollars(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    price = {"input": 1.0, "output": 2.0}
    tree = config_for(
        provider.url,
        cache={},
        models={"*": {"provider": "p", "price": price, "max_output": 1000}},
        tiers={"standard": {"requests_per_minute": 3, "tokens_per_minute": 100_000}},
        budgets=[{"name": "all", "per": "all", "usd": 1}],
        telemetry={"access_log": "off", "baseline": {"name": "dear", "price": {"input": 10, "output": 20}}},
    )
    async with running(tree) as here:
        for _ in range(3):
            await post(http, here, body())
        refused, _ = await post(http, here, body())
        assert refused.status == 429
        assert len(provider.requests) == 1
        metrics = here.sidecar.metrics
        (hits,) = [row for key, row in metrics.cache_rows.items() if key[1] == "hit"]
        rows = list(metrics.rows.values())
        spent = sum(row.cost_nano_usd for row in rows)
        assert hits.requests == 2 and hits.saved_nano_usd == 2 * spent > 0
        assert sum(row.saved_nano_usd for row in rows) == 9 * spent + 2 * 10 * spent
        assert sum(row.attempts for row in rows) == 1


async def test_a_share_of_hits_is_asked_anew_and_compared(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with running(config_for(provider.url, cache={"shadow": 1.0})) as here:
        await post(http, here, body())
        assert await status(http, here, body()) == "sidecar; fwd=request"
        provider.scenario.update({"answer": "Something else altogether, about another matter."})
        await post(http, here, body(SAME))
        assert len(provider.requests) == 3
        assert here.sidecar.tiers is not None
        report = here.sidecar.tiers.shadow.report()
        assert [(one.tier, one.checks, one.disagreed) for one in report] == [
            ("canonical", 1, 1),
            ("exact", 1, 0),
        ]


async def test_what_was_asked_before_a_purge_is_not_kept_after_it(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"head_s": 0.2})
    asked = asyncio.create_task(status(http, cached, body()))
    await until(lambda: len(provider.requests) == 1)
    assert cached.sidecar.tiers is not None
    cached.sidecar.tiers.purge()
    assert await asked == "sidecar; fwd=miss"
    assert await status(http, cached, body()) == "sidecar; fwd=miss; stored"


async def test_an_answer_that_was_asked_for_earlier_does_not_replace_a_later_one(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    provider.scenario.update({"head_s": 0.3, "answer": "The old one."})
    slow = asyncio.create_task(status(http, cached, body()))
    await until(lambda: len(provider.requests) == 1)
    provider.scenario.update({"head_s": 0.0, "answer": "The new one."})
    assert "stored" in await status(http, cached, body(), cache_control="no-cache")
    assert await slow == "sidecar; fwd=miss"
    _, told = await post(http, cached, body())
    assert b"The new one." in told


async def test_what_a_header_may_change_is_not_shared(cached: Running, http: aiohttp.ClientSession) -> None:
    await status(http, cached, body(), openai_organization="one")
    assert "fwd=miss" in await status(http, cached, body(), openai_organization="two")
    assert "hit" in await status(http, cached, body(), openai_organization="one", x_request_id="7")


async def test_hits_hold_no_tokens(provider: DemoProvider, http: aiohttp.ClientSession) -> None:
    tree = config_for(
        provider.url,
        cache={},
        models={"*": {"provider": "p", "max_output": 8192}},
        tiers={"standard": {"tokens_per_minute": 20_000}},
    )
    async with running(tree) as here:
        await post(http, here, body())
        answers = await asyncio.gather(*(post(http, here, body()) for _ in range(30)))
        assert {response.status for response, _ in answers} == {200}


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_nested_too_deeply_to_be_written_is_served_and_not_kept(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession, stream: bool
) -> None:
    deep: Any = 1
    told = []
    for depth in range(256):
        deep = [deep]
        if depth >= 248:
            response, _ = await post(http, cached, body(stream=stream, x=deep))
            assert response.status == 200
            told.append("ambiguous" in response.headers["cache-status"])
    assert set(told) == {True, False}
    await until(lambda: cached.sidecar.metrics.requests == len(told))


async def test_a_fault_of_the_cache_fails_no_request(
    cached: Running, provider: DemoProvider, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached.sidecar.tiers is not None

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    for name in ("offer", "lookup"):
        monkeypatch.setattr(cached.sidecar.tiers.answers, name, broken)
        answers = await asyncio.gather(*(post(http, cached, body(stream=True)) for _ in range(3)))
        assert {response.status for response, _ in answers} == {200}
        assert all(told.endswith(b"data: [DONE]\n\n") for _, told in answers)
    await until(lambda: cached.sidecar.metrics.requests == 6)
    assert cached.sidecar.metrics.in_flight == 0


async def test_a_good_answer_after_a_failed_try_is_kept(
    provider: DemoProvider, http: aiohttp.ClientSession
) -> None:
    async with running(config_for(provider.url, provider={"retry": {"attempts": 2}}, cache={})) as here:
        for stream in (False, True):
            provider.scenario.update({"fail_next": 1})
            await post(http, here, body(f"Is {stream} a word?", stream=stream))
            assert "hit" in await status(http, here, body(f"Is {stream} a word?", stream=stream))
