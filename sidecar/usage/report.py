"""Reads the ledger: sums of a window of time, grouped by any labels, days or months (UTC).

Sums are exact whatever they are grouped by. Each figure is added up in two parts, its billions and the rest:
in one, SQLite's 64 bits would end at nine billion dollars.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, date, datetime

from msgspec import Struct

from sidecar.usage.rows import FIGURES, LABELS

_DAY_S = 86400
_PART = 10**9
GROUPS = {
    **{name: f'"{name}"' for name in LABELS[:6]},
    "day": "date(minute * 60, 'unixepoch')",
    "month": "strftime('%Y-%m', minute * 60, 'unixepoch')",
}

_SUMS = ", ".join(f"SUM({name} / {_PART}), SUM({name} % {_PART})" for name in FIGURES)


class Window(Struct, frozen=True):
    """Whole days, both included; None is from the beginning, or to the end."""

    first: date | None = None
    last: date | None = None


class Line(Struct):
    """The sums of one group; `group` has a value for each of the report's `by`."""

    group: tuple[str, ...]
    figures: dict[str, int]

    @property
    def availability(self) -> float | None:
        """The share of requests that did not fail; None without requests."""
        requests = self.figures["requests"]
        return (requests - self.figures["failures"]) / requests if requests else None


class Report(Struct):
    """The lines of a window in the order of their groups, and their total."""

    by: tuple[str, ...]
    lines: list[Line]
    total: Line
    unpriced_models: list[str]
    unmetered_models: list[str]


def report(connection: sqlite3.Connection, by: Sequence[str], window: Window) -> Report:
    """The sums of a ledger; `by` are keys of `GROUPS`. sqlite3.Error where it cannot be read."""
    columns = ", ".join(GROUPS[name] for name in by)
    numbers = ", ".join(str(index + 1) for index in range(len(by)))
    where, bounds = _where(window)
    query = f"SELECT {columns}, {_SUMS} FROM usage WHERE {where} GROUP BY {numbers} ORDER BY {numbers}"  # noqa: S608
    lines = [_line(row, len(by)) for row in connection.execute(query, bounds)]
    total = Line(("",) * len(by), {name: sum(line.figures[name] for line in lines) for name in FIGURES})
    return Report(
        by=tuple(by),
        lines=lines,
        total=total,
        unpriced_models=_models_with("unpriced", connection, window),
        unmetered_models=_models_with("unmetered", connection, window),
    )


def _models_with(figure: str, connection: sqlite3.Connection, window: Window) -> list[str]:
    where, bounds = _where(window)
    query = f"SELECT DISTINCT model FROM usage WHERE {where} AND {figure} > 0 ORDER BY model"  # noqa: S608
    return [str(model) for (model,) in connection.execute(query, bounds)]


def _where(window: Window) -> tuple[str, tuple[int, int]]:
    first = 0 if window.first is None else _minute(window.first)
    end = 2**62 if window.last is None else _minute(window.last) + _DAY_S // 60
    return "minute >= ? AND minute < ?", (first, end)


def _minute(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 60


def _line(row: tuple[object, ...], groups: int) -> Line:
    parts = [int(str(part)) for part in row[groups:]]
    figures = {name: parts[2 * i] * _PART + parts[2 * i + 1] for i, name in enumerate(FIGURES)}
    return Line(tuple(str(value) for value in row[:groups]), figures)
