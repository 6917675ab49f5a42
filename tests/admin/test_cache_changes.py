"""What an operator does to the cache of a running sidecar: what it drops, what it says, what it refuses."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.caching.tiers import Tiers
from sidecar.demo.provider import DemoProvider
from tests.policy.support import hash_of
from tests.support.running import Running, config_for, running

GUARD = {"x-sidecar-admin": "1"}
EGG, RICE = "How do I boil an egg?", "How do I boil rice?"
NO_KEY = "00" * 16
CHANGES = ("/cache/purge?all=1", f"/cache/false_hit?key={NO_KEY}", "/cache/reset")


def tree(url: str, **cache: Any) -> dict[str, Any]:
    config = config_for(url, cache=cache)
    config["routes"] = {"auto": {"split": [{"model": "m", "weight": 1}]}}
    config["keys"] = [
        {"id": name, "team": team, "hash": hash_of(f"key-{name}")}
        for name, team in (("ann", "red"), ("bob", "blue"))
    ]
    return config


@pytest.fixture
async def sidecar(provider: DemoProvider) -> AsyncIterator[Running]:
    async with running(tree(provider.url)) as started:
        yield started


async def ask(here: Running, text: str, model: str = "m", key: str = "") -> str:
    """Ask, and return what the caller is told of the cache."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer key-{key}"} if key else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{here.url}/chat/completions", json=body, headers=headers) as response,
    ):
        assert response.status == 200
        await response.read()
        return response.headers["cache-status"]


async def change(admin: aiohttp.ClientSession, path: str, **query: str) -> tuple[int, Any]:
    """Status, and what is said: parsed, or a sentence."""
    response = await admin.post(path, params=query, headers=GUARD)
    said = await response.text()
    return response.status, orjson.loads(said) if response.status == 200 else said


async def dropped(admin: aiohttp.ClientSession, **query: str) -> int:
    status, said = await change(admin, "/cache/purge", **query)
    assert status == 200, said
    assert said["others_told"] is False
    count: int = said["dropped"]
    return count


def tiers_of(here: Running) -> Tiers:
    assert here.sidecar.tiers is not None
    return here.sidecar.tiers


def keys_of(here: Running) -> list[str]:
    """What is in memory, the least recently used first."""
    answers = tiers_of(here).answers
    assert answers is not None
    return [digest.hex() for digest in answers.store._entries]


def entries(here: Running) -> int:
    return len(keys_of(here))


# --- purge ---


async def test_an_answer_is_dropped_by_its_key_and_asked_for_anew(
    sidecar: Running, admin: aiohttp.ClientSession, provider: DemoProvider
) -> None:
    await ask(sidecar, EGG)
    await ask(sidecar, RICE)
    key, _ = keys_of(sidecar)
    assert await dropped(admin, key=key.upper()) == 1
    assert await dropped(admin, key=key) == 0
    assert "hit" in await ask(sidecar, RICE)
    assert "fwd=miss" in await ask(sidecar, EGG)
    assert len(provider.requests) == 3


async def test_a_route_or_a_key_has_its_own(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    for model in ("auto", "m"):
        for key in ("ann", "bob", ""):
            await ask(sidecar, EGG, model, key)
    assert entries(sidecar) == 6
    assert await dropped(admin, route="auto", scope="ann") == 1
    assert await dropped(admin, route="auto") == 2
    assert await dropped(admin, scope="bob") == 1
    assert await dropped(admin, scope="shared") == 1
    assert entries(sidecar) == 1
    assert "hit" in await ask(sidecar, EGG, "m", "ann")
    assert await dropped(admin, all="1") == 1


async def test_a_key_that_is_not_of_that_route_or_scope_stays(
    sidecar: Running, admin: aiohttp.ClientSession
) -> None:
    await ask(sidecar, EGG, "auto", "ann")
    (key,) = keys_of(sidecar)
    assert await dropped(admin, key=key, scope="bob") == 0
    assert await dropped(admin, key=key, route="auto", scope="bob") == 0
    assert entries(sidecar) == 1
    assert await dropped(admin, key=key, route="auto", scope="ann") == 1


async def test_by_team_where_teams_share(provider: DemoProvider) -> None:
    async with running(tree(provider.url, scope="team")) as here, session_of(here) as admin:
        for key in ("ann", "bob", ""):
            await ask(here, EGG, key=key)
        assert await dropped(admin, scope="red") == 1
        assert await dropped(admin, scope="test") == 1  # of callers without a listed key
        status, said = await change(admin, "/cache/purge", scope="ann")
        assert (status, said) == (404, "There is no team 'ann'; there are blue, red, test.\n")
        assert entries(here) == 1


async def test_where_all_share_no_scope_is_to_be_named(provider: DemoProvider) -> None:
    async with running(tree(provider.url, scope="all")) as here, session_of(here) as admin:
        await ask(here, EGG)
        status, said = await change(admin, "/cache/purge", scope="ann")
        assert status == 409 and "cache.scope: all" in said
        assert entries(here) == 1


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({}, 400, "Say what to drop"),
        ({"all": "0"}, 400, "all=1"),
        ({"all": ""}, 400, "all=1"),
        ({"all": "1", "route": "auto"}, 400, "stands alone"),
        ({"key": "abc"}, 400, "32 hexadecimal digits"),
        ({"key": "zz" * 16}, 400, "32 hexadecimal digits"),
        ({"key": ""}, 400, "32 hexadecimal digits"),
        ({"key": "ab " * 10 + "ab"}, 400, "32 hexadecimal digits"),
        ({"keys": NO_KEY}, 400, "'keys' is not known here"),
        ({"route": "atuo"}, 404, "There is no route 'atuo'; there are auto."),
        ({"route": ""}, 404, "There is no route ''"),
        ({"scope": "eve"}, 404, "There is no key 'eve'; there are ann, bob, shared."),
        ({"scope": ""}, 404, "There is no key ''"),
        ({"route": "a\nWARNING forged"}, 404, "'a\\nWARNING forged'"),
    ],
)
async def test_what_is_not_understood_drops_nothing(
    sidecar: Running, admin: aiohttp.ClientSession, query: dict[str, str], status: int, said: str
) -> None:
    await ask(sidecar, EGG, "auto", "ann")
    answered, text = await change(admin, "/cache/purge", **query)
    assert answered == status
    assert said in text and text.count("\n") == 1
    assert entries(sidecar) == 1


async def test_what_is_said_twice_is_refused(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    await ask(sidecar, EGG)
    (key,) = keys_of(sidecar)
    response = await admin.post(f"/cache/purge?key={NO_KEY}&key={key}", headers=GUARD)
    assert (response.status, await response.text()) == (400, "key is given twice.\n")
    assert entries(sidecar) == 1


# --- false hits ---


async def test_after_a_false_hit_a_key_serves_its_own_words_only(
    sidecar: Running, admin: aiohttp.ClientSession, provider: DemoProvider
) -> None:
    await ask(sidecar, EGG)
    assert "detail=canonical" in await ask(sidecar, "how can I boil an egg")
    (key,) = keys_of(sidecar)
    status, said = await change(admin, "/cache/false_hit", key=key)
    assert (status, said) == (200, {"key": key, "was_here": True, "others_told": False})
    assert "fwd=miss" in await ask(sidecar, EGG)
    assert "detail=exact" in await ask(sidecar, EGG)
    assert "fwd=miss" in await ask(sidecar, "how can I boil an egg")
    assert len(provider.requests) == 3


async def test_a_false_hit_that_is_not_here_is_remembered(
    sidecar: Running, admin: aiohttp.ClientSession
) -> None:
    status, said = await change(admin, "/cache/false_hit", key=NO_KEY)
    assert (status, said["was_here"]) == (200, False)
    answers = tiers_of(sidecar).answers
    assert answers is not None and answers.is_pinned(bytes.fromhex(NO_KEY))


@pytest.mark.parametrize("query", [{}, {"key": "1"}, {"key": NO_KEY, "route": "auto"}])
async def test_a_false_hit_wants_a_key_alone(admin: aiohttp.ClientSession, query: dict[str, str]) -> None:
    status, said = await change(admin, "/cache/false_hit", **query)
    assert status == 400 and said.count("\n") == 1


# --- reset ---


def switch_off(here: Running, *routes: str, tier: str = "exact") -> None:
    shadow = tiers_of(here).shadow
    for route in routes:
        for _ in range(20):
            shadow.note(route, tier, False)
        assert not shadow.is_on(route, tier)


async def test_all_tiers_that_are_off_come_on_again(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    switch_off(sidecar, "auto", "")
    tiers_of(sidecar).shadow.note("auto", "canonical", True)
    status, said = await change(admin, "/cache/reset")
    assert status == 200
    assert said == {"reset": [{"route": "", "tier": "exact"}, {"route": "auto", "tier": "exact"}]}
    assert all(one.is_on for one in tiers_of(sidecar).shadow.report())
    assert (await change(admin, "/cache/reset"))[1] == {"reset": []}


async def test_only_what_is_named_comes_on_again(sidecar: Running, admin: aiohttp.ClientSession) -> None:
    switch_off(sidecar, "auto", "")
    switch_off(sidecar, "auto", tier="canonical")
    shadow = tiers_of(sidecar).shadow
    await change(admin, "/cache/reset", route="")
    assert (shadow.is_on("", "exact"), shadow.is_on("auto", "exact")) == (True, False)
    await change(admin, "/cache/reset", route="auto", tier="canonical")
    assert (shadow.is_on("auto", "canonical"), shadow.is_on("auto", "exact")) == (True, False)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"tier": "fuzzy"}, 400, "exact, canonical, semantic"),
        ({"route": "atuo"}, 404, "There is no route 'atuo'; there are auto."),
        ({"all": "1"}, 400, "'all' is not known here"),
    ],
)
async def test_a_reset_that_is_not_understood_changes_nothing(
    sidecar: Running, admin: aiohttp.ClientSession, query: dict[str, str], status: int, said: str
) -> None:
    switch_off(sidecar, "auto")
    answered, text = await change(admin, "/cache/reset", **query)
    assert answered == status and said in text
    assert not tiers_of(sidecar).shadow.is_on("auto", "exact")


# --- who may, and what is written down ---


def session_of(here: Running) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(here.admin_url)


@pytest.mark.parametrize("path", CHANGES)
async def test_without_a_cache_each_says_so(provider: DemoProvider, path: str) -> None:
    async with running(config_for(provider.url)) as here, session_of(here) as admin:
        response = await admin.post(path, headers=GUARD)
        assert (response.status, await response.text()) == (
            409,
            "There is no cache: add `cache` to the configuration.\n",
        )


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("headers", [{}, {**GUARD, "Origin": "https://a.example"}])
async def test_a_web_page_changes_nothing(
    sidecar: Running, admin: aiohttp.ClientSession, path: str, headers: dict[str, str]
) -> None:
    await ask(sidecar, EGG)
    switch_off(sidecar, "auto")
    assert (await admin.post(path, headers=headers)).status == 403
    assert (await admin.get(path, headers=GUARD)).status == 405
    assert entries(sidecar) == 1 and not tiers_of(sidecar).shadow.is_on("auto", "exact")


async def test_each_change_is_one_line_that_says_who_did_what(
    sidecar: Running, admin: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(sidecar, EGG, "auto", "ann")
    (key,) = keys_of(sidecar)
    with caplog.at_level(logging.WARNING, "sidecar"):
        await change(admin, "/cache/purge", route="auto", scope="ann")
        await change(admin, "/cache/purge", all="1")
        await change(admin, "/cache/false_hit", key=key)
        await change(admin, "/cache/reset")
        await change(admin, "/cache/purge")
    assert caplog.messages == [
        "cache: purge of route 'auto', scope 'ann', by admin 127.0.0.1: answers dropped here: 1",
        "cache: purge of everything, by admin 127.0.0.1: answers dropped here: 0",
        f"cache: false hit {key}, by admin 127.0.0.1: no answer was here, the key serves its own words only",
        "cache: tiers switched on by admin 127.0.0.1: none was off",
    ]
