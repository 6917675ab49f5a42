"""`sidecar cache ...`: what belongs to the answer cache. `calibrate` measures thresholds (calibrate.py).

Exit codes: 0 done, 1 runtime failure, 2 bad arguments, input or configuration.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("cache", help="measure the threshold of the answer cache")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    _add_calibrate(actions)


def _add_calibrate(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "calibrate",
        help="find the threshold at which few wrong answers would be given",
        description="Tells for pairs of texts what each kind of match would find, and how often it would be"
        " wrong. Take questions of your own: the threshold that fits others need not fit them.",
    )
    parser.add_argument(
        "pairs",
        metavar="PAIRS.jsonl",
        help='a line each: {"a": "a text", "b": "another", "same": 1}, or 0 where the answer must be another',
    )
    parser.add_argument(
        "--config", metavar="FILE", help="whose cache.semantic to take; without it the default"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(command=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from sidecar.commands.calibrate import run

    return run(options.pairs, options.config, is_json=options.json)
