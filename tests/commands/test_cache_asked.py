"""`sidecar cache status|purge|false-hit|reset` as a program of its own, against a sidecar in another."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from tests.support.process import SidecarProcess, finished, sidecar_process, write_config
from tests.support.running import config_for

EGG = "How do I boil an egg?"
NO_KEY = "00" * 16


def admin_of(sidecar: SidecarProcess) -> tuple[str, str]:
    return "--admin", sidecar.admin_url.removeprefix("http://")


@pytest.fixture
async def sidecar(tmp_path: Path, provider: DemoProvider) -> AsyncIterator[SidecarProcess]:
    tree = config_for(provider.url, cache={}, telemetry={"access_log": str(tmp_path / "access.log")})
    tree["routes"] = {"auto": {"split": [{"model": "m", "weight": 1}]}}
    async with sidecar_process(write_config(tmp_path / "config", tree)) as process:
        yield process


async def ask(sidecar: SidecarProcess, text: str) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sidecar.url}/chat/completions", json=body) as response,
    ):
        await response.read()
        return response.headers["cache-status"]


async def cache(sidecar: SidecarProcess, *arguments: str) -> tuple[int, str, str]:
    return await finished("cache", *arguments, *admin_of(sidecar))


async def test_status_is_a_table_or_what_the_admin_says(sidecar: SidecarProcess) -> None:
    for _ in range(3):
        await ask(sidecar, EGG)
    code, out, errors = await cache(sidecar, "status")
    assert (code, errors) == (0, "")
    assert "hits      66.7% of what was looked up; 0 questions under way\n" in out
    assert out.splitlines()[-1].split()[:3] == ["auto", "exact", "2"]
    code, out, _ = await cache(sidecar, "status", "--json")
    _, text = await sidecar.get(f"{sidecar.admin_url}/cache")
    assert (code, out) == (0, text)


async def test_purge_drops_what_is_named_and_nothing_without_a_word(sidecar: SidecarProcess) -> None:
    await ask(sidecar, EGG)
    await ask(sidecar, "How do I boil rice?")
    code, out, errors = await cache(sidecar, "purge")
    assert (code, out) == (2, "")
    assert errors == (
        "sidecar cache: say what to drop:"
        " --key HEX, --route NAME, --scope NAME, of several what has all of them; or --all\n"
    )
    assert await cache(sidecar, "purge", "--scope", "shared", "--route", "auto") == (
        0,
        "dropped 2 answers\n",
        "",
    )
    assert await cache(sidecar, "purge", "--all") == (0, "dropped 0 answers\n", "")
    assert "by admin 127.0.0.1: answers dropped here: 2" in sidecar.errors


async def test_a_key_of_the_access_log_is_reported_and_dropped(
    sidecar: SidecarProcess, tmp_path: Path
) -> None:
    await ask(sidecar, EGG)
    assert "canonical" in await ask(sidecar, "how can I boil an egg")
    # The log is written once a second; the same key stands in both lines.
    sidecar.process.terminate()
    await sidecar.exit_code()
    *_, last = (tmp_path / "access.log").read_text().splitlines()
    key = orjson.loads(last)["cache"]["key"]
    async with sidecar_process(tmp_path / "config") as again:
        await ask(again, EGG)
        code, out, errors = await cache(again, "false-hit", key)
        assert (code, errors) == (0, "")
        assert out == "the answer is dropped; the key serves its own words only from now on\n"
        await ask(again, EGG)
        assert "fwd=miss" in await ask(again, "how can I boil an egg")


async def test_reset_says_what_came_on(sidecar: SidecarProcess) -> None:
    assert await cache(sidecar, "reset") == (0, "no tier was off\n", "")
    code, out, _ = await cache(sidecar, "reset", "--tier", "exact", "--route", "auto", "--json")
    assert (code, orjson.loads(out)) == (0, {"reset": []})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("purge", "--key", "abc"), 2, "32 hexadecimal digits"),
        (("purge", "--route", ""), 1, "There is no route ''"),
        (("purge", "--scope", "nobody"), 1, "There is no key 'nobody'"),
        (("purge", "--all", "--route", "auto"), 2, "--all drops everything, and stands alone"),
        (("false-hit", "abc"), 2, "32 hexadecimal digits"),
        (("reset", "--tier", "fuzzy"), 2, "exact, canonical, semantic"),
        (("reset", "--route", "nowhere"), 1, "There is no route 'nowhere'"),
    ],
)
async def test_what_the_sidecar_refuses_is_one_line(
    sidecar: SidecarProcess, arguments: tuple[str, ...], code: int, said: str
) -> None:
    answered, out, errors = await cache(sidecar, *arguments)
    assert (answered, out, errors.count("\n")) == (code, "", 1)
    assert errors.startswith("sidecar cache: ") and said in errors


async def test_a_sidecar_without_a_cache_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", config_for("http://127.0.0.1:1/v1"))
    async with sidecar_process(config) as process:
        answers: list[Any] = [
            await cache(process, *arguments) for arguments in (("status",), ("purge", "--all"))
        ]
    said = "sidecar cache: There is no cache: add `cache` to the configuration.\n"
    assert answers == [(1, "", said)] * 2
