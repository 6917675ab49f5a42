"""The command line. Exit codes: 0 done, 1 runtime failure, 2 bad configuration or usage.

Small commands are here, the others in `commands`.
"""

import argparse
import logging
import os
import sys
from typing import NoReturn

from sidecar import __version__, data_path
from sidecar.config.load import Loaded, from_environ, load
from sidecar.config.problems import ConfigError

DEFAULT_TEAM = "default"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=_log_level(os.environ.get("SIDECAR_LOG_LEVEL", "")),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        code: int = options.command(options)
    except KeyboardInterrupt:
        code = 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _log_level(name: str) -> int:
    """What a level's name stands for; a wrong one must not keep the sidecar from starting."""
    levels = {"debug": logging.DEBUG, "warning": logging.WARNING, "error": logging.ERROR}
    return levels.get(name.lower(), logging.INFO)


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sidecar", description="An AI sidecar: see README.md.")
    parser.add_argument("--version", action="version", version=f"sidecar {__version__}, {data_path()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the sidecar")
    run.add_argument("--config", metavar="FILE", help="YAML file; without it OPENAI_API_KEY is enough")
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="validate a configuration file")
    check.add_argument("file", nargs="?", metavar="FILE")
    check.add_argument("--schema", action="store_true", help="print the JSON schema instead")
    check.set_defaults(command=_check)

    demo = commands.add_parser(
        "demo", help="simulated providers in three regions, and the sidecar before them"
    )
    demo.set_defaults(command=_demo)

    if arguments[:1] != ["run"]:
        _add_others(commands)
    return parser


def _add_others(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # A sidecar that runs has no use for them: 2 MB of modules, in every pod.
    from sidecar.commands import admin, break_glass, cache, explain, inject, injector, key, usage

    admin.add_parser(commands)
    break_glass.add_parser(commands)
    cache.add_parser(commands)
    explain.add_parser(commands, DEFAULT_TEAM)
    inject.add_parser(commands)
    injector.add_parser(commands)
    key.add_parser(commands)
    usage.add_parser(commands)


def _run(options: argparse.Namespace) -> int:
    team = os.environ.get("SIDECAR_TEAM") or DEFAULT_TEAM
    try:
        if options.config is not None and os.environ.get("SIDECAR_WAIT_FOR_CONFIG") == "true":
            from sidecar.run import run_waiting

            return run_waiting(options.config, team, os.environ)
        loaded = _load(options.config)
        from sidecar.run import run  # after it: a wrong file needs none of that

        reload = (lambda: load(options.config, os.environ)) if options.config else None
        return run(loaded, team, reload)
    except ConfigError as error:
        return _report(error)
    except OSError as error:
        print(f"sidecar: cannot start: {error}", file=sys.stderr)
        return 1


def _load(path: str | None) -> Loaded:
    if path is not None:
        return load(path, os.environ)
    return Loaded(config=from_environ(os.environ), files=())


def _check(options: argparse.Namespace) -> int:
    from sidecar.config.schema import json_schema
    from sidecar.config.warnings import warnings

    if options.schema:
        import orjson

        print(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return 0
    if options.file is None:
        print("sidecar check: give a FILE, or --schema", file=sys.stderr)
        return 2
    try:
        loaded = load(options.file, os.environ)
    except ConfigError as error:
        return _report(error)
    for warning in warnings(loaded.config):
        print(f"warning: {warning}")
    print(f"{options.file}: good")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from sidecar.demo.run import demo

    try:
        return demo()
    except OSError as error:
        print(f"sidecar: cannot start the demo: {error}", file=sys.stderr)
        return 1


def _report(error: ConfigError) -> int:
    for problem in error.problems:
        print(f"sidecar: {problem}", file=sys.stderr)
    return 2
