"""Gets rows into the ledger's file, or keeps them until that works again. Runs in the ledger's thread.

Whatever is wrong with the file (a full disk, a read-only file system, a directory in its place, another
process that holds it) the rows stay in memory, in bounds, and are written once it is mended; it is tried
again every two seconds. A corrupt file is moved aside and a new one begun. What begins and what ends is one
log line each.
"""

import logging
import time

from sidecar.exchange import NANO_USD
from sidecar.usage.rows import Rows, bounded, merge
from sidecar.usage.store import Store, StoreError

RETRY_S = 2.0
MAX_ROWS = 100_000
RETENTION_DAYS = 400

_MINUTES_A_DAY = 24 * 60

_log = logging.getLogger("sidecar")


class Writer:
    """`waiting` is what is not in the file yet, `failures` counts the batches that could not be written."""

    def __init__(self, path: str, max_rows: int = MAX_ROWS) -> None:
        self.path = path
        self.waiting: Rows = {}
        self.is_degraded = False
        self.failures = 0
        self._max_rows = max_rows
        self._store: Store | None = None
        self._retry_at_s = 0.0
        self._pruned_day = -1

    def write(self, rows: Rows, now_s: float, unix_s: float, *, is_last: bool = False) -> None:
        """Add rows to the file, with those that wait. `now_s` is monotonic; the last time is always tried."""
        merge(self.waiting, rows)
        if self.is_degraded and now_s < self._retry_at_s and not is_last:
            self.waiting = bounded(self.waiting, self._max_rows)
            return
        try:
            self._write(unix_s)
        except StoreError as error:
            self._degrade(error, now_s)
        else:
            if self.is_degraded:
                self.is_degraded = False
                _log.warning("usage ledger %s: written to again, nothing was lost", self.path)

    def close(self) -> None:
        """Let go of the file; says so if rows are lost with this process."""
        if self._store is not None:
            self._store.close()
            self._store = None
        if self.waiting:
            cost_usd = sum(row[7] for row in self.waiting.values()) / NANO_USD
            _log.error(
                "usage ledger %s: %d rows, %.6f USD, could not be written and are lost",
                self.path,
                len(self.waiting),
                cost_usd,
            )

    def _write(self, unix_s: float) -> None:
        try:
            self._write_once(unix_s)
        except StoreError as error:
            if not error.is_corrupt or self._store is None:
                raise
            suffix = time.strftime(".corrupt-%Y%m%dT%H%M%SZ", time.gmtime(unix_s))
            moved, self._store = self._store.move_aside(suffix), None
            if moved:
                _log.error("usage ledger %s %s: moved to %s, a new one is begun", self.path, error, moved)
            self._write_once(unix_s)

    def _write_once(self, unix_s: float) -> None:
        if self._store is not None and not self._store.is_in_place:
            self._store.close()  # moved away or deleted: what comes now belongs in a new file
            self._store = None
        if self._store is None:
            self._store = Store(self.path)
            self._store.open()
        if self.waiting:
            self._store.add(self.waiting)
            self.waiting = {}
        today = int(unix_s) // 86400
        if today != self._pruned_day:
            self._store.drop_before((today - RETENTION_DAYS) * _MINUTES_A_DAY)
            self._pruned_day = today

    def _degrade(self, error: StoreError, now_s: float) -> None:
        self.failures += 1
        self._retry_at_s = now_s + RETRY_S
        if self._store is not None:
            self._store.close()  # a fresh start gets over more than it costs
            self._store = None
        self.waiting = bounded(self.waiting, self._max_rows)
        if not self.is_degraded:
            self.is_degraded = True
            _log.error(
                "usage ledger %s: %s; usage is kept in memory until it can be written", self.path, error
            )
