"""Faults before the first token: the caller notices nothing, as long as somebody can answer.

The caller is the official SDK with its own retries off. A is the region next door, B the other region of the
same provider, C another provider with another model (see world.py).
"""

import asyncio
import time

import openai

from tests.faults.call import Heard, ask
from tests.faults.case import Case, Trial
from tests.faults.world import World, world

ATTEMPTS_MAX = 4  # what retry.attempts allows one request


def check_whole(case: Case, here: World, heard: Heard) -> None:
    """The caller has the healthy answer: all of it, once, to a clean end."""
    case.equal("error", heard.said, "")
    case.equal("text", heard.text, here.answer)
    case.equal("finish reason", heard.finish, "stop")


def check_error(case: Case, heard: Heard, status: int, code: str | None) -> None:
    """The caller has this error and no text."""
    error = heard.error
    case.equal("status", heard.status, status)
    case.equal("text", heard.text, "")
    if code is not None:
        case.equal("code", error.code if isinstance(error, openai.APIError) else None, code)


async def rate_limited_until_told(case: Case) -> None:
    """429 with Retry-After: the other region at once, back when the time is over"""
    async with world() as here:
        here.a.scenario.update({"fail_next": 1, "error_status": 429, "retry_after": "1"})
        started_s = time.monotonic()
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
        for _ in range(5):
            check_whole(case, here, await ask(here.sidecar.url))
        if time.monotonic() - started_s < 0.9:
            case.equal("tries at A within Retry-After", here.a.attempts, 1)
        await asyncio.sleep(max(0.0, started_s + 1.5 - time.monotonic()))
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries at A afterwards", here.a.attempts, 2)
    async with world(only="AC", without_fallback=True) as here:
        here.a.scenario.update({"fail_next": 1, "error_status": 429, "retry_after": "1"})
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("tries at the only endpoint", here.a.attempts, 2)
        first, second = (received.at for received in here.a.requests)
        case.at_least("time between them", second - first, 0.95, unit=" s")


async def rate_limited_for_good(case: Case) -> None:
    """429 without Retry-After, again and again: the other model, and nobody is hammered"""
    async with world() as here:
        here.set_primary(error_ratio=1.0, error_status=429)
        started_s = time.monotonic()
        for _ in range(8):
            heard = await ask(here.sidecar.url)
            check_whole(case, here, heard)
            case.equal("model", heard.headers.get("x-sidecar-model"), "backup")
            case.at_most("tries of one request", heard.attempts, ATTEMPTS_MAX)
        # Parked for a second each: two tries of one request, and one more for every second since.
        spell = int(time.monotonic() - started_s) + 1
        case.at_most("tries at A", here.a.attempts, 2 * spell)
        case.at_most("tries at B", here.b.attempts, 2 * spell)


async def error_once(case: Case) -> None:
    """500 once, then healthy: one more try, and the whole answer"""
    async with world() as here:
        here.a.scenario.update({"fail_next": 1, "error_status": 500})
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
        case.equal("x-sidecar-attempts", heard.attempts, 2)
    async with world(only="AC", without_fallback=True) as here:
        here.a.scenario.update({"fail_next": 1, "error_status": 500})
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal("tries at the only endpoint", here.a.attempts, 2)


async def unavailable_for_good(case: Case) -> None:
    """503 always: the other model; where that fails too, the error at once and no further retries"""
    async with world() as here:
        here.set_primary(error_ratio=1.0, error_status=503)
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("model", heard.headers.get("x-sidecar-model"), "backup")
        case.equal("tries at C", here.c.attempts, 1)
        case.at_most("tries in all", sum(here.attempts), ATTEMPTS_MAX)
    async with world() as here:
        for provider in here.providers:
            provider.scenario.update({"error_ratio": 1.0, "error_status": 503})
        heard = await ask(here.sidecar.url)
        check_error(case, heard, 503, None)
        case.equal("x-should-retry", heard.headers.get("x-should-retry"), "false")
        case.at_most("tries in all", sum(here.attempts), ATTEMPTS_MAX)


async def reset_before_head(case: Case) -> None:
    """The connection is reset before any byte: asked elsewhere"""
    for stream in (True, False):
        async with world() as here:
            here.a.scenario.update({"reset": "accept", "break_next": 1})
            heard = await ask(here.sidecar.url, stream=stream)
            check_whole(case, here, heard)
            case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
            case.equal("x-sidecar-attempts", heard.attempts, 2)


async def no_answer_at_all(case: Case) -> None:
    """The request is taken and never answered: asked elsewhere once, never again there"""
    for stream in (True, False):
        async with world() as here:
            here.a.scenario.update({"hang": "accept"})
            heard = await ask(here.sidecar.url, stream=stream)
            check_whole(case, here, heard)
            case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
            case.at_most("time", heard.seconds, 2.0, unit=" s", timed=True)
    async with world(without_fallback=True) as here:
        here.set_primary(hang="accept")
        heard = await ask(here.sidecar.url)
        check_error(case, heard, 504, "upstream_timeout")
        case.equal("x-should-retry", heard.headers.get("x-should-retry"), "false")
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))


async def slow_first_token(case: Case) -> None:
    """Head at once, first token much later: asked elsewhere when the limit is over"""
    async with world() as here:
        here.a.scenario.update({"first_token_s": 8.0})
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("tries at A, B, C", here.attempts, (1, 1, 0))
        case.at_most("time", heard.seconds, 6.0, unit=" s")
        case.at_most("time", heard.seconds, 1.0, unit=" s", timed=True)
        await asyncio.sleep(0.2)
        case.equal("requests still open at A", here.a.open_requests, 0)


async def context_too_long(case: Case) -> None:
    """400 context_length_exceeded: the route's model for long contexts, and the same model never again"""
    refusal = {"error_ratio": 1.0, "error_status": 400, "error_code": "context_length_exceeded"}
    async with world() as here:
        here.set_primary(**refusal)
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal("model", heard.headers.get("x-sidecar-model"), "big")
        case.equal("tries at A, B, C", here.attempts, (1, 0, 1))
        for _ in range(7):  # a long prompt is no failure of the endpoint
            await ask(here.sidecar.url)
        case.equal("tries at A after eight such requests", here.a.attempts, 8)
    async with world(without_fallback=True) as here:
        here.set_primary(**refusal)
        check_error(case, await ask(here.sidecar.url), 400, "context_length_exceeded")
        case.equal("tries without a route for it", here.attempts, (1, 0, 0))


async def content_refused(case: Case) -> None:
    """400 content_filter: the caller sees it, nobody else is asked"""
    for stream in (True, False):
        async with world() as here:
            message = "The prompt was filtered."
            knobs = {"error_status": 400, "error_code": "content_filter", "error_message": message}
            here.set_primary(error_ratio=1.0, **knobs)
            heard = await ask(here.sidecar.url, stream=stream)
            check_error(case, heard, 400, "content_filter")
            case.equal("the provider's reason", message in heard.said, True)
            case.equal("tries at A, B, C", here.attempts, (1, 0, 0))


async def down_and_up_again(case: Case) -> None:
    """The provider is down for a while: served by the other model, left alone meanwhile, then used again"""
    down_s, open_for_s, failures = 2.5, 0.5, 3
    breaker = {"consecutive_failures": failures, "open_for": "500ms"}
    async with world(primary={"circuit_breaker": breaker}) as here:
        here.set_primary(error_ratio=1.0, error_status=503)
        started_s, outage = time.monotonic(), 0
        while time.monotonic() - started_s < down_s:
            heard = await ask(here.sidecar.url)
            if not (heard.text == here.answer and heard.error is None):
                check_whole(case, here, heard)
            outage += 1
            await asyncio.sleep(0.04)
        # The failures that open it, then a probe each time it has been open for long enough; one to spare.
        allowed = failures + int((time.monotonic() - started_s) / open_for_s) + 1
        case.at_least("requests in the outage, all answered", outage, allowed + 2)
        case.at_most("tries at A in the outage", here.a.attempts, allowed)
        case.at_most("tries at B in the outage", here.b.attempts, allowed)
        here.set_primary(error_ratio=0.0)
        healed_s = time.monotonic()
        while (heard := await ask(here.sidecar.url)).headers.get("x-sidecar-model") != "main":
            if time.monotonic() - healed_s > 10:
                break
            await asyncio.sleep(0.04)
        case.at_most("back after", time.monotonic() - healed_s, 3.0, unit=" s", timed=True)
        await asyncio.sleep(2 * open_for_s)
        for _ in range(5):
            heard = await ask(here.sidecar.url)
            check_whole(case, here, heard)
            case.equal("model", heard.headers.get("x-sidecar-model"), "main")
            case.equal("x-sidecar-attempts", heard.attempts, 1)


async def accounting(case: Case) -> None:
    """The other model answered: header, usage and metrics name it, and the failed tries cost no tokens"""
    for stream in (True, False):
        async with world() as here:
            here.set_primary(error_ratio=1.0, error_status=503)
            heard = await ask(here.sidecar.url, stream=stream)
            check_whole(case, here, heard)
            case.equal("x-sidecar-model", heard.headers.get("x-sidecar-model"), "backup")
            case.equal("x-sidecar-provider", heard.headers.get("x-sidecar-provider"), "spare")
            case.equal("model in the answer", heard.model, "backup")
            case.equal("x-sidecar-attempts", heard.attempts, sum(here.attempts))
            case.equal("usage", heard.usage and heard.usage.completion_tokens, len(here.tokens))
            tokens, requests = "sidecar_tokens_total", "sidecar_requests_total"
            counted = await here.metric(tokens, provider="spare", model="backup", direction="output")
            case.equal("output tokens counted for it", counted, len(here.tokens))
            case.equal("tokens counted for the other", await here.metric(tokens, provider="primary"), 0)
            answered = await here.metric(requests, provider="spare", model="backup", code="200")
            case.equal("requests counted for it", answered, 1)
            case.equal("requests counted in all", await here.metric(requests), 1)
            tries = await here.metric("sidecar_attempts_total")
            case.equal("tries counted", tries, sum(here.attempts))


TRIALS: dict[int, Trial] = {
    1: rate_limited_until_told,
    2: rate_limited_for_good,
    3: error_once,
    4: unavailable_for_good,
    5: reset_before_head,
    6: no_answer_at_all,
    7: slow_first_token,
    12: context_too_long,
    13: content_refused,
    15: down_and_up_again,
    16: accounting,
}
