"""A question to the ledger while it is being written: what was spent, to the last entry.

Theory of operation. The file does not know all of it: there are rows in memory, some on their way to the
thread, some waiting for a disk that is full. So the thread that writes the file also reads it, right after it
has taken what was handed to it: up to there, the file and what still waits have all. What is handed over
after that is noted here as well. Whoever fetches the answer gets that too, and the rows that are not handed
over yet: each entry is counted once, whenever the answer is fetched.
"""

from collections.abc import Callable, Sequence

from sidecar.usage.rows import Rows
from sidecar.usage.store import EmptyError, Spent, StoreError, spent


class Inquiry:
    """Asks the ledger at `path` for what was spent since each of `minutes`, up to the next of them. `at_hand`
    gives the rows that are not handed to its thread yet. `is_taken`: the thread has the question."""

    __slots__ = (
        "_at_hand",
        "_error",
        "_is_over",
        "_later",
        "_minutes",
        "_path",
        "_spent",
        "is_answered",
        "is_taken",
    )

    def __init__(self, path: str, minutes: Sequence[int], at_hand: Callable[[], Rows]) -> None:
        self.is_taken = False
        self.is_answered = False
        self._path = path
        self._minutes = minutes
        self._at_hand = at_hand
        self._is_over = False
        self._error = "the disk does not answer"
        self._spent: list[Spent] = []
        self._later: list[Rows] = []

    def note(self, rows: Rows) -> None:
        """These are handed to the thread after it took the question."""
        if not self._is_over:
            self._later.append(rows)

    def read(self, waiting: Rows) -> None:
        """In the thread: answer it, by the file and by what could not be written to it."""
        error = ""
        try:
            self._spent = spent(self._path, self._minutes)
        except EmptyError:
            pass
        except StoreError as found:
            error = str(found)
        self._spent += _of(waiting)
        self._error = error
        self.is_answered = True

    def told(self) -> list[Spent]:
        """All that was spent, to the last entry that was recorded. OSError where that is not known."""
        self._is_over = True
        later, self._later = self._later, []
        if self._error:
            raise OSError(
                f"usage ledger {self._path}: {self._error}, so what was spent of a new budget is not known:"
                " mend that, or leave `budgets` as they are"
            )
        return [*self._spent, *(one for rows in later for one in _of(rows)), *_of(self._at_hand())]


def _of(rows: Rows) -> list[Spent]:
    """The rows as what was spent; they may be older than what was asked for."""
    return [Spent(minute, labels[0], labels[1], labels[3], row[7]) for (minute, labels), row in rows.items()]
