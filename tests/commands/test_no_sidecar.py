"""Commands that ask a running sidecar, where none is or something else answers: one plain line each."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import finished
from tests.support.raw import raw_provider

STATUS = ("break-glass", "status")
ON = ("break-glass", "on", "--for", "30m", "--reason", "r")
EXPLAIN = ("explain", "--model", "m")
CACHE = ("cache", "status")
PURGE = ("cache", "purge", "--all")


@pytest.mark.parametrize("command", [STATUS, ON, ("break-glass", "off"), EXPLAIN, CACHE, PURGE], ids=" ".join)
async def test_a_sidecar_that_does_not_run_is_one_line(command: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, errors = await finished(*command, "--admin", address)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert f"no sidecar answers at {address} (Connection refused)" in errors


async def test_a_socket_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, out, errors = await finished(*STATUS, "--admin", f"unix:{tmp_path}/none")
    assert (code, out, errors.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("command", [STATUS, EXPLAIN, CACHE, PURGE], ids=" ".join)
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 11\r\n\r\nno\x1b[2J such\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_what_is_no_sidecar_is_one_plain_line(command: tuple[str, ...], said: bytes) -> None:
    async with raw_provider() as other:

        async def answer(reader: Any, writer: Any) -> None:
            await other.read_request(reader)
            writer.write(said)

        other.script = answer
        address = other.url.removeprefix("http://").removesuffix("/v1")
        code, out, errors = await finished(*command, "--admin", address)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "\x1b" not in errors and "Traceback" not in errors
