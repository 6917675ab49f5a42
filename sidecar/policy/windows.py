"""The windows that budgets count in: an hour, a day or a month of the UTC calendar, or all time."""

import math
from datetime import UTC, datetime, timedelta

_LENGTH_S = {"hour": 3600, "day": 86400}


def window_at(window: str, now_unix_s: float) -> tuple[float, float]:
    """When the `hour`, `day` or `month` of a moment begins and ends, in Unix seconds; the end is not in it.
    `never` has no end."""
    if window == "never":
        return 0.0, math.inf
    whole_s = math.floor(now_unix_s)  # a datetime rounds, which would lead into the next month early
    if window == "month":
        begin = datetime.fromtimestamp(whole_s, UTC).replace(day=1, hour=0, minute=0, second=0)
        end = (begin + timedelta(days=31)).replace(day=1)
        return begin.timestamp(), end.timestamp()
    begin_s = whole_s - whole_s % _LENGTH_S[window]
    return float(begin_s), float(begin_s + _LENGTH_S[window])
