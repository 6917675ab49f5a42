"""`python -m tests.faults.torture`: four tables; exits 1 unless every check is met."""

import argparse
import sys
from collections.abc import Awaitable, Callable

import uvloop

from tests.faults.torture import cache_chaos, disconnects, events, failover
from tests.faults.torture.report import Report

# By name: the part, and its size in full and in brief.
PARTS: dict[str, tuple[Callable[[int], Awaitable[Report]], int, int]] = {
    "disconnects": (disconnects.run, 1000, 40),
    "events": (events.run, 1_000_000, 20_000),
    "failover": (failover.run, 2000, 50),
    "cache": (cache_chaos.run, 2500, 250),
}


def main() -> int:
    """Parse the options, run the parts, print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.torture", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--only", metavar="A,B", help=f"these parts: {', '.join(PARTS)}")
    options = parser.parse_args()
    names = list(PARTS) if options.only is None else options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return 0 if uvloop.run(_run(names, is_fast=options.fast)) else 1


async def _run(names: list[str], *, is_fast: bool) -> bool:
    is_passed = True
    for name in names:
        part, full, fast = PARTS[name]
        report = await part(fast if is_fast else full)
        print(report, end="\n\n", flush=True)
        is_passed = is_passed and report.case.is_passed
    return is_passed


if __name__ == "__main__":
    sys.exit(main())
