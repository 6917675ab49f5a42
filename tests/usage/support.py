"""Entries and rows to count with."""

import logging
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.exchange import Usage
from sidecar.usage.rows import FIGURES, Entry, Labels, Row, Rows

MINUTE = 29_700_000  # 2026-06-20 24:00 less some hours: any minute of our days
UNIX_S = MINUTE * 60.0


def labels(
    team: str = "t", key: str = "k", model: str = "m", status_class: int = 2, version: str = "v1"
) -> Labels:
    return (team, key, "auto", model, "p", "r", version, status_class)


def entry(named: Labels | None = None, *, cost: int | None = 7, tokens: tuple[int, ...] = (10, 5)) -> Entry:
    return Entry(named or labels(), Usage(*tokens), cost, saved_nano_usd=3, duration_ms=20)


def row(**figures: int) -> Row:
    return [figures.get(name, 0) for name in FIGURES]


def one(cost: int = 7, minute: int = MINUTE, **named: str) -> Rows:
    """A batch of one request that cost something."""
    return {(minute, labels(**named)): row(requests=1, attempts=1, cost_nano_usd=cost)}  # type: ignore[arg-type]


def total_of(path: Path, figure: str = "cost_nano_usd") -> int:
    """The sum of a figure over a whole file, as somebody else would read it; 0 before there is anything."""
    connection = sqlite3.connect(path)
    try:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            return 0
        return int(connection.execute(f"SELECT coalesce(sum({figure}), 0) FROM usage").fetchone()[0])
    finally:
        connection.close()


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond a size: what is written past it fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def corrupt(path: Path) -> None:
    """Overwrite the pages of a database, its header left as it was."""
    size = path.stat().st_size
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"\xa5" * (size - 100), 100)
    finally:
        os.close(descriptor)


def messages(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]
