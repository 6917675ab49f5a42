"""`sidecar explain` as a program of its own: from a running sidecar, and from a file alone."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.policy.support import hash_of
from tests.support.process import SidecarProcess, finished, sidecar_process, write_config
from tests.support.raw import RawProvider, raw_provider
from tests.support.running import ENVIRON, config_for

A, B = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


def tree(*urls: str, **changes: Any) -> dict[str, Any]:
    config = config_for(*(urls or (A, B)), **changes)
    for endpoint, region in zip(config["providers"]["p"]["endpoints"], ("us", "eu"), strict=False):
        endpoint["region"] = region
    config["locality"] = {"region": "us"}
    config["models"] = {
        "plain": {"provider": "p", "price": {"input": 0.5, "output": 2.0}, "max_output": 1000},
        "other": {"provider": "p"},
    }
    arms = [{"model": "plain", "weight": 1}, {"model": "other", "weight": 1}]
    rules = [{"when": {"keywords": ["analyze"]}, "model": "plain"}]
    config["routes"] = {"auto": {"split": arms, "classify": rules}}
    config["tiers"] = {"standard": {"requests_per_minute": 60}}
    config["keys"] = [{"id": "abroad", "team": "t1", "hash": hash_of("a-key"), "regions": ["eu"]}]
    return config


async def explain(*arguments: str) -> tuple[int, str, str]:
    return await finished("explain", *arguments)


def admin_of(sidecar: SidecarProcess) -> tuple[str, str]:
    return "--admin", sidecar.admin_url.removeprefix("http://")


@pytest.fixture
async def provider() -> AsyncIterator[RawProvider]:
    async with raw_provider() as raw:
        yield raw


@pytest.fixture
async def sidecar(tmp_path: Path, provider: RawProvider) -> AsyncIterator[SidecarProcess]:
    config = write_config(tmp_path / "config", tree(provider.url, B))
    async with sidecar_process(config) as process:
        yield process


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(write_config(tmp_path / "config", tree()))


# --- a running sidecar ---


async def test_a_running_sidecar_explains_and_sends_nothing(
    sidecar: SidecarProcess, provider: RawProvider
) -> None:
    code, out, errors = await explain(*admin_of(sidecar), "--model", "plain", "--key", "abroad")
    assert (code, errors) == (0, "")
    assert "caller  key abroad, team t1, tier standard, regions eu\n" in out
    assert "limits  60 of 60 requests left, full again in 0.0 s\n" in out
    assert f"would   send to {B}\n" in out
    first, second = [line.split() for line in out.splitlines() if line.startswith(("  1", "out"))]
    assert first[:8] == ["1", "plain", "p", B, "eu", "100%", "0.5", "2"]
    assert second[3] == provider.url and "not in regions eu of key abroad" in " ".join(second)
    assert provider.received == []


async def test_a_body_is_explained_as_it_would_be_sent(sidecar: SidecarProcess, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Analyze this"}]
    body = tmp_path / "body.json"
    body.write_bytes(orjson.dumps({"model": "auto", "messages": messages}))
    code, out, _ = await explain(*admin_of(sidecar), "--body", str(body))
    assert code == 0
    assert "route   auto by classify[0]\n" in out


async def test_json_is_what_the_admin_says(sidecar: SidecarProcess) -> None:
    code, out, _ = await explain(*admin_of(sidecar), "--model", "plain", "--stream", "--json")
    _, text = await sidecar.get(f"{sidecar.admin_url}/explain?model=plain&stream=1")
    assert code == 0
    assert out == text


async def test_a_key_that_is_not_listed_is_wrong_usage(sidecar: SidecarProcess) -> None:
    code, out, errors = await explain(*admin_of(sidecar), "--model", "plain", "--key", "nobody")
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert "no key has the id 'nobody'; listed are abroad" in errors


# --- a file alone ---


async def test_a_file_is_enough(file: str) -> None:
    code, out, errors = await explain("--config", file, "--model", "plain")
    assert (code, errors) == (0, "")
    assert f"would   send to {A}\n" in out


async def test_a_cache_of_the_file_is_empty_and_asks_nobody(tmp_path: Path) -> None:
    config = tree(cache={"redis": {"env": "REDIS_URL"}})
    body = {"model": "plain", "messages": [{"role": "user", "content": "How do I boil an egg?"}]}
    (tmp_path / "body").write_bytes(orjson.dumps(body))
    file = str(write_config(tmp_path / "c", config))
    environ = {**ENVIRON, "REDIS_URL": "redis://127.0.0.1:1"}
    arguments = ("explain", "--config", file, "--body", str(tmp_path / "body"))
    code, out, errors = await finished(*arguments, environ=environ)
    assert (code, errors) == (0, "")
    assert "cache   eligible, miss\n" in out


async def test_health_checks_of_the_file_are_not_begun(tmp_path: Path) -> None:
    config = tree(provider={"health_check": {"path": "/models"}})
    code, out, errors = await explain(
        "--config", str(write_config(tmp_path / "c", config)), "--model", "plain"
    )
    assert (code, errors) == (0, "")
    assert f"would   send to {A}\n" in out


async def test_break_glass_of_the_file_is_on_until_its_end(tmp_path: Path) -> None:
    config = tree(break_glass={"until": "2999-01-01", "reason": "test", "path": str(tmp_path / "state")})
    direct = {"api_key": {"env": "KEY"}, "endpoints": [{"url": "http://127.0.0.1:3/v1"}], "break_glass": True}
    config["providers"]["direct"] = direct
    code, out, _ = await explain("--config", str(write_config(tmp_path / "c", config)), "--model", "plain")
    assert code == 0
    assert "http://127.0.0.1:3/v1" in out and "left out" not in out
    config["break_glass"]["until"] = "2020-01-01"
    _, out, _ = await explain("--config", str(write_config(tmp_path / "c", config)), "--model", "plain")
    assert "left out: plain (direct): break-glass is off\n" in out


async def test_a_service_account_of_the_file_is_explained_and_nobody_is_asked(tmp_path: Path) -> None:
    config = tree(tiers={"standard": {"requests_per_minute": 60}})
    rules = {"callers": [{"namespace": "shop", "regions": ["eu"]}]}
    config["auth"] = {"mode": "keys", "service_accounts": rules}
    arguments = ("--config", str(write_config(tmp_path / "c", config)), "--model", "plain")
    code, out, errors = await explain(*arguments, "--key", "sa:shop/checkout")
    assert (code, errors) == (0, "")
    assert "caller  key sa:shop/checkout, team shop, tier standard, regions eu\n" in out
    assert f"would   send to {B}\n" in out
    code, out, errors = await explain(*arguments)
    assert (code, errors) == (0, "")
    assert (
        "note: only listed keys and service accounts may call: say which with key=ID, of abroad, or key=sa"
        in out
    )


async def test_the_split_is_said_to_depend_on_the_conversation(file: str) -> None:
    _, out, _ = await explain("--config", file, "--model", "auto")
    assert "route   auto by split: plain weight 1, other weight 1\n" in out
    assert "note: the split depends on the conversation" in out


async def test_an_unknown_model_is_an_explanation_too(file: str) -> None:
    code, out, errors = await explain("--config", file, "--model", "plane")
    assert (code, errors) == (0, "")
    assert "would   answer 404 model_not_found: " in out and "Did you mean `plain`?" in out


async def test_a_body_may_come_from_standard_input(file: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", "explain", "--config", file, "--body", "-", "--json"),
        stdin=PIPE,
        stdout=PIPE,
        env={"PATH": os.environ["PATH"], **ENVIRON},
    )
    out, _ = await process.communicate(b'{"model": "plain", "max_tokens": 10}')
    assert process.returncode == 0
    assert orjson.loads(out)["targets"][0]["worst_case_usd"] < 1e-4


async def test_no_secret_is_printed(file: str) -> None:
    for form in ([], ["--json"]):
        _, out, _ = await explain("--config", file, "--model", "plain", "--key", "abroad", *form)
        assert "sk-provider-secret" not in out and hash_of("a-key") not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--model"),
        (("--model", "m", "--body", "b"), "not allowed with"),
        (("--model", "m", "--importance", "high"), "--importance"),
        (("--model", "m", "--admin", "nowhere"), "expected host:port"),
        (("--body", "/nowhere/body.json"), "cannot be read: No such file"),
        (("--body", "/dev/zero"), "is over 1048576 bytes"),
        (("--body", "/dev/null", "--stream"), "--stream goes with --model"),
        (("--model", "m", "--config", "/nowhere/config.yaml"), "/nowhere/config.yaml"),
    ],
)
async def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...], said: str) -> None:
    code, out, errors = await explain(*arguments)
    assert (code, out) == (2, "")
    assert said in errors.splitlines()[-1]


async def test_a_bad_file_exits_with_2_and_names_the_field(tmp_path: Path) -> None:
    config = tree()
    config["models"]["plain"]["provider"] = "nobody"
    code, out, errors = await explain("--config", str(write_config(tmp_path / "c", config)), "--model", "m")
    assert (code, out) == (2, "")
    assert "models.plain.provider" in errors
