"""Text for a terminal: names that cannot command it, and columns under each other."""

from collections.abc import Container, Sequence


def printable(text: str) -> str:
    """A text with `?` for what a terminal would not show but obey: names come from callers."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def columns(rows: Sequence[Sequence[str]], right: Container[int]) -> list[str]:
    """A line for each row. The columns of `right`, by number, stand to the right: they are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if index in right else text.ljust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
