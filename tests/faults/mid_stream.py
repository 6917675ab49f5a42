"""Faults in the middle of a stream: the rest comes from elsewhere, or the caller is told, never a lie.

Route `auto` resumes a cut stream, route `strict` ends it in an error (see world.py). The other region gives
the same answer, so a resumed stream must be the healthy text to the character: nothing lost, nothing twice.
"""

import asyncio

from tests.faults.before_first_token import check_whole
from tests.faults.call import Heard, ask, call
from tests.faults.case import Case, Trial
from tests.faults.world import TOKENS, World, world

CUT_AT = 1 + 2 * TOKENS // 3  # the role-only event, and two thirds of the tokens


def check_told(case: Case, here: World, heard: Heard) -> None:
    """The caller has the beginning of the answer and an error, no clean end."""
    case.equal("ends in an error", heard.error is not None, True)
    case.equal("the text is the beginning of the answer", here.answer.startswith(heard.text), True)
    case.at_most("its length", len(heard.text), len(here.answer) - 1)
    case.equal("finish reason", heard.finish, None)


async def cut(case: Case) -> None:
    """A stream is cut at two thirds: whole from elsewhere; or an error, where resuming is off"""
    for mode in ("reset", "close", "end"):
        for mid_event in (False, True):
            knobs = {"cut_after_events": CUT_AT, "cut_mode": mode, "cut_mid_event": mid_event}
            async with world() as here:
                here.a.scenario.update(knobs)
                check_whole(case, here, await ask(here.sidecar.url))
                case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
                heard = await ask(here.sidecar.url, "strict")
                check_told(case, here, heard)
                case.at_least("text that had arrived", len(heard.text), 1)
                case.equal("tries at A, B, C, not resumed", here.attempts, (2, 1, 0))
    # To repeat what the caller has takes B longer than a first token may.
    async with world(interval_s=0.02) as here:
        here.a.scenario.update({"cut_after_events": CUT_AT})
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries at A, B, C, at a model's pace", here.attempts, (1, 1, 0))


async def stalled(case: Case) -> None:
    """A stream falls silent: whole from elsewhere once the idle limit is over; or an error"""
    async with world() as here:
        here.a.scenario.update({"stall_after_events": 20, "stall_s": 30.0})
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
        case.at_most("time", heard.seconds, 10.0, unit=" s")
        case.at_most("time", heard.seconds, 1.0, unit=" s", timed=True)
        check_told(case, here, await ask(here.sidecar.url, "strict"))
        await asyncio.sleep(0.2)
        case.equal("requests still open at A", here.a.open_requests, 0)
        here.a.scenario.update({"stall_after_events": None})
        check_whole(case, here, await ask(here.sidecar.url))


async def malformed(case: Case) -> None:
    """An event that is no JSON: not passed on; the rest from elsewhere, or an error"""
    async with world() as here:
        here.a.scenario.update({"garbage_at_event": 10})
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
        check_told(case, here, await ask(here.sidecar.url, "strict"))
        outcome = await call(here.sidecar.port, "strict", here.answer, stream=True)
        case.equal("garbage at the caller", outcome.error == "garbage", False)
        here.a.scenario.update({"garbage_at_event": None})
        check_whole(case, here, await ask(here.sidecar.url))


async def without_done(case: Case) -> None:
    """A complete stream without [DONE]: finished at once, with its usage, and nothing is made up"""
    for route in ("auto", "strict"):
        async with world() as here:
            here.a.scenario.update({"no_done": True})
            heard = await ask(here.sidecar.url, route)
            check_whole(case, here, heard)
            case.equal("tries at A, B, C", here.attempts, (1, 0, 0))
            case.equal("usage", heard.usage and heard.usage.completion_tokens, len(here.tokens))
            outcome = await call(here.sidecar.port, route, here.answer, stream=True)
            case.equal("right without the SDK", outcome.is_right, True)
            case.at_most("time", heard.seconds, 0.5, unit=" s", timed=True)


async def prefill_refused(case: Case) -> None:
    """A stream is cut and the other model refuses a prefill: asked anew, the refusal stays unseen"""
    for capabilities in (["prefill"], []):
        async with world(only="AC", spare={"capabilities": capabilities}) as here:
            here.a.scenario.update({"cut_after_events": CUT_AT})
            here.c.scenario.update({"refuse_prefill": True})
            check_whole(case, here, await ask(here.sidecar.url))
            case.equal("tries at A, B, C", here.attempts, (1, 0, 2 if capabilities else 1))
    async with world(only="AC", spare={"capabilities": ["prefill"]}) as here:
        here.a.scenario.update({"cut_after_events": CUT_AT})
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries where the prefill is taken", here.attempts, (1, 0, 1))
        prefills = [
            message for message in here.c.requests[0].json()["messages"] if message["role"] == "assistant"
        ]
        case.equal("prefills sent", len(prefills), 1)
    async with world(only="AC") as here:
        here.a.scenario.update({"cut_after_events": CUT_AT})
        here.c.scenario.update({"answer": "Something else altogether, and quite unlike it."})
        check_told(case, here, await ask(here.sidecar.url))


TRIALS: dict[int, Trial] = {8: cut, 9: stalled, 10: malformed, 11: without_done, 14: prefill_refused}
