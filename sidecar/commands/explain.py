"""`sidecar explain`: which target a request would take now, and why; nothing is sent.

It asks a running sidecar, or reads a configuration file and explains what a sidecar would do right after its
start. Exit codes: 0 explained, also where the caller would get an error; 1 the sidecar is not reached; 2 bad
arguments or configuration.
"""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from sidecar.commands.admin_option import add_admin_option
from sidecar.commands.output import fail, show

if TYPE_CHECKING:
    from sidecar.caching.tiers import Tiers
    from sidecar.config.model import Config
    from sidecar.runtime import Snapshot

# What the admin listener takes.
MAX_BODY_BYTES = 1024 * 1024


class _UsageError(Exception):
    """What was given cannot be used; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", default_team: str) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "explain",
        help="which target a request would take now, and why, without sending it",
        description="Asks a running sidecar, which changes nothing there. With --config it needs none, and"
        " takes every endpoint for healthy and unused.",
    )
    where = parser.add_mutually_exclusive_group()
    add_admin_option(where)
    where.add_argument("--config", metavar="FILE", help="explain this file instead of a running sidecar")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME", help="the model or route that the app would name")
    what.add_argument("--body", metavar="FILE", help="the JSON that the app would send; - for standard input")
    parser.add_argument("--key", metavar="ID", help="who calls: the id of a listed key, or sa:NAMESPACE/NAME")
    parser.add_argument("--importance", choices=("normal", "critical"), help="as in x-sidecar-importance")
    parser.add_argument("--stream", action="store_true", help="a streamed answer; of --body, say it inside")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(command=run, default_team=default_team)


def run(options: argparse.Namespace) -> int:
    """Explain and print; returns the exit code. BrokenPipeError when the reader has left."""
    from sidecar.admin.client import AdminError
    from sidecar.config.problems import ConfigError

    try:
        query, body = _asked(options)
        if options.config is not None:
            text = _rendered(_explain_file(options, query, body), options)
        else:
            text = _explain_running(options, query, body)
    except _UsageError as error:
        return fail("explain", str(error), 2)
    except ConfigError as error:
        return max(fail("explain", f"{options.config}: {problem}", 2) for problem in error.problems)
    except AdminError as error:
        return fail("explain", str(error), 2 if error.status == 400 else 1)
    show(text)
    return 0


def _rendered(shown: dict[str, Any], options: argparse.Namespace) -> str:
    import orjson

    from sidecar.commands.explained import table

    if options.json:
        return orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    return table(shown)


def _explain_running(options: argparse.Namespace, query: dict[str, str], body: bytes | None) -> str:
    import orjson

    from sidecar.admin.client import AdminError, ask

    answer = ask(options.admin, "GET" if body is None else "POST", "/explain", query, body)
    try:
        return _rendered(orjson.loads(answer), options)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AdminError(f"{options.admin} answered, but not as a sidecar does") from None


def _asked(options: argparse.Namespace) -> tuple[dict[str, str], bytes | None]:
    """The arguments as a query, and the body."""
    given = {"key": options.key, "importance": options.importance, "model": options.model}
    query = {name: value for name, value in given.items() if value is not None}
    if options.body is None:
        return query | ({"stream": "1"} if options.stream else {}), None
    if options.stream:
        raise _UsageError("--stream goes with --model: a body says itself whether it is streamed")
    try:
        with open(0 if options.body == "-" else options.body, "rb", closefd=options.body != "-") as file:
            body = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise _UsageError(f"{options.body} cannot be read: {error.strerror}") from None
    if len(body) > MAX_BODY_BYTES:
        raise _UsageError(f"{options.body} is over {MAX_BODY_BYTES} bytes: shorten its texts")
    return query, body


def _explain_file(options: argparse.Namespace, query: dict[str, str], body: bytes | None) -> dict[str, Any]:
    from sidecar.accounts import Accounts
    from sidecar.config.load import load
    from sidecar.explain import explain, question_of

    config = load(options.config, os.environ).config
    try:
        team = os.environ.get("SIDECAR_TEAM") or options.default_team
        snapshot = _at_start(config, team)
        question = question_of(query, body)
        accounts, tiers = Accounts(config, None), _empty_cache(config, team)
        return explain(question, snapshot, accounts, time.monotonic(), time.time(), tiers)
    except (OSError, ValueError) as error:
        raise _UsageError(str(error)) from None


def _empty_cache(config: "Config", team: str) -> "Tiers | None":
    """The cache that a sidecar begins with, in memory alone: nobody else is asked."""
    if config.cache is None:
        return None
    from msgspec.structs import replace

    from sidecar.caching.tiers import Tiers

    tiers = Tiers(team)
    tiers.configure(replace(config, cache=replace(config.cache, redis=None)), None)
    return tiers


def _at_start(config: "Config", team: str) -> "Snapshot":
    """What a sidecar begins with: nothing is known of any endpoint."""
    from msgspec.structs import replace

    from sidecar import __version__
    from sidecar.clock import Ticker
    from sidecar.config.instants import end_s
    from sidecar.runtime import Runtime, Snapshot
    from sidecar.telemetry.metrics import Metrics

    # Health checks would begin to ask the providers, and an issuer of tokens the API server.
    providers = {name: replace(one, health_check=None) for name, one in config.providers.items()}
    quiet = replace(config, providers=providers, auth=replace(config.auth, service_accounts=None))
    runtime = Runtime(Ticker(), Metrics(__version__), team)
    runtime.apply(quiet)
    snapshot = Snapshot(config, runtime.snapshot.providers, team)
    glass = config.break_glass
    if glass is not None and glass.until is not None:
        snapshot.router.set_break_glass(time.time() < end_s(glass.until))
    return snapshot
