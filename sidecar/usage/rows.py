"""What the ledger counts: an `Entry` for each answer, added up in rows of one minute and one set of labels.

Rows are sums of whole numbers, so adding them in any order gives the same. That is what lets two processes
write one file, lets a batch that failed be merged into the next, and lets `bounded` trade detail for memory
without losing a token or a cent.
"""

from collections.abc import Mapping
from typing import TypeAlias

from sidecar.exchange import Usage
from sidecar.labels import OTHER

# The columns, in the order of the tuples and lists below.
LABELS = ("team", "key", "route", "model", "provider", "region", "price_version", "status_class")
FIGURES = (
    "requests",
    "failures",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "saved_nano_usd",
    "unpriced",
    "unmetered",
    "duration_ms",
)

Labels: TypeAlias = tuple[str, str, str, str, str, str, str, int]
Row: TypeAlias = list[int]
Rows: TypeAlias = dict[tuple[int, Labels], Row]  # by minute (Unix time / 60) and labels

_HOUR, _DAY = 60, 24 * 60  # in minutes


class Entry:
    """One answer as the ledger counts it: the tokens, what they cost, and whether it is the request itself.

    A request whose answer came in parts (a failed attempt that cost something, a stream that was resumed) is
    one entry for each part; `is_request` is true for the last, the one with the status. `attempts` is the
    tries that this entry tells of. `usage` is None where there is none, `cost_nano_usd` where the model has
    no price; `price_version` is then "". `is_unmetered`: the provider gave no figures, or not all; those that
    stand here, if any, are an estimate.
    """

    __slots__ = (
        "attempts",
        "cost_nano_usd",
        "duration_ms",
        "failed",
        "is_request",
        "is_unmetered",
        "labels",
        "saved_nano_usd",
        "usage",
    )

    def __init__(
        self,
        labels: Labels,
        usage: Usage | None,
        cost_nano_usd: int | None,
        saved_nano_usd: int = 0,
        attempts: int = 1,
        duration_ms: int = 0,
        failed: bool = False,
        is_request: bool = True,
        is_unmetered: bool = False,
    ) -> None:
        self.labels = labels
        self.usage = usage
        self.cost_nano_usd = cost_nano_usd
        self.saved_nano_usd = saved_nano_usd
        self.attempts = attempts
        self.duration_ms = duration_ms
        self.failed = failed
        self.is_request = is_request
        self.is_unmetered = is_unmetered


def count(row: Row, entry: Entry) -> None:
    """Add an entry to a row. One statement for each figure: this runs for every request."""
    if entry.is_request:
        row[0] += 1
        row[11] += entry.duration_ms
        if entry.failed:
            row[1] += 1
    row[2] += entry.attempts
    if entry.is_unmetered:
        row[10] += 1
    usage = entry.usage
    if usage is None:
        if not entry.attempts:
            row[8] += entry.saved_nano_usd  # out of the cache
        return
    row[3] += usage.input
    row[4] += usage.output
    if usage.cached:
        row[5] += usage.cached
    if usage.reasoning:
        row[6] += usage.reasoning
    if entry.cost_nano_usd is not None:
        row[7] += entry.cost_nano_usd
        row[8] += entry.saved_nano_usd
    elif usage.input or usage.output:
        row[9] += 1


def merge(into: Rows, rows: Mapping[tuple[int, Labels], Row]) -> None:
    """Add rows to others; `rows` stay as they are."""
    for key, row in rows.items():
        mine = into.get(key)
        if mine is None:
            into[key] = row.copy()
        else:
            for index, figure in enumerate(row):
                mine[index] += figure


def bounded(rows: Rows, limit: int) -> Rows:
    """The same sums in at most `limit` rows (or one a day): hours in place of minutes, then days, then
    without the callers' keys, and at last without any label."""
    for coarser in (_by_hour, _by_day, _without_key, _without_labels):
        if len(rows) <= limit:
            break
        fewer: Rows = {}
        for (minute, labels), row in rows.items():
            merge(fewer, {coarser(minute, labels): row})
        rows = fewer
    return rows


def _by_hour(minute: int, labels: Labels) -> tuple[int, Labels]:
    return minute - minute % _HOUR, labels


def _by_day(minute: int, labels: Labels) -> tuple[int, Labels]:
    return minute - minute % _DAY, labels


def _without_key(minute: int, labels: Labels) -> tuple[int, Labels]:
    return minute, (labels[0], OTHER, *labels[2:])


def _without_labels(minute: int, labels: Labels) -> tuple[int, Labels]:
    return minute, (OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, labels[7])
