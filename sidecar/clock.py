"""One coarse clock for every deadline of the data path.

A timer object per request costs a microsecond to arm and to cancel, `asyncio.timeout` four. Here a deadline
is a number on an object, and one ticker looks at all armed objects twenty times a second: 5,000 open streams
cost half a percent of a core, an idle process next to nothing.

The clock counts only time the event loop could have used. When a tick comes late (the process was starved of
CPU, or stopped), the time beyond two periods is left out, so that a stalled sidecar does not take its own
lag for a silent provider.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from sidecar.flow import Signal

PERIOD_S = 0.05
NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline on the ticker's clock."""

    deadline_s: float

    def on_deadline(self) -> None:
        """Called at each tick from the deadline on, until disarmed or moved."""


class Ticker:
    """The coarse clock (`now_s`) and the deadlines armed on it.

    `now_s` is as old as the last tick, at most 50 ms when the loop is well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now_s = clock()
        self.lag_s = 0.0
        self._clock = clock
        self._armed: set[Timed] = set()
        self._each_tick: list[Callable[[float], None]] = []
        self._each_second: list[Callable[[float], None]] = []
        self._last_s = self.now_s
        self._next_second_s = self.now_s + 1.0
        self._handle: asyncio.TimerHandle | None = None
        self.arm = self._armed.add
        self.disarm = self._armed.discard

    def every_second(self, call: Callable[[float], None]) -> None:
        """Have `call(now_s)` made once a second: pool expiry, rates, the Date header."""
        self._each_second.append(call)

    def every_tick(self, call: Callable[[float], None]) -> None:
        """Have `call(now_s)` made at each tick."""
        self._each_tick.append(call)

    def start(self) -> None:
        """Tick on the running loop until `stop`."""
        self._last_s = self._clock()
        self._schedule()

    def stop(self) -> None:
        """End the ticking; armed deadlines stay as they are."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def tick(self) -> None:
        """Advance the clock to now and call what is due."""
        real_s = self._clock()
        elapsed_s, self._last_s = real_s - self._last_s, real_s
        self.lag_s = max(0.0, elapsed_s - PERIOD_S)
        self.now_s += min(elapsed_s, 2 * PERIOD_S)
        for item in [item for item in self._armed if item.deadline_s <= self.now_s]:
            item.on_deadline()
        for call in self._each_tick:
            call(self.now_s)
        if self.now_s >= self._next_second_s:
            self._next_second_s = self.now_s + 1.0
            for call in self._each_second:
                call(self.now_s)

    def _schedule(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(PERIOD_S, self._run)

    def _run(self) -> None:
        self._schedule()
        self.tick()


async def pause(ticker: Ticker, seconds: float) -> None:
    """Wait for so many seconds; for a flow, which has no asyncio.sleep."""
    waiting = _Pause(ticker, seconds)
    try:
        await waiting.over
    finally:
        ticker.disarm(waiting)


class _Pause:
    def __init__(self, ticker: Ticker, seconds: float) -> None:
        self.over = Signal()
        self.deadline_s = ticker.now_s + seconds
        ticker.arm(self)

    def on_deadline(self) -> None:
        self.deadline_s = NEVER
        self.over.set()
