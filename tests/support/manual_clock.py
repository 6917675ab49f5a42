"""A clock that moves when the test says so, and the ticker that reads it."""

from sidecar.clock import PERIOD_S, Ticker


class ManualClock:
    """Call it for the time; `ticker` is one on this clock."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.ticker = Ticker(self)

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass in even ticks, as on a loop that is well; at least one tick."""
        steps = max(1, round(seconds / PERIOD_S))
        for _ in range(steps):
            self.now_s += seconds / steps
            self.ticker.tick()
