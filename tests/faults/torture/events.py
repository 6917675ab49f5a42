"""A million events through a network at its worst: none lost, none twice, none out of place.

Providers of numbered words stand behind chaos proxies whose weather changes all the time: answers are split
anywhere, delayed, cut at any byte, reset. Most streams run with `on_stream_cut: error`, a quarter with
`resume`; a quarter come event by event, as from a model, the others as fast as they can.

Right is a whole answer. Honest is an exact beginning and then an error, or an error from the first. Anything
else is damage: a gap, a word twice, a word of another stream, a clean end before the end. Streams that are
not resumed are compared byte for byte with what the provider said.
"""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import orjson

from tests.faults.one_by_one import NEVER_OPEN
from tests.faults.torture.peers import (
    STREAM_HEAD,
    Caller,
    Peer,
    Request,
    chunk,
    events_of,
    provider_of,
    question,
    say_all,
)
from tests.faults.torture.report import Report
from tests.faults.world import KEYS, config_of
from tests.support.answers import RawAnswer, read_answers
from tests.support.chaos import Chaos, chaos_before
from tests.support.process import SidecarProcess, sidecar_process, write_config

SEED = 28
WORDS = 400
TOGETHER = 32
RESUMED_SHARE = 0.25
WEATHER_S = 0.03
PACE_S = 0.001
PATIENCE_S = 120.0
# Bytes a piece. Byte by byte is for the first streams only: it takes thirty times as long.
TINY = (1, 2, 3, 7)
SPLITS = (16, 60, 150, 400, 1500, None)
STREAM_BYTES = sum(map(len, events_of(1000, WORDS)))
TIMEOUTS = {"connect": "5s", "first_token": "20s", "idle": "20s", "answer": "1m", "total": "2m"}


def answer(peer: Peer, request: Request) -> None:
    """The numbered words, to every fourth caller one at a time."""
    user = int(request["user"])
    if user % 4:
        return say_all(peer, request)
    events = iter([STREAM_HEAD, *map(chunk, events_of(user, WORDS)), b"0\r\n\r\n"])
    loop = asyncio.get_running_loop()

    def say_one() -> None:
        event = next(events, None)
        if event is not None and not peer.transport.is_closing():
            peer.transport.write(event)
            loop.call_later(PACE_S, say_one)

    say_one()


class Tally:
    """What came of the streams."""

    def __init__(self) -> None:
        self.events = 0
        self.streams: Counter[str] = Counter()  # by route and outcome
        self.damage: Counter[str] = Counter()

    def of(self, route: str, outcome: str) -> int:
        return self.streams[f"{route} {outcome}"]


async def run(events: int) -> Report:
    """Relay at least so many events."""
    tally = Tally()
    draw = Random(SEED)
    async with _network() as (sidecar, proxies):
        weather = asyncio.create_task(_change_weather(proxies, draw, tally, events // 50))
        users = iter(range(1, 1_000_000))

        async def call_again() -> None:
            while tally.events < events:
                route = "auto" if draw.random() < RESUMED_SHARE else "strict"
                await _call(sidecar.port, next(users), route, tally)

        try:
            await asyncio.gather(*(call_again() for _ in range(TOGETHER)))
        finally:
            weather.cancel()
            await asyncio.gather(weather, return_exceptions=True)
    report = Report(
        f"Events: {tally.events:,} relayed, split, delayed, cut and reset at random (seed {SEED})",
        *("a cut stream", "streams", "whole", "ended in an error", "refused", "damaged"),
    )
    for route, name in (("strict", "ends in an error"), ("auto", "is resumed")):
        counts = [tally.of(route, outcome) for outcome in ("whole", "error", "refused", "damaged")]
        report.add(name, *(f"{count:,}" for count in (sum(counts), *counts)))
    case = report.case
    case.at_least("events", tally.events, events)
    case.equal("damage", dict(tally.damage), {})
    for route in ("strict", "auto"):
        case.at_least(f"{route}: whole", tally.of(route, "whole"), 1)
    # Otherwise nothing was tried.
    case.at_least("cut", tally.of("strict", "error"), 1)
    case.equal("bugs the sidecar told of", sidecar.errors.count("request failed"), 0)
    return report


async def _change_weather(proxies: list[Chaos], draw: Random, tally: Tally, tiny_until: int) -> None:
    """Another network every few milliseconds."""
    while True:
        for chaos in proxies:
            chaos.split_bytes = draw.choice(TINY if tally.events < tiny_until else SPLITS)
            chaos.latency_s = draw.choice((0.0, 0.0, 0.001, 0.003))
            chaos.jitter_s = draw.choice((0.0, 0.002))
            chaos.cut_by = draw.choice(("close", "reset"))
            # Who is beyond that byte is cut at once, the others on their way to it.
            chaos.cut_at_byte = draw.randrange(STREAM_BYTES * 5 // 4) if draw.random() < 0.3 else None
            if draw.random() < 0.03:
                chaos.reset_all()
        await asyncio.sleep(WEATHER_S)


async def _call(port: int, user: int, route: str, tally: Tally) -> None:
    caller = await Caller.connect(port)
    caller.transport.write(question(user, route, WORDS).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    async with asyncio.timeout(PATIENCE_S):
        await caller.ended
    caller.transport.abort()
    outcome, words = judge(bytes(caller.data), user, is_resumed=route == "auto")
    tally.events += words
    if outcome in ("whole", "error", "refused"):
        tally.streams[f"{route} {outcome}"] += 1
    else:
        tally.streams[f"{route} damaged"] += 1
        tally.damage[outcome] += 1


def judge(data: bytes, user: int, *, is_resumed: bool) -> tuple[str, int]:
    """`whole`, `error`, `refused` or what the damage is; and how many words came."""
    try:
        answers = read_answers(data)
    except ValueError:
        return "no HTTP", 0
    if len(answers) != 1:
        return f"{len(answers)} answers", 0
    answer = answers[0]
    if answer.status != 200:
        return ("refused" if answer.is_own_error else "an error without its object"), 0
    return _judge_stream(answer, user, is_resumed)


def _judge_stream(answer: RawAnswer, user: int, is_resumed: bool) -> tuple[str, int]:
    whole = b"".join(events_of(user, WORDS))
    said, mark, error = answer.body.partition(b'data: {"error"')
    found = words_of(said)
    if found is None:
        return "an event that is no JSON", 0
    count = len(found)
    if found != [f"{user}.{number} " for number in range(count)]:
        return _name_damage(found, user), count
    if not is_resumed and not whole.startswith(said):
        return "other bytes than the provider's", count
    if mark:
        is_honest = error.endswith(b"}}\n\n") and not answer.is_whole
        return ("error" if is_honest else "an error that looks like an end"), count
    # With its finish reason it is complete; [DONE] is never made up where the cut took it.
    if count < WORDS or b'"finish_reason":"stop"' not in said:
        return "a beginning without an error", count
    return ("whole" if answer.is_whole else "whole without its end"), count


def words_of(body: bytes) -> list[str] | None:
    """The words of a stream in the order in which they came; None where an event cannot be read."""
    words: list[str] = []
    for event in body.split(b"\n\n"):
        if not event or event == b"data: [DONE]":
            continue
        try:
            delta = orjson.loads(event.removeprefix(b"data: "))["choices"][0]["delta"]
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return None
        if delta.get("content"):
            words.append(delta["content"])
    return words


def _name_damage(found: list[str], user: int) -> str:
    if any(not word.startswith(f"{user}.") for word in found):
        return "words of another stream"
    if len(set(found)) < len(found):
        return "words twice"
    if sorted(found, key=lambda word: float(word.partition(".")[2])) != found:
        return "words out of order"
    return "words lost"


@contextlib.asynccontextmanager
async def _network() -> AsyncIterator[tuple[SidecarProcess, list[Chaos]]]:
    """A sidecar process and the proxies before two regions and a second provider."""
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(provider_of(answer))
        proxies = [
            await stack.enter_async_context(chaos_before(provider.url, seed=SEED + index))
            for index in range(3)
        ]
        # The breakers stay closed and the retries last: the weather is to meet every stream.
        changes = {"timeouts": TIMEOUTS, "retry": {"budget": 1.0}, "circuit_breaker": NEVER_OPEN}
        urls = dict(zip("ABC", (chaos.url for chaos in proxies), strict=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = write_config(folder / "sidecar.yaml", config_of(urls, primary=changes, spare=changes))
        yield await stack.enter_async_context(sidecar_process(config, environ=KEYS)), proxies
