"""One try: the request written to one target, on a slot of its provider and a connection of its pool.

The first try of a request mostly finds both free, and is sent without waiting; else it stands in the queue,
and dials.
"""

from sidecar.answer import Answer
from sidecar.attempt import Attempt, Outcome, is_stale
from sidecar.clock import Ticker
from sidecar.errors import Unreachable, overloaded
from sidecar.exchange import Exchange
from sidecar.flow import others_first
from sidecar.openai import Call, ask_for_usage
from sidecar.resume import Delivered, Joiner
from sidecar.routing.plan import Candidate
from sidecar.splice import replace_model, with_prefill
from sidecar.tries import Target
from sidecar.upstream.connection import Connection
from sidecar.upstream.queue import Slots


class Sender:
    """Makes tries; what came of each is an `Outcome`."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker

    def send_at_once(self, x: Exchange, call: Call | None, attempt: Attempt, target: Target) -> Answer | None:
        """Send to a target on a kept-alive connection, if there is one and a slot is free."""
        slots = target.candidate.provider.slots
        if not slots.try_take():
            return None
        connection = target.endpoint.pool.take()
        if connection is None:
            slots.give_back(0.0)
            return None
        return self._write(x, call, attempt, target, connection)

    async def send(
        self,
        x: Exchange,
        call: Call | None,
        attempt: Attempt,
        target: Target,
        delivered: Delivered | None = None,
        joiner: Joiner | None = None,
        *,
        dials: bool = False,
    ) -> Outcome:
        """One try at one target; a second, free one where a kept-alive connection turned out closed.

        With a `joiner` it goes on with a stream of which the caller has what was `delivered`. `dials`: on a
        new connection.
        """
        slots, pool = target.candidate.provider.slots, target.endpoint.pool
        while True:
            if not slots.try_take() and not await self._wait_for_slot(slots, x):
                return overloaded(slots.retry_after_s())
            connection = None if dials else pool.take()
            try:
                connection = connection or await pool.dial()
            except BaseException as error:
                slots.give_back(0.0)
                if isinstance(error, Unreachable):
                    return error
                raise
            answer = self._write(x, call, attempt, target, connection, delivered, joiner)
            await answer.ready
            if dials or not is_stale(answer, x, call):
                return answer
            dials = True

    async def _wait_for_slot(self, slots: Slots, x: Exchange) -> bool:
        """Stand in the provider's queue; False when there is no place in it, or no time."""
        ticket = slots.request(x.priority, x.team, self._ticker.now_s)
        try:
            await ticket.ready
        except BaseException:
            ticket.cancel()
            raise
        ticket.take()
        if ticket.refused:
            # It may have been sent away in the middle of somebody else's request. Going elsewhere from there
            # could send a third one away, and so on: two full queues would nest until the stack ends.
            await others_first()
        return not ticket.refused

    def _write(
        self,
        x: Exchange,
        call: Call | None,
        attempt: Attempt,
        target: Target,
        connection: Connection,
        delivered: Delivered | None = None,
        joiner: Joiner | None = None,
    ) -> Answer:
        """Write the request to a connection, with a slot taken; the answer gives it back at its end."""
        candidate, endpoint = target.candidate, target.endpoint
        provider = candidate.provider
        body = x.body
        if call is not None:
            if candidate.model != call.model or call.stream:
                body = self._body(x, call, candidate)
            if joiner is not None and delivered is not None and joiner.continues:
                body = with_prefill(body, call.document, delivered.text) or body
        endpoint.requests += 1
        timeouts = candidate.timeouts
        answer = Answer(x, call, endpoint, connection, self._ticker, timeouts, provider.slots)
        attempt.under_way = answer
        if x.resumes:
            answer.joiner = joiner
            answer.delivered = delivered or _delivered(x, call)
        if attempt.lookup is not None and joiner is None:
            answer.recording = attempt.lookup.recording()
        connection.send(
            provider.write_request(x, endpoint, body), answer, is_head_request=x.method == b"HEAD"
        )
        return answer

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


def _delivered(x: Exchange, call: Call | None) -> Delivered | None:
    """What is needed to go on with a stream from elsewhere; None where a cut ends in an error."""
    if call is None or not (call.stream and x.resumes and call.is_replayable):
        return None
    if call.continues or call.document.get("conversation"):
        return None
    return Delivered(x.kind, call)
