"""What one sidecar may do alone while Redis is away: its fair share of a limit, 1/`expected` of it.

A share is a small token bucket. A request that asks for more than a share ever holds (8,000 tokens of a share
of 5,000) is let through once the share is full and paid off afterwards: a limit that is shared by many must
not shut out what one sidecar alone would be allowed.
"""


class Share:
    """`ceiling` at most, `level` at first, `per_s` more each second. Times are monotonic seconds.

    `owed` is what was taken and has not been refilled yet: what the fleet does not know of.
    """

    __slots__ = ("_at_s", "_may_owe", "ceiling", "level", "owed", "per_s")

    def __init__(self, ceiling: float, level: float, per_s: float, now_s: float) -> None:
        self.ceiling = ceiling
        self.level = min(level, ceiling)
        self.per_s = per_s
        self.owed = 0.0
        self._at_s = now_s
        self._may_owe = per_s > 0  # dollars do not come back, so there is nothing to pay off with

    def take(self, now_s: float, amount: int) -> bool:
        """Take `amount`, all or nothing."""
        self.refill(now_s)
        enough = min(amount, self.ceiling) if self._may_owe else amount
        if self.level < enough:
            return False
        self.level -= amount
        self.owed += amount
        return True

    def refill(self, now_s: float) -> None:
        """Bring it up to now."""
        more = max(0.0, now_s - self._at_s) * self.per_s
        self._at_s = max(self._at_s, now_s)
        self.level = min(self.ceiling, self.level + more)
        self.owed = max(0.0, self.owed - more)
