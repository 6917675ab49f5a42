"""What a fault has to show: a list of checks, each with what was measured and what it should have been.

Checks on wall-clock time are `timed`: they stand in the scorecard, and no test fails for them, because a
shared machine may be late for reasons of its own.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Check(NamedTuple):
    """One success criterion."""

    name: str
    measured: str
    target: str
    is_met: bool
    is_timed: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.measured} (target {self.target})"


class Case:
    """One fault, while it is tried and judged."""

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.checks: list[Check] = []
        self.skipped = ""  # why it could not be tried here

    def equal(self, name: str, measured: object, target: object) -> None:
        """It has to be exactly this."""
        self.checks.append(Check(name, _short(measured), _short(target), measured == target))

    def at_most(
        self, name: str, measured: float, target: float, *, unit: str = "", timed: bool = False
    ) -> None:
        """It may be no more than this."""
        words = f"≤ {target:.4g}{unit}"
        self.checks.append(Check(name, f"{measured:.4g}{unit}", words, measured <= target, timed))

    def at_least(
        self, name: str, measured: float, target: float, *, unit: str = "", timed: bool = False
    ) -> None:
        """It has to be this or more."""
        words = f"≥ {target:.4g}{unit}"
        self.checks.append(Check(name, f"{measured:.4g}{unit}", words, measured >= target, timed))

    def skip(self, reason: str) -> None:
        """It cannot be tried here."""
        self.skipped = reason

    @property
    def failures(self) -> list[str]:
        """What a test fails for."""
        return [str(check) for check in self.checks if not check.is_met and not check.is_timed]

    @property
    def is_passed(self) -> bool:
        """Everything met, timed checks too."""
        return bool(self.checks) and all(check.is_met for check in self.checks)


Trial = Callable[[Case], Awaitable[None]]


def title_of(trial: Callable[..., object]) -> str:
    """What was done: the first line of the trial's docstring."""
    return (trial.__doc__ or trial.__name__).strip().partition("\n")[0].rstrip(".")


def _short(value: object) -> str:
    text = str(value) or "none"
    return text if len(text) <= 90 else f"{text[:50]}…{text[-30:]} ({len(text)} characters)"
