"""Where a request stands between its tries: what came of each, and the answer the caller is to get.

Plain values and judgements; proxy.py walks, tries.py says where to.
"""

import time
from typing import TYPE_CHECKING

from sidecar.answer import STREAM, Answer
from sidecar.errors import (
    MISMATCH,
    ProxyError,
    Retry,
    Unreachable,
    blocked,
    key_refused,
    no_healthy_upstream,
)
from sidecar.exchange import Exchange, Usage
from sidecar.openai import Call
from sidecar.policy.budget import Reservation
from sidecar.policy.callers import Caller
from sidecar.policy.rate_limit import Admission
from sidecar.routing.plan import Candidate, Plan
from sidecar.tries import Target, Tries
from sidecar.upstream import verdict as verdicts
from sidecar.upstream.verdict import GOOD, OURS, SERVER_FAILED, Verdict

if TYPE_CHECKING:
    from sidecar.caching.lookup import Lookup

Outcome = Answer | ProxyError
_REUSED_ONLY = Retry.REUSED_ONLY


class Account:
    """What a request is paid with: who calls, and what was taken beforehand."""

    __slots__ = ("admission", "caller", "reservation", "reserved_for", "tokens_in")

    def __init__(self, caller: Caller, tokens_in: int) -> None:
        self.caller = caller
        self.tokens_in = tokens_in  # as estimated
        self.admission: Admission | None = None
        self.reservation: Reservation | None = None  # in the budgets, for the try that is being made
        self.reserved_for: Candidate | None = None


class Part:
    """A stream that broke off, and was gone on with from elsewhere; who gave it, and its tokens if told."""

    __slots__ = ("events", "target", "usage")

    def __init__(self, target: Target, usage: Usage | None, events: int) -> None:
        self.target = target
        self.usage = usage
        self.events = events  # with content


class Attempt:
    """Where a request stands: the answer the caller is to get, and who gave it.

    `answer` is good, or the last one a provider gave; `error` what happened where there was none. `gave_up`:
    tries were made and none was good, so the caller's own retries would not help. `under_way` is the answer
    that was asked for last.
    """

    # What a request keeps as it is when its first try is good.
    tries: Tries | None = None
    under_way: Answer | None = None
    answer: Answer | None = None
    target: Target | None = None
    error: ProxyError | None = None
    is_good = False
    gave_up = False
    usage: Usage | None = None  # of the streams that broke off before this answer
    parts: tuple[Part, ...] = ()  # the same, one by one
    account: Account | None = None
    lookup: "Lookup | None" = None  # in the cache, which had no answer and may keep this one
    limited_s: float | None = None  # every try met a 429: the shortest wait that one asked for
    _others = False  # something else than a 429 happened

    def take(self, answer: Answer, target: Target) -> None:
        """A good answer: it is the one."""
        self.is_good = True
        if self.answer is None and self.error is None:
            self.answer, self.target = answer, target  # at the first try, as nearly always
            return
        self._replace(answer, target)
        self.gave_up = False
        self.error = None
        self.limited_s = None

    def note(self, outcome: Answer | ProxyError, target: Target, verdict: Verdict) -> None:
        """One that is not good. An answer a provider gave is better than none; silence outweighs refusal."""
        self.gave_up = verdict.kind not in ("caller", "context")
        self._note_limit(verdict)
        if isinstance(outcome, Answer) and outcome.error is None:
            self._replace(outcome, target)
            return
        error = outcome if isinstance(outcome, ProxyError) else outcome.error
        if self.error is None or self.error.status != 504:
            self.error = error
        if self.answer is None:
            self.target = target

    def _note_limit(self, verdict: Verdict) -> None:
        if verdict.kind != "limited":
            self.limited_s = None
            self._others = True
        elif not self._others and verdict.wait_s is not None:
            self.limited_s = min(verdict.wait_s, self.limited_s or verdict.wait_s)

    def _replace(self, answer: Answer, target: Target) -> None:
        if self.answer is not None:
            self.answer.cancel()
        self.answer, self.target = answer, target


# A stream that broke off: the same endpoint is not asked for the rest of it.
BROKE_OFF = Verdict("retry", against=True, others=True)
# A stream that tells the answer in other words is nobody's failure.
DIFFERENT = Verdict("retry", for_=True, others=True)


def judge(outcome: Outcome, call: Call | None, target: Target) -> Verdict:
    """What follows from one try. What is passed through unread is good as soon as it has a head."""
    is_own_key = target.candidate.provider.has_own_key
    if isinstance(outcome, ProxyError):
        return verdicts.judge(0, None, b"", error=outcome, is_own_key=is_own_key, wall_s=0.0)
    if outcome.error is not None and outcome.error.code == MISMATCH:
        return DIFFERENT
    if outcome.error is None:
        if call is None:
            return GOOD
        if outcome.mode is STREAM:
            return SERVER_FAILED if outcome.reader is not None and outcome.reader.failed else GOOD
    body = b"" if outcome.status < 400 else outcome.body
    return verdicts.judge(
        outcome.status, outcome.head, body, error=outcome.error, is_own_key=is_own_key, wall_s=time.time()
    )


def judge_end(answer: Answer) -> Verdict:
    """How an answer that began well ended; a caller that left, or a drain, says nothing of the endpoint."""
    if answer.error is None:
        return GOOD if answer.is_whole else OURS
    if answer.error.code == "draining":
        return OURS
    return verdicts.judge(0, None, b"", error=answer.error, is_own_key=False, wall_s=0.0)


def nothing_to_try(x: Exchange, tries: Tries, plan: Plan) -> ProxyError:
    """Why no target is left to begin with."""
    if tries.blocked_s is not None:
        return blocked(tries.blocked_s)
    if not any(candidate.provider.allowed(x) for candidate in plan.candidates):
        if x.pinned is not None:
            return no_healthy_upstream(
                "The endpoint that keeps this previous_response_id is gone; send the input anew."
            )
        regions = ", ".join(x.regions)
        return no_healthy_upstream(f"No endpoint of this model is in the regions of this key ({regions}).")
    providers = [candidate.provider for candidate in plan.candidates]
    refusing = dict.fromkeys(provider.name for provider in providers if provider.refuses_key(x))
    return key_refused(list(refusing)) if refusing else no_healthy_upstream()


def may_go_on(outcome: Outcome, call: Call | None) -> bool:
    """Whether the request may be sent once more: nothing was sent yet, or twice does no harm."""
    return isinstance(outcome, Unreachable) or (call is not None and call.is_replayable)


def is_stale(answer: Answer, x: Exchange, call: Call | None) -> bool:
    """Whether it was lost to a kept-alive connection that turned out closed, and may be sent anew."""
    error = answer.error
    if error is None or error.retry is not _REUSED_ONLY:
        return False
    return call.is_replayable if call is not None else x.method in (b"GET", b"HEAD")


def message_of(outcome: Outcome) -> str:
    """What to say of a try in the endpoint's `last_error`."""
    error = outcome if isinstance(outcome, ProxyError) else outcome.error
    if error is not None:
        return error.message
    return f"status {outcome.status}"


def describe(x: Exchange, attempt: Attempt, began_s: float, now_s: float) -> None:
    """Take down for headers, metrics and log who answered and how long it took."""
    x.upstream_s = now_s - began_s
    tries, target, answer = attempt.tries, attempt.target, attempt.answer
    if tries is not None:
        x.attempts = tries.used
    if target is not None:
        name_target(x, target)
    if answer is not None:
        x.status = answer.status
        x.overhead_s = began_s - x.started_s
        if answer.mode is STREAM:
            x.first_token_s = now_s - x.started_s


def name_target(x: Exchange, target: Target) -> None:
    """Who serves the request now."""
    candidate, endpoint = target.candidate, target.endpoint
    x.model = candidate.model or x.model
    x.provider = candidate.provider.name
    x.endpoint, x.region = endpoint.url, endpoint.region
