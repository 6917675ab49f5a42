"""What is left to do with a request when its answer is out: read its usage, book it, count it, log it.

None of it is in a hurry, and it costs a fifth of a plain request; done for many at a time, with the code and
its tables in the CPU's caches, it costs less. So finished requests gather for a tick of the clock at most, or
until there are enough of them. Whoever reads the counters calls `flush` first.

The one that is added stays until the next call: where the request's flow failed, its connection answers it
right after, with a 500, and that is what is to be counted and logged.
"""

import time

from sidecar.accounts import Accounts
from sidecar.attempt import Attempt
from sidecar.exchange import Exchange
from sidecar.openai import usage_of
from sidecar.resume import total
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import FailedTry, Metrics

BATCH = 32
# A longer answer is read at once rather than kept.
MAX_KEPT_BYTES = 16 * 1024


class Settlement:
    """Finished requests that are not settled yet."""

    def __init__(self, metrics: Metrics, log: AccessLog, accounts: Accounts) -> None:
        self._metrics = metrics
        self._log = log
        self._accounts = accounts
        self._finished: list[tuple[Exchange, float, bytes, Attempt | None]] = []

    def add(self, x: Exchange, now_s: float, body: bytes = b"", attempt: Attempt | None = None) -> None:
        """A request ended at `now_s` (monotonic). `body` is a plain answer whose usage is not read yet."""
        if len(self._finished) >= BATCH:
            self.flush()
        if x.body:
            x.bytes_received = len(x.body)
            x.body = b""
        if len(body) > MAX_KEPT_BYTES:
            x.usage = usage_of(body)
            body = b""
        self._finished.append((x, now_s, body, attempt))

    def flush(self, _now_s: float = 0.0) -> None:
        """Settle what has gathered."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        wall_ns = time.time_ns() - time.monotonic_ns()
        for x, now_s, body, attempt in finished:
            if body:
                x.usage = usage_of(body)
            failed: tuple[FailedTry, ...] = ()
            if attempt is not None:
                if attempt.account is not None:
                    self._accounts.settle(x, attempt, now_s)
                elif attempt.parts:
                    x.usage = total(attempt.usage, x.usage)
                if attempt.tries is not None:
                    failed = attempt.tries.failed
            seconds = self._metrics.finished(x, now_s, failed)
            self._log.write(x, seconds, wall_ns + int(now_s * 1e9), failed)
