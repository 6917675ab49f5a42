"""What an attempt teaches about its target: parkings and speed. Scoring for the breaker is in tries.py.

Plain functions of what came of the attempt; nothing here decides where the request goes next.
"""

import logging
import time

from sidecar.answer import STREAM, Answer
from sidecar.tries import Target
from sidecar.upstream.parking import exhausted_for_s
from sidecar.upstream.slowness import Slowness
from sidecar.upstream.verdict import Verdict

# A 429 that does not say for how long.
DEFAULT_PARKING_S = 1.0

_log = logging.getLogger("sidecar")


def learn_good(target: Target, answer: Answer, credential: str, seconds: float, now_s: float) -> None:
    """A good answer began (a stream) or is whole, `seconds` after the request was sent."""
    endpoint, candidate = target.endpoint, target.candidate
    if endpoint.last_error:
        endpoint.last_error = ""
    if answer.mode is STREAM:
        endpoint.first_token.observe(seconds)
        endpoint.speed(candidate.model).first_token.observe(seconds, now_s)
    if candidate.is_judged:
        _judge_speed(target, seconds, now_s, is_stream=answer.mode is STREAM)
    head = answer.head
    if head is not None and head.is_at_limit:
        wait_s = exhausted_for_s(head, time.time())
        if wait_s is not None:
            endpoint.parking.park(credential, candidate.model, now_s + wait_s)


def learn_bad(
    target: Target, verdict: Verdict, credential: str, seconds: float, message: str, now_s: float
) -> None:
    """An attempt failed, or was refused, `seconds` after the request was sent."""
    endpoint, candidate = target.endpoint, target.candidate
    if verdict.kind == "limited":
        wait_s = DEFAULT_PARKING_S if verdict.wait_s is None else verdict.wait_s
        endpoint.parking.park(credential, candidate.model, now_s + wait_s)
    elif verdict.kind == "credential":
        endpoint.parking.park_credential(credential)
        name = candidate.provider.name
        _log.error("provider %s refuses its api_key at %s: replace the key", name, endpoint.url)
    elif verdict.counts_against_endpoint:
        endpoint.observe(message)
        if verdict.kind == "timeout" and candidate.is_judged:
            _judge_speed(target, seconds, now_s, is_stream=True)


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
