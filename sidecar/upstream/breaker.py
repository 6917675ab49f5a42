"""The circuit breaker of an endpoint: takes it out when it fails, lets it back in by one request at a time.

Theory of operation. Three states:

- *closed*: requests go there. It opens after `consecutive_failures` failures in a row, or when of at least
  `min_requests` attempts in the last `window_s` a share of `failure_ratio` failed. The first sees an
  endpoint that is gone within a few requests, the second one that fails every other time. The newest tenth
  of the window is looked at alone as well, where it has twice as many attempts: ten good seconds must not
  outvote the bad one that follows them. (Half of 50 requests a second failing, it opens within 2 s in 97 %
  of all cases; by the whole window and the row alone in 80 %. Below a fifth of failures it changes nothing.)
  A row is no news where so many fail anyway that chance makes such rows: with a tenth of 200 requests a
  second failing, five come in a row every few minutes, and seven in a row are needed.
- *open*: out until `open_until_s`. What ends now was begun before and says nothing new.
- *half-open*: the time is over and one attempt, the probe, is on its way; a second one only after it. If it
  passes the breaker closes with a clean window, if it fails the next one follows `open_for_s` after it
  began. A probe that ended without a verdict (the caller left) gives its place back. When every target is
  out, a request is let through all the same: it is a probe too, taken early; its failure does not prolong
  what is running.

It opens for `open_for_s` times the number of ejections in a row, at most 300 s (or `open_for_s`, if that is
longer), and the number goes down by one for each 10 s closed: Envoy's outlier detection
(`base_ejection_time`, `max_ejection_time`, `interval`). An ejection is an opening, not a failed probe: an
endpoint that fails again and again is trusted less each time, but one long outage is one ejection. Once its
first spell is over the probes keep their pace: however long the outage lasts, a request tries the endpoint
within `open_for_s` after its end, or as soon as a probe that still hangs in it has failed. The window is
Linkerd's: a ring of ten buckets.

One breaker belongs to one endpoint and outlives a reload. All times are monotonic seconds.
"""

import math
from collections.abc import Callable
from typing import Final, Literal

from sidecar.config.model import CircuitBreaker

State = Literal["closed", "open", "half_open"]

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"

MAX_OPEN_S = 300.0
DECAY_S = 10.0
# Of rows of failures: how many a window may be expected to have for one to be put down to chance.
CHANCE = 1e-4
SLICES = 10
# With `min_requests` alone a tenth of failures would open it by chance, several times an hour.
NEWEST_FACTOR = 2


class Tally:
    """Two counts over a sliding window: of all, and of what is marked among them. In ten slices, so that
    `total` and `marked` reach back nine to ten tenths of `span_s`."""

    __slots__ = ("_marks", "_slice", "_step_s", "_totals", "marked", "total")

    def __init__(self, span_s: float) -> None:
        self._step_s = span_s / SLICES
        self._slice = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.total = 0
        self.marked = 0
        self._totals = [0] * SLICES
        self._marks = [0] * SLICES

    def add(self, now_s: float, total: int, marked: int) -> None:
        """Count these in."""
        if int(now_s / self._step_s) > self._slice:
            self.advance(now_s)
        turn = self._slice % SLICES
        self._totals[turn] += total
        self._marks[turn] += marked
        self.total += total
        self.marked += marked

    def advance(self, now_s: float) -> None:
        """Let go what is too old by now. A clock a little behind (the ticker's) changes nothing."""
        current = int(now_s / self._step_s)
        if current <= self._slice:
            return
        for passed in range(max(self._slice, current - SLICES) + 1, current + 1):
            turn = passed % SLICES
            self.total -= self._totals[turn]
            self.marked -= self._marks[turn]
            self._totals[turn] = self._marks[turn] = 0
        self._slice = current

    @property
    def newest(self) -> tuple[int, int]:
        """Total and marked of the slice that was counted in last."""
        turn = self._slice % SLICES
        return self._totals[turn], self._marks[turn]

    def share(self, now_s: float) -> float:
        """The marked share; 0 without anything counted."""
        self.advance(now_s)
        return self.marked / self.total if self.total else 0.0


class Breaker:
    """`state`, `open_until_s` and `ejections` (in a row) are to be read only.

    An open breaker whose time is over says *open* until a probe is taken. `on_change(now_s)` is called when
    it has opened or closed, and when a probe failed.
    """

    __slots__ = (
        "_changed_s",
        "_consecutive",
        "_decayed_s",
        "_is_probing",
        "_limits",
        "_on_change",
        "_probed_s",
        "_tally",
        "ejections",
        "open_until_s",
        "state",
    )

    def __init__(self, config: CircuitBreaker, on_change: Callable[[float], None] | None = None) -> None:
        # Configuration.
        self._limits = config
        self._on_change = on_change

        # Live state.
        self.state: State = CLOSED
        self.open_until_s = 0.0
        self.ejections = 0
        self._consecutive = 0
        self._is_probing = False
        self._probed_s = 0.0  # when the last probe began
        self._changed_s = -math.inf  # when it last opened or closed
        self._decayed_s = 0.0  # up to when `ejections` has been counted down
        self._tally = Tally(config.window_s)

    def configure(self, config: CircuitBreaker) -> None:
        """Go on with other limits. An ejection that is running keeps its end."""
        if config.window_s != self._limits.window_s:
            self._tally = Tally(config.window_s)
        self._limits = config

    def allows(self, now_s: float) -> bool:
        """Whether a request may go there: closed, or the time is over and no probe is on its way."""
        return self.state == CLOSED or (now_s >= self.open_until_s and not self._is_probing)

    def failure_share(self, now_s: float) -> float:
        """The share of the window's attempts that failed."""
        return self._tally.share(now_s)

    # --- the life of an attempt: take, perhaps pass_probe, then record or release ---------------------

    def take(self, now_s: float) -> bool:
        """An attempt begins; returns whether it is the probe. The last resort calls it without `allows`."""
        if self.state == CLOSED or self._is_probing:
            return False
        self._is_probing = True
        self._probed_s = now_s
        self.state = HALF_OPEN
        return True

    def pass_probe(self, now_s: float) -> None:
        """The probe brought its first content. From here it is an attempt like any other."""
        if self._is_probing:
            self._close(now_s)

    def record(
        self,
        ok: bool,
        now_s: float,
        *,
        is_probe: bool = False,
        is_last: bool = False,
        began_s: float = math.inf,
    ) -> None:
        """Score an attempt, once, at its end.

        `is_last`: no other target is left, so a longer ejection would only lengthen the outage. `began_s`:
        an attempt from before the last opening or closing is not counted, or requests that hung in a dead
        endpoint would time out after its recovery and open the breaker again.
        """
        if ok and self.state is CLOSED and not self._consecutive and not self.ejections:
            # All is well, as nearly always: only the window hears of it.
            if began_s >= self._changed_s:
                self._tally.add(now_s, 1, 0)
        elif is_probe and self._is_probing:
            if ok:
                self._close(now_s)
            else:
                self._fail_probe(now_s)
        elif self.state == CLOSED and began_s >= self._changed_s:
            self._count(ok, now_s, is_last)

    def release(self, now_s: float, is_probe: bool) -> None:
        """An attempt ended and says nothing of the endpoint: the caller left, or the request is to blame."""
        if is_probe and self._is_probing:
            self._is_probing = False
            if now_s < self.open_until_s:
                self.state = OPEN

    # --- inside ---------------------------------------------------------------------------------------

    def _count(self, ok: bool, now_s: float, is_last: bool) -> None:
        tally = self._tally
        tally.add(now_s, 1, not ok)
        if ok:
            self._consecutive = 0
            if self.ejections:
                self._decay(now_s)
            return
        self._consecutive += 1
        if self._is_sick(tally):
            self._decay(now_s)
            self._open(now_s, is_last)

    def _is_sick(self, tally: Tally) -> bool:
        limits = self._limits
        if self._consecutive >= limits.consecutive_failures and not self._is_chance(tally):
            return True
        ratio, least = limits.failure_ratio, limits.min_requests
        if tally.total >= least and tally.marked >= ratio * tally.total:
            return True
        total, failed = tally.newest
        return total >= NEWEST_FACTOR * least and failed >= ratio * total

    def _is_chance(self, tally: Tally) -> bool:
        """Whether so many failures in a row were to be expected, given how many failed before them."""
        row = self._consecutive
        total, failed = tally.total - row, tally.marked - row
        if total < self._limits.min_requests or failed <= 0:
            return False
        return total * (failed / total) ** row > CHANCE

    def _fail_probe(self, now_s: float) -> None:
        self._is_probing = False
        self.state = OPEN
        if now_s >= self.open_until_s:
            # From its beginning: a probe that hung for longer was wait enough, the outage may be over.
            self.open_until_s = self._probed_s + self._limits.open_for_s
        self._tell(now_s)

    def _open(self, now_s: float, is_last: bool) -> None:
        open_for_s = self._limits.open_for_s
        longest_s = max(MAX_OPEN_S, open_for_s)
        # Beyond the longest time nothing is counted: the way down from there would take hours.
        if not self.ejections or not (is_last or open_for_s * self.ejections >= longest_s):
            self.ejections += 1
        self.open_until_s = now_s + min(open_for_s * self.ejections, longest_s)
        self.state = OPEN
        self._changed_s = now_s
        self._tell(now_s)

    def _close(self, now_s: float) -> None:
        self.state = CLOSED
        self.open_until_s = 0.0
        self._is_probing = False
        self._consecutive = 0
        self._tally.clear()
        self._changed_s = self._decayed_s = now_s
        self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        if self._on_change is not None:
            self._on_change(now_s)

    def _decay(self, now_s: float) -> None:
        steps = int((now_s - self._decayed_s) / DECAY_S)
        if steps > 0:
            self.ejections = max(0, self.ejections - steps)
            self._decayed_s += steps * DECAY_S
