"""`sidecar admin [METHOD] PATH`: asks any path of a running sidecar's admin interface, and prints the answer.

For where there is no curl, as in the image. Exit codes: 0 done, 1 the sidecar is not reached or refuses,
2 bad arguments.
"""

import argparse
import re
from typing import TYPE_CHECKING

from sidecar.commands.admin_option import add_admin_option
from sidecar.commands.output import fail, show

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_PATH = re.compile(r"/[!-~]*")  # all that a request line can hold


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "admin",
        help="ask any path of a running sidecar's admin interface",
        description="Prints the answer as it came. `get /clusters` shows, `post /drain_listeners` changes;"
        " README.md has all paths.",
    )
    add_admin_option(parser)
    parser.add_argument(
        "method",
        nargs="?",
        metavar="METHOD",
        type=str.upper,
        choices=("GET", "POST"),
        default="GET",
        help="get (the default) or post",
    )
    parser.add_argument("path", metavar="PATH", type=_path, help="with its query, as '/logging?level=debug'")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Ask and print; returns the exit code. BrokenPipeError when the reader has left."""
    from sidecar.admin.client import AdminError, ask

    try:
        answer = ask(options.admin, options.method, options.path)
    except AdminError as error:
        return fail("admin", str(error), 1)
    show(answer)
    return 0


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        what = f"expected a path such as /clusters, visible ASCII that begins with /, not {text!r}"
        raise argparse.ArgumentTypeError(what)
    return text
