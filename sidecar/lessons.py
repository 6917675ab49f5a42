"""What an attempt teaches about its target: parkings and speed. Scoring for the breaker is in tries.py.

Plain functions of what came of the attempt; nothing here decides where the request goes next.
"""

import time

from sidecar.answer import STREAM, Answer
from sidecar.exchange import Exchange
from sidecar.tries import Target
from sidecar.upstream.parking import exhausted_for_s
from sidecar.upstream.slowness import Slowness
from sidecar.upstream.verdict import Verdict

# A 429 that does not say for how long.
DEFAULT_PARKING_S = 1.0


def learn_good(target: Target, answer: Answer, x: Exchange, now_s: float) -> None:
    """A good answer began (a stream) or is whole."""
    endpoint, candidate = target.endpoint, target.candidate
    provider = candidate.provider
    if endpoint.last_error:
        endpoint.last_error = ""
    if endpoint.parking.ends and answer.status < 400:  # what is passed on unread is good whatever its status
        endpoint.free(provider.credential(x), candidate.model, now_s)
    is_stream = answer.mode is STREAM
    if is_stream or provider.only is None or candidate.is_judged:
        _note_speed(target, now_s, is_stream=is_stream)
    head = answer.head
    if head is not None and head.is_at_limit:
        wait_s = exhausted_for_s(head, time.time())
        if wait_s is not None:
            endpoint.limit(provider.credential(x), candidate.model, now_s + wait_s, now_s)


def learn_bad(target: Target, verdict: Verdict, x: Exchange, message: str, now_s: float) -> None:
    """An attempt failed, was refused, or broke off."""
    endpoint, candidate = target.endpoint, target.candidate
    provider = candidate.provider
    target.error = message
    if verdict.kind == "limited":
        wait_s = DEFAULT_PARKING_S if verdict.wait_s is None else verdict.wait_s
        endpoint.limit(provider.credential(x), candidate.model, now_s + wait_s, now_s)
    elif verdict.kind == "credential":
        endpoint.refuse(provider.credential(x), message, now_s)
    elif verdict.counts_against_endpoint:
        endpoint.observe(message)
        # A stream that fell silent later was not late: its first token has been noted.
        if verdict.kind == "timeout" and candidate.is_judged and not target.has_begun:
            _judge_speed(target, now_s - target.began_s, now_s, is_stream=True)


def learn_lost(target: Target, message: str) -> None:
    """An answer that had begun broke off, and nobody goes on with it."""
    target.error = message
    target.endpoint.observe(message)


def _note_speed(target: Target, now_s: float, *, is_stream: bool) -> None:
    endpoint, candidate = target.endpoint, target.candidate
    seconds = now_s - target.began_s
    speed = endpoint.speed(candidate.model)
    if is_stream:
        endpoint.first_token.observe(seconds)
        speed.first_token.observe(seconds, now_s)
    else:
        speed.whole.observe(seconds, now_s)
    if candidate.is_judged:
        _judge_speed(target, seconds, now_s, is_stream=is_stream)


def _judge_speed(target: Target, seconds: float, now_s: float, *, is_stream: bool) -> None:
    candidate = target.candidate
    budget_s = candidate.late_s if is_stream else candidate.late_plain_s
    if budget_s is None:
        return
    speed = target.endpoint.speed(candidate.model)
    open_for_s = candidate.provider.open_for_s
    late = speed.late if is_stream else speed.late_plain
    if late is None:
        late = Slowness(budget_s, open_for_s)
        if is_stream:
            speed.late = late
        else:
            speed.late_plain = late
    late.configure(budget_s, open_for_s)
    late.observe(seconds, now_s)
