"""`sidecar usage`: tokens, cost, saving and availability, as a table, CSV or JSON.

It opens the ledger read-only, so it can be run at any time beside a sidecar that writes. With --fleet it
reads from Redis what all sidecars of a fleet have told it. Exit codes: 0 done, 1 the database or Redis cannot
be read or holds nothing, 2 bad arguments or configuration.
"""

import argparse
import calendar
import os
import sqlite3
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sidecar.commands.output import fail, show

if TYPE_CHECKING:
    from msgspec import Struct

    from sidecar.config.model import Fleet
    from sidecar.usage.report import Report, Window

DEFAULT_BY = "team,model,month"

_Section = TypeVar("_Section", bound="Struct")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    usage = commands.add_parser(
        "usage",
        help="tokens, cost, saving and availability",
        description="Days and months are UTC. In CSV the last line is the total, and a name that a"
        " spreadsheet would take for a formula has an apostrophe before it.",
    )
    source = usage.add_mutually_exclusive_group(required=True)
    source.add_argument("--db", metavar="PATH", help="the ledger's database")
    source.add_argument("--config", metavar="FILE", help="take the path from usage.path of this file")
    usage.add_argument(
        "--fleet",
        action="store_true",
        help="of all sidecars that share the Redis of --config, for the last 40 days at most",
    )
    usage.add_argument("--since", metavar="DAY", type=_day, help="first day, as in 2026-11-01")
    usage.add_argument("--until", metavar="DAY", type=_day, help="last day, included")
    usage.add_argument("--month", metavar="MONTH", type=_month, help="one whole month, as in 2026-11")
    usage.add_argument(
        "--by",
        metavar="COLUMNS",
        type=_columns,
        default=DEFAULT_BY,
        help=f"team, key, route, model, provider, region, day, month; by default {DEFAULT_BY}",
    )
    usage.add_argument("--format", choices=("table", "csv", "json"), default="table")
    usage.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; returns the exit code. BrokenPipeError when the reader has left."""
    from sidecar.config.problems import ConfigError
    from sidecar.usage.report import report
    from sidecar.usage.store import StoreError, open_read_only

    try:
        window = _window(options)
        if options.fleet:
            return _of_fleet(options, window)
        path = options.db if options.db is not None else _path_in(options.config)
    except ValueError as error:
        return fail("usage", str(error), 2)
    except ConfigError as error:
        return max(fail("usage", f"{options.config}: {problem}", 2) for problem in error.problems)
    try:
        connection = open_read_only(path)
        try:
            found = report(connection, options.by, window)
            is_empty = not found.lines and connection.execute("SELECT 1 FROM usage").fetchone() is None
        finally:
            connection.close()
    except (StoreError, sqlite3.Error) as error:
        return fail("usage", f"{path}: {error}", 1)
    if is_empty:
        return fail("usage", f"{path}: holds no usage yet", 1)
    _print(found, options.format)
    return 0


def _of_fleet(options: argparse.Namespace, window: "Window") -> int:
    """Print what the fleet has; ValueError and ConfigError as they are said."""
    if options.config is None:
        raise ValueError("--fleet needs --config FILE, for it says where the fleet's Redis is")
    fleet = _fleet_in(options.config)

    from sidecar.commands import fleet_usage  # with redis-py
    from sidecar.fleet.redis import LinkError

    for name in options.by:
        if name not in fleet_usage.COLUMNS:
            raise ValueError(f"--fleet has no {name}: choose --by from {', '.join(fleet_usage.COLUMNS)}")
    try:
        totals = fleet_usage.read(fleet, window)
    except LinkError as error:
        return fail("usage", f"fleet.redis: Redis cannot be used: {error}", 1)
    if not totals and window.first is None and window.last is None:
        return fail("usage", "fleet.redis: holds no usage yet", 1)
    forms = {"table": fleet_usage.table, "csv": fleet_usage.as_csv, "json": fleet_usage.as_json}
    _write(forms[options.format](options.by, fleet_usage.grouped(totals, options.by)))
    return 0


def _print(found: "Report", form: str) -> None:
    from sidecar.usage.render import as_csv, as_json, notes, table

    _write({"table": table, "csv": as_csv, "json": as_json}[form](found))
    if form == "csv":
        for note in notes(found):
            sys.stderr.write(f"note: {note}\n")


def _write(text: str) -> None:
    show(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-11-01") from None


def _month(text: str) -> date:
    try:
        if len(text) != 7:
            raise ValueError
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month such as 2026-11") from None


def _columns(text: str) -> tuple[str, ...]:
    from sidecar.usage.report import GROUPS

    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"{name!r} is no column: choose from {', '.join(GROUPS)}")
    return tuple(dict.fromkeys(names))


def _window(options: argparse.Namespace) -> "Window":
    from sidecar.usage.report import Window

    if options.month is not None:
        if options.since is not None or options.until is not None:
            raise ValueError("give either --month, or --since and --until")
        first = options.month
        return Window(first, first.replace(day=calendar.monthrange(first.year, first.month)[1]))
    if options.since is not None and options.until is not None and options.since > options.until:
        raise ValueError(f"--since {options.since} is after --until {options.until}")
    return Window(options.since, options.until)


def _path_in(name: str) -> str:
    """`usage.path` of a configuration."""
    from sidecar.config.model import Usage

    where = "usage.path: add it, or give the database with --db PATH"
    return _section(name, "usage", Usage, where).path


def _fleet_in(name: str) -> "Fleet":
    """`fleet` of a configuration."""
    from sidecar.config.model import Fleet
    from sidecar.config.problems import ConfigError, Problem
    from sidecar.config.redis_url import check_redis_url

    fleet = _section(name, "fleet", Fleet, "fleet: it says where Redis is")
    try:
        check_redis_url(fleet.redis.reveal())
    except ValueError as error:
        raise ConfigError([Problem("fleet.redis", str(error).removeprefix("redis "))]) from None
    return fleet


def _section(name: str, section: str, struct: type[_Section], missing: str) -> _Section:
    """One section of a configuration. Nothing else of it is looked at: who reads the bill need not have the
    secrets that the file refers to."""
    from sidecar.config import document
    from sidecar.config.decode import Decoder
    from sidecar.config.problems import ConfigError

    try:
        with Path(name).open("rb") as file:
            tree = document.parse(file.read(document.MAX_BYTES + 1))
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    raw = tree.get(section) if isinstance(tree, dict) else None
    if raw is None:
        raise ValueError(f"{name} has no {missing}")
    decoder = Decoder(os.environ)
    found = decoder.decode(struct, raw)
    if found is None or decoder.problems:
        problems = [problem._replace(path=f"{section}.{problem.path}") for problem in decoder.problems]
        raise ConfigError(problems)
    return found
