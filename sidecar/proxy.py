"""One request, top to bottom: the only file that knows the order.

    connection --admit--> refused (400 403 405 413 431), or to the aiohttp lane, or read whole, then
    serve: identify the caller -> read the call -> find its provider -> attempt -> relay -> settle

Decisions are plain calls; the flow waits in two places only, for an endpoint's answer to be known good and
for its end. In between the bytes go from connection to connection without it (answer.py).
"""

import time
from random import Random
from typing import Protocol

from sidecar.answer import PLAIN, Answer
from sidecar.attempt import (
    BROKE_OFF,
    Attempt,
    describe,
    is_replayable,
    judge,
    judge_end,
    may_go_on,
    message_of,
    name_target,
)
from sidecar.clock import Pause, Ticker
from sidecar.errors import (
    NO_RETRY_LINE,
    ClientGone,
    ProxyError,
    Retry,
    Unreachable,
    blocked,
    no_healthy_upstream,
    overloaded,
    refuse,
)
from sidecar.exchange import Exchange, Reply
from sidecar.gate import is_served, judge_head, wants_lane
from sidecar.headers import own_lines
from sidecar.lessons import learn_bad, learn_good
from sidecar.openai import KINDS, Call, ask_for_usage, read_call, usage_of
from sidecar.resume import Delivered, Joiner, total
from sidecar.resume import Mode as JoinMode
from sidecar.router import Candidate
from sidecar.runtime import Snapshot
from sidecar.splice import replace_model, with_prefill
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import Metrics
from sidecar.tries import Target, Tries
from sidecar.upstream.verdict import GOOD

_REUSED_ONLY = Retry.REUSED_ONLY


class Live(Protocol):
    """Where the current snapshot is; a reload puts another one in its place."""

    snapshot: Snapshot


class Proxy:
    """The gate of the data listeners and the life of every request."""

    def __init__(self, live: Live, ticker: Ticker, metrics: Metrics, log: AccessLog) -> None:
        self._live = live
        self._ticker = ticker
        self._metrics = metrics
        self._log = log
        self._random = Random()

    @property
    def max_body_bytes(self) -> int:
        return self._live.snapshot.max_body_bytes

    # --- when the head is read ------------------------------------------------------------------------

    def admit(self, x: Exchange) -> Reply | None:
        """Judge a request by its head. The path is compared as it was sent, never decoded or joined."""
        snapshot = self._live.snapshot
        if x.method == b"POST":
            x.kind = KINDS.get(x.path, "")
        if x.head.admitted_by is snapshot:
            return None
        refusal = judge_head(x, snapshot)
        if refusal is None:
            x.head.admitted_by = snapshot
        return refusal

    def wants_lane(self, x: Exchange) -> bool:
        """Uploads and WebSockets: everything with a body that is no JSON, and every upgrade to one."""
        return self._live.snapshot.default is not None and wants_lane(x)

    def refused(self, x: Exchange) -> None:
        """Count and log a request that never came to be served."""
        self.settle(x)

    # --- when the request is whole --------------------------------------------------------------------

    async def serve(self, x: Exchange) -> None:
        """Answer one request."""
        snapshot = self._live.snapshot
        client = x.client
        attempt = Attempt()
        self._metrics.in_flight += 1
        try:
            # Identify the caller.
            x.team = snapshot.team

            # Read the body: which model, and is it a stream?
            call: Call | None = None
            if x.kind:
                read = read_call(x.body)
                if isinstance(read, Reply):
                    return client.reply(x, read)
                call = read
                x.model, x.stream = call.model, call.stream

            # Route: the models to try, in order. What is not inference goes to one provider, unread.
            if call is not None:
                plan = snapshot.router.plan(call.model, call.document)
            else:
                plan = snapshot.model_lists if x.path.startswith("/v1/models") else snapshot.unread
            if plan is None and call is not None:
                return client.reply(x, _unknown_model(call.model))
            if plan is None or not (x.kind or is_served(x.path)):
                return client.reply(x, _UNKNOWN_PATH)
            x.route, x.resumes = plan.route, plan.resumes

            # Attempt, maybe again: until an answer is good, or nothing is left to try.
            tries = attempt.tries = Tries(plan, x, self._random)
            await self._attempt(x, call, attempt, tries)
            answer = attempt.answer
            if answer is None:
                raise attempt.error or no_healthy_upstream()

            # Relay: whole in one write where it is whole already, else by callback to its end.
            lines = [*answer.lines, own_lines(x)]
            if attempt.gave_up:
                lines.append(NO_RETRY_LINE)
            if answer.is_whole and answer.mode is PLAIN:
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

    async def _attempt(self, x: Exchange, call: Call | None, attempt: Attempt, tries: Tries) -> None:
        """Walk over the targets until one answers well; what the caller is to get stands in `attempt`."""
        began_s = time.monotonic()
        target = tries.first(began_s)
        if target is None:
            raise no_healthy_upstream() if tries.blocked_s is None else blocked(tries.blocked_s)
        while target is not None:
            x.attempts = tries.used
            sent_s = time.monotonic()
            outcome = await self._send(x, call, target)
            now_s = time.monotonic()
            verdict = judge(outcome, call, target)
            credential = target.candidate.provider.credential(x)
            if verdict is GOOD and isinstance(outcome, Answer):
                learn_good(target, outcome, credential, now_s - sent_s, now_s)
                tries.began_well(target, now_s)
                attempt.take(outcome, target)
                break
            message = message_of(outcome)
            learn_bad(target, verdict, credential, now_s - sent_s, message, now_s)
            tries.score(target, verdict, now_s)
            attempt.note(outcome, target, verdict)
            if not may_go_on(outcome, call):
                break
            target = tries.following(target, verdict, now_s)
            if target is not None and tries.wait_s:
                await self._pause(tries.wait_s)
        if attempt.limited_s is not None and tries.used > 1:
            raise blocked(attempt.limited_s)
        describe(x, attempt, began_s, time.monotonic())

    async def _resume(self, x: Exchange, call: Call | None, attempt: Attempt, lost: Answer) -> Answer:
        """Go on with a stream that broke off, from the next target; or tell the caller that it is over.

        Returns the answer to look at next: one that ended, or broke off in its turn.
        """
        tries, target, delivered, error = attempt.tries, attempt.target, lost.delivered, lost.error
        assert call is not None and tries is not None and error is not None  # noqa: S101  # a stream has them
        attempt.usage = total(attempt.usage, lost.reader.usage if lost.reader is not None else None)
        outcome: Answer | ProxyError = lost
        while target is not None and delivered is not None and delivered.is_resumable:
            now_s = time.monotonic()
            verdict = judge(outcome, call, target)
            if outcome is lost and verdict.same_endpoint_again:
                verdict = BROKE_OFF
            credential = target.candidate.provider.credential(x)
            learn_bad(target, verdict, credential, 0.0, message_of(outcome), now_s)
            tries.score(target, verdict, now_s)
            attempt.is_good = False
            target = tries.following(target, verdict, now_s)
            if target is None:
                break
            if tries.wait_s:
                await self._pause(tries.wait_s)
            x.attempts = tries.used
            outcome = await self._continue(x, call, target, delivered, attempt)
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
        self, x: Exchange, call: Call, target: Target, delivered: Delivered, attempt: Attempt
    ) -> Answer | ProxyError:
        """One try to go on: by prefill where the provider takes it, else by asking anew."""
        earlier = attempt.usage if call.asks_for_usage or x.kind == "messages" else None
        if target.candidate.provider.continues_text and delivered.can_prefill:
            join = Joiner(delivered, JoinMode.PREFILL, earlier)
            outcome = await self._send(x, call, target, delivered, join)
            if not (isinstance(outcome, Answer) and outcome.status == 400):
                return outcome
        return await self._send(x, call, target, delivered, Joiner(delivered, JoinMode.RESTART, earlier))

    async def _send(
        self,
        x: Exchange,
        call: Call | None,
        target: Target,
        delivered: Delivered | None = None,
        joiner: Joiner | None = None,
    ) -> Answer | ProxyError:
        """One try at one target; a second, free one where a kept-alive connection turned out closed.

        With a `joiner` it goes on with a stream of which the caller has what was `delivered`.
        """
        candidate, endpoint = target.candidate, target.endpoint
        provider = candidate.provider
        ticket = provider.slots.request(0, x.team, self._ticker.now_s)
        answer: Answer | None = None
        try:
            if not ticket.is_granted:
                await ticket.ready
                if ticket.refused:
                    return overloaded(provider.slots.retry_after_s())
            body = x.body if call is None else self._body(x, call, candidate)
            if call is not None and delivered is not None and joiner is not None and joiner.continues:
                body = with_prefill(body, call.document, delivered.text) or body
            request = provider.write_request(x, endpoint, body)
            connection = endpoint.pool.take()
            while True:
                if connection is None:
                    connection = await endpoint.pool.dial()
                endpoint.requests += 1
                answer = Answer(x, call, endpoint, connection, self._ticker, candidate.timeouts, ticket)
                answer.joiner = joiner
                answer.delivered = delivered or _delivered(x, call)
                connection.send(request, answer, is_head_request=x.method == b"HEAD")
                await answer.ready
                lost = answer.error
                if lost is None or lost.retry is not _REUSED_ONLY or not is_replayable(x, call):
                    return answer
                connection = None
        except Unreachable as error:
            ticket.cancel()
            return error
        except BaseException:
            ticket.cancel()
            if answer is not None:
                answer.cancel()
            raise

    def _body(self, x: Exchange, call: Call, candidate: Candidate) -> bytes:
        """The caller's bytes, save the model's name where another one answers and a question for usage."""
        body = x.body
        if candidate.model != call.model:
            replaced = replace_model(body, call.document, candidate.model)
            if replaced is not None:
                body = replaced
        call.strip_usage = False
        asks = candidate.provider.wants_usage and call.stream and not call.asks_for_usage
        if asks and x.kind in ("chat", "completions"):
            asking = ask_for_usage(body, call)
            call.strip_usage = asking is not body
            body = asking
        return body

    async def _pause(self, seconds: float) -> None:
        pause = Pause(self._ticker, seconds)
        try:
            await pause.over
        finally:
            pause.stop()

    # --- the end --------------------------------------------------------------------------------------

    def _finish(self, x: Exchange, attempt: Attempt) -> None:
        """The answer is out, or the caller gone: score the last attempt, settle the request."""
        answer, target, tries = attempt.answer, attempt.target, attempt.tries
        if tries is not None:
            now_s = time.monotonic()
            if attempt.is_good and answer is not None and target is not None:
                tries.score(target, judge_end(answer), now_s)
                if answer.error is not None:
                    target.endpoint.observe(answer.error.message)
            tries.settle(now_s)
        if answer is not None:
            if not answer.is_whole:
                answer.cancel()
            _read_usage(x, answer)
            if attempt.usage is not None:
                x.usage = total(attempt.usage, x.usage)
        self.settle(x)

    def settle(self, x: Exchange) -> None:
        """Count and log a finished exchange. Its body is let go: the log keeps the exchange for a moment."""
        if x.body:
            x.bytes_received = len(x.body)
            x.body = b""
        seconds = self._metrics.finished(x, time.monotonic())
        self._log.write(x, seconds)


def _delivered(x: Exchange, call: Call | None) -> Delivered | None:
    """What is needed to go on with a stream from elsewhere; None where a cut ends in an error."""
    if call is None or not (call.stream and x.resumes and call.is_replayable):
        return None
    if call.document.get("previous_response_id") or call.document.get("conversation"):
        return None
    return Delivered(x.kind, call)


def _read_usage(x: Exchange, answer: Answer) -> None:
    if answer.reader is not None:
        x.usage = answer.reader.usage
    elif answer.mode is PLAIN and answer.status == 200 and answer.is_whole:
        x.usage = usage_of(answer.tail or answer.body)


def _unknown_model(model: str) -> Reply:
    message = f"The model `{model}` is not configured here; GET /v1/models lists what is."
    return refuse(404, "model_not_found", message, param="model", flag="NR")


_UNKNOWN_PATH = refuse(404, "unknown_url", "No such URL here: the API is under /v1.", flag="NR")
