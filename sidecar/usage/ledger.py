"""The ledger of tokens and dollars: what every answer cost, by minute, team, key, route, model and place.

Theory of operation: the data path adds each entry to a row in memory, which costs about a microsecond and
touches no disk. Twice a second the rows are handed to a thread, which writes them in one transaction; a
process that is killed loses at most the last second. Slow disks hold nobody up, broken ones cost memory, in
bounds, until they are mended. The file itself is `store`'s matter, its troubles `writer`'s.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sidecar.labels import ModelLabels
from sidecar.usage.inquiry import Inquiry
from sidecar.usage.rows import FIGURES, Entry, Labels, Row, Rows, bounded, count, merge
from sidecar.usage.store import EmptyError, Spent, StoreError, spent
from sidecar.usage.writer import MAX_ROWS, RETRY_S, Writer

FLUSH_S = 0.5
CLOSE_S = 5.0
MAX_LEARNED_MODELS = 1000

_log = logging.getLogger("sidecar")


class Ledger:
    """`record` and `flush` are the event loop's, the rest of the work is a thread's. Outlives reloads."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._models = ModelLabels(MAX_LEARNED_MODELS)

        # The rows of the minute that runs, and those on their way to the thread.
        self._rows: dict[Labels, Row] = {}
        self._minute = int(clock()) // 60
        self._next_flush_s = 0.0
        self._handed: Rows = {}

        self._writer = Writer(path)
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._inquiry: Inquiry | None = None

    @property
    def failures(self) -> int:
        """How many times the file could not be written."""
        return self._writer.failures

    def configure(self, models: frozenset[str]) -> None:
        """The model names the configuration spells out: they always have rows of their own."""
        self._models.configure(models)

    def start(self) -> None:
        """Start the writer. A file that cannot be written is no reason not to start."""
        self._thread = threading.Thread(target=self._write_all, name="usage-ledger", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Count one answer, in the minute that runs."""
        row = self._rows.get(entry.labels)
        if row is None:
            row = self._new_row(entry)
        count(row, entry)

    def _new_row(self, entry: Entry) -> Row:
        """A model is given a row of its own once it is configured or a provider has answered for it with
        tokens."""
        labels, usage = entry.labels, entry.usage
        has_tokens = usage is not None and usage.input + usage.output > 0
        model = self._models.label(labels[3], has_tokens)
        if model != labels[3]:
            labels = (*labels[:3], model, *labels[4:])
        return self._rows.setdefault(labels, [0] * len(FIGURES))

    def flush(self, now_s: float) -> None:
        """Hand the rows to the thread twice a second; called at each tick, with the monotonic clock."""
        minute = int(self._clock()) // 60
        if now_s < self._next_flush_s and minute == self._minute:
            return
        self._next_flush_s = now_s + FLUSH_S
        rows = self._at_hand()
        self._rows = {}
        self._minute = minute
        if rows:
            with self._wake:
                if self._inquiry is not None and self._inquiry.is_taken:
                    self._inquiry.note(rows)
                merge(self._handed, rows)
                self._handed = bounded(self._handed, MAX_ROWS)  # only where the thread is stuck
                self._wake.notify()

    def close(self) -> None:
        """Write what is left, for at most five seconds."""
        self.flush(float("inf"))
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
            if self._thread.is_alive():
                _log.error("usage ledger %s: the disk does not answer, the last usage is lost", self.path)

    def spent(self, begins_unix_s: Sequence[float]) -> list[Spent]:
        """What the file says was spent since each of these times, up to the next of them, so that budgets
        outlive a restart; it reads the disk.

        Empty, with a log line, where the file cannot be read; a file that is not there yet is no news.
        """
        try:
            return spent(self.path, _minutes(begins_unix_s))
        except EmptyError:
            return []
        except StoreError as error:
            _log.warning("usage ledger %s: budgets begin at 0: %s", self.path, error)
            return []

    def ask(self, begins_unix_s: Sequence[float]) -> Inquiry:
        """Have the thread find out the same, with what is not in the file yet. One at a time: a question
        before this one is given up."""
        inquiry = Inquiry(self.path, _minutes(begins_unix_s), self._at_hand)
        with self._wake:
            self._inquiry = inquiry
            self._wake.notify()
        return inquiry

    def _at_hand(self) -> Rows:
        return {(self._minute, labels): row for labels, row in self._rows.items()}

    # --- in the thread --------------------------------------------------------------------------------

    def _write_all(self) -> None:
        is_last = False
        while not is_last:
            with self._wake:
                if not self._handed and not self._is_closing and self._asked() is None:
                    # While the file cannot be written it is tried again without new rows, too.
                    self._wake.wait(RETRY_S if self._writer.is_degraded else None)
                rows, self._handed = self._handed, {}
                is_last = self._is_closing
                inquiry = self._asked()
                if inquiry is not None:
                    inquiry.is_taken = True
            self._writer.write(rows, time.monotonic(), self._clock(), is_last=is_last)
            if inquiry is not None:
                inquiry.read(self._writer.waiting)
        self._writer.close()

    def _asked(self) -> Inquiry | None:
        """A question that is not taken yet."""
        inquiry = self._inquiry
        return None if inquiry is None or inquiry.is_taken else inquiry


def _minutes(unix_s: Sequence[float]) -> list[int]:
    return [int(second) // 60 for second in unix_s]
