"""The cache among callers that leave, stop reading or send ahead, while everything around it changes.

Each round first lets the first of several who ask the same leave, in each phase, before a provider that is
kind: whoever stays has the whole answer. Then requests come at random, to a provider that fails, hangs up
and cuts; settings of the cache are reloaded, answers purged and reported as false meanwhile. Every whole
answer must be the right one, and one that its caller may have; afterwards nothing may be left behind.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from tests.faults.torture.cache_book import Told
from tests.faults.torture.cache_callers import FINE, Verdict, Visit, Visitor, judge, plan
from tests.faults.torture.cache_leavers import try_phases, try_slow_readers, try_to_leave_alone
from tests.faults.torture.cache_stage import BASE, Stage, resident_mib, stage
from tests.faults.torture.report import Report
from tests.support.answers import read_answers

SEEDS = (14, 41, 97)
A_SECOND = 300  # requests
PATIENCE_S = 10.0
SETTLES_S = 5.0
CHANGE_S = 0.3
GROWTH_MAX_MIB = 32.0  # after the first round; the allocator keeps holes, a leak of texts would be hundreds
SETTINGS = (
    BASE,
    {**BASE, "match": "exact"},
    {**BASE, "scope": "all"},
    {**BASE, "scope": "team", "match": "exact"},
    {**BASE, "shadow": 0.5},
    {**BASE, "max_bytes": "64KiB"},
    {"ttl": "200ms", "scope": "team"},
    None,
)


class Round:
    """What came of the requests of one seed."""

    def __init__(self) -> None:
        self.requests = 0
        self.left = 0
        self.silent = 0
        self.told: list[Told] = []
        self.wrong: Counter[str] = Counter()

    def outcomes(self, outcome: str) -> int:
        return sum(one.verdict.outcome == outcome for one in self.told)


async def run(requests: int, seeds: Sequence[int] = SEEDS) -> Report:
    """So many connections in each round, a round for each seed."""
    report = Report(
        f"The cache under chaos: {requests:,} callers for each seed",
        *("seed", "requests", "whole", "told", "broken", "left", "hits", "collapsed", "wrong", "memory"),
    )
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        async with stage(folder, seeds[0]) as here:
            peaks = [await _round(report, here, seed, requests, rounds) for seed in seeds]
            counted = here.sidecar.metrics.requests
            report.case.equal("reloads refused", here.sidecar.metrics.reloads["failed"], 0)
        _check_log(report, here, counted, rounds)
    report.case.at_most("memory grown", max(peaks) - peaks[0], GROWTH_MAX_MIB, unit=" MiB")
    return report


async def _round(report: Report, here: Stage, seed: int, requests: int, rounds: list[Round]) -> float:
    here.provider.is_kind = True
    await try_phases(report.case, here, seed)
    await try_slow_readers(report.case, here, seed)
    await try_to_leave_alone(report.case, here, seed)
    here.provider.is_kind = False
    this = Round()
    rounds.append(this)
    span_s = requests / A_SECOND
    storm = asyncio.gather(*(_visit(here, visit, this) for visit in plan(seed, requests, span_s)))
    await _change(here, Random(seed), time.monotonic() + span_s)
    await storm
    await here.reload(BASE)
    await here.redis_is_on()
    await _check_nothing_left(report, here, seed)
    resident = resident_mib()
    for told in this.told:
        if wrong := here.book.wrong(told, here.provider.asked_at):
            this.wrong[wrong] += 1
    case = report.case
    case.equal(f"seed {seed}: wrong", dict(this.wrong), {})
    case.equal(f"seed {seed}: no end", this.silent, 0)
    hits, collapsed = sum(one.is_hit for one in this.told), sum(one.is_collapsed for one in this.told)
    case.at_least(f"seed {seed}: hits", hits, 1)  # otherwise nothing was tried
    case.at_least(f"seed {seed}: collapsed", collapsed, 1)
    counts = (this.requests, *map(this.outcomes, FINE), this.left, hits, collapsed, this.wrong.total())
    report.add(str(seed), *(f"{count:,}" for count in counts), f"{resident:.0f} MiB")
    return resident


async def _change(here: Stage, draw: Random, until_s: float) -> None:
    """An operator that is never content."""
    while time.monotonic() < until_s:
        await asyncio.sleep(CHANGE_S * draw.random())
        what = draw.random()
        if what < 0.4:
            await here.reload(draw.choice(SETTINGS))
        elif what < 0.5:
            await here.purge(all="1")
        elif what < 0.6:
            await here.purge(route="auto")
        elif what < 0.7:
            await here.purge(scope="ann")  # refused, unless answers are shared by key
        else:
            await here.report_false_hit()


async def _visit(here: Stage, visit: Visit, this: Round) -> None:
    await asyncio.sleep(visit.at_s)
    *ahead, last = visit.asks
    data = b"".join([*(ask.sent(close=False) for ask in ahead), last.sent()])
    stops = visit.manner.startswith("stops")
    visitor = await Visitor.arrive(here.port, is_narrow=stops)
    this.requests += len(visit.asks)
    began_s = time.monotonic()
    if visit.manner in ("leaves", "sends a part"):
        visitor.transport.write(data[: len(data) // 2] if visit.manner == "sends a part" else data)
        await asyncio.sleep(visit.stays_s)
        visitor.transport.abort()
        this.left += 1
        return
    visitor.transport.write(data)
    if stops:
        await asyncio.wait((visitor.ended,), timeout=visit.stays_s)
        if not visitor.ended.done():
            visitor.transport.pause_reading()
            await asyncio.sleep(5 * visit.stays_s)
            if visit.manner == "stops and leaves":
                visitor.transport.abort()
                this.left += 1
                return
            visitor.transport.resume_reading()
    await asyncio.wait((visitor.ended,), timeout=PATIENCE_S)
    this.silent += not visitor.ended.done()
    visitor.transport.abort()
    _hear(visit, visitor, began_s, this)


def _hear(visit: Visit, visitor: Visitor, began_s: float, this: Round) -> None:
    """Judge what came, an answer for each request; none is behind one that broke off."""
    try:
        answers = read_answers(bytes(visitor.data))
    except ValueError:
        this.wrong["no HTTP"] += 1
        return
    verdict = Verdict("no answer")
    for ask, answer in zip(visit.asks, answers, strict=False):
        verdict = judge(answer, ask, was_reset=visitor.was_reset)
        if verdict.outcome == "broken" and ask.stream and not visit.manner.startswith("stops"):
            verdict = Verdict("broken without a word")
        if verdict.outcome not in FINE:
            this.wrong[verdict.outcome] += 1
        status = answer.headers.get("cache-status", "")
        this.told.append(Told(ask, began_s, visitor.ended_at, status, verdict))
    if len(answers) < len(visit.asks) and (not answers or answers[-1].is_whole):
        this.wrong["no answer"] += 1


async def _check_nothing_left(report: Report, here: Stage, seed: int) -> None:
    end_s = time.monotonic() + SETTLES_S
    while any(here.held().values()) and time.monotonic() < end_s:
        await asyncio.sleep(0.01)
    for what, count in here.held().items():
        report.case.equal(f"seed {seed}: {what}", count, 0)
    report.case.equal(f"seed {seed}: flights and seats in memory", here.alive(), 0)
    await here.purge(all="1")
    answers = here.tiers.answers
    assert answers is not None
    report.case.equal(f"seed {seed}: bytes stored after a purge", answers.store.stats.bytes, 0)


def _check_log(report: Report, here: Stage, counted: int, rounds: list[Round]) -> None:
    """Every request stands once in metrics, ledger and log, and was what its caller was told."""
    case = report.case
    lines = here.log_lines()
    times = Counter(line["request_id"] for line in lines)
    by_id = {line["request_id"]: line for line in lines}
    case.equal("log lines, less requests counted", len(lines) - counted, 0)
    # Who left while a large body was read had no account yet.
    accounted = sum(line["model"] != "" for line in lines)
    case.equal("requests in the ledger, less those with an account", here.booked() - accounted, 0)
    case.equal("logged twice", [id_ for id_, count in times.items() if count > 1], [])
    told = [one for this in rounds for one in this.told]
    case.equal("answered and not logged", [one.ask.id for one in told if one.ask.id not in by_id], [])
    caches = [(one, by_id[one.ask.id]["cache"]) for one in told if one.ask.id in by_id]
    is_other = [one.ask.id for one, cache in caches if one.is_hit != ((cache or {}).get("result") == "hit")]
    case.equal("hits that the log does not have, or the caller", is_other, [])
    false = [one.ask.id for one, cache in caches if cache and here.book.is_false_again(one, cache["key"])]
    case.equal("given again after they were reported", false, [])
