"""Callers that leave, in every phase of a request: how soon the sidecar lets go of what it held for them.

Where a provider had been asked, it is timed until that provider sees its connection close. Where none had
been, until the sidecar closes its own side of the caller's connection. Half of the callers go with a FIN, the
other half with a reset, which nobody can answer: they are timed at the provider only. Afterwards the sidecar
must hold as many descriptors as before.
"""

import asyncio
import contextlib
import math
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from tests.faults.torture.peers import (
    STREAM_HEAD,
    Caller,
    Peer,
    Provider,
    Request,
    chunk,
    events_of,
    provider_of,
    question,
)
from tests.faults.torture.report import Report, percentile_ms
from tests.support.process import SidecarProcess, sidecar_process, write_config
from tests.support.running import config_for

TOGETHER = 20
PATIENCE_S = 5.0
P99_MAX_MS = 100.0
LONGEST_MAX_MS = 1000.0
SETTLES_S = 0.01  # for a request of which nothing is seen outside the sidecar
HOLDER = 0
_NO_LINGER = struct.pack("ii", 1, 0)


class Phase(NamedTuple):
    """How far a request gets: this share of it is sent, and the provider's answer begins with `opening`."""

    name: str
    model: str = "open"
    share: float = 1.0
    opening: bytes = b""
    is_asked: bool = True  # it reaches the provider


ROLE, WORD = events_of(1, 1)[:2]
PHASES = (
    Phase("while the head is read", share=0.2, is_asked=False),
    Phase("while the body is read", share=0.9, is_asked=False),
    Phase("in the queue", model="narrow", is_asked=False),
    Phase("while waiting for the head", opening=b""),
    Phase("before the first token", opening=STREAM_HEAD + chunk(ROLE)),
    Phase("mid-stream", opening=STREAM_HEAD + chunk(ROLE) + chunk(WORD)),
)


class Stage:
    """A sidecar and its provider, which says the beginning of an answer and nothing more."""

    def __init__(self, provider: Provider, sidecar: SidecarProcess) -> None:
        self.provider = provider
        self.sidecar = sidecar
        self.opening = b""

    def descriptors(self) -> int:
        """What the sidecar holds."""
        return int(psutil.Process(self.sidecar.pid).num_fds())

    async def queued(self) -> float:
        """Requests that wait for the provider with one slot."""
        return await self.sidecar.metric('sidecar_queue_depth{provider="narrow"}')


async def run(tries: int) -> Report:
    """So many callers leave in each phase."""
    report = Report(
        f"Disconnects: {tries:,} callers leave in each phase", "phase", "p50", "p99", "longest", "left open"
    )
    async with _stage() as stage:
        holder = await Caller.connect(stage.sidecar.port)
        holder.transport.write(question(HOLDER, "narrow", 1))
        await _until(lambda: HOLDER in stage.provider.asked)
        before = stage.descriptors()
        first = 1
        for phase in PHASES:
            await _try_phase(report, stage, phase, first, tries)
            first += tries
        await _until(lambda: stage.descriptors() <= before)
        case = report.case
        case.at_most("descriptors more than before", stage.descriptors() - before, 0)
        case.equal("left in the queue", await stage.queued(), 0.0)
        case.equal("streams open", await stage.sidecar.metric("sidecar_streams_open"), 0.0)
        # The one that held the slot is still served: nobody else was, and it was never forgotten.
        case.equal("requests in flight", await stage.sidecar.metric("sidecar_requests_in_flight"), 1.0)
        case.equal("connections at the provider", len(stage.provider.open), 1)
        case.equal("what it said of it", stage.sidecar.errors.count("\n"), 1)
    return report


async def _try_phase(report: Report, stage: Stage, phase: Phase, first: int, tries: int) -> None:
    stage.opening = phase.opening
    times: list[float] = []
    left_open = 0
    for start in range(first, first + tries, TOGETHER):
        users = range(start, min(start + TOGETHER, first + tries))
        callers = {user: await _reach(stage, phase, user) for user in users}
        if phase.is_asked:
            await _until(partial(_are_asked, stage.provider, users))
            await asyncio.gather(*(_heard(caller, phase) for caller in callers.values()))
        else:
            await asyncio.sleep(SETTLES_S)
        if phase.model == "narrow" and start == first:
            report.case.equal("waiting in the queue", await stage.queued(), float(len(users)))
        left_at = {user: _leave(caller, phase, user) for user, caller in callers.items()}
        for user, caller in callers.items():
            ended_at = await _ended_at(stage, phase, user, caller)
            left_open += ended_at == math.inf
            times.append(min(PATIENCE_S, ended_at - left_at[user]))
            caller.transport.abort()
    p50, p99, longest = (percentile_ms(times, share) for share in (0.5, 0.99, 1.0))
    report.add(phase.name, f"{p50:.1f} ms", f"{p99:.1f} ms", f"{longest:.1f} ms", f"{left_open}")
    case = report.case
    case.equal(f"{phase.name}: left open", left_open, 0)
    case.at_most(f"{phase.name}: p99", p99, P99_MAX_MS, unit=" ms", timed=True)
    case.at_most(f"{phase.name}: longest", longest, LONGEST_MAX_MS, unit=" ms", timed=True)
    if not phase.is_asked:
        asked = sum(user in stage.provider.asked for user in range(first, first + tries))
        case.equal(f"{phase.name}: requests at the provider", asked, 0)


async def _reach(stage: Stage, phase: Phase, user: int) -> Caller:
    request = question(user, phase.model, 1)
    caller = await Caller.connect(stage.sidecar.port)
    caller.transport.write(request[: int(phase.share * len(request))])
    return caller


def _are_asked(provider: Provider, users: range) -> bool:
    return all(user in provider.asked for user in users)


async def _heard(caller: Caller, phase: Phase) -> None:
    """A caller that gets content has it; the rest of an opening is held back, so it is given its time."""
    if WORD in phase.opening:
        await caller.until(WORD)
    elif phase.opening:
        await asyncio.sleep(SETTLES_S)


def _leave(caller: Caller, phase: Phase, user: int) -> float:
    """Go, one way or the other; returns when."""
    left_at = time.monotonic()
    if not phase.is_asked:
        caller.transport.write_eof()
    elif user % 2:
        caller.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        caller.transport.abort()
    else:
        caller.transport.close()
    return left_at


async def _ended_at(stage: Stage, phase: Phase, user: int, caller: Caller) -> float:
    """When the sidecar let go; infinite where it has not."""
    if phase.is_asked:
        await _until(lambda: user in stage.provider.left_at)
        return stage.provider.left_at.get(user, math.inf)
    await asyncio.wait((caller.ended,), timeout=PATIENCE_S)
    return caller.ended_at if caller.ended.done() else math.inf


async def _until(holds: Callable[[], bool]) -> None:
    """Wait until it holds, but not for ever: what does not is counted."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end_s:
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def _stage() -> AsyncIterator[Stage]:
    def begin(peer: Peer, _request: Request) -> None:
        peer.transport.write(stage.opening)

    async with provider_of(begin) as provider:
        patience = {"first_token": "10m", "idle": "10m", "answer": "10m", "total": "10m"}
        endpoint = {"api_key": {"env": "KEY"}, "endpoints": [{"url": provider.url}], "timeouts": patience}
        narrow = {**endpoint, "concurrency": {"max_requests": 1, "max_queue": 1000, "queue_timeout": "60s"}}
        models = {"open": {"provider": "open"}, "narrow": {"provider": "narrow"}}
        tree = config_for(models=models)
        tree["providers"] = {"open": endpoint, "narrow": narrow}
        with tempfile.TemporaryDirectory() as folder:
            async with sidecar_process(write_config(Path(folder) / "sidecar.yaml", tree)) as sidecar:
                stage = Stage(provider, sidecar)
                yield stage
