"""Leaving and starting, as a process manager sees them: signals, exit codes, streams in progress."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM, Tap
from tests.support.http1 import Client, ask, client
from tests.support.process import SidecarProcess, finished, sidecar_process, spawn, write_config
from tests.support.raw import post
from tests.support.running import config_for
from tests.support.waiting import until

ASK = post(orjson.dumps(QUESTION), close=False)
ASK_STREAM = post(orjson.dumps(STREAM), close=False)


@pytest.fixture
def tap() -> Tap:
    return Tap()


def config(folder: Path, provider: DemoProvider, **drain: str) -> Path:
    limits = {"min": "100ms", "max": "20s", **drain}
    return write_config(folder / "config", config_for(provider.url, drain=limits))


async def open_stream(caller: Client, tap: Tap) -> None:
    """Ask for a stream and read its first events; the provider holds the rest back."""
    tap.allow(2)
    caller.send(ASK_STREAM)
    assert (await caller.head()).status == 200
    assert b"content" in await caller.chunk()


async def draining(process: SidecarProcess) -> None:
    async with asyncio.timeout(5):
        while (await process.get(f"{process.health_url}/readyz"))[0] != 503:
            pass


async def test_sigterm_lets_a_stream_finish_and_then_exits_with_0(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    async with sidecar_process(config(tmp_path, provider)) as process, client(process.port) as caller:
        assert await process.get(f"{process.health_url}/readyz") == (200, "LIVE\n")
        await open_stream(caller, tap)
        process.send(signal.SIGTERM)
        await draining(process)
        assert (await process.get(f"{process.health_url}/livez"))[0] == 200

        tap.open()
        rest = b""
        while piece := await caller.chunk():
            rest += piece
        assert rest.endswith(b"data: [DONE]\n\n")
        assert b"error" not in rest
        assert await process.exit_code() == 0
        assert "Traceback" not in process.errors


async def test_while_draining_requests_are_served_and_their_connections_closed(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    async with (
        sidecar_process(config(tmp_path, provider)) as process,
        client(process.port) as caller,
        client(process.port) as idle,
    ):
        idle.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await idle.answer()
        await open_stream(caller, tap)
        process.send(signal.SIGTERM)
        await draining(process)
        assert await idle.has_ended()
        async with client(process.port) as new:
            new.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await new.answer()
            assert (answer.status, answer.head.get("connection")) == (200, "close")
            assert await new.has_ended()


async def test_with_no_minimum_a_stream_still_finishes_before_the_exit(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    async with (
        sidecar_process(config(tmp_path, provider, min="0s")) as process,
        client(process.port) as caller,
    ):
        await open_stream(caller, tap)
        process.send(signal.SIGTERM)
        await draining(process)
        tap.open()
        rest = b""
        while piece := await caller.chunk():
            rest += piece
        assert rest.endswith(b"data: [DONE]\n\n")
        assert await process.exit_code() == 0


@pytest.mark.parametrize("how", ["drain.max", "second signal", "interrupt"])
async def test_an_open_stream_gets_the_error_event_and_a_broken_connection(
    provider: DemoProvider, tap: Tap, tmp_path: Path, how: str
) -> None:
    limit = "300ms" if how == "drain.max" else "20s"
    async with (
        sidecar_process(config(tmp_path, provider, max=limit)) as process,
        client(process.port) as caller,
    ):
        await open_stream(caller, tap)
        process.send(signal.SIGINT if how == "interrupt" else signal.SIGTERM)
        if how == "second signal":
            await draining(process)
            process.send(signal.SIGTERM)
        events = [await caller.chunk()]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            while True:
                events.append(await caller.chunk())
                assert events[-1], "the body must not end as if it were whole"
        error = orjson.loads(b"".join(events).split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
        assert (error["code"], error["type"]) == ("draining", "server_error")
        assert await process.exit_code(within_s=5) == 0
        assert "Traceback" not in process.errors
    await until(lambda: provider.open_connections == 0)
    assert provider.cancelled == 1


@pytest.mark.parametrize("how", ["drain.max", "interrupt"])
async def test_a_websocket_is_told_on_both_sides_and_logged_as_drained(tmp_path: Path, how: str) -> None:
    closed: list[int | None] = []

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        closed.append(socket.close_code)
        return socket

    server = web.ServerRunner(web.Server(echo, access_log=None), shutdown_timeout=0.1)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    log = tmp_path / "access.log"
    tree = config_for(
        f"http://127.0.0.1:{server.addresses[0][1]}/v1",
        drain={"min": "0s", "max": "200ms" if how == "drain.max" else "20s"},
        telemetry={"access_log": str(log)},
    )
    async with (
        sidecar_process(write_config(tmp_path / "config", tree)) as process,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{process.url}/realtime") as caller,
    ):
        await caller.send_str("hello")
        assert await caller.receive_str(timeout=5) == "hello"
        process.send(signal.SIGINT if how == "interrupt" else signal.SIGTERM)
        message = await caller.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert await process.exit_code(within_s=5) == 0
        assert "Traceback" not in process.errors
    await until(lambda: closed == [1001])
    await server.cleanup()
    (line,) = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert (line["path"], line["status"], line["flags"]) == ("/v1/realtime", 101, "DR")


async def test_sigint_on_an_idle_sidecar_is_a_clean_end(provider: DemoProvider, tmp_path: Path) -> None:
    async with sidecar_process(config(tmp_path, provider, min="20s")) as process:
        process.send(signal.SIGINT)
        assert await process.exit_code(within_s=5) == 0
        assert "Traceback" not in process.errors
        assert "KeyboardInterrupt" not in process.errors


async def test_quitquitquit_exits_with_0(provider: DemoProvider, tmp_path: Path) -> None:
    async with sidecar_process(config(tmp_path, provider)) as process:
        url, headers = f"{process.admin_url}/quitquitquit", {"x-sidecar-admin": "1"}
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
            assert response.status == 200
        assert await process.exit_code(within_s=5) == 0


async def test_killed_with_open_streams_it_ends_them_for_both_sides(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    async with sidecar_process(config(tmp_path, provider)) as process, client(process.port) as caller:
        await open_stream(caller, tap)
        process.send(signal.SIGKILL)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            while await caller.chunk():
                pass
    await until(lambda: provider.cancelled == 1)


@pytest.mark.parametrize(("reader_stays", "requests"), [(True, 300), (False, 300), (False, 1)])
async def test_a_log_pipe_that_nobody_reads_spoils_neither_answers_nor_the_exit(
    provider: DemoProvider, tap: Tap, tmp_path: Path, reader_stays: bool, requests: int
) -> None:
    tap.open()
    tree = config_for(provider.url, drain={"min": "0s", "max": "1s"}, telemetry={"access_log": "stdout"})
    path = write_config(tmp_path / "config", tree)
    reader, writer = socket.socketpair()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with reader, writer:
        async with sidecar_process(path, stdout=writer.fileno()) as process:
            writer.close()
            if not reader_stays:
                reader.close()
            async with client(process.port) as caller:
                for _ in range(requests):  # 300: more than a batch, and more than the pipe holds
                    caller.send(ASK)
                    assert (await caller.answer()).status == 200
            process.send(signal.SIGTERM)
            assert await process.exit_code(within_s=10) == 0, process.errors
            assert "Traceback" not in process.errors
            assert "Exception ignored" not in process.errors


# --- starts that fail ---


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"providers": {}}, "providers"),
        ({"drain": {"max": "soon"}}, "drain.max"),
        ({"models": {"*": {"provider": "nobody"}}}, "models"),
        ({"surplus": 1}, "surplus"),
    ],
)
async def test_a_broken_configuration_exits_with_2_and_names_the_field(
    provider: DemoProvider, tmp_path: Path, change: dict[str, Any], path: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tree = config_for(provider.url, listen={"data": f"127.0.0.1:{port}"}) | change
    code, out, errors = await finished("run", "--config", str(write_config(tmp_path / "config", tree)))
    assert (code, out) == (2, "")
    assert f"{path}" in errors
    assert "Traceback" not in errors
    assert "listening" not in errors
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


@pytest.mark.parametrize("listener", ["data", "admin", "health"])
async def test_a_taken_port_exits_with_1_and_one_line(
    provider: DemoProvider, tmp_path: Path, listener: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tree = config_for(provider.url, listen={listener: f"127.0.0.1:{port}"})
        code, out, errors = await finished("run", "--config", str(write_config(tmp_path / "config", tree)))
    assert (code, out) == (1, "")
    assert len(errors.splitlines()) == 1, errors
    assert str(port) in errors


async def test_a_connection_is_accepted_only_once_all_listeners_are_there(
    provider: DemoProvider, tap: Tap, tmp_path: Path
) -> None:
    tap.open()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tree = config_for(provider.url, listen={"data": f"127.0.0.1:{port}"})
    process = await spawn("run", "--config", str(write_config(tmp_path / "config", tree)))
    try:
        answer = None
        async with asyncio.timeout(10):
            while answer is None:
                try:
                    answer = await ask(port, ASK)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.002)
        assert answer.status == 200
    finally:
        process.kill()
        await process.communicate()
