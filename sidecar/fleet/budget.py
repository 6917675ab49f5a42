"""A lease of dollars: what a budget's window has left, which does not refill."""

import math

from sidecar.fleet.lease import Grant, Lease, Standing


class BudgetLease(Lease):
    """A lease of nano-USD of a budget's window. What is taken is reserved; what `spend` tells is spent.

    A request that reserved R and cost A ends with `give_back(R)` and `spend(A)`. `keep_s` is how long the
    server keeps what was spent after the last word of it; None: for ever.
    """

    __slots__ = ("_fleet_spent", "_keep_ms", "_reported", "_spent")
    kind = b"budget"
    store_part = 100

    def __init__(self, standing: Standing, key: str, limit_nano_usd: int, keep_s: float | None) -> None:
        super().__init__(standing, key, 0, limit_nano_usd)
        self._keep_ms = 0 if keep_s is None else math.ceil(keep_s * 1000)
        self._fleet_spent = 0
        self._reported = 0  # and not answered yet
        self._spent = 0  # since the last report

    def spend(self, nano_usd: int) -> None:
        """So much was spent, whether it was reserved or not."""
        self.held -= nano_usd
        self._spent += nano_usd
        self._standing.active.add(self)

    @property
    def spent(self) -> int:
        """What the fleet has spent in this window, as far as known here."""
        return self._fleet_spent + self._reported + self._spent

    @property
    def known(self) -> int:
        """What was spent at least: a server that lost it learns it again."""
        return self._fleet_spent

    @property
    def keep_ms(self) -> int:
        """As it was asked for."""
        return self._keep_ms

    def restore(self, spent_nano_usd: int) -> None:
        """Let the fleet's figure stand at no less; for what a ledger still knows after a restart."""
        if spent_nano_usd > self._fleet_spent:
            self._fleet_spent = spent_nano_usd
            self._available = min(self._available, self.capacity - spent_nano_usd)
            self._standing.active.add(self)

    def configure(self, limit_nano_usd: int) -> None:
        """Go on with another limit."""
        self._available += limit_nano_usd - self.capacity
        self.capacity = limit_nano_usd

    def _unreported(self) -> int:
        # What is reserved needs its lease renewed.
        return self._spent or max(0, self.taken)

    def _report_used(self) -> int:
        used = self._reported = self._spent
        self._spent = 0
        return used

    def _unreport(self, used: int) -> None:
        self._reported = 0
        self._spent += used

    def _use(self, grant: Grant) -> None:
        self._reported = 0
        self._fleet_spent = grant.spent
        self.held = grant.own - self.taken - self._spent

    def _lent(self, amount: int) -> None:
        """Nothing: what is reserved of the share is spent or given back as any."""

    def _repay(self, amount: int) -> None:
        """Nothing: what was spent of the share is reported as any spending."""
