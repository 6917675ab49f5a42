"""Who may not be asked until when: a limit a provider has told of is kept to, without asking again.

One `Parking` belongs to one endpoint. A 429, or a count of remaining requests or tokens at 0, parks a model
for one credential; a 401 or 403 parks the credential for every model, until another one takes its place (the
new one has a name of its own and is free), it is forgotten (a reload), or a last resort finds it accepted. A
parked target is not sick: the breaker hears nothing of it.

What the provider says is read as the OpenAI SDK reads it (`_base_client.py`): `retry-after-ms`, then
`retry-after` in seconds, whole or not, or as an HTTP date; nothing over 120 s, where the SDK gives up too.
"""

import heapq
import math
import re
from collections.abc import Callable
from email.utils import mktime_tz, parsedate_tz
from typing import Protocol

MAX_WAIT_S = 120.0
DEFAULT_RESET_S = 1.0
MAX_PARKED = 10_000
# So many go at once when it is full: finding the first to end looks at all of them.
_MAKE_ROOM = MAX_PARKED // 20


class Parking:
    """Ends of waiting times, in monotonic seconds; infinite for a refused credential.

    `ends` is empty while nothing is parked. `credential` is a name for a key (a provider's, or a digest of a
    caller's own), not the key itself. `on_over(now_s)` is called when something has ended by itself.
    """

    __slots__ = ("_first_end_s", "_on_over", "_refused_s", "ends")

    def __init__(self, on_over: Callable[[float], None] | None = None) -> None:
        self.ends: dict[str | tuple[str, str], float] = {}
        self._refused_s: dict[str, float] = {}  # when each refused credential was refused last
        self._first_end_s = math.inf  # nothing ends before
        self._on_over = on_over

    def __len__(self) -> int:
        return len(self.ends)

    def park(self, credential: str, model: str, until_s: float) -> None:
        """Leave a model alone for this credential. A longer time told before stands."""
        self._set((credential, model), until_s)

    def refuse(self, credential: str, now_s: float) -> None:
        """The provider refuses this credential: leave the endpoint alone for it."""
        self._refused_s[credential] = now_s
        self._set(credential, math.inf)

    def is_refused(self, credential: str) -> bool:
        """Whether the provider refuses this credential."""
        return credential in self._refused_s

    def refused_s(self, credential: str) -> float:
        """When it was refused last; minus infinity for one that is not."""
        return self._refused_s.get(credential, -math.inf)

    def forget_refusals(self) -> None:
        """Let every credential be tried anew."""
        for credential in self._refused_s:
            self.ends.pop(credential, None)
        self._refused_s.clear()

    def free(self, credential: str, model: str) -> bool:
        """A good answer came all the same: forget what was told. Returns whether there was anything."""
        if not self.ends:
            return False
        was_limited = self.ends.pop((credential, model), None) is not None
        self._refused_s.pop(credential, None)
        return self.ends.pop(credential, None) is not None or was_limited

    def limits(self, credential: str, now_s: float) -> list[tuple[str, float]]:
        """The models that are parked for this credential, with their ends. It looks at all that is parked."""
        return [
            (key[1], end_s)
            for key, end_s in self.ends.items()
            if type(key) is tuple and key[0] == credential and end_s > now_s
        ]

    def until(self, credential: str, model: str, now_s: float) -> float:
        """When this may be asked again; 0.0: now."""
        ends = self.ends
        if not ends:
            return 0.0
        end_s = max(ends.get((credential, model), 0.0), ends.get(credential, 0.0))
        return end_s if end_s > now_s else 0.0

    def limited_until(self, credential: str, model: str) -> float:
        """When a 429 of this model is over; 0.0 without one."""
        return self.ends.get((credential, model), 0.0)

    def expire(self, now_s: float) -> None:
        """Drop what is over; call it once a second."""
        if now_s < self._first_end_s:
            return
        self.ends = {key: end_s for key, end_s in self.ends.items() if end_s > now_s}
        self._first_end_s = min(self.ends.values(), default=math.inf)
        if self._on_over is not None:
            self._on_over(now_s)

    def _set(self, key: str | tuple[str, str], until_s: float) -> None:
        ends = self.ends
        if len(ends) >= MAX_PARKED and key not in ends:
            for first in heapq.nsmallest(_MAKE_ROOM, ends, key=ends.__getitem__):
                del ends[first]
        ends[key] = max(until_s, ends.get(key, 0.0))
        self._first_end_s = min(self._first_end_s, until_s)


# --- what the provider says --------------------------------------------------------------------------------


class Values(Protocol):
    """The head of an answer."""

    def value(self, name: bytes) -> bytes:
        """The value of the field `name` (lower case); empty where there is none."""


_NUMBER = re.compile(rb"\d+\.?\d*|\.\d+")
# The three forms of RFC 9110 section 5.6.7. parsedate_tz alone finds dates in what is none.
_DATE = re.compile(
    rb"[a-z]{3,9},? (?:\d\d[ -][a-z]{3}[ -](?:\d{4}|\d\d) \d\d:\d\d:\d\d gmt"
    rb"|[a-z]{3} [ \d]\d \d\d:\d\d:\d\d \d{4})"
)
_DURATION = re.compile(rb"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(rb"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {b"ms": 0.001, b"s": 1.0, b"m": 60.0, b"h": 3600.0, b"d": 86400.0}
# A plain number from here on is no waiting time but a time of day: 2001 in Unix seconds, 31 years to wait.
_EPOCH_S = 1e9


def retry_after_s(head: Values, wall_s: float) -> float | None:
    """How long the provider wants to be left alone, at most 120 s; None where it does not (properly) say.

    `wall_s` is the time of day in Unix seconds; a date gone by is 0.
    """
    value = head.value(b"retry-after-ms")
    if value and _NUMBER.fullmatch(value):
        return min(float(value) / 1e3, MAX_WAIT_S)
    value = head.value(b"retry-after")
    if not value:
        return None
    if _NUMBER.fullmatch(value):
        return min(float(value), MAX_WAIT_S)
    date_s = _unix_s(value.lower())
    return None if date_s is None else min(max(0.0, date_s - wall_s), MAX_WAIT_S)


def exhausted_for_s(head: Values, wall_s: float) -> float | None:
    """How long nothing is left, if the answer says that no request or token remains; at most 120 s.

    The `x-ratelimit-remaining-*` and `-reset-*` fields of OpenAI's API; 1 s where the reset is missing.
    """
    longest_s: float | None = None
    for remaining, reset in _LIMITS:
        value = head.value(remaining)
        if value and not value.strip(b"0"):
            longest_s = max(longest_s or 0.0, _reset_s(head.value(reset), wall_s))
    return longest_s


_LIMITS = (
    (b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    (b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
)


def _reset_s(value: bytes, wall_s: float) -> float:
    value = value.lower()
    if _NUMBER.fullmatch(value):
        wait_s = float(value)
        if wait_s >= _EPOCH_S:
            wait_s = max(0.0, wait_s - wall_s)
    elif _DURATION.fullmatch(value):
        wait_s = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(value))
    else:
        wait_s = DEFAULT_RESET_S
    return min(wait_s, MAX_WAIT_S)


def _unix_s(date: bytes) -> float | None:
    if _DATE.fullmatch(date) is None:
        return None
    try:
        parsed = parsedate_tz(date.decode("ascii"))
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError):
        return None
