"""A table of what was measured, and the checks on it."""

from collections.abc import Sequence

from tests.faults.case import Case


class Report:
    """One part: its table is `columns` and `rows`, its verdict `case`."""

    def __init__(self, title: str, *columns: str) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []
        self.case = Case(title)

    def add(self, *cells: str) -> None:
        """One more row."""
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        written = [f"{self.title}\n"]
        for line in lines:
            first, *others = line
            cells = [first.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            written.append("  " + "   ".join(cells))
        written += [f"  ✗ {check}" for check in self.case.checks if not check.is_met]
        written.append(f"  {'✓ all met' if self.case.is_passed else '✗ missed'}")
        return "\n".join(written)


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """That percentile of some times, in milliseconds; 0 of none."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
