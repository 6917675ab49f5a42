"""What is left of a request to be booked, and for how much, wherever it ended."""

from typing import Any

import pytest

from sidecar.answer import Answer
from sidecar.attempt import Account, Attempt, describe_left, last_usage
from sidecar.errors import Unreachable, cut_short
from sidecar.events import StreamReader
from sidecar.exchange import Usage
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.tries import Target, Tries
from tests.routing.support import asking, router_for
from tests.support.documents import figures
from tests.support.exchanges import finished

TOLD = Usage(1000, 300)
TOKENS_IN, TOKENS_OUT = 30, 500


def answer_of(**facts: Any) -> Answer:
    """An answer without a connection: one that is under way, unless told otherwise."""
    answer = Answer.__new__(Answer)
    for name, value in facts.items():
        setattr(answer, name, value)
    return answer


def stream_of(usage: Usage | None = None, events: int = 0, **facts: Any) -> Answer:
    reader = StreamReader("chat")
    reader.usage, reader.events = usage, events
    reader.is_complete, reader.failed = facts.pop("is_complete", False), facts.pop("failed", False)
    return answer_of(status=200, reader=reader, **facts)


def account(tokens_in: int = TOKENS_IN, tokens_out: int | None = TOKENS_OUT) -> Account:
    made = Account(Caller("team", "standard", 0, SHARED_BUCKET), tokens_in)
    made.tokens_out = tokens_out
    return made


def target_of(model: str = "m") -> Target:
    plan = router_for().plan(*asking(model))
    assert plan is not None
    return Target(plan.candidates[0], plan.candidates[0].provider.endpoints[0])


def given(answer: Answer) -> Attempt:
    """It was relayed to the caller."""
    attempt = Attempt()
    attempt.under_way = attempt.answer = answer
    return attempt


def left(answer: Answer) -> Attempt:
    """Nobody waits for it any longer."""
    attempt = Attempt()
    attempt.under_way = answer
    return attempt


def counted(attempt: Attempt, told: Usage | None = None, **facts: Any) -> tuple[Any, bool]:
    usage, is_unmetered = last_usage(finished(usage=told), attempt, account(**facts))
    found = figures(usage)
    return None if found is None else found[:2], is_unmetered


# --- the last answer ---


@pytest.mark.parametrize(
    ("attempt", "tokens", "is_unmetered"),
    [
        (given(stream_of(TOLD, 3, is_complete=True, is_whole=True)), (1000, 300), False),
        (given(stream_of(TOLD, 400, is_complete=True, is_whole=True)), (1000, 300), False),
        (given(stream_of(None, 2, is_complete=True, is_whole=True)), (TOKENS_IN, 2), True),
        (given(stream_of(None, 21, error=cut_short())), (TOKENS_IN, 21), True),
        (given(stream_of(None, 21)), (TOKENS_IN, 21), True),
        (given(stream_of(TOLD, 3, error=cut_short())), (1000, 300), False),
        (given(stream_of(Usage(1000, 1), 40, error=cut_short())), (1000, 40), True),
        (given(stream_of(failed=True, is_whole=True)), None, False),
        (given(stream_of(None, 4, failed=True, is_whole=True)), (TOKENS_IN, 4), True),
        (left(stream_of()), (TOKENS_IN, 0), True),
        (left(stream_of(None, 5)), (TOKENS_IN, 5), True),
        (left(answer_of()), (TOKENS_IN, 0), True),
        (left(answer_of(error=cut_short())), None, False),
        (left(answer_of(status=500, is_whole=True)), None, False),
        (given(answer_of(status=500, is_whole=True)), None, False),
        (Attempt(), None, False),
    ],
)
def test_what_it_comes_to(attempt: Attempt, tokens: tuple[int, int] | None, is_unmetered: bool) -> None:
    assert counted(attempt) == (tokens, is_unmetered)


@pytest.mark.parametrize("facts", [{"is_whole": True}, {"error": cut_short()}, {}])
def test_a_plain_answer_that_does_not_tell_comes_to_all_that_was_reserved(facts: dict[str, Any]) -> None:
    attempt = given(answer_of(status=200, **facts))
    assert counted(attempt) == ((TOKENS_IN, TOKENS_OUT), True)
    assert counted(attempt, tokens_out=0) == ((TOKENS_IN, 0), True)
    assert counted(attempt, tokens_out=None) == (None, True)  # nothing was reserved, and nobody knows
    assert counted(attempt, TOLD) == ((1000, 300), False)


def test_what_is_passed_on_unread_counts_no_tokens() -> None:
    for attempt in (given(answer_of(status=200, is_whole=True)), left(answer_of())):
        assert counted(attempt, tokens_in=0, tokens_out=None) == (None, False)


def test_a_try_that_failed_is_not_the_last_answer_and_the_one_before_it_is_not_either() -> None:
    attempt = given(answer_of(status=500, is_whole=True))
    attempt.under_way = answer_of(error=cut_short())
    assert attempt.last is None
    attempt.under_way = under_way = answer_of()
    assert attempt.last is under_way


# --- parts ---


def test_a_stream_that_failed_after_it_cost_something_is_a_part_and_nothing_else() -> None:
    attempt, target = Attempt(), target_of()
    for outcome in (Unreachable("", "", ""), answer_of(status=500), stream_of(), stream_of(failed=True)):
        assert attempt.part_with(outcome, target) is None
    assert (attempt.parts, attempt.parted) == ((), None)
    first, second = stream_of(TOLD), stream_of(None, 7)
    for outcome in (first, second):
        attempt.under_way = outcome
        part = attempt.part_with(outcome, target)
        assert part is not None and part.target is target
        assert attempt.last is None
    assert [part.events for part in attempt.parts] == [0, 7]
    assert figures(attempt.usage) == (1000, 300, 0, 0)


def test_a_stream_that_became_a_part_is_not_counted_again() -> None:
    attempt = given(stream_of(TOLD, 3, error=cut_short()))
    assert attempt.answer is not None
    attempt.part_with(attempt.answer, target_of())
    assert counted(attempt) == (None, False)
    attempt.under_way = stream_of(None, 2)  # its caller left while it was gone on with
    assert counted(attempt) == ((TOKENS_IN, 2), True)


# --- a caller that left ---


def test_who_was_asked_when_the_caller_left_is_named() -> None:
    target = target_of("asked")
    attempt, x = left(answer_of()), finished(model="route", provider="", attempts=0)
    attempt.goes_to = target
    attempt.tries = Tries(router_for().plan(*asking("m")), x, None)  # type: ignore[arg-type]
    attempt.tries.used = 2
    describe_left(x, attempt)
    assert (x.model, x.provider, x.attempts) == ("asked", "p", 2)


def test_between_two_tries_it_is_the_one_that_failed() -> None:
    attempt, x = left(answer_of(status=500, is_whole=True)), finished(model="route", provider="", attempts=1)
    attempt.target, attempt.goes_to = target_of("failed"), target_of("next")
    describe_left(x, attempt)
    assert (x.model, x.provider, x.attempts) == ("failed", "p", 1)


def test_before_the_first_try_nobody_is() -> None:
    attempt, x = Attempt(), finished(model="route", provider="", attempts=0)
    attempt.goes_to = target_of()  # it stands in the queue
    describe_left(x, attempt)
    assert (x.model, x.provider, x.attempts) == ("route", "", 0)
