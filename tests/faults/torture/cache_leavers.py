"""The first of several who ask the same leaves, in each phase; some stop reading; all leave.

The provider is kind and slow here, so that a phase can be met: who stays has nothing to put up with.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import patch

from sidecar.cache import flight
from sidecar.upstream.queue import Slots
from tests.faults.case import Case
from tests.faults.torture.cache_callers import Ask, Verdict, Visitor, judge
from tests.faults.torture.cache_provider import ENDLESS
from tests.faults.torture.cache_stage import SLOTS, Stage
from tests.support.answers import read_answers

FOLLOWERS = 3
SHORT_PATIENCE_S = 0.3  # of a flight with who does not read: it is the time that is cut short, nothing else
PATIENCE_S = 5.0
MAX_TRIES = 5
FOLLOWS_S = 0.002
IN_THE_QUEUE = "in the queue"
WORD = b'"content":"q'

# Each question is asked once in a process's life.
_questions = itertools.count(1000)


class Scene(NamedTuple):
    """A question that several ask, and the first of them."""

    here: Stage
    question: int
    leader: Visitor

    @property
    def is_asked(self) -> bool:
        return self.question in self.here.provider.questions


class Phase(NamedTuple):
    """How much of its request the first one sends, and what has to hold when it leaves."""

    name: str
    is_reached: Callable[[Scene], bool]
    share: float = 1.0
    streams: tuple[bool, ...] = (True, False)


PHASES = (
    Phase("while the head is read", lambda scene: True, share=0.1),
    Phase("while the body is read", lambda scene: True, share=0.9),
    Phase("while Redis is asked", lambda scene: scene.here.looks > 0),
    Phase(IN_THE_QUEUE, lambda scene: _slots(scene.here).waiting > 0),
    Phase("while waiting for the head", lambda scene: scene.is_asked),
    Phase("at the first word", lambda scene: WORD in scene.leader.data, streams=(True,)),
    Phase("mid-stream", lambda scene: scene.leader.data.count(WORD) > 3, streams=(True,)),
    Phase("at the end", lambda scene: scene.leader.ended.done()),
)


async def try_phases(case: Case, here: Stage, seed: int) -> None:
    """All phases, streamed and plain. On a busy machine one may be over before it is met: then once more."""
    for phase in PHASES:
        for stream in phase.streams:
            name = f"seed {seed}: leaves {phase.name}, {'streamed' if stream else 'plain'}"
            is_reached = False
            for _ in range(MAX_TRIES):
                holders: list[asyncio.Task[None]] = []
                if phase.name == IN_THE_QUEUE:
                    holders += [asyncio.create_task(_ask_alone(here)) for _ in range(SLOTS)]
                    await _until(lambda: _slots(here).in_use == SLOTS)
                is_reached = await _try_phase(case, here, phase, name, stream=stream)
                await asyncio.gather(*holders)
                if is_reached:
                    break
            case.equal(f"{name}: reached", is_reached, True)


async def _try_phase(case: Case, here: Stage, phase: Phase, name: str, *, stream: bool) -> bool:
    question = next(_questions)
    asks = [Ask(f"ann.{question}.{n}", question, n % 2, stream=stream) for n in range(1 + FOLLOWERS)]
    leader, *followers = [await Visitor.arrive(here.port) for _ in asks]
    scene = Scene(here, question, leader)
    data = asks[0].sent()
    leader.transport.write(data[: int(phase.share * len(data))])
    if not await _until(lambda: phase.is_reached(scene)):
        for visitor in (leader, *followers):
            visitor.transport.abort()
        return False
    for ask, follower in zip(asks[1:], followers, strict=True):
        follower.transport.write(ask.sent())
    await asyncio.sleep(FOLLOWS_S)
    leader.transport.abort()
    verdicts = [await _told(follower, ask) for ask, follower in zip(asks[1:], followers, strict=True)]
    case.equal(f"{name}: who stays is told", [one.outcome for one in verdicts], ["whole"] * FOLLOWERS)
    # Who leaves before anybody else is there takes its call along.
    case.at_most(f"{name}: calls", here.provider.questions.count(question), 2)
    return True


async def try_slow_readers(case: Case, here: Stage, seed: int) -> None:
    """Of three who ask for more than a flight and all buffers hold, two stop reading: they see that it is not
    whole, and the other one has it."""
    asks = [Ask(f"bob.{seed}.slow.{n}", ENDLESS, minor=minor) for n, minor in enumerate((1, 1, 0))]
    visitors = [await Visitor.arrive(here.port, is_narrow=n > 0) for n in range(3)]
    for ask, visitor in zip(asks, visitors, strict=True):
        visitor.transport.write(ask.sent())
    slow = visitors[1:]
    await _until(lambda: all(visitor.data for visitor in slow))
    for visitor in slow:
        visitor.transport.pause_reading()
    with patch.object(flight, "PATIENCE_S", SHORT_PATIENCE_S):
        case.equal(f"seed {seed}: the one who reads", (await _told(visitors[0], asks[0])).outcome, "whole")
    for ask, visitor in zip(asks[1:], slow, strict=True):
        visitor.transport.resume_reading()
        name = f"seed {seed}: one who stopped reading, HTTP/1.{ask.minor}"
        case.equal(name, (await _told(visitor, ask)).outcome, "broken")


async def try_to_leave_alone(case: Case, here: Stage, seed: int) -> None:
    """All who ask the same leave, the first one first: the provider is let go in the middle."""
    before = here.provider.let_go
    visitors = [await Visitor.arrive(here.port) for _ in range(3)]
    for number, visitor in enumerate(visitors):
        visitor.transport.write(Ask(f"cat.{seed}.alone.{number}", ENDLESS).sent())
    await _until(lambda: all(visitor.data for visitor in visitors))
    for visitor in visitors:
        visitor.transport.abort()
        await asyncio.sleep(FOLLOWS_S)
    await _until(lambda: here.provider.let_go > before)
    case.equal(f"seed {seed}: answers let go when all have left", here.provider.let_go - before, 1)


async def _ask_alone(here: Stage) -> None:
    question = next(_questions)
    visitor = await Visitor.arrive(here.port)
    visitor.transport.write(Ask(f"ann.{question}.0", question).sent())
    await asyncio.wait((visitor.ended,), timeout=PATIENCE_S)
    visitor.transport.abort()


async def _told(visitor: Visitor, ask: Ask) -> Verdict:
    await asyncio.wait((visitor.ended,), timeout=PATIENCE_S)
    if not visitor.ended.done():
        return Verdict("no end")
    visitor.transport.abort()
    try:
        answers = read_answers(bytes(visitor.data))
    except ValueError:
        return Verdict("no HTTP")
    return judge(answers[0], ask, was_reset=visitor.was_reset) if answers else Verdict("no answer")


async def _until(holds: Callable[[], bool]) -> bool:
    """Whether it held before long; looked at in every turn of the loop."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end_s:
        await asyncio.sleep(0)
    return holds()


def _slots(here: Stage) -> Slots:
    return here.sidecar.snapshot.providers["p"].slots
