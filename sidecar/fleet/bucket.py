"""A lease of requests or tokens: a bucket that refills with time."""

import math

from sidecar.fleet.lease import LEASE_PERIODS, NEVER, Grant, Lease


class BucketLease(Lease):
    """A lease of requests or tokens, in place of a local token bucket: it has the same methods.

    What is taken counts as used at once.
    """

    __slots__ = ()
    kind = b"bucket"
    # Ten leases and the trips that are saved up let one sidecar have a whole burst at once.
    store_part = 10

    @property
    def keep_ms(self) -> int:
        """Until it would be full again, and all leases have run out."""
        full_s = 2 * self.capacity / self.rate * 60
        return math.ceil((full_s + 2 * LEASE_PERIODS * self._standing.period_s) * 1000)

    def charge(self, now_s: float, amount: int) -> None:
        """Take `amount` that is spent already, whether it is there or not."""
        self.held -= amount
        self.taken += amount
        self._asked += amount
        self._used_s = now_s
        self._standing.active.add(self)

    def is_full(self, now_s: float) -> bool:
        """Whether nothing is held or to be reported, so that forgetting it loses nothing."""
        return self.is_idle()

    def wait_s(self, now_s: float, amount: int = 1) -> float:
        """Seconds until `amount` may be there, as far as known: 0.0 now, infinity never."""
        if amount > self.capacity:
            return math.inf
        if self.held >= amount and now_s < self._expires_s:
            return 0.0
        if self._is_local:
            share = self._local_share(now_s)
            return max(0.0, (min(amount - self.held, share.ceiling) - share.level) / share.per_s)
        in_fleet_s = (amount - self.held - self._level(now_s)) * 60 / self.rate
        # With room in the fleet and none here, it is the next round trip that has to come.
        return max(in_fleet_s, self.dry_until_s - now_s, self._standing.period_s)

    def reset_s(self, now_s: float) -> float:
        """Seconds until the fleet's bucket is full again, as far as known."""
        return (self.capacity - self.remaining(now_s)) * 60 / self.rate

    def configure(self, rate: int, capacity: int, now_s: float) -> None:
        """Go on with other figures; the server learns them with the next report."""
        self._available = max(0, int(self._level(now_s) * capacity / self.capacity))
        self._known_s = max(self._known_s, now_s) if self._known_s > -NEVER else -NEVER
        self.rate = rate
        self.capacity = capacity

    def _unreported(self) -> int:
        return self.taken

    def _report_used(self) -> int:
        used, self.taken = self.taken, 0
        return used

    def _unreport(self, used: int) -> None:
        # Bounded: a key that is never served again must not owe for ever.
        self.taken = max(-self.capacity, min(self.capacity, self.taken + used))

    def _use(self, grant: Grant) -> None:
        self.taken -= grant.outright
        self.held = grant.own - self.taken

    def _lent(self, amount: int) -> None:
        # Counted in the share, and told to the server when it answers again.
        self.taken -= amount

    def _repay(self, amount: int) -> None:
        self.taken += amount
        self.held = self.own - self.taken
