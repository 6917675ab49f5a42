"""`sidecar demo` as its user has it: a process of its own, with and without a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import APIError, OpenAI

from sidecar.demo.run import Ports, demo

DEFAULTS = Ports()
PATIENCE_S = 20.0
# The command line with other ports in place of the defaults: nothing else differs.
ELSEWHERE = """\
import functools, sidecar.cli, sidecar.demo.run as run
run.demo = functools.partial(run.demo, run.Ports({}, {}, {}, ({}, {}, {})))
sidecar.cli.main(["demo"])
"""


class Demo:
    """A running demo and what it has written so far, to a terminal or to a pipe."""

    def __init__(self, command: list[str], ports: Ports, has_terminal: bool) -> None:
        self.ports = ports
        self.written = ""
        self._read_end, write_end = pty.openpty() if has_terminal else os.pipe()
        if has_terminal:
            fcntl.ioctl(write_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
            self.settings = termios.tcgetattr(self._read_end)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
        )
        os.close(write_end)

    def read_until(self, condition: Callable[[str], object]) -> str:
        """All that was written once the condition holds for it."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition(self.written):
            ready, _, _ = select.select([self._read_end], [], [], max(0.0, end_s - time.monotonic()))
            assert ready, f"nothing more came after: {self.written[-500:]}"
            assert self._read_some(), f"it ended with: {self.written[-2000:]}"
        return self.written

    def read_to_end(self) -> str:
        while self._read_some():
            pass
        return self.written

    def _read_some(self) -> bool:
        try:
            data = os.read(self._read_end, 65_536)
        except OSError:  # how a pty says that nobody holds its other end
            return False
        self.written += data.decode()
        return bool(data)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.read_to_end()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.hang_up()
        self.process.kill()
        self.process.wait()

    def hang_up(self) -> None:
        if self._read_end >= 0:
            os.close(self._read_end)
            self._read_end = -1


@contextlib.contextmanager
def started(
    has_terminal: bool, ports: Ports | None = None, command: list[str] | None = None
) -> Iterator[Demo]:
    """`python -m sidecar demo`, or the same on other ports, once its banner is out."""
    if ports is None:
        ports, command = DEFAULTS, [sys.executable, "-m", "sidecar", "demo"]
    elif command is None:
        program = ELSEWHERE.format(ports.data, ports.admin, ports.health, *ports.regions)
        command = [sys.executable, "-c", program]
    run = Demo(command, ports, has_terminal)
    try:
        run.read_until(lambda text: "Ctrl-C ends it." in text)
        yield run
    finally:
        run.close()


def free_ports() -> Ports:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(6)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        data, admin, health, *regions = (taken.getsockname()[1] for taken in sockets)
    return Ports(data, admin, health, (regions[0], regions[1], regions[2]))


def ask(ports: Ports) -> str:
    """One streamed answer through the SDK."""
    base_url = f"http://127.0.0.1:{ports.data}/v1"
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini",
            stream=True,
            max_tokens=12,
            messages=[{"role": "user", "content": "Why is the sea salty?"}],
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def send(method: str, url: str, body: dict[str, Any]) -> Any:
    """The answer to a request with a JSON body, with its own body still to be read."""
    return urllib.request.urlopen(urllib.request.Request(url, orjson.dumps(body), method=method))


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(
    any(map(is_taken, (*DEFAULTS.regions, *DEFAULTS[:3]))), reason="a default port of the demo is taken"
)
def test_the_command_works_on_its_default_ports() -> None:
    with started(has_terminal=False) as run:
        assert "http://127.0.0.1:8080/v1" in run.written and "http://127.0.0.1:9901/" in run.written
        assert ask(run.ports).startswith("About “Why is the sea salty?”")
        with urllib.request.urlopen("http://127.0.0.1:9901/config_dump") as answer:
            dump = orjson.loads(answer.read())
        assert dump["providers"]["global-api"]["api_key"] == "***"
        assert run.end(signal.SIGINT) == 0


def explains(run: Demo) -> str:
    """The printed command that explains, as a user would copy it."""
    (line,) = (line for line in run.written.splitlines() if " explain --admin " in line)
    return line


def test_the_command_that_explains_runs_as_it_is_printed() -> None:
    with started(has_terminal=False, ports=free_ports()) as run:
        done = subprocess.run(explains(run), shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "deepseek-ai/DeepSeek-V4-Flash" in done.stdout


@pytest.mark.parametrize("is_on_path", [True, False])
def test_the_program_is_named_as_it_was_started(
    is_on_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports, program = free_ports(), tmp_path / "sidecar"
    program.write_text(ELSEWHERE.format(ports.data, ports.admin, ports.health, *ports.regions))
    program.chmod(0o755)
    if is_on_path:
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with started(has_terminal=False, ports=ports, command=[sys.executable, str(program)]) as run:
        name = "sidecar" if is_on_path else str(program)
        assert explains(run) == f"{name} explain --admin 127.0.0.1:{ports.admin} --model auto"


def test_on_a_terminal_the_line_lives_and_ctrl_c_leaves_it_whole() -> None:
    with started(has_terminal=True, ports=free_ports()) as run:
        run.read_until(lambda text: "\x1b[?25l\r0 requests" in text)
        assert ask(run.ports)
        text = run.read_until(lambda text: "\r1 requests" in text)
        assert re.search(r"\r1 requests \| [\d.]+/s \| first token \d+ ms \| 0 errors", text)
        settings, before = termios.tcgetattr(run._read_end), run.settings
        assert run.end(signal.SIGINT) == 0
        assert settings == before
        assert run.written.endswith("\x1b[?25h\r\n")
        assert "Traceback" not in run.written and "INFO" not in run.written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_without_a_terminal_nothing_is_escaped(number: signal.Signals) -> None:
    with started(has_terminal=False, ports=free_ports()) as run:
        assert ask(run.ports)
        run.read_until(lambda text: "\n1 requests" in text)
        assert run.end(number) == 0
        assert "\x1b" not in run.written and "Traceback" not in run.written


def test_ctrl_c_does_not_wait_for_an_open_stream() -> None:
    with started(has_terminal=True, ports=free_ports()) as run:
        url = f"http://127.0.0.1:{run.ports.data}/v1/chat/completions"
        control = f"http://127.0.0.1:{run.ports.regions[0]}/_demo/scenario"
        send("PATCH", control, {"token_interval_s": 2.0}).close()
        body = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "Tell me more."}]}
        with send("POST", url, body) as answer:
            assert answer.readline().startswith(b"data: ")
            run.read_until(lambda text: "1 open streams" in text)
            before_s = time.monotonic()
            assert run.end(signal.SIGINT) == 0
        assert time.monotonic() - before_s < 5.0
        assert run.written.endswith("\x1b[?25h\r\n") and "Traceback" not in run.written


@pytest.mark.parametrize("has_terminal", [True, False])
def test_it_ends_when_nobody_reads_it_any_more(has_terminal: bool) -> None:
    with started(has_terminal, ports=free_ports()) as run:
        run.hang_up()
        if not has_terminal:  # into a pipe nothing is written before something happens
            with contextlib.suppress(APIError):  # it may leave in the middle of this answer
                ask(run.ports)
        assert run.process.wait(PATIENCE_S) == 0


def test_taken_ports_are_named_before_anything_starts() -> None:
    ports = free_ports()
    with socket.socket() as one, socket.socket() as other:
        for taken, port in ((one, ports.regions[0]), (other, ports.data)):
            taken.bind(("127.0.0.1", port))
            taken.listen()
        low, high = sorted((ports.regions[0], ports.data))
        with pytest.raises(OSError, match=rf"^ports {low} and {high} are in use, .* end what holds them"):
            demo(ports)


def test_a_taken_port_is_one_line_and_exit_code_1() -> None:
    ports = free_ports()
    program = ELSEWHERE.format(ports.data, ports.admin, ports.health, *ports.regions)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.admin))
        taken.listen()
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith(f"sidecar: cannot start the demo: port {ports.admin} is in use")
    assert ended.stderr.count("\n") == 1
