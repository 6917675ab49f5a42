"""Break-glass over the admin interface: who may switch it, what is answered, and what then happens."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.config.load import parse
from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, demo_provider
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until

GUARD = {"x-sidecar-admin": "1"}
ON = {"for": "30m", "reason": "us-east-1 is lost"}


def config_with(provider: str, direct: str | None, **section: str) -> dict[str, Any]:
    """A provider, and where `direct` is given another one for emergencies."""
    tree = config_for(provider, break_glass=section)
    tree["providers"]["p"]["retry"] = {"attempts": 3}
    if direct is not None:
        one = {"api_key": {"env": "KEY"}, "endpoints": [{"url": direct}], "break_glass": True}
        tree["providers"]["direct"] = one
    return tree


@pytest.fixture
async def direct() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as demo:
        yield demo


@pytest.fixture
async def sidecar(provider: DemoProvider, direct: DemoProvider) -> AsyncIterator[Running]:
    async with running(config_with(provider.url, direct.url)) as started:
        yield started


async def switch(admin: aiohttp.ClientSession, query: dict[str, str]) -> tuple[int, str]:
    response = await admin.post("/break_glass", params=query, headers=GUARD)
    return response.status, await response.text()


async def test_it_is_off_at_first(admin: aiohttp.ClientSession) -> None:
    state = await (await admin.get("/break_glass")).json()
    assert state == {
        **dict.fromkeys(("since", "until", "reason", "by")),
        "on": False,
        "left_s": 0.0,
        "providers": ["direct"],
        "notes": [],
    }


async def test_it_goes_on_with_its_reason_and_off_again(
    admin: aiohttp.ClientSession, sidecar: Running
) -> None:
    status, text = await switch(admin, ON)
    state = orjson.loads(text)
    assert (status, state["on"], state["reason"]) == (200, True, "us-east-1 is lost")
    assert state["by"] == "admin 127.0.0.1"
    assert 1790 < state["left_s"] <= 1800
    assert state["since"] < state["until"]
    assert state["notes"] == ["this will not survive a restart: break_glass.path is not set"]
    assert await (await admin.get("/break_glass")).json() == state | {
        "left_s": pytest.approx(state["left_s"], abs=10)
    }
    assert await sidecar.metric("sidecar_break_glass") == 1
    status, text = await switch(admin, {"off": ""})
    assert (status, orjson.loads(text)["on"]) == (200, False)
    assert await sidecar.metric("sidecar_break_glass") == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "?for=30m&reason="),
        ({"for": "30m"}, "?for=30m&reason="),
        ({"reason": "r"}, "?for=30m&reason="),
        ({**ON, "off": ""}, "?for=30m&reason="),
        ({**ON, "foor": "1"}, "?for=30m&reason="),
        ({**ON, "for": "30"}, "a duration such as"),
        ({**ON, "for": "25h"}, "longer than 1d"),
        ({**ON, "for": "0s"}, "longer than 0"),
        ({**ON, "reason": ""}, "a reason in a few words"),
        ({**ON, "reason": "a\nWARNING forged"}, "without line ends"),
        ({**ON, "reason": "x" * 501}, "at most 500"),
    ],
)
async def test_what_is_not_understood_is_refused_and_changes_nothing(
    admin: aiohttp.ClientSession, sidecar: Running, query: dict[str, str], said: str
) -> None:
    status, text = await switch(admin, query)
    assert status == 400
    assert said in text and text.count("\n") == 1
    assert not sidecar.sidecar.break_glass.is_on


@pytest.mark.parametrize(
    "headers", [{}, {"x-sidecar-admin": "true"}, {**GUARD, "Origin": "https://a.example"}]
)
async def test_a_web_page_cannot_switch_it(
    admin: aiohttp.ClientSession, sidecar: Running, headers: dict[str, str]
) -> None:
    assert (await admin.post("/break_glass", params=ON, headers=headers)).status == 403
    assert not sidecar.sidecar.break_glass.is_on


async def test_a_get_changes_nothing(admin: aiohttp.ClientSession, sidecar: Running) -> None:
    assert (await admin.get("/break_glass", params=ON, headers=GUARD)).status == 200
    assert not sidecar.sidecar.break_glass.is_on


async def test_without_a_provider_for_it_the_answer_says_what_is_missing(provider: DemoProvider) -> None:
    async with (
        running(config_with(provider.url, None)) as sidecar,
        aiohttp.ClientSession(sidecar.admin_url) as session,
    ):
        status, text = await switch(session, ON)
    assert status == 409
    assert "No provider has break_glass: true" in text


async def test_over_a_unix_socket_the_log_names_the_socket(
    provider: DemoProvider, direct: DemoProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "admin.sock"
    tree = config_with(provider.url, direct.url)
    tree["listen"]["admin"] = f"unix:{path}"
    connector = aiohttp.UnixConnector(str(path))
    async with running(tree), aiohttp.ClientSession("http://sidecar", connector=connector) as session:
        _, text = await switch(session, ON)
    assert orjson.loads(text)["by"] == f"admin unix:{path}"


# --- what then happens ---


async def ask(sidecar: Running) -> tuple[int, str | None]:
    """Status of one request, and who answered it."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sidecar.url}/chat/completions", json=QUESTION) as response,
    ):
        await response.read()
        return response.status, response.headers.get("x-sidecar-provider")


async def test_only_while_it_is_on_the_direct_provider_takes_over(
    admin: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider, direct: DemoProvider
) -> None:
    await switch(admin, ON)
    assert await ask(sidecar) == (200, "p")
    await switch(admin, {"off": ""})
    await provider.stop()
    assert (await ask(sidecar))[0] == 503
    assert direct.attempts == 0
    await switch(admin, ON)
    assert await ask(sidecar) == (200, "direct")
    await switch(admin, {"off": ""})
    assert (await ask(sidecar))[0] == 503


async def test_it_stays_on_through_a_reload(
    admin: aiohttp.ClientSession, sidecar: Running, provider: DemoProvider, direct: DemoProvider
) -> None:
    await switch(admin, ON)
    loaded = parse(orjson.dumps(config_with(provider.url, direct.url)), ENVIRON)
    sidecar.sidecar._apply(loaded.config)
    await provider.stop()
    assert await ask(sidecar) == (200, "direct")


async def test_a_running_sidecar_ends_it_by_itself(admin: aiohttp.ClientSession, sidecar: Running) -> None:
    await switch(admin, {**ON, "for": "50ms"})
    await until(lambda: not sidecar.sidecar.break_glass.is_on)
    assert await sidecar.metric("sidecar_break_glass") == 0


async def test_a_new_process_finds_it_on(
    provider: DemoProvider, direct: DemoProvider, tmp_path: Path
) -> None:
    tree = config_with(provider.url, direct.url, path=str(tmp_path / "state.json"))
    async with running(tree) as first, aiohttp.ClientSession(first.admin_url) as session:
        assert orjson.loads((await switch(session, ON))[1])["notes"] == []
    await provider.stop()
    async with running(tree) as second:
        assert await second.metric("sidecar_break_glass") == 1
        assert await ask(second) == (200, "direct")
