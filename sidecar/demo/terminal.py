"""What `sidecar demo` shows: a banner with things to try, then one status line kept up to date in place.

It formats and writes; it starts nothing and reads no metrics itself. On anything that is not a capable
terminal (a pipe, NO_COLOR, TERM=dumb) no escape sequence is written, and the status line is printed only
when something changed, so that a log stays readable.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TextIO

import msgspec
import orjson

REFRESH_S = 0.5
LOG_INTERVAL_S = 10.0  # without a terminal: at most one status line in this time

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_LINE_START, _ERASE_REST = "\r", "\x1b[K"


class Region(NamedTuple):
    """One simulated provider, as the banner names it."""

    name: str
    url: str
    control_url: str


class Snapshot(msgspec.Struct):
    """The figures of the status line. `rate` is requests a second; without data the p50 is None."""

    requests: int = 0
    errors: int = 0
    streams_open: int = 0
    first_token_p50_ms: float | None = None
    rate: float = 0.0


def has_ansi(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether colours and a line that updates in place suit this output (https://no-color.org)."""
    return out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


# The banner


def banner(
    *,
    data: str,
    admin: str,
    health: str,
    regions: Sequence[Region],
    model: str,
    program: str,
    ansi: bool = False,
) -> str:
    """What runs where, and what to try. `data`, `admin` and `health` are origins, without a path; `program`
    is how a shell starts the sidecar.

    Lines to copy stand at the left margin: Python takes no indented paste.
    """
    bold, dim, plain = (_BOLD, _DIM, _PLAIN) if ansi else ("", "", "")
    width = max(len(name) for name in ("sidecar", *(region.name for region in regions)))
    places = [
        ("sidecar", f"{data}/v1", "the app's base_url"),
        ("admin", f"{admin}/", "live page, /stats, /clusters"),
        ("health", f"{health}/readyz", "/livez, /metrics"),
        *((region.name, region.url, "simulated provider") for region in regions),
    ]
    lines = ["", f"{bold}AI sidecar demo{plain} - simulated providers, nothing leaves this machine", ""]
    lines += [f"  {bold}{name:<{width}}{plain}  {url}  {dim}{note}{plain}" for name, url, note in places]
    for number, (heading, commands) in enumerate(
        _things_to_try(data, admin, regions, model, program), start=1
    ):
        lines += ["", f"{bold}{number}. {heading}{plain}", *commands]
    return "\n".join([*lines, "", f"{dim}Ctrl-C ends it.{plain}", ""])


def _things_to_try(
    data: str, admin: str, regions: Sequence[Region], model: str, program: str
) -> list[tuple[str, list[str]]]:
    ask = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Why is the sea salty?"}]}
    steps = [
        (
            "Watch an answer stream",
            [
                f"curl -N {data}/v1/chat/completions"
                f" -H 'content-type: application/json' -d '{orjson.dumps(ask).decode()}'"
            ],
        ),
        (
            "Use the OpenAI SDK: only base_url changes",
            [
                "from openai import OpenAI",
                f'client = OpenAI(base_url="{data}/v1", api_key="demo")',
                'ask = [{"role": "user", "content": "Why is the sea salty?"}]',
                f'answer = client.chat.completions.create(model="{model}", messages=ask)',
                "print(answer.choices[0].message.content)",
            ],
        ),
    ]
    if regions:
        name, _, control = regions[0]
        fault = '{"error_ratio": 1, "error_status": 503}'
        steps.append(
            (
                f"Break {name}, ask again: another region answers (x-sidecar-region)",
                [f"curl -X PATCH {control} -d '{fault}'"],
            )
        )
        steps.append((f"Heal {name}", [f"curl -X DELETE {control}"]))
    critical = {**ask, "model": "auto"}
    steps += [
        (
            "Ask for `auto`, and say that it matters: a premium model answers (x-sidecar-model)",
            [
                f"curl -si {data}/v1/chat/completions -H 'x-sidecar-importance: critical'"
                f" -H 'content-type: application/json' -d '{orjson.dumps(critical).decode()}'"
            ],
        ),
        (
            "See where a request would go now, and why",
            [f"{program} explain --admin {admin.removeprefix('http://')} --model auto"],
        ),
        ("Open the live page", [f"{admin}/"]),
    ]
    return steps


# The status line


def status_line(snapshot: Snapshot, width: int) -> str:
    """The figures in at most `width` columns; what does not fit is left out from the right."""
    p50 = snapshot.first_token_p50_ms
    parts = [
        f"{snapshot.requests:,} requests",
        f"{snapshot.rate:.1f}/s",
        f"first token {'-' if p50 is None else f'{p50:.0f} ms'}",
        f"{snapshot.errors:,} errors",
        f"{snapshot.streams_open:,} open streams",
    ]
    while len(line := " | ".join(parts)) > width and len(parts) > 1:
        parts.pop()
    return line[: max(0, width)]


async def live(
    read_snapshot: Callable[[], Snapshot],
    out: TextIO,
    *,
    ansi: bool,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
) -> None:
    """Keep the status line up to date until cancelled, or until nobody reads the output any more.

    However it ends, the cursor is visible again and stands on a line of its own.
    """
    try:
        if ansi:
            await _in_place(read_snapshot, out, sleep, columns)
        else:
            await _as_log(read_snapshot, out, sleep, clock)
    except OSError:  # the reader of the pipe has gone
        return
    except ValueError:
        if not out.closed:
            raise


async def _in_place(
    read_snapshot: Callable[[], Snapshot],
    out: TextIO,
    sleep: Callable[[float], Awaitable[None]],
    columns: Callable[[], int],
) -> None:
    try:
        _write(out, _HIDE_CURSOR)
        while True:
            # One column less: a character in the last one would wrap, and the next line start below.
            line = status_line(read_snapshot(), columns() - 1)
            _write(out, f"{_LINE_START}{line}{_ERASE_REST}")
            await sleep(REFRESH_S)
    finally:
        _write(out, f"{_SHOW_CURSOR}\n")


async def _as_log(
    read_snapshot: Callable[[], Snapshot],
    out: TextIO,
    sleep: Callable[[float], Awaitable[None]],
    clock: Callable[[], float],
) -> None:
    shown, due = Snapshot(), clock()
    while True:
        snapshot = read_snapshot()
        if clock() >= due and snapshot != shown:
            _write(out, f"{status_line(snapshot, 200)}\n")
            # A copy: the reader may fill in the same object again.
            shown, due = msgspec.structs.replace(snapshot), clock() + LOG_INTERVAL_S
        await sleep(REFRESH_S)


def _write(out: TextIO, text: str) -> None:
    out.write(text)
    out.flush()
