from __future__ import annotations

import ast
import asyncio
import io
import shlex
from collections.abc import Callable

import orjson
import pytest

from sidecar.demo.scenario import Scenario
from sidecar.demo.terminal import LOG_INTERVAL_S, Region, Snapshot, banner, has_ansi, live, status_line

BUSY = Snapshot(requests=1204, errors=3, streams_open=2, first_token_p50_ms=211.6, rate=12.34)
REGIONS = [
    Region(name, f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{port}/_demo/scenario")
    for name, port in (("us-east-1", 9101), ("eu-west-1", 9102), ("ap-southeast-1", 9103))
]


def show(ansi: bool = False, program: str = "sidecar") -> str:
    return banner(
        data="http://127.0.0.1:8080",
        admin="http://127.0.0.1:9901",
        health="http://127.0.0.1:9902",
        regions=REGIONS,
        model="auto",
        program=program,
        ansi=ansi,
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Moves on with each sleep, and ends the run after so many of them."""

    def __init__(self, sleeps: int, then: type[BaseException] = asyncio.CancelledError) -> None:
        self.now = 0.0
        self._left = sleeps
        self.end = then

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._left -= 1
        if self._left == 0:
            raise self.end


async def run(read: Callable[[], Snapshot], clock: Clock, *, ansi: bool) -> str:
    out = io.StringIO()
    with pytest.raises(clock.end):
        await live(read, out, ansi=ansi, sleep=clock.sleep, clock=clock, columns=lambda: 80)
    return out.getvalue()


def test_the_banner_names_every_place() -> None:
    text = show()
    for url in ("http://127.0.0.1:8080/v1", "http://127.0.0.1:9901/", "http://127.0.0.1:9902/readyz"):
        assert url in text
    for region in REGIONS:
        assert f"{region.name} " in text and region.url in text


def test_the_lines_to_copy_are_whole_commands() -> None:
    lines = show().splitlines()
    curls = [shlex.split(line) for line in lines if line.startswith("curl ")]
    assert [words[1] for words in curls] == ["-N", "-X", "-X", "-si"]
    ask = orjson.loads(curls[0][curls[0].index("-d") + 1])
    assert ask["stream"] is True and ask["model"] == "auto"
    fault = orjson.loads(curls[1][curls[1].index("-d") + 1])
    Scenario().update(fault)
    first = lines.index("from openai import OpenAI")
    ast.parse("\n".join(lines[first : first + 5]))


def test_the_program_is_named_as_it_was_started() -> None:
    for program in ("sidecar", ".venv/bin/sidecar"):
        line = f"{program} explain --admin 127.0.0.1:9901 --model auto"
        assert line in show(program=program).splitlines()


def test_the_banner_is_plain_unless_told_otherwise() -> None:
    assert "\x1b" not in show()
    assert "\x1b[1m" in show(ansi=True)


def test_the_status_line_has_every_figure() -> None:
    assert status_line(BUSY, 80) == (
        "1,204 requests | 12.3/s | first token 212 ms | 3 errors | 2 open streams"
    )
    assert "first token - |" in status_line(Snapshot(), 80)


@pytest.mark.parametrize("width", [0, 5, 20, 40, 60, 200])
def test_the_status_line_never_exceeds_the_width(width: int) -> None:
    line = status_line(BUSY, width)
    assert len(line) <= width
    assert not line.endswith((" ", "|"))


@pytest.mark.parametrize(
    ("out", "environ", "expected"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_ansi_is_for_capable_terminals(out: io.StringIO, environ: dict[str, str], expected: bool) -> None:
    assert has_ansi(out, environ) is expected


async def test_on_a_terminal_the_line_is_rewritten_in_place() -> None:
    written = await run(lambda: BUSY, Clock(3), ansi=True)
    line = f"\r{status_line(BUSY, 79)}\x1b[K"
    assert written == f"\x1b[?25l{line * 3}\x1b[?25h\n"


@pytest.mark.parametrize("end", [asyncio.CancelledError, KeyboardInterrupt, RuntimeError])
async def test_the_cursor_comes_back_however_it_ends(end: type[BaseException]) -> None:
    assert (await run(lambda: BUSY, Clock(1, end), ansi=True)).endswith("\x1b[?25h\n")


async def test_without_a_terminal_a_line_comes_only_after_a_change_and_not_too_often() -> None:
    clock = Clock(100)
    snapshot = Snapshot()
    times = []

    def read() -> Snapshot:
        snapshot.requests = min(5, int(clock.now))  # the same object, as a reader may keep one
        times.append(clock.now)
        return snapshot

    lines = (await run(read, clock, ansi=False)).splitlines()
    assert times[-1] > 4 * LOG_INTERVAL_S
    assert [line.split()[0] for line in lines] == ["1", "5"]
    assert "\x1b" not in "".join(lines)


async def test_a_reader_that_went_away_ends_it_quietly() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for out in (Broken(), closed):
        for ansi in (True, False):
            await live(lambda: BUSY, out, ansi=ansi, sleep=Clock(9).sleep, clock=lambda: 0.0)
