"""`sidecar admin` as a program of its own, against a sidecar in a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin.client import MAX_BYTES
from tests.support.process import SidecarProcess, finished, sidecar_process, write_config
from tests.support.raw import raw_provider
from tests.support.running import ENVIRON, config_for

TREE = config_for("http://127.0.0.1:1/v1")


def admin_of(sidecar: SidecarProcess) -> tuple[str, str]:
    return "--admin", sidecar.admin_url.removeprefix("http://")


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    async with sidecar_process(write_config(tmp_path / "config", TREE)) as process:
        yield process


async def test_it_prints_what_the_admin_interface_says(sidecar: SidecarProcess) -> None:
    for path in ("/clusters?format=json", "/config_dump", "/clusters", "/"):
        _, text = await sidecar.get(f"{sidecar.admin_url}{path}")
        assert await finished("admin", *admin_of(sidecar), path) == (0, text, "")
    assert await finished("admin", "get", "/ready", *admin_of(sidecar)) == (0, "LIVE\n", "")


async def test_post_changes(sidecar: SidecarProcess) -> None:
    assert await finished("admin", "post", "/healthcheck/fail", *admin_of(sidecar)) == (0, "OK\n", "")
    status, _ = await sidecar.get(f"{sidecar.health_url}/readyz")
    assert status == 503
    assert await finished("admin", *admin_of(sidecar), "POST", "/quitquitquit") == (0, "OK\n", "")
    assert await sidecar.exit_code() == 0


async def test_in_the_sidecars_environment_it_drains_without_an_option(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    environ = {**ENVIRON, "SIDECAR_LISTEN_CONTROL": f"unix:{folder / 'control.sock'}"}
    tree = {**TREE, "drain": {"min": "0s", "max": "1s"}}
    async with sidecar_process(write_config(folder / "config", tree), environ=environ) as process:
        code, out, errors = await finished("admin", "post", "/drain_listeners", *admin_of(process))
        assert (code, out, errors.count("\n")) == (1, "", 1)
        assert "Nothing is changed here: changes are taken on unix:" in errors
        drained = await finished("admin", "post", "/drain_listeners", environ=environ)
        assert drained == (0, "OK\n", "")
        status, _ = await process.get(f"{process.health_url}/readyz")
        assert status == 503


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/nowhere",), "404: Not Found"),
        (("get", "/drain_listeners"), "405: Method Not Allowed"),
        (("post", "/clusters"), "405: Method Not Allowed"),
        (("post", "/logging?level=loud"), "level must be one of debug, error, info, warning"),
        (("/explain",), "give model=NAME, or POST the JSON that the app would send"),
    ],
)
async def test_what_is_refused_is_one_line(
    sidecar: SidecarProcess, arguments: tuple[str, ...], said: str
) -> None:
    answered = await finished("admin", *arguments, *admin_of(sidecar))
    assert answered == (1, "", f"sidecar admin: {said}\n")


async def test_a_sidecar_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    code, out, errors = await finished("admin", "/clusters", "--admin", f"unix:{tmp_path}/none")
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "no sidecar answers at unix:" in errors


@pytest.mark.parametrize(("size", "code"), [(MAX_BYTES, 0), (MAX_BYTES + 1, 1)])
async def test_an_answer_that_would_be_cut_is_not_printed(size: int, code: int) -> None:
    async with raw_provider() as other:

        async def answer(reader: Any, writer: Any) -> None:
            await other.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

        other.script = answer
        address = other.url.removeprefix("http://").removesuffix("/v1")
        answered, out, errors = await finished("admin", "/config_dump", "--admin", address)
    assert (answered, len(out)) == (code, 0 if code else size)
    assert errors.count("\n") == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "PATH"),
        (("clusters",), "begins with /, not 'clusters'"),
        (("post",), "begins with /, not 'post'"),
        (("put", "/clusters"), "invalid choice: 'PUT'"),
        (("/a b",), "not '/a b'"),
        (("/a\r\nx-evil: 1",), "visible ASCII"),
        (("/\u00e9",), "visible ASCII"),
        (("/clusters", "--admin", "nowhere"), "expected host:port"),
    ],
)
async def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...], said: str) -> None:
    code, out, errors = await finished("admin", *arguments)
    assert (code, out) == (2, "")
    assert said in errors.splitlines()[-1]
