"""A refusal says which budget, how much, until when, and what to do."""

import math
from typing import Any

import orjson
import pytest

from sidecar.exchange import NANO_USD, Reply
from sidecar.policy.balances import Status
from sidecar.policy.exceeded import Exceeded, refusal

NEXT_DAY_S = 1_795_046_400.0  # 2026-11-19T00:00:00Z


def exceeded(needed_usd: float = 0.02, **figures: Any) -> Exceeded:
    status = Status(
        name="premium-daily",
        per="team",
        whom="payments",
        window="day",
        at_limit="reject",
        limit_nano_usd=50 * NANO_USD,
        spent_nano_usd=49_990_000_000,
        reserved_nano_usd=5_000_000,
        resets_at_unix_s=NEXT_DAY_S,
        resets_in_s=3600.25,
    )
    return Exceeded(status._replace(**figures), round(needed_usd * NANO_USD))


def error_of(reply: Reply) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(reply.body)["error"]
    return error


def said(one: Exceeded) -> str:
    message: str = error_of(refusal(one))["message"]
    return message


def test_a_budget_that_is_used_up_is_refused_until_it_resets() -> None:
    reply = refusal(exceeded())
    assert (reply.status, reply.code, reply.flag) == (429, "budget_exceeded", "RL")
    assert reply.lines == [b"x-should-retry: false", b"retry-after: 3601"]
    assert error_of(reply) == {
        "message": "Budget premium-daily of team payments is used up: $49.99 spent and $0.005 reserved of"
        " $50.00 a day, and this request may cost up to $0.02. Wait until 2026-11-19T00:00:00Z, when it"
        " begins anew, lower max_tokens, or use a model that this budget does not count.",
        "type": "rate_limit_error",
        "param": None,
        "code": "budget_exceeded",
    }


def test_where_nothing_is_left_a_shorter_answer_is_not_advised() -> None:
    assert "when it begins anew, or use a model" in said(exceeded(spent_nano_usd=50 * NANO_USD))


@pytest.mark.parametrize("resets_in_s", [86400.5, 20 * 86400.0, math.inf])
def test_a_caller_is_not_told_to_come_back_after_more_than_a_day(resets_in_s: float) -> None:
    assert refusal(exceeded(resets_in_s=resets_in_s)).lines == [b"x-should-retry: false"]


def test_at_a_day_it_is() -> None:
    assert b"retry-after: 86400" in refusal(exceeded(resets_in_s=86400.0)).lines


def test_credits_that_do_not_come_back_are_not_waited_for() -> None:
    one = exceeded(window="never", resets_at_unix_s=math.inf, resets_in_s=math.inf)
    assert "of $50.00 in credits" in said(one)
    assert "Ask for more credits, lower max_tokens, or" in said(one)


def test_a_request_that_never_fits_is_told_so() -> None:
    assert "is used up" in said(exceeded(needed_usd=50))
    one = exceeded(needed_usd=50.000000001)
    assert refusal(one).lines == [b"x-should-retry: false"]
    assert said(one).startswith(
        "Budget premium-daily of team payments is too small for this request: this request may cost up to"
        " $50.000000001, and the whole budget is $50.00 a day. Lower max_tokens or shorten the input, or use"
    )


def test_requests_under_way_may_be_all_that_is_in_the_way() -> None:
    one = exceeded(spent_nano_usd=NANO_USD, reserved_nano_usd=49 * NANO_USD)
    assert refusal(one).lines == [b"x-should-retry: false"]
    assert "has no room at the moment: $1.00 spent and $49.00 reserved" in said(one)
    assert "Try again when some of the requests under way have ended" in said(one)


@pytest.mark.parametrize(
    ("per", "whom", "who"),
    [
        ("team", "payments", "premium-daily of team payments is"),
        ("key", "payments-a", "premium-daily of key payments-a is"),
        ("key", "", "premium-daily of all callers without a listed key is"),
        ("all", "", "premium-daily of all callers is"),
    ],
)
def test_it_says_whose_budget_it_is(per: str, whom: str, who: str) -> None:
    assert said(exceeded(per=per, whom=whom)).startswith(f"Budget {who} used up")


@pytest.mark.parametrize("window", ["hour", "month"])
def test_it_says_the_window(window: str) -> None:
    period = {"hour": "an hour", "month": "a month"}[window]
    assert f"of $50.00 {period}, and" in said(exceeded(window=window))


def test_sums_beyond_any_float_are_written_out() -> None:
    assert f"${10**400}.00 spent" in said(exceeded(spent_nano_usd=10**400 * NANO_USD))
