"""Totals of the whole fleet: requests, tokens and cost by minute, team and model, kept for 40 days.

Each sidecar adds up its own and sends them along with its leases. Redis keeps a hash for each hour, so that a
month is read in some hundred steps; its fields are `FIGURE [minute, team, model]`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import orjson

from sidecar.fleet.scripts import PREFIX
from sidecar.labels import OTHER

MAX_ROWS = 5000
ROWS_PER_BATCH = 500
_FIGURES = ("requests", "tokens", "nano_usd")


class Total(NamedTuple):
    """What a team used of a model in a minute (Unix time / 60)."""

    minute: int
    team: str
    model: str
    requests: int
    tokens: int
    nano_usd: int


class Totals:
    """What this sidecar has counted and not sent yet. Bounded: while Redis is away detail is given up."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, minute: int, team: str, model: str, requests: int, tokens: int, nano_usd: int) -> None:
        """Count; `team` and `model` are labels of which there is a bounded number."""
        row = self._rows.get((minute, team, model))
        if row is None:
            key = (minute, team, model)
            if len(self._rows) >= MAX_ROWS:
                key = (minute - minute % 60, OTHER, OTHER)
            row = self._rows.setdefault(key, [0, 0, 0])
        row[0] += requests
        row[1] += tokens
        row[2] += nano_usd

    def drain(self) -> list[Total]:
        """Some of the rows, to be sent; they are not here any more."""
        keys = list(self._rows)[:ROWS_PER_BATCH]
        return [Total(*key, *self._rows.pop(key)) for key in keys]


def key_of(total: Total) -> str:
    """Where Redis keeps it."""
    return f"{PREFIX}usage:{total.minute // 60}"


def label_of(total: Total) -> bytes:
    """Its label there."""
    return orjson.dumps((total.minute, total.team, total.model))


async def read_totals(
    command: Callable[..., Awaitable[object]], since_unix_s: float, until_unix_s: float
) -> list[Total]:
    """The fleet's totals of the minutes in [since, until), oldest first. `command` is that of a Link, whose
    errors pass through; a field that is not ours is left out."""
    first, end = int(since_unix_s // 60), int(-(-until_unix_s // 60))
    rows: dict[tuple[int, str, str], list[int]] = {}
    for hour in range(first // 60, (end + 59) // 60):
        fields = await command(b"HGETALL", f"{PREFIX}usage:{hour}")
        if isinstance(fields, list):
            _collect(rows, zip(fields[::2], fields[1::2], strict=False))
    return [Total(*key, *row) for key, row in sorted(rows.items()) if first <= key[0] < end]


def _collect(rows: dict[tuple[int, str, str], list[int]], fields: Iterable[tuple[object, object]]) -> None:
    for name, value in fields:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            continue
        figure, _, label = name.partition(b" ")
        try:
            minute, team, model = orjson.loads(label)
            column, amount = _FIGURES.index(figure.decode()), int(value)
        except (ValueError, TypeError):
            continue
        if type(minute) is int and type(team) is str and type(model) is str:
            rows.setdefault((minute, team, model), [0, 0, 0])[column] += amount
