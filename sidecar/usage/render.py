"""A report as a table for people, CSV for spreadsheets, JSON for programs.

Dollars are shown with six decimals, and the lines shown add up to the total shown: what rounding leaves over
goes, a millionth each, to the lines that lost most by it (the largest remainder method). The exact figures,
in nano-USD, are in CSV and JSON too.
"""

import csv
import io
import json
from collections.abc import Sequence

from sidecar.tables import columns, printable
from sidecar.usage.report import Line, Report
from sidecar.usage.rows import FIGURES

TOTAL = "total"

_NANO_IN_MICRO = 1000
_MICRO_USD = 1_000_000
_MONEY = ("cost_nano_usd", "saved_nano_usd")
# A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_MAX_NAMED = 5


def table(report: Report) -> str:
    """Columns under headings, the total under a rule, and the notes."""
    cost, saved = _dollars(report)
    lines = [*report.lines, report.total]
    rows = [
        [*group, *_counts(line), one, other]
        for group, line, one, other in zip(_groups(report), lines, cost, saved, strict=True)
    ]
    heads = [*report.by, "requests", "available", "input", "cached", "output", "reasoning", "cost USD"]
    heads.append("saved USD")
    text = ruled([heads, *rows], len(report.by))
    return "\n".join([text, *(f"\n{note}" for note in notes(report))]) + "\n"


def as_csv(report: Report) -> str:
    """One line for each group and the total as the last; names that a spreadsheet would run as a formula have
    an apostrophe before them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*report.by, "availability", "cost_usd", "saved_usd", *FIGURES])
    lines = [*report.lines, report.total]
    groups = [*(line.group for line in report.lines), (TOTAL, *report.total.group[1:])]
    for group, line, *money in zip(groups, lines, *_dollars(report), strict=True):
        writer.writerow([*map(cell, group), _share(line), *money, *line.figures.values()])
    return out.getvalue()


def as_json(report: Report) -> str:
    """`rows` and their `total`; money as text, which no parser rounds."""
    lines = [*report.lines, report.total]
    objects = [
        {
            **dict(zip(report.by, line.group, strict=True)),
            "availability": line.availability,
            "cost_usd": cost,
            "saved_usd": saved,
            **line.figures,
        }
        for line, cost, saved in zip(lines, *_dollars(report), strict=True)
    ]
    total = {name: value for name, value in objects[-1].items() if name not in report.by}
    document = {"by": report.by, "rows": objects[:-1], "total": total, "notes": notes(report)}
    # Not by orjson: a sum may be over 64 bits, which it refuses.
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def notes(report: Report) -> list[str]:
    """What the figures leave out, and what to do about it."""
    found = []
    if count := report.total.figures["unpriced"]:
        found.append(
            f"{count} answers have no price and are not in the cost: {_named(report.unpriced_models)}."
            " Give these models a price in the configuration, models.NAME.price: {input: USD, output: USD}"
            " per million tokens; it counts from then on."
        )
    if count := report.total.figures["unmetered"]:
        found.append(
            f"{count} answers came without usage figures, or did not come to their end, so their cost is an"
            f" estimate or not known: {_named(report.unmetered_models)}. For streams, declare capabilities:"
            " [stream_usage] on the provider if it has it."
        )
    return found


def apportioned(nano: Sequence[int]) -> tuple[list[int], int]:
    """Each amount in whole micro-USD, and their total, rounded, to which they add up."""
    micro = [amount // _NANO_IN_MICRO for amount in nano]
    total = (sum(nano) + _NANO_IN_MICRO // 2) // _NANO_IN_MICRO
    by_loss = sorted(range(len(nano)), key=lambda index: nano[index] % _NANO_IN_MICRO, reverse=True)
    for index in by_loss[: total - sum(micro)]:
        micro[index] += 1
    return micro, total


def decimal_usd(micro: int) -> str:
    """Micro-USD as dollars with all six decimals, without grouping: "1.000004"."""
    whole, rest = divmod(abs(micro), _MICRO_USD)
    return f"{'-' if micro < 0 else ''}{whole}.{rest:06d}"


def cell(name: str) -> str:
    """A name as a cell of CSV: printable, and never a formula to a spreadsheet."""
    name = printable(name)
    return f"'{name}" if name.startswith(_FORMULA) else name


def ruled(rows: Sequence[Sequence[str]], names: int) -> str:
    """A table for a terminal: its headings are the first row, its total is the last, under a rule. Of the
    columns the first `names` are names and stand to the left; the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = columns(rows, right=range(names, len(widths)))
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([shown[0], rule, *shown[1:-1], rule, shown[-1]])


def _dollars(report: Report) -> list[list[str]]:
    """The cost and the saving of each line, the total as the last."""
    columns = []
    for name in _MONEY:
        micro, total = apportioned([line.figures[name] for line in report.lines])
        columns.append([decimal_usd(amount) for amount in (*micro, total)])
    return columns


def _counts(line: Line) -> list[str]:
    figures = line.figures
    tokens = [figures[f"{name}_tokens"] for name in ("input", "cached", "output", "reasoning")]
    return [f"{figures['requests']:,}", _percent(line), *(f"{count:,}" for count in tokens)]


def _percent(line: Line) -> str:
    """Rounded down: one failure in a million is not 100 %."""
    requests, failures = line.figures["requests"], line.figures["failures"]
    if not requests:
        return "-"
    thousandths = max(0, requests - failures) * 100_000 // requests
    return f"{thousandths // 1000}.{thousandths % 1000:03d}%"


def _share(line: Line) -> str:
    return "" if line.availability is None else f"{line.availability:.6f}"


def _groups(report: Report) -> list[list[str]]:
    """The names of each line as a terminal may be given them."""
    named = [[printable(name) or "-" for name in line.group] for line in report.lines]
    return [*named, [TOTAL, *report.total.group[1:]]]


def _named(models: Sequence[str]) -> str:
    names = ", ".join(printable(model) for model in models[:_MAX_NAMED])
    more = len(models) - _MAX_NAMED
    return f"{names} and {more} more" if more > 0 else names
