"""One round trip as values: what is sent to the script, and what its answer means.

A batch has a number. While it has not been answered the same batch is sent again, so that nothing is counted
twice and nothing is lost, whatever became of the answer; see scripts.py.
"""

from collections.abc import Sequence

from sidecar.fleet.lease import LEASE_PERIODS, Grant, Report
from sidecar.fleet.scripts import FIGURES, PREFIX, SEEN_S, USAGE_S
from sidecar.fleet.totals import Total, key_of, label_of


class GarbledError(Exception):
    """An answer that the script never gives: it does not come from Redis, or not from this version."""


class Batch:
    """Reports and totals on their way. `sent_s` is when they were first sent: leases count from then."""

    __slots__ = ("number", "reports", "sent_s", "totals")

    def __init__(self, number: int, reports: list[Report], totals: Sequence[Total], sent_s: float) -> None:
        self.number = number
        self.reports = reports
        self.totals = totals
        self.sent_s = sent_s

    def ask_for_nothing(self) -> None:
        """It is sent again: whoever waited for it has gone."""
        for report in self.reports:
            report.waiting = report.least = report.spare = 0

    def keys(self, sidecar: str) -> list[str]:
        """KEYS of the script."""
        keys = [f"{PREFIX}seen:{sidecar}"]
        for report in self.reports:
            keys += (f"{PREFIX}limit:{report.lease.key}", f"{PREFIX}leases:{report.lease.key}")
        return keys + [key_of(total) for total in self.totals]

    def arguments(self, sidecar: str, period_s: float) -> list[str | bytes | int]:
        """ARGV of the script."""
        lease_us = int(LEASE_PERIODS * period_s * 1e6)
        arguments: list[str | bytes | int] = [
            sidecar,
            self.number,
            lease_us,
            SEEN_S,
            USAGE_S,
            len(self.reports),
        ]
        for report in self.reports:
            lease = report.lease
            arguments += (lease.kind, lease.rate, lease.capacity, lease.keep_ms, report.used, report.back)
            arguments += (report.waiting, report.least, report.spare, lease.known)
        for total in self.totals:
            arguments += (label_of(total), total.requests, total.tokens, total.nano_usd)
        return arguments

    def grants(self, answer: object) -> list[Grant | None]:
        """What was granted to each report, None: its key is not served; GarbledError."""
        if not isinstance(answer, list) or len(answer) != len(self.reports) + 1:
            raise GarbledError
        grants: list[Grant | None] = []
        for figures in answer[:-1]:
            if not isinstance(figures, list) or len(figures) != FIGURES:
                raise GarbledError
            if not all(type(figure) is int for figure in figures):
                raise GarbledError
            grants.append(None if figures[0] < 0 else Grant(*figures))
        return grants
