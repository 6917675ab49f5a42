"""What a caller is told where a budget has no room for its request."""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.errors import NO_RETRY_LINE, refuse
from sidecar.exchange import NANO_USD, Reply
from sidecar.policy.balances import Status

# A caller that is told to come back later than this will not have waited.
_LONGEST_RETRY_AFTER_S = 86400.0


class Exceeded(NamedTuple):
    """No: this budget has no room for `needed_nano_usd`. `status.at_limit` says what to do instead."""

    status: Status
    needed_nano_usd: int


def refusal(exceeded: Exceeded) -> Reply:
    """The 429 for it. An SDK is always told not to try again by itself: it would do so within seconds."""
    status, needed = exceeded
    is_too_large = needed > status.limit_nano_usd
    is_used_up = status.spent_nano_usd + needed > status.limit_nano_usd
    cost = f"this request may cost up to {_usd(needed)}"
    taken = f"{_usd(status.spent_nano_usd)} spent and {_usd(status.reserved_nano_usd)} reserved"
    limit = f"{_usd(status.limit_nano_usd)} {_PERIOD[status.window]}"
    if is_too_large:
        said = f"is too small for this request: {cost}, and the whole budget is {limit}"
        advice = "Lower max_tokens or shorten the input"
    elif is_used_up:
        said = f"is used up: {taken} of {limit}, and {cost}"
        is_full = status.spent_nano_usd >= status.limit_nano_usd
        advice = _reset(status) if is_full else f"{_reset(status)}, lower max_tokens"
    else:
        said = f"has no room at the moment: {taken} of {limit}, and {cost}"
        advice = "Try again when some of the requests under way have ended, lower max_tokens"
    message = f"Budget {_who(status)} {said}. {advice}, or use a model that this budget does not count."
    reply = refuse(429, "budget_exceeded", message, flag="RL")
    reply.lines.append(NO_RETRY_LINE)
    if is_used_up and not is_too_large and status.resets_in_s <= _LONGEST_RETRY_AFTER_S:
        reply.lines.append(b"retry-after: %d" % math.ceil(status.resets_in_s))
    return reply


_PERIOD = {"hour": "an hour", "day": "a day", "month": "a month", "never": "in credits"}


def _who(status: Status) -> str:
    if status.per == "all":
        return f"{status.name} of all callers"
    if status.per == "key" and not status.whom:
        return f"{status.name} of all callers without a listed key"
    return f"{status.name} of {status.per} {status.whom}"


def _reset(status: Status) -> str:
    if math.isinf(status.resets_at_unix_s):
        return "Ask for more credits"
    at = datetime.fromtimestamp(status.resets_at_unix_s, UTC)
    return f"Wait until {at:%Y-%m-%dT%H:%M:%SZ}, when it begins anew"


def _usd(nano_usd: int) -> str:
    """Exact, with two decimals at least: $50.00, $0.000125."""
    dollars, nano = divmod(nano_usd, NANO_USD)
    decimals = f"{nano:09d}".rstrip("0")
    return f"${dollars}.{decimals:0<2}"
