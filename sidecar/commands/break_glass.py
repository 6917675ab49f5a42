"""`sidecar break-glass on|off|status`: lets a running sidecar ask the providers kept for emergencies.

Exit codes: 0 done, 1 the sidecar is not reached or refuses, 2 bad arguments.
"""

import argparse
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.commands.admin_option import add_admin_option
from sidecar.commands.output import fail
from sidecar.config.break_glass import parse_period, parse_reason

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

T = TypeVar("T")


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "break-glass",
        help="let a running sidecar ask the providers kept for emergencies",
        description="While it is on, providers with break_glass: true come last in every plan."
        " It ends by itself, after a day at most.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    on = actions.add_parser("on", help="switch it on for a while")
    on.add_argument("--for", metavar="DURATION", dest="period", required=True, type=_duration, help="as 30m")
    on.add_argument("--reason", required=True, type=_reads(parse_reason), help="why, for the audit log")
    for action in (
        on,
        actions.add_parser("off", help="end it"),
        actions.add_parser("status", help="show it"),
    ):
        add_admin_option(action)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Ask the sidecar, print what holds now; returns the exit code."""
    import orjson

    from sidecar.admin.client import AdminError, ask

    query = None
    if options.action == "on":
        query = {"for": options.period, "reason": options.reason}
    elif options.action == "off":
        query = {"off": ""}
    try:
        answer = ask(options.admin, "POST" if query else "GET", "/break_glass", query)
        shown = _shown(orjson.loads(answer))
    except AdminError as error:
        return fail("break-glass", str(error), 1)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return fail("break-glass", f"{options.admin} answered, but not as a sidecar does", 1)
    sys.stdout.write(shown)
    return 0


def _shown(state: dict[str, Any]) -> str:
    lines = ["break-glass is off"]
    if state["on"]:
        left = f"{math.ceil(state['left_s'] / 60)} min left"
        lines = [
            f"break-glass is on until {state['until']} ({left}), by {state['by']}: {state['reason']}",
            f"asked last: {', '.join(state['providers'])}",
        ]
    lines += [f"note: {note}" for note in state["notes"]]
    return "\n".join(lines) + "\n"


def _reads(parse: Callable[[object], T]) -> Callable[[str], T]:
    """A value of the configuration as an argument."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _duration(text: str) -> str:
    """The text itself, once it is known to be good: the sidecar reads it again."""
    _reads(parse_period)(text)
    return text
