"""One request, top to bottom: the only file that knows the order.

    connection --admit--> refused (400 403 405 413 431), or to the aiohttp lane, or read whole, then
    serve: identify the caller -> read the call -> route -> limits -> cache -> budgets -> attempt -> relay
           -> settle

Decisions are plain calls; the flow waits in two places only, for an endpoint's answer to be known good and
for its end. In between the bytes go from connection to connection without it (answer.py).
"""

import time
from random import Random
from typing import TYPE_CHECKING, Protocol

from sidecar.accounts import Accounts
from sidecar.answer import PLAIN, Answer
from sidecar.attempt import (
    BROKE_OFF,
    Attempt,
    Outcome,
    describe,
    describe_left,
    is_stale,
    judge,
    judge_end,
    may_go_on,
    message_of,
    name_target,
    nothing_to_try,
)
from sidecar.clock import Ticker, pause
from sidecar.errors import (
    ClientGone,
    ProxyError,
    blocked,
    model_not_allowed,
    model_not_found,
    no_healthy_upstream,
    refuse,
)
from sidecar.exchange import Exchange, Reply
from sidecar.flow import in_turns
from sidecar.gate import is_served, judge_head, wants_lane
from sidecar.headers import final_lines
from sidecar.large_body import LARGE_BYTES
from sidecar.lessons import learn_bad, learn_good, learn_lost
from sidecar.model_list import ModelList
from sidecar.openai import KINDS, Call, read_call, read_large_call
from sidecar.pins import Pins, response_id
from sidecar.resume import Delivered, Joiner
from sidecar.resume import Mode as JoinMode
from sidecar.runtime import Snapshot
from sidecar.sender import Sender
from sidecar.settlement import Settlement
from sidecar.telemetry.metrics import Metrics
from sidecar.tries import Target, Tries
from sidecar.upstream.verdict import GOOD, OURS, Verdict

if TYPE_CHECKING:
    from sidecar.caching.requests import Caching  # two megabytes, for those who have a cache


class Live(Protocol):
    """Where the current snapshot is; a reload puts another one in its place."""

    snapshot: Snapshot


class Proxy:
    """The gate of the data listeners and the life of every request."""

    def __init__(
        self,
        live: Live,
        ticker: Ticker,
        metrics: Metrics,
        accounts: Accounts,
        settlement: Settlement,
        models: ModelList,
    ) -> None:
        self._live = live
        self._ticker = ticker
        self._metrics = metrics
        self._accounts = accounts
        self._settlement = settlement
        self._models = models
        self.caching: Caching | None = None  # None: no answer is ever given twice
        self._sender = Sender(ticker)
        self._random = Random()
        self._pins = Pins()

    @property
    def max_body_bytes(self) -> int:
        return self._live.snapshot.max_body_bytes

    # --- when the head is read ------------------------------------------------------------------------

    def admit(self, x: Exchange) -> Reply | None:
        """Judge a request by its head. The path is compared as it was sent, never decoded or joined."""
        snapshot = self._live.snapshot
        head = x.head
        if head.admitted_by is snapshot:
            x.kind = head.kind
            return None
        if x.method == b"POST":
            x.kind = head.kind = KINDS.get(x.path, "")
        refusal = judge_head(x, snapshot)
        if refusal is None:
            head.admitted_by = snapshot
        return refusal

    def wants_lane(self, x: Exchange) -> bool:
        """Uploads and WebSockets: everything with a body that is no JSON, and every upgrade to one."""
        return self._live.snapshot.default is not None and wants_lane(x)

    def refused(self, x: Exchange) -> None:
        """Count and log a request that never came to be served."""
        self.settle(x)

    # --- when the request is whole --------------------------------------------------------------------

    async def serve(self, x: Exchange) -> None:
        """Answer one request: long, and kept whole, so that its order is seen in one place."""
        snapshot = self._live.snapshot
        client = x.client
        attempt = Attempt()
        self._metrics.in_flight += 1
        try:
            # Identify the caller.
            caller = snapshot.callers.identify(x.head, time.time())
            if isinstance(caller, Reply):
                return client.reply(x, caller)
            x.team, x.regions, x.priority = caller.team, caller.regions, caller.priority

            if not x.kind and self._models.serves(x) and is_served(x.path):
                return client.reply(x, await self._models.answer(x, caller))

            # Read the body: which model, and is it a stream?
            call: Call | None = None
            if x.kind:
                is_large = len(x.body) > LARGE_BYTES
                read = await in_turns(read_large_call(x.body)) if is_large else read_call(x.body)
                if isinstance(read, Reply):
                    return client.reply(x, read)
                call = read
                x.model, x.stream, call.kind = call.model, call.stream, x.kind

            # Route: the models to try, in order. What is not inference goes to one provider, unread.
            plan = snapshot.router.plan(call, x) if call is not None else snapshot.unread
            if plan is None and call is not None:
                return client.reply(x, model_not_found(call.model, snapshot.router.nearest(call.model)))
            if plan is None or not (x.kind or is_served(x.path)):
                return client.reply(x, _UNKNOWN_PATH)
            x.route, x.resumes = plan.route, plan.resumes
            if call is not None and not caller.may_use(call.model):
                return client.reply(x, model_not_allowed(call.model))
            if call is not None and call.continues:
                x.pinned = self._pins.find(call.continues)

            # Rate limit: an empty bucket is told at once; a fleet's empty lease is refilled first.
            if self._accounts.is_on:
                soon = self._accounts.limits_refill(x, caller, call, plan, time.monotonic())
                if soon is not None:
                    await soon
                refusal = self._accounts.admit(x, attempt, caller, call, plan, time.monotonic(), soon)
                if refusal is not None:
                    return client.reply(x, refusal)

            # Look in the cache: a hit is replayed, and who asks what is being asked shares its answer.
            if self.caching is not None and call is not None:
                found = await self.caching.look(x, attempt, caller, call, plan.candidates[0])
                if found is not None:
                    return await self.caching.serve(x, attempt, call, plan.candidates[0], found)
                client = x.client

            # Reserve: dollars at the worst case, or another plan where a budget is used up.
            if self._accounts.has_budgets and attempt.account is not None and call is not None:
                soon = self._accounts.budgets_refill(attempt.account, call, plan, time.monotonic())
                if soon is not None:
                    await soon
                reserved = self._accounts.reserve(attempt.account, call, plan, soon)
                if isinstance(reserved, Reply):
                    return client.reply(x, reserved)
                plan = reserved

            # Attempt: the first try mostly finds a free slot and a kept-alive connection, and is good.
            began_s = time.monotonic()
            tries = attempt.tries = Tries(plan, x, self._random)
            if attempt.account is not None:
                tries.affords = self._accounts.purse(attempt.account, call)
            target = attempt.goes_to = tries.first(began_s)
            if attempt.account is not None:
                target = self._afforded(attempt, call, target, began_s)
            if target is None:
                raise nothing_to_try(x, tries, plan)
            answer = self._sender.send_at_once(x, call, attempt, target)
            if answer is not None:
                await answer.ready
            if answer is not None and (answer.is_good or judge(answer, call, target) is GOOD):
                self._take(x, attempt, target, answer, began_s)
            else:
                # Maybe again: until an answer is good, or nothing is left to try.
                answer = await self._attempt(x, call, attempt, target, answer)

            # Relay: whole in one write where it is whole already, else by callback to its end.
            lines = final_lines(answer.lines) if attempt.gave_up else answer.lines
            if answer.is_whole and answer.mode is PLAIN:
                if attempt.lookup is not None and self.caching is not None:
                    self.caching.keep(x, attempt)
                client.respond(x, answer.status, lines, answer.body)
            else:
                client.begin(x, answer.status, lines, answer.length)
                self._metrics.streams_open += 1
                try:
                    answer.relay()
                    await answer.done
                    while answer.error is not None and x.is_open:
                        answer = await self._resume(x, call, attempt, answer)
                finally:
                    self._metrics.streams_open -= 1
        except ClientGone:
            x.flag = "DC"
        except ProxyError as error:
            x.flag = error.flag
            if attempt.answer is not None and x.status:
                # An answer in progress: its stream ends in an error event.
                attempt.answer.lose(error)
                if x.is_open:
                    attempt.answer.cut(error)
            elif x.is_open:
                client.reply(x, error.reply(is_final=attempt.tries is not None))
        finally:
            self._metrics.in_flight -= 1
            self._finish(x, attempt)

    async def _attempt(
        self, x: Exchange, call: Call | None, attempt: Attempt, target: Target, sent: Answer | None
    ) -> Answer:
        """Walk over the targets until one answers well; raises ProxyError when none answered at all.

        `sent` is what the first try came to, if it is made already.
        """
        tries = attempt.tries
        assert tries is not None  # noqa: S101  # made before the first target
        began_s = target.began_s
        goes_to: Target | None = target
        while goes_to is not None:
            target = goes_to
            if sent is None or is_stale(sent, x, call):
                outcome = await self._sender.send(x, call, attempt, target, dials=sent is not None)
            else:
                outcome = sent
            sent = None
            verdict = judge(outcome, call, target)
            if verdict is GOOD and isinstance(outcome, Answer):
                self._take(x, attempt, target, outcome, began_s)
                return outcome
            attempt.note(outcome, target, verdict)
            goes_to = await self._next(x, call, attempt, target, outcome, verdict)
        if attempt.limited_s is not None and tries.used > 1:
            raise blocked(attempt.limited_s)
        describe(x, attempt, began_s, time.monotonic())
        if attempt.answer is None:
            raise attempt.error or no_healthy_upstream()
        return attempt.answer

    def _take(self, x: Exchange, attempt: Attempt, target: Target, answer: Answer, began_s: float) -> None:
        """A good answer: it is the caller's."""
        now_s = time.monotonic()
        learn_good(target, answer, x, now_s)
        if not answer.is_whole and attempt.tries is not None:
            attempt.tries.began_well(target, now_s)
        attempt.take(answer, target)
        describe(x, attempt, began_s, now_s)

    async def _next(
        self,
        x: Exchange,
        call: Call | None,
        attempt: Attempt,
        failed: Target,
        outcome: Outcome,
        verdict: Verdict,
    ) -> Target | None:
        """A try failed: learn from it, choose where the next one goes, and wait if that needs a pause."""
        tries, now_s = attempt.tries, time.monotonic()
        assert tries is not None  # noqa: S101
        x.attempts = tries.used
        part = attempt.part_with(outcome, failed)
        if part is not None and attempt.account is not None:
            self._accounts.charge_part(attempt.account, part)
        learn_bad(failed, verdict, x, message_of(outcome), now_s)
        tries.score(failed, verdict, now_s)
        target = tries.following(failed, verdict, now_s) if may_go_on(outcome, call) else None
        target = attempt.goes_to = self._afforded(attempt, call, target, now_s)
        if target is not None and tries.wait_s:
            await pause(self._ticker, tries.wait_s)
        return target

    def _afforded(
        self, attempt: Attempt, call: Call | None, target: Target | None, now_s: float
    ) -> Target | None:
        """The target, paid for; None where there is no room for it in its caller's limits."""
        account, tries = attempt.account, attempt.tries
        if target is None or account is None or tries is None:
            return target
        if self._accounts.moves_to(account, call, target.candidate, now_s):
            return target
        tries.score(target, OURS, now_s)
        return None

    async def _resume(self, x: Exchange, call: Call | None, attempt: Attempt, lost: Answer) -> Answer:
        """Go on with a stream that broke off, from the next target; or tell the caller that it is over.

        Returns the answer to look at next: one that ended, or broke off in its turn.
        """
        tries, target, delivered, error = attempt.tries, attempt.target, lost.delivered, lost.error
        assert call is not None and tries is not None and error is not None  # noqa: S101  # a stream has them
        outcome: Outcome = lost
        while target is not None and delivered is not None and delivered.is_resumable:
            verdict = judge(outcome, call, target)
            if outcome is lost and verdict.same_endpoint_again:
                verdict = BROKE_OFF
            attempt.is_good = False
            target = await self._next(x, call, attempt, target, outcome, verdict)
            if target is None:
                break
            x.attempts = tries.used
            outcome = await self._continue(x, call, attempt, target, delivered)
            if isinstance(outcome, Answer) and judge(outcome, call, target) is GOOD:
                tries.began_well(target, time.monotonic())
                attempt.take(outcome, target)
                name_target(x, target)
                outcome.relay()
                await outcome.done
                return outcome
        lost.cut(error)
        return lost

    async def _continue(
        self, x: Exchange, call: Call, attempt: Attempt, target: Target, delivered: Delivered
    ) -> Outcome:
        """One try to go on: by prefill where the provider takes it, else by asking anew."""
        earlier = attempt.usage if call.asks_for_usage or x.kind == "messages" else None
        if target.candidate.provider.continues_text and delivered.can_prefill:
            join = Joiner(delivered, JoinMode.PREFILL, earlier)
            outcome = await self._sender.send(x, call, attempt, target, delivered, join)
            if not (isinstance(outcome, Answer) and outcome.status == 400):
                return outcome
        join = Joiner(delivered, JoinMode.RESTART, earlier)
        return await self._sender.send(x, call, attempt, target, delivered, join)

    # --- the end --------------------------------------------------------------------------------------

    def _finish(self, x: Exchange, attempt: Attempt) -> None:
        """The answer is out, or the caller gone: score the last attempt, settle the request."""
        now_s = time.monotonic()
        body = b""
        try:
            body = self._conclude(x, attempt, now_s)
        finally:
            if attempt.lookup is not None and self.caching is not None:
                self.caching.finish(x, attempt)
            self._settlement.add(x, now_s, body, attempt)

    def _conclude(self, x: Exchange, attempt: Attempt, now_s: float) -> bytes:
        """Let go of what the request held; a plain answer's bytes, if its usage is to be read."""
        answer, tries, target = attempt.answer, attempt.tries, attempt.target
        if tries is not None:
            if attempt.is_good and answer is not None and target is not None:
                if answer.error is not None or answer.has_failed:
                    learn_lost(target, message_of(answer))
                tries.score(target, judge_end(answer), now_s)
            if tries.failed:
                tries.settle(now_s)
        under_way = attempt.under_way
        if under_way is not None and not under_way.is_whole:
            under_way.cancel()
        if under_way is not answer:
            describe_left(x, attempt)
        if answer is None:
            return b""
        if not answer.is_whole:
            answer.cancel()
        if x.kind == "responses" and target is not None and answer.status == 200:
            # Who goes on with this answer later must go to where it is kept.
            given = response_id(answer.body) if answer.reader is None else answer.reader.response_id
            self._pins.remember(given, target.endpoint)
        if answer.reader is not None:
            x.usage = None if answer is attempt.parted else answer.reader.usage
            return b""
        is_told = answer.mode is PLAIN and answer.status == 200 and answer.is_whole
        return answer.tail or answer.body if is_told else b""

    def settle(self, x: Exchange) -> None:
        """Count and log a request that ended elsewhere."""
        self._settlement.add(x, time.monotonic())


_UNKNOWN_PATH = refuse(404, "unknown_url", "No such URL here: the API is under /v1.", flag="NR")
