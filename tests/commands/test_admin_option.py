"""`--admin`: what is given, else what the environment tells a sidecar, else the default."""

import argparse
from pathlib import Path

import pytest

from sidecar.commands.admin_option import add_admin_option
from tests.support.process import finished, sidecar_process, write_config
from tests.support.running import ENVIRON, config_for

CONTROL = {"SIDECAR_LISTEN_CONTROL": "unix:/run/sidecar/control.sock"}
ADMIN = {"SIDECAR_LISTEN_ADMIN": "127.0.0.1:9977"}


def admin_of(*arguments: str) -> str:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_admin_option(parser)
    return str(parser.parse_args(arguments).admin)


@pytest.mark.parametrize(
    ("environ", "arguments", "expected"),
    [
        ({}, (), "127.0.0.1:9901"),
        (ADMIN, (), "127.0.0.1:9977"),
        (CONTROL, (), "unix:/run/sidecar/control.sock"),
        (CONTROL | ADMIN, (), "unix:/run/sidecar/control.sock"),
        ({"SIDECAR_LISTEN_CONTROL": ""}, (), "127.0.0.1:9901"),
        (CONTROL | ADMIN, ("--admin", "unix:/else"), "unix:/else"),
        (CONTROL | ADMIN, ("--admin", "[::1]:9901"), "[::1]:9901"),
        ({"SIDECAR_LISTEN_CONTROL": "nowhere"}, ("--admin", "unix:/else"), "unix:/else"),
    ],
)
def test_what_is_given_wins_then_the_socket_then_the_listener(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], arguments: tuple[str, ...], expected: str
) -> None:
    for name in (*CONTROL, *ADMIN):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert admin_of(*arguments) == expected


@pytest.mark.parametrize("address", ["nowhere", "unix:relative", "unix:/" + "x" * 107])
def test_a_bad_address_says_where_it_stands(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with pytest.raises(argparse.ArgumentError) as given:
        admin_of("--admin", address)
    monkeypatch.setenv("SIDECAR_LISTEN_CONTROL", address)
    with pytest.raises(argparse.ArgumentError) as inherited:
        admin_of()
    assert "SIDECAR_LISTEN_CONTROL" not in str(given.value)
    assert str(inherited.value).startswith("argument --admin: SIDECAR_LISTEN_CONTROL: ")


async def test_with_the_sidecars_environment_the_commands_need_no_option(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder: Path = tmp_path_factory.mktemp("s")
    tree = config_for("http://127.0.0.1:1/v1")
    tree["providers"]["p"]["break_glass"] = True
    tree["providers"]["main"] = {**tree["providers"]["p"], "break_glass": False}
    tree["models"]["*"]["provider"] = "main"
    environ = {**ENVIRON, "SIDECAR_LISTEN_CONTROL": f"unix:{folder / 'control.sock'}"}
    async with sidecar_process(write_config(folder / "config", tree), environ=environ) as process:
        on = ("break-glass", "on", "--for", "30m", "--reason", "r")
        code, out, errors = await finished(*on, environ=environ)
        assert (code, errors) == (0, "")
        assert "by admin unix:" in out
        code, out, errors = await finished("explain", "--model", "m", environ=environ)
        assert (code, errors) == (0, "")
        assert "main" in out
        assert await process.metric("sidecar_break_glass") == 1
