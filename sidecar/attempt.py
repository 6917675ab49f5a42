"""Where a request stands between its tries: what came of each, and the answer the caller is to get.

Plain values and judgements; proxy.py walks, tries.py says where to.
"""

import time
from typing import TYPE_CHECKING

from sidecar.answer import STREAM, Answer
from sidecar.errors import (
    MISMATCH,
    NotSent,
    ProxyError,
    Retry,
    blocked,
    key_refused,
    no_healthy_upstream,
)
from sidecar.exchange import Exchange, Usage
from sidecar.openai import Call
from sidecar.policy.balances import Budget
from sidecar.policy.budget import Reservation
from sidecar.policy.callers import Caller
from sidecar.policy.rate_limit import Admission
from sidecar.resume import total
from sidecar.routing.plan import Candidate, Plan
from sidecar.tries import Target, Tries
from sidecar.upstream import verdict as verdicts
from sidecar.upstream.verdict import GOOD, OURS, SERVER_FAILED, Verdict
from sidecar.usage.estimator import as_delivered
from sidecar.usage.pricing import Tariff

if TYPE_CHECKING:
    from sidecar.caching.lookup import Lookup

Outcome = Answer | ProxyError
_REUSED_ONLY = Retry.REUSED_ONLY


class Account:
    """What a request is paid with: who calls, and what was taken beforehand."""

    __slots__ = ("admission", "caller", "reservation", "reserved_for", "tokens_in", "tokens_out")

    def __init__(self, caller: Caller, tokens_in: int) -> None:
        self.caller = caller
        self.tokens_in = tokens_in  # as estimated; 0 of what is passed on unread
        self.tokens_out: int | None = None  # what was reserved for the answer; None: nothing
        self.admission: Admission | None = None
        self.reservation: Reservation | None = None  # in the budgets, for the try that is being made
        self.reserved_for: Candidate | None = None


class Part:
    """A stream that failed, and had cost something: who gave it, its tokens if told, and how many events with
    content it had. What it costs is charged at once, by this price and to these budgets."""

    __slots__ = ("counted_by", "events", "target", "tariff", "usage")

    def __init__(self, target: Target, usage: Usage | None, events: int) -> None:
        self.target = target
        self.usage = usage
        self.events = events
        self.tariff: Tariff | None = None
        self.counted_by: tuple[Budget, ...] = ()


class Attempt:
    """Where a request stands: the answer the caller is to get, and who gave it.

    `answer` is good, or the last one a provider gave; `error` what happened where there was none. `gave_up`:
    tries were made and none was good, so the caller's own retries would not help. `under_way` is the answer
    that was asked for last, `goes_to` where the next or latest try goes.
    """

    # What a request keeps as it is when its first try is good.
    tries: Tries | None = None
    under_way: Answer | None = None
    goes_to: Target | None = None
    answer: Answer | None = None
    target: Target | None = None
    error: ProxyError | None = None
    is_good = False
    gave_up = False
    usage: Usage | None = None  # as told by the streams that failed before this answer
    parts: tuple[Part, ...] = ()  # the same, one by one
    parted: Answer | None = None  # the last of them
    account: Account | None = None
    lookup: "Lookup | None" = None  # in the cache, which had no answer and may keep this one
    limited_s: float | None = None  # every try met a 429: the shortest wait that one asked for
    _others = False  # something else than a 429 happened

    @property
    def last(self) -> Answer | None:
        """The answer that is no part: the caller's, as far as it came, or one that nobody waits for now."""
        last = self.under_way
        if last is None or last is self.parted:
            return None
        is_over = last.is_whole or last.error is not None
        return None if is_over and last is not self.answer else last

    def part_with(self, outcome: Outcome, target: Target) -> Part | None:
        """A try failed: it is a part of the request if it cost something, as far as that is known."""
        if not isinstance(outcome, Answer) or outcome.reader is None:
            return None
        usage, events = outcome.reader.usage, outcome.reader.events
        if usage is None and not events:
            return None
        part = Part(target, usage, events)
        self.parts = (*self.parts, part)
        self.parted = outcome
        self.usage = total(self.usage, usage)
        return part

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
            return SERVER_FAILED if outcome.has_failed else GOOD
    body = b"" if outcome.status < 400 else outcome.body
    return verdicts.judge(
        outcome.status, outcome.head, body, error=outcome.error, is_own_key=is_own_key, wall_s=time.time()
    )


def judge_end(answer: Answer) -> Verdict:
    """How an answer that began well ended; a caller that left, or a drain, says nothing of the endpoint."""
    if answer.error is None:
        if answer.has_failed:
            return SERVER_FAILED
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
    return isinstance(outcome, NotSent) or (call is not None and call.is_replayable)


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
    if isinstance(outcome, Answer) and outcome.has_failed:
        return "an error event in its stream"
    return f"status {outcome.status}"


def last_usage(x: Exchange, attempt: Attempt, account: Account) -> tuple[Usage | None, bool]:
    """The tokens of the answer that came last, as far as it came, without the parts before it; and whether
    the provider did not tell, or not all. `x.usage` is what a plain answer told."""
    last, tokens_in = attempt.last, account.tokens_in
    if last is None:
        return None, False
    reader = last.reader
    usage = x.usage if reader is None else reader.usage
    if usage is not None and (reader is None or reader.is_complete):
        return usage, False
    if reader is not None:
        is_refusal = reader.failed and not reader.events and usage is None
        return (None, False) if is_refusal else as_delivered(usage, reader.events, tokens_in)
    if not tokens_in:
        return None, False  # passed on unread
    if last is not attempt.answer:
        return Usage(tokens_in, 0), True  # nobody waits for it; what it was asked has been read all the same
    if last.status != 200:
        return None, False
    tokens_out = account.tokens_out
    return None if tokens_out is None else Usage(tokens_in, tokens_out), True


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
        x.overhead_s = began_s - x.whole_s
        if answer.mode is STREAM:
            x.first_token_s = now_s - x.started_s


def describe_left(x: Exchange, attempt: Attempt) -> None:
    """Take down who was asked last, where the caller left, or had to be left, before there was an answer."""
    tries, target = attempt.tries, attempt.target
    if tries is not None and attempt.last is not None:
        x.attempts, target = tries.used, attempt.goes_to
    elif x.provider:
        return
    if target is not None:
        name_target(x, target)


def name_target(x: Exchange, target: Target) -> None:
    """Who serves the request now."""
    candidate, endpoint = target.candidate, target.endpoint
    x.model = candidate.model or x.model
    x.provider = candidate.provider.name
    x.endpoint, x.region = endpoint.url, endpoint.region
