"""A listener on a Unix socket: who may connect, what it replaces and what not, and what stays behind."""

import asyncio
import contextlib
import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.config.addresses import Address
from sidecar.downstream.listener import open_sites
from tests.support.leaks import open_descriptors
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def listening(path: Path) -> AsyncIterator[web.ServerRunner]:
    """A server on this path that says hello; closed at the end."""

    async def hello(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    runner = web.ServerRunner(web.Server(hello))
    await runner.setup()
    try:
        assert await open_sites(runner, Address(path=str(path))) == [f"unix:{path}"]
        yield runner
    finally:
        await runner.cleanup()


async def refused(path: Path, message: str) -> None:
    """Listening there fails with one line that names the path, and leaves no descriptor open."""
    before = open_descriptors()
    with pytest.raises(OSError, match=re.escape(f"unix:{path}: {message}")):
        async with listening(path):
            pass
    await until(lambda: open_descriptors() == before)  # what was asked has to notice, too


async def answer_at(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(10):
        answered = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answered.rpartition(b"\r\n")[2]


def dead_socket(path: Path) -> None:
    """What a killed process leaves behind."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()


async def test_only_the_owner_may_connect_and_the_mask_of_the_process_is_as_before(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with listening(tmp_path / "s"):
            mode = os.lstat(tmp_path / "s").st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert await answer_at(tmp_path / "s") == b"hello"
    finally:
        assert os.umask(before) == 0o022


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    async with listening(tmp_path / "s"):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    dead_socket(tmp_path / "s")
    async with listening(tmp_path / "s"):
        assert await answer_at(tmp_path / "s") == b"hello"
    assert list(tmp_path.iterdir()) == []


async def test_the_socket_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    async with listening(tmp_path / "s"):
        await refused(tmp_path / "s", "another process or user has it")
        assert await answer_at(tmp_path / "s") == b"hello"


async def test_a_process_that_does_not_accept_is_alive_and_holds_up_nobody(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        while True:  # until its backlog is full
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            if caller.connect_ex(str(tmp_path / "s")):
                break
        await refused(tmp_path / "s", "another process or user has it")
        assert os.path.exists(tmp_path / "s")


async def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "s"))
        await refused(tmp_path / "s", "another process or user has it")
        assert os.path.exists(tmp_path / "s")


@pytest.mark.parametrize("target", ["dead", "file", "nothing"])
async def test_a_symbolic_link_is_neither_followed_nor_removed(tmp_path: Path, target: str) -> None:
    dead_socket(tmp_path / "dead")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "s").symlink_to(tmp_path / target)
    await refused(tmp_path / "s", "something else than a socket is there")
    assert os.readlink(tmp_path / "s") == str(tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead", "file", "s"]


async def test_a_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("keep")
    await refused(tmp_path / "s", "something else than a socket is there")
    assert (tmp_path / "s").read_text() == "keep"


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    await refused(tmp_path / "no" / "s", f"there is no folder {tmp_path}/no: make it first")


async def test_what_another_put_in_its_place_is_not_removed_at_the_end(tmp_path: Path) -> None:
    async with listening(tmp_path / "s"):
        os.unlink(tmp_path / "s")
        dead_socket(tmp_path / "s")
        theirs = os.lstat(tmp_path / "s").st_ino
    assert os.lstat(tmp_path / "s").st_ino == theirs


async def test_a_socket_that_somebody_removed_does_not_spoil_the_end(tmp_path: Path) -> None:
    async with listening(tmp_path / "s"):
        os.unlink(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


async def test_the_next_process_can_have_it_before_the_first_is_quite_gone(tmp_path: Path) -> None:
    async with listening(tmp_path / "s") as first:
        (site,) = first.sites
        await site.stop()
        async with listening(tmp_path / "s"):
            await first.cleanup()
            assert await answer_at(tmp_path / "s") == b"hello"


async def test_a_start_that_is_cancelled_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_server", cancelled, raising=True)
    with pytest.raises(asyncio.CancelledError):
        async with listening(tmp_path / "s"):
            pass
    assert list(tmp_path.iterdir()) == []
