"""`sidecar usage --fleet`: requests, tokens and cost of all sidecars of a fleet, as Redis has them.

It has less detail than a ledger, and goes back 40 days; but it is of the whole fleet, and outlives every pod.
"""

import asyncio
import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple

from sidecar.fleet.redis import Link
from sidecar.fleet.scripts import USAGE_S
from sidecar.fleet.totals import Total, read_totals
from sidecar.tables import printable
from sidecar.usage.render import TOTAL, apportioned, cell, decimal_usd, ruled

if TYPE_CHECKING:
    from sidecar.config.model import Fleet
    from sidecar.usage.report import Window

COLUMNS = ("team", "model", "day", "month")
PATIENCE_S = 5.0  # for one answer of Redis
_DAY_S = 86400
_FIGURES = ("requests", "tokens", "cost_nano_usd")


class Sums(NamedTuple):
    """The sums of one group; `group` has a value for each column asked for."""

    group: tuple[str, ...]
    requests: int
    tokens: int
    cost_nano_usd: int


def read(fleet: "Fleet", window: "Window") -> list[Total]:
    """The totals of a window of days. LinkError where Redis does not give them."""
    now_s = time.time()
    # Nothing is kept for longer; and somebody's clock may be a day ahead.
    since_s = max(now_s - USAGE_S, _unix_s(window.first) if window.first else 0)
    until_s = min(now_s + _DAY_S, _unix_s(window.last) + _DAY_S if window.last else float("inf"))

    async def ask() -> list[Total]:
        link = Link(fleet.redis, PATIENCE_S)
        try:
            return await read_totals(link.command, since_s, until_s)
        finally:
            await link.close()

    return asyncio.run(ask())


def grouped(totals: Iterable[Total], by: Sequence[str]) -> list[Sums]:
    """The sums by `COLUMNS`, in the order of their groups."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for total in totals:
        day = datetime.fromtimestamp(total.minute * 60, UTC).date().isoformat()
        values = {"team": total.team, "model": total.model, "day": day, "month": day[:7]}
        sums = groups.setdefault(tuple(values[name] for name in by), [0, 0, 0])
        sums[0] += total.requests
        sums[1] += total.tokens
        sums[2] += total.nano_usd
    return [Sums(group, *sums) for group, sums in sorted(groups.items())]


def table(by: Sequence[str], lines: Sequence[Sums]) -> str:
    """Columns under headings, and the total under a rule."""
    cost, total = _dollars(lines)
    rows = [[*by, "requests", "tokens", "cost USD"]]
    for line, usd in zip(lines, cost, strict=True):
        names = [printable(name) or "-" for name in line.group]
        rows.append([*names, f"{line.requests:,}", f"{line.tokens:,}", usd])
    requests, tokens, _ = _total(lines)
    rows.append([TOTAL, *[""] * (len(by) - 1), f"{requests:,}", f"{tokens:,}", total])
    return ruled(rows, len(by)) + "\n"


def as_csv(by: Sequence[str], lines: Sequence[Sums]) -> str:
    """One line for each group and the total as the last; see usage.render for names that look like
    formulas."""
    cost, total = _dollars(lines)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*by, "cost_usd", *_FIGURES])
    for line, usd in zip(lines, cost, strict=True):
        writer.writerow([*map(cell, line.group), usd, *line[1:]])
    writer.writerow([TOTAL, *[""] * (len(by) - 1), total, *_total(lines)])
    return out.getvalue()


def as_json(by: Sequence[str], lines: Sequence[Sums]) -> str:
    """`rows` and their `total`; money as text, which no parser rounds."""
    cost, total = _dollars(lines)
    rows = [
        {
            **dict(zip(by, line.group, strict=True)),
            "cost_usd": usd,
            **dict(zip(_FIGURES, line[1:], strict=True)),
        }
        for line, usd in zip(lines, cost, strict=True)
    ]
    whole = {"cost_usd": total, **dict(zip(_FIGURES, _total(lines), strict=True))}
    document = {"by": by, "rows": rows, "total": whole}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _total(lines: Sequence[Sums]) -> tuple[int, int, int]:
    return (
        sum(line.requests for line in lines),
        sum(line.tokens for line in lines),
        sum(line.cost_nano_usd for line in lines),
    )


def _dollars(lines: Sequence[Sums]) -> tuple[list[str], str]:
    micro, total = apportioned([line.cost_nano_usd for line in lines])
    return [decimal_usd(amount) for amount in micro], decimal_usd(total)


def _unix_s(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
