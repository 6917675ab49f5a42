"""A provider whose slots are taken and whose queue is full: requests go on to another one, at no cost."""

import asyncio
from collections import Counter
from hashlib import blake2b
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, Tap, demo_provider
from tests.support.http1 import Answer, ask
from tests.support.raw import post
from tests.support.running import Running, config_for, running
from tests.support.waiting import until


@pytest.fixture
def tap() -> Tap:
    """What `provider`, the first choice, answers is held back until a test lets it go."""
    return Tap()


def config(
    busy: DemoProvider, idle_url: str, *, max_queue: int = 0, queue_timeout: str = "5s", **changes: Any
) -> dict[str, Any]:
    """One slot and this queue at `busy`, whose model falls back to that of the other provider."""
    limits = {"max_requests": 1, "max_queue": max_queue, "queue_timeout": queue_timeout}
    tree = config_for(busy.url, provider={"concurrency": limits}, **changes)
    tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": idle_url}]}
    tree["models"] = {"demo": {"provider": "p", "fallback": ["other"]}, "other": {"provider": "q"}}
    return tree


async def question(sidecar: Running, **fields: Any) -> Answer:
    return await ask(sidecar.port, post(orjson.dumps({**QUESTION, **fields})))


async def take_the_slot(sidecar: Running, busy: DemoProvider, **fields: Any) -> "asyncio.Task[Answer]":
    """A request that holds the only slot."""
    before = len(busy.requests)
    task = asyncio.create_task(question(sidecar, **fields))
    await until(lambda: len(busy.requests) == before + 1)
    return task


def who(answer: Answer) -> tuple[int, str | None, str | None]:
    return answer.status, answer.head.get("x-sidecar-provider"), answer.head.get("x-sidecar-attempts")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_has_no_place_is_answered_by_the_fallback_and_was_tried_once(
    provider: DemoProvider, tap: Tap, stream: bool
) -> None:
    async with demo_provider() as idle, running(config(provider, idle.url)) as sidecar:
        first = await take_the_slot(sidecar, provider)
        answers = await asyncio.gather(*[question(sidecar, stream=stream) for _ in range(9)])
        assert [who(answer) for answer in answers] == [(200, "q", "1")] * 9
        assert len(idle.requests) == 9
        tap.open()
        assert who(await first) == (200, "p", "1")
        endpoint = sidecar.endpoint()
        assert (endpoint.failures, endpoint.in_flight) == (0, 0)


async def test_what_waited_for_nothing_goes_on_to_the_fallback(provider: DemoProvider, tap: Tap) -> None:
    tree = config(provider, "http://x", max_queue=5, queue_timeout="100ms")
    async with demo_provider() as idle:
        tree["providers"]["q"]["endpoints"] = [{"url": idle.url}]
        async with running(tree) as sidecar:
            first = await take_the_slot(sidecar, provider)
            answers = await asyncio.gather(*[question(sidecar) for _ in range(5)])
            assert [who(answer) for answer in answers] == [(200, "q", "1")] * 5
            tap.open()
            await first


async def test_what_must_not_be_sent_twice_goes_too_for_it_was_not_sent_once(
    provider: DemoProvider, tap: Tap
) -> None:
    async with demo_provider() as idle, running(config(provider, idle.url)) as sidecar:
        first = await take_the_slot(sidecar, provider)
        assert who(await question(sidecar, store=True)) == (200, "q", "1")
        tap.open()
        await first


async def test_where_the_fallback_fails_its_own_failure_is_told(provider: DemoProvider, tap: Tap) -> None:
    tree = config(provider, "http://x")
    tree["providers"]["p"]["retry"]["attempts"] = 3
    async with demo_provider(knobs={"error_ratio": 1.0}) as failing:
        tree["providers"]["q"]["endpoints"] = [{"url": failing.url}]
        async with running(tree) as sidecar:
            first = await take_the_slot(sidecar, provider)
            answer = await question(sidecar)
            assert who(answer)[:2] == (500, "q")
            tap.open()
            await first


async def test_without_a_fallback_it_is_a_503_that_says_when_to_come_back(
    provider: DemoProvider, tap: Tap
) -> None:
    tree = config(provider, "http://127.0.0.1:9/v1")
    tree["models"]["demo"].pop("fallback")
    async with running(tree) as sidecar:
        first = await take_the_slot(sidecar, provider)
        answer = await question(sidecar)
        assert (answer.status, orjson.loads(answer.body)["error"]["code"]) == (503, "overloaded")
        assert answer.head.get("retry-after") is not None
        assert answer.head.get("x-should-retry") is None
        tap.open()
        await first


async def test_a_caller_that_leaves_on_its_way_elsewhere_leaves_nothing_behind(
    provider: DemoProvider, tap: Tap
) -> None:
    tree = config(provider, "http://x", max_queue=50, queue_timeout="50ms")
    async with demo_provider(tap=tap) as slow:
        tree["providers"]["q"]["endpoints"] = [{"url": slow.url}]
        async with running(tree) as sidecar:
            first = await take_the_slot(sidecar, provider)
            leaving = [asyncio.create_task(question(sidecar)) for _ in range(30)]
            await until(lambda: len(slow.requests) >= 5)
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
            slots = sidecar.sidecar.snapshot.providers["q"].slots
            await until(lambda: (slots.in_use, slots.waiting) == (0, 0))
            tap.open()
            assert (await first).status == 200
            own = sidecar.sidecar.snapshot.providers["p"].slots
            assert (own.in_use, own.waiting) == (0, 0)


async def test_two_full_queues_do_not_send_each_other_away_until_the_stack_ends(
    provider: DemoProvider, tap: Tap
) -> None:
    """Each newcomer of a third team pushes out one of the longest line, who pushes out one over there, ..."""
    waiting = 150
    limits = {"max_requests": 1, "max_queue": waiting, "queue_timeout": "60s"}
    async with demo_provider(tap=tap) as other:
        tree = config_for(provider.url, provider={"concurrency": limits})
        tree["providers"]["q"] = {
            "api_key": {"env": "KEY"},
            "endpoints": [{"url": other.url}],
            "concurrency": limits,
        }
        tree["models"] = {
            "a": {"provider": "p", "fallback": ["a2"]},
            "b": {"provider": "q", "fallback": ["b2"]},
            "a2": {"provider": "q"},
            "b2": {"provider": "p"},
        }
        keys = {team: f"sk-{team}" for team in ("one", "two", "three")}
        tree["keys"] = [{"id": team, "team": team, "hash": _hash(key)} for team, key in keys.items()]
        connector = aiohttp.TCPConnector(limit=0)
        async with running(tree) as sidecar, aiohttp.ClientSession(connector=connector) as session:

            async def status(team: str, model: str) -> int:
                headers = {"authorization": f"Bearer {keys[team]}"}
                body = {**QUESTION, "model": model}
                async with session.post(
                    f"{sidecar.url}/chat/completions", json=body, headers=headers
                ) as answer:
                    await answer.read()
                    return answer.status

            slots = [sidecar.sidecar.snapshot.providers[name].slots for name in ("p", "q")]
            asked = []
            for team, model in (("one", "a"), ("two", "b")):
                asked += [asyncio.create_task(status(team, model)) for _ in range(waiting + 1)]
            await until(lambda: [(one.in_use, one.waiting) for one in slots] == [(1, waiting)] * 2)
            asked += [asyncio.create_task(status("three", "a")) for _ in range(3)]
            await until(lambda: sum(task.done() for task in asked) == 3)
            tap.open()
            counted = Counter(await asyncio.gather(*asked))
    assert counted == {200: 2 * waiting + 2, 503: 3}


def _hash(key: str) -> str:
    return f"blake2b:{blake2b(key.encode()).hexdigest()}"
