"""`sidecar cache status|purge|false-hit|reset`: asks a running sidecar about its answer cache, and prints.

Exit codes: 0 done, 1 the sidecar is not reached or refuses, 2 bad arguments.
"""

import argparse
from typing import Any

import orjson

from sidecar.admin.client import AdminError, ask
from sidecar.commands.cache_status import text as status_text
from sidecar.commands.output import fail, show


def run(options: argparse.Namespace) -> int:
    """Ask and print; returns the exit code. BrokenPipeError when the reader has left."""
    if options.action == "purge" and (fault := _purge_fault(options)):
        return fail("cache", fault, 2)
    try:
        if options.action == "status":
            answer = ask(options.admin, "GET", "/cache")
        else:
            path, query = _change(options)
            answer = ask(options.admin, "POST", path, query)
        shown = orjson.loads(answer)
        text = _TEXTS[options.action](shown)
    except AdminError as error:
        return fail("cache", str(error), 2 if error.status == 400 else 1)
    except (ValueError, KeyError, TypeError, AttributeError):
        return fail("cache", f"{options.admin} answered, but not as a sidecar does", 1)
    if options.json:
        text = orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    show(text)
    return 0


def _change(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """Path and query of a change; the sidecar judges them."""
    if options.action == "false-hit":
        return "/cache/false_hit", {"key": options.key}
    names = ("key", "route", "scope") if options.action == "purge" else ("route", "tier")
    query = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.action == "purge" and options.all:
        query["all"] = "1"
    return f"/cache/{options.action}", query


def _purge_fault(options: argparse.Namespace) -> str:
    """What is wrong with the options, in their own names: the sidecar would say it in those of a query."""
    is_named = any(value is not None for value in (options.key, options.route, options.scope))
    if options.all and is_named:
        return "--all drops everything, and stands alone"
    if not options.all and not is_named:
        what = "--key HEX, --route NAME, --scope NAME, of several what has all of them"
        return f"say what to drop: {what}; or --all"
    return ""


def _purged(said: dict[str, Any]) -> str:
    return f"dropped {_count(said['dropped'], 'answer')}{_elsewhere(said)}\n"


def _reported(said: dict[str, Any]) -> str:
    what = "the answer is dropped" if said["was_here"] else "no answer was stored under it here"
    return f"{what}; the key serves its own words only from now on{_elsewhere(said)}\n"


def _reset(said: dict[str, Any]) -> str:
    lines = [f"switched on: {one['tier']} of {one['route'] or 'no route'}" for one in said["reset"]]
    return "\n".join(lines or ["no tier was off"]) + "\n"


def _elsewhere(said: dict[str, Any]) -> str:
    return "; the sidecars that share answers are told" if said["others_told"] else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_TEXTS = {"status": status_text, "purge": _purged, "false-hit": _reported, "reset": _reset}
