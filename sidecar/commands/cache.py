"""`sidecar cache ...`: what belongs to the answer cache. `calibrate` measures thresholds (calibrate.py), the
others ask a running sidecar (cache_asked.py).

Exit codes: 0 done, 1 runtime failure, 2 bad arguments, input or configuration.
"""

import argparse
from typing import TYPE_CHECKING

from sidecar.commands.admin_option import add_admin_option

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("cache", help="look at the answer cache, drop answers, measure thresholds")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    _add_status(actions)
    _add_purge(actions)
    _add_false_hit(actions)
    _add_reset(actions)
    _add_calibrate(actions)


def _add_status(actions: "Subparsers") -> None:
    parser = actions.add_parser("status", help="what it holds, how often it answers, and what it saved")
    _asks(parser)


def _add_purge(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "purge",
        help="drop answers, here and at all sidecars that share them",
        description="Of several options, what has all of them. Nothing is dropped without one.",
    )
    parser.add_argument("--key", metavar="HEX", help="the answer that the access log names: key, under cache")
    parser.add_argument("--route", metavar="NAME", help="the answers of a route")
    parser.add_argument(
        "--scope",
        metavar="NAME",
        help="the answers of a team, or of a key by its id (`shared`: of all callers without one), whatever"
        " cache.scope says",
    )
    parser.add_argument("--all", action="store_true", help="everything")
    _asks(parser)


def _add_false_hit(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "false-hit",
        help="an answer was given to a question it does not answer",
        description="Drops the answer. What is stored in its place from now on answers the very words it was"
        " given for, and no others.",
    )
    parser.add_argument("key", metavar="KEY", help="as the access log has it: key, under cache")
    _asks(parser)


def _add_reset(actions: "Subparsers") -> None:
    parser = actions.add_parser(
        "reset",
        help="switch tiers on that switched themselves off",
        description="Without options all of them. Each is judged anew.",
    )
    parser.add_argument("--route", metavar="NAME", help="only those of a route; '' for models without one")
    parser.add_argument("--tier", metavar="TIER", help="only exact, canonical or semantic")
    _asks(parser)


def _asks(parser: argparse.ArgumentParser) -> None:
    """The options of all that ask a running sidecar."""
    add_admin_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.set_defaults(command=_ask)


def _ask(options: argparse.Namespace) -> int:
    from sidecar.commands.cache_asked import run

    return run(options)


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
