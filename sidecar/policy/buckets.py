"""A token bucket with continuous refill, exact to the nanosecond of the clock.

All it keeps is one whole number: when it will be full (the generic cell rate algorithm of ATM, with its
"theoretical arrival time" read as that moment). What has been taken is the time from now until then, so there
is nothing to refill and nothing to round: no sum of small floats lets one request too many through. Times are
counted in steps of which the rate makes one token in 60,000,000,000: nanoseconds times the rate per minute.

A clock that steps back only makes the bucket look emptier, until it has caught up.
"""

import math

# One token, in nanoseconds times the rate per minute.
_TOKEN = 60_000_000_000
# What a bucket may owe, in capacities: a provider that reports nonsense shuts its caller out for ten refills,
# not for ever.
MAX_DEBT = 10


class Bucket:
    """`rate` tokens a minute, `capacity` at once; full at first. Times are monotonic seconds."""

    __slots__ = ("_full_at", "_room", "capacity", "rate")

    def __init__(self, rate: int, capacity: int) -> None:
        self.rate = rate
        self.capacity = capacity
        self._room = capacity * _TOKEN
        self._full_at = 0

    def take(self, now_s: float, amount: int = 1) -> bool:
        """Take `amount` tokens, all or none; False when there are not so many, or any are owed."""
        now = int(now_s * 1e9 + 0.5) * self.rate
        full_at = self._full_at
        if full_at < now:
            full_at = now
        full_at += amount * _TOKEN
        if full_at - now > self._room:
            return False
        self._full_at = full_at
        return True

    def charge(self, now_s: float, amount: int) -> None:
        """Take `amount` tokens that are spent already, whether they are there or not."""
        now = int(now_s * 1e9 + 0.5) * self.rate
        full_at = max(self._full_at, now)
        most = now + (1 + MAX_DEBT) * self._room
        self._full_at = max(full_at, min(full_at + amount * _TOKEN, most))

    def give_back(self, amount: int) -> None:
        """Put tokens back that were taken and not used; what does not fit is lost."""
        self._full_at -= amount * _TOKEN

    def remaining(self, now_s: float) -> int:
        """Whole tokens that are there; 0 where some are owed."""
        return max(0, (self._room - self._missing(now_s)) // _TOKEN)

    def is_full(self, now_s: float) -> bool:
        """Whether nothing of what was taken is still missing."""
        return not self._missing(now_s)

    def reset_s(self, now_s: float) -> float:
        """Seconds until it is full again."""
        return self._missing(now_s) / self.rate / 1e9

    def wait_s(self, now_s: float, amount: int = 1) -> float:
        """Seconds until `amount` tokens can be taken: 0.0 now, infinity never."""
        if amount > self.capacity:
            return math.inf
        short = self._missing(now_s) + amount * _TOKEN - self._room
        # Rounded up to the nanosecond: who waits so long is not refused again.
        return -(-short // self.rate) / 1e9 if short > 0 else 0.0

    def configure(self, rate: int, capacity: int, now_s: float) -> None:
        """Go on with other figures: the share that is missing, or owed, stays the same."""
        missing = -(-self._missing(now_s) * capacity // self.capacity)
        self.rate = rate
        self.capacity = capacity
        self._room = capacity * _TOKEN
        self._full_at = int(now_s * 1e9 + 0.5) * rate + missing

    def _missing(self, now_s: float) -> int:
        return max(0, self._full_at - int(now_s * 1e9 + 0.5) * self.rate)
