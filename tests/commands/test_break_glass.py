"""`sidecar break-glass` as a program of its own, against a sidecar in a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import SidecarProcess, finished, sidecar_process, write_config
from tests.support.running import config_for

DIRECT = {"api_key": {"env": "KEY"}, "endpoints": [{"url": "http://127.0.0.1:2/v1"}], "break_glass": True}
ON = ("on", "--for", "30m", "--reason", "us-east-1 is lost – again")


def tree(*, direct: bool = True, **changes: Any) -> dict[str, Any]:
    config = config_for("http://127.0.0.1:1/v1", **changes)
    if direct:
        config["providers"]["direct"] = DIRECT
    return config


async def break_glass(*arguments: str) -> tuple[int, str, str]:
    return await finished("break-glass", *arguments)


def admin_of(sidecar: SidecarProcess) -> tuple[str, str]:
    return "--admin", sidecar.admin_url.removeprefix("http://")


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    config = write_config(tmp_path / "config", tree(break_glass={"path": str(tmp_path / "state.json")}))
    async with sidecar_process(config) as process:
        yield process


async def test_on_status_off(sidecar: SidecarProcess) -> None:
    admin = admin_of(sidecar)
    assert await break_glass("status", *admin) == (0, "break-glass is off\n", "")
    code, out, errors = await break_glass(*ON, *admin)
    assert (code, errors) == (0, "")
    assert out.startswith("break-glass is on until 20")
    assert "(30 min left), by admin 127.0.0.1: us-east-1 is lost – again\nasked last: direct\n" in out
    assert await sidecar.metric("sidecar_break_glass") == 1
    assert (await break_glass("status", *admin))[1].startswith("break-glass is on until 20")
    assert await break_glass("off", *admin) == (0, "break-glass is off\n", "")
    assert await sidecar.metric("sidecar_break_glass") == 0
    assert "WARNING sidecar: break-glass on until" in sidecar.errors
    assert "WARNING sidecar: break-glass off: by admin 127.0.0.1" in sidecar.errors


async def test_it_survives_that_the_process_is_killed(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", tree(break_glass={"path": str(tmp_path / "state.json")}))
    async with sidecar_process(config) as first:
        assert (await break_glass(*ON, *admin_of(first)))[0] == 0
        first.process.kill()
        await first.exit_code()
    async with sidecar_process(config) as second:
        code, out, _ = await break_glass("status", *admin_of(second))
    assert code == 0
    assert "us-east-1 is lost" in out and "note:" not in out


async def test_without_a_path_it_says_that_it_will_not_survive(tmp_path: Path) -> None:
    async with sidecar_process(write_config(tmp_path / "config", tree())) as process:
        _, out, _ = await break_glass(*ON, *admin_of(process))
    assert "note: this will not survive a restart: break_glass.path is not set\n" in out


async def test_over_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    address = f"unix:{folder / 'admin.sock'}"
    config = write_config(folder / "config", tree(listen={"admin": address}))
    async with sidecar_process(config):
        code, out, _ = await break_glass(*ON, "--admin", address)
    assert code == 0
    assert f"by admin {address}: " in out


async def test_with_a_control_socket_the_admin_listener_refuses_and_says_where_to_go(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    address = f"unix:{folder / 'control.sock'}"
    config = write_config(folder / "config", tree(listen={"control": address}))
    async with sidecar_process(config) as process:
        refused = await break_glass(*ON, *admin_of(process))
        shown = await break_glass("status", *admin_of(process))
        code, out, _ = await break_glass(*ON, "--admin", address)
    assert refused == (
        1,
        "",
        f"sidecar break-glass: Nothing is changed here: changes are taken on {address}.\n",
    )
    assert shown == (0, "break-glass is off\n", "")
    assert code == 0
    assert f"by admin {address}: " in out


async def test_where_no_provider_is_for_it_the_command_fails_with_the_reason(tmp_path: Path) -> None:
    async with sidecar_process(write_config(tmp_path / "config", tree(direct=False))) as process:
        code, out, errors = await break_glass(*ON, *admin_of(process))
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "No provider has break_glass: true" in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "ACTION"),
        (("on",), "--for"),
        (("on", "--for", "30m"), "--reason"),
        (("on", "--for", "30", "--reason", "r"), "a duration such as"),
        (("on", "--for", "2d", "--reason", "r"), "longer than 1d"),
        (("on", "--for", "30m", "--reason", " "), "a reason in a few words"),
        (("status", "--admin", "nowhere"), "expected host:port"),
    ],
)
async def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...], said: str) -> None:
    code, out, errors = await break_glass(*arguments)
    assert (code, out) == (2, "")
    assert said in errors.splitlines()[-1]
