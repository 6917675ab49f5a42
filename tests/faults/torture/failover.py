"""What a move to another endpoint costs a caller, where the first one refuses or resets.

Two callers in turn, so that whatever else the machine does meets both alike: one asks a model whose only
endpoint is well, the other a model whose closest endpoint is broken and whose other one is just as well. The
breaker stays closed, or only the first few requests would meet the broken one.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.faults.one_by_one import NEVER_OPEN
from tests.faults.torture.peers import Caller, Peer, Request, provider_of, question, say_all
from tests.faults.torture.report import Report, percentile_ms
from tests.faults.world import KEYS, config_of
from tests.support.answers import read_answers
from tests.support.chaos import chaos_before
from tests.support.process import SidecarProcess, sidecar_process, write_config

ADDED_MAX_MS = 20.0
WORDS = 3
WARM_UP = 10  # pairs: first connections, first look-ups
PATIENCE_S = 10.0


async def run(tries: int) -> Report:
    """So many requests over each kind of broken endpoint."""
    report = Report(
        f"Failover: {tries:,} requests each, every one of which meets the broken endpoint first",
        *("the closest endpoint", "p50 without", "p50 with", "p99 without", "p99 with", "p99 added"),
    )
    for fault in ("refuses", "resets at once", "resets after the request"):
        async with _world(fault) as sidecar:
            await _compare(report, fault, sidecar, tries)
    return report


async def _compare(report: Report, fault: str, sidecar: SidecarProcess, tries: int) -> None:
    straight: list[float] = []
    over: list[float] = []
    wrong = unmoved = 0
    for user in range(WARM_UP + tries):
        for model, times in (("backup", straight), ("main", over)):
            seconds, is_right, attempts = await _ask(sidecar.port, user, model, stream=user % 2 == 0)
            if user >= WARM_UP:
                times.append(seconds)
            wrong += not is_right
            unmoved += attempts != (2 if model == "main" else 1)
    p50s, p99s = ([percentile_ms(times, share) for times in (straight, over)] for share in (0.5, 0.99))
    added = p99s[1] - p99s[0]
    report.add(fault, *(f"{value:.2f} ms" for value in (*p50s, *p99s, added)))
    report.case.equal(f"{fault}: wrong answers", wrong, 0)
    report.case.equal(f"{fault}: other than one move", unmoved, 0)
    report.case.at_most(f"{fault}: p99 added", added, ADDED_MAX_MS, unit=" ms", timed=True)


async def _ask(port: int, user: int, model: str, *, stream: bool) -> tuple[float, bool, int]:
    """Seconds to the first byte, whether the answer is right, and how many tries it took."""
    caller = await Caller.connect(port)
    request = question(user, model, WORDS, stream=stream)
    started_s = time.monotonic()
    caller.transport.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    async with asyncio.timeout(PATIENCE_S):
        await caller.ended
    caller.transport.abort()
    answer = read_answers(bytes(caller.data))[0]
    is_right = answer.status == 200 and answer.is_whole and b'"%d.0 "' % user in answer.body
    return caller.first_at - started_s, is_right, int(answer.headers.get("x-sidecar-attempts", "0"))


def _hang_up(peer: Peer, _request: Request) -> None:
    peer.transport.abort()


@contextlib.asynccontextmanager
async def _world(fault: str) -> AsyncIterator[SidecarProcess]:
    """A sidecar before endpoint A, which is broken in this way, and B and C, which are well."""
    async with contextlib.AsyncExitStack() as stack:
        well = await stack.enter_async_context(provider_of(say_all))
        rude = await stack.enter_async_context(provider_of(_hang_up))
        chaos = await stack.enter_async_context(chaos_before(rude.url))
        if fault == "refuses":
            chaos.refuse()
        elif fault == "resets at once":
            chaos.reset_new()
        urls = {"A": chaos.url, "B": well.url, "C": well.url}
        changes = {"circuit_breaker": NEVER_OPEN, "timeouts": {"first_token": "5s", "answer": "5s"}}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = write_config(folder / "sidecar.yaml", config_of(urls, primary=changes, spare=changes))
        yield await stack.enter_async_context(sidecar_process(config, environ=KEYS))
