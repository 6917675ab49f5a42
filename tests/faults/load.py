"""A steady load over a fault: so many plain requests a second, so many streams at any moment.

Plain requests are sent on time whatever becomes of those before them; each stream is followed by the next
when a healthy one would be over, so that an outage meets the same load as good weather.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

from tests.faults.call import Outcome, call
from tests.faults.case import Case
from tests.faults.world import World

PLAIN_TOKENS = 3


class Profile(NamedTuple):
    """How much load for how long. The fault comes after `before_s` and stays for `fault_s`."""

    name: str
    requests_per_s: float
    streams: int
    tokens: int
    interval_s: float
    before_s: float
    fault_s: float
    after_s: float
    open_for_s: float  # of the breakers, where a row does not run with the default
    timeout_s: float  # first token, idle
    as_process: bool = False


FULL = Profile("full", 100, 200, 100, 0.02, 20, 20, 20, 5.0, 2.0, as_process=True)
FAST = Profile("fast", 50, 30, 40, 0.01, 1.0, 1.6, 2.0, 0.5, 0.6)


class Record:
    """The outcomes of a load, and when the fault began and ended."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.started_at = 0.0
        self.fault_at = 0.0
        self.heal_at = 0.0
        self.ended_at = 0.0
        self.cpu_share: float | None = None  # of one core, during the fault

    def between(self, since_s: float, until_s: float = math.inf) -> list[Outcome]:
        """What was asked in that time."""
        return [each for each in self.outcomes if since_s <= each.started_s < until_s]

    @property
    def before(self) -> list[Outcome]:
        """In good weather, once everything is warm."""
        return self.between((self.started_at + self.fault_at) / 2, self.fault_at)

    @property
    def during(self) -> list[Outcome]:
        return self.between(self.fault_at, self.heal_at)

    @property
    def after(self) -> list[Outcome]:
        return self.between(self.heal_at)


Act = Callable[[], object]
LoadTrial = Callable[[Case, Profile], Awaitable[None]]


async def run_load(here: World, profile: Profile, fault: Act, heal: Act, *, model: str = "auto") -> Record:
    """Put the load on, do `fault` in the middle of it, and `heal`; returns when every call has ended."""
    record = Record()
    port, words = here.sidecar.port, "".join(here.tokens[:PLAIN_TOKENS])
    running: set[asyncio.Task[None]] = set()
    started_s = record.started_at = time.monotonic()
    end_s = started_s + profile.before_s + profile.fault_s + profile.after_s

    def spawn(coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        running.add(task)
        task.add_done_callback(running.discard)

    async def note(outcome: Awaitable[Outcome]) -> None:
        record.outcomes.append(await outcome)

    async def plain() -> None:
        due_s = started_s
        while due_s < end_s:
            spawn(note(call(port, model, words, stream=False, max_tokens=PLAIN_TOKENS)))
            due_s += 1 / profile.requests_per_s
            await _sleep_until(due_s)

    async def streams(offset_s: float) -> None:
        await _sleep_until(started_s + offset_s)
        while (begun_s := time.monotonic()) < end_s:
            await note(call(port, model, here.answer, stream=True))
            await _sleep_until(begun_s + stream_s)

    stream_s = profile.tokens * profile.interval_s
    spawn(plain())
    for number in range(profile.streams):
        spawn(streams(stream_s * number / profile.streams))
    try:
        await _sleep_until(started_s + profile.before_s)
        fault()
        record.fault_at, cpu_s = time.monotonic(), here.cpu_s()
        await _sleep_until(record.fault_at + profile.fault_s)
        if cpu_s is not None:
            record.cpu_share = ((here.cpu_s() or 0.0) - cpu_s) / (time.monotonic() - record.fault_at)
        heal()
        record.heal_at = time.monotonic()
        await _sleep_until(end_s)
        record.ended_at = time.monotonic()
        while running:
            await asyncio.wait(running)
    finally:
        for task in tuple(running):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)
    return record


async def _sleep_until(due_s: float) -> None:
    await asyncio.sleep(max(0.0, due_s - time.monotonic()))


# --- figures ---


def wrong_share(outcomes: Sequence[Outcome]) -> float:
    """The share, in per cent, of calls that did not get the exact text to a clean end."""
    return 100 * sum(not each.is_right for each in outcomes) / max(1, len(outcomes))


def attempts_ratio(outcomes: Sequence[Outcome]) -> float:
    """Tries per call, of the calls that were answered with a count."""
    counted = [each.attempts for each in outcomes if each.attempts]
    return sum(counted) / max(1, len(counted))


def p99_ms(outcomes: Iterable[Outcome]) -> float:
    """The 99th percentile of the time to the first content, milliseconds."""
    waits = sorted(each.wait_s for each in outcomes)
    return 1000 * waits[min(len(waits) - 1, int(0.99 * len(waits)))] if waits else math.nan


def opened_after_s(arrivals: Sequence[float], record: Record, gap_s: float) -> float:
    """Seconds from the fault until an endpoint was left alone for `gap_s`; infinite where it never was."""
    moments = [record.fault_at, *(at for at in arrivals if record.fault_at <= at < record.heal_at)]
    for at, following in zip(moments, [*moments[1:], record.heal_at], strict=True):
        if following - at >= gap_s:
            return at - record.fault_at
    return math.inf


def returned_after_s(record: Record, region: str) -> float:
    """Seconds from the heal until a call was answered by that region at its first try."""
    return next(
        (
            each.started_s - record.heal_at
            for each in sorted(record.after, key=lambda each: each.started_s)
            if each.is_right and each.region == region and each.attempts == 1
        ),
        math.inf,
    )


def region_changes(record: Record, step_s: float = 0.25) -> int:
    """How often the region that serves most of the calls changed, looked at every `step_s`."""
    leaders: list[str] = []
    steps = int((record.ended_at - record.fault_at + 2 * step_s) / step_s)
    for step in range(steps):
        since_s = record.fault_at + (step - 2) * step_s
        regions = [each.region for each in record.between(since_s, since_s + step_s) if each.is_right]
        if regions and (leader := max(set(regions), key=regions.count)) not in leaders[-1:]:
            leaders.append(leader)
    return max(0, len(leaders) - 1)
