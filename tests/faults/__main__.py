"""`python -m tests.faults`: the scorecard of all faults; exits 1 unless every one is passed."""

import argparse
import sys
from functools import partial

import uvloop

from tests.faults import scorecard
from tests.faults.load import FAST, FULL


def main() -> int:
    """Parse the options and print the scorecard."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Every fault and what the sidecar makes of it."
    )
    parser.add_argument("--fast", action="store_true", help="about 2 minutes instead of about 12")
    parser.add_argument(
        "--only", metavar="A,B", help="these faults: single, load, or names such as single-8,load-3"
    )
    options = parser.parse_args()
    names = None if options.only is None else set(options.only.split(","))

    def wanted(name: str) -> bool:
        return names is None or name in names or name.partition("-")[0] in names

    say = partial(print, flush=True)
    profile = FAST if options.fast else FULL
    return 0 if uvloop.run(scorecard.run(profile, wanted, say)) else 1


if __name__ == "__main__":
    sys.exit(main())
