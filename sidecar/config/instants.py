"""Days and times of day in a configuration, in UTC, and the Unix seconds they stand for.

A day that something begins on counts from its first moment, one that it ends on to its last: a key that
`expires: 2027-01-31` is good until 2027-02-01T00:00:00Z. A time is what it says, and the end is not included.
"""

import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from sidecar.config.values import END, Codec

_DATE_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_PATTERN = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})?"
PATTERN = rf"^{_DATE_PATTERN}([T ]{_TIME_PATTERN})?{END}"
_INSTANT = re.compile(PATTERN)
_DAY_S = 86400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def parse_instant(raw: object) -> date:
    """A date from `2027-01-31`, or a datetime from `2027-01-31T18:00:00Z`; without an offset it is UTC."""
    if isinstance(raw, str) and _INSTANT.match(raw):
        try:
            if len(raw) == len("2027-01-31"):
                return date.fromisoformat(raw)
            instant = datetime.fromisoformat(raw)
            return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        except ValueError:
            pass  # there is no such day or hour
    if isinstance(raw, str) and ":" in raw:
        raise ValueError("expected a time such as 2027-01-31T18:00:00Z, or a date alone")
    raise ValueError("expected a date such as 2027-01-31")


def show_instant(instant: date) -> str:
    """What `parse_instant` reads back."""
    return instant.isoformat().replace("+00:00", "Z")


def start_s(instant: date | None) -> float:
    """When it begins, in Unix seconds; of nothing, always."""
    if instant is None:
        return -math.inf
    if isinstance(instant, datetime):
        return instant.timestamp()
    return float((instant.toordinal() - _EPOCH_ORDINAL) * _DAY_S)


def end_s(instant: date | None) -> float:
    """When it is over, in Unix seconds: a day is over when the next one begins; of nothing, never."""
    if instant is None:
        return math.inf
    return start_s(instant) if isinstance(instant, datetime) else start_s(instant) + _DAY_S


_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": PATTERN.removesuffix(END) + "$",
    "examples": ["2027-01-31", "2027-01-31T18:00:00Z"],
    "description": "a date or a time, UTC; a date that something ends on is included",
}

# Seen by a type checker as a plain date; a datetime is one.
Instant: TypeAlias = Annotated[date, Meta(extra={"codec": Codec(parse_instant, show_instant, _SCHEMA)})]
