"""`python -m tests.bench`: options, the run in its order, the report."""

import argparse
import sys
import time
from pathlib import Path

import orjson

from tests.bench import machine, report
from tests.bench.processes import Cpus, ended_by_sigterm
from tests.bench.proxies import BUILDERS
from tests.bench.suite import QUICK, Plan, RunFailed, Suite

PARTS = ["plain", "sse", "latency", "start"]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in BUILDERS]:
        raise argparse.ArgumentTypeError(
            f"no proxy named {', '.join(unknown)}; there are {', '.join(BUILDERS)}"
        )
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="CPU, latency, memory and start-up beside other proxies."
    )
    parser.add_argument("--quick", action="store_true", help="about 40 s instead of about 4 minutes")
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument(
        "--proxies", type=_names, default=list(BUILDERS), metavar="A,B", help=",".join(BUILDERS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there too")
    parser.add_argument("--no-pin", action="store_true", help="let the kernel place all processes")
    return parser.parse_args()


def _say(line: str) -> None:
    """Progress overwrites itself on a terminal and is left out elsewhere."""
    if not line.startswith("\r"):
        print(line, flush=True)
    elif sys.stderr.isatty():
        print(f"\r\x1b[K{line[1:]}", end="", file=sys.stderr, flush=True)


def _measure(suite: Suite, only: str | None) -> None:
    suite.start()
    if not suite.servers:
        raise RunFailed("no proxy to measure")
    suite.idle()
    suite.warm_up()
    loads = {"plain": suite.plain, "sse": suite.sse, "latency": suite.latency}
    for part, run in loads.items():
        if only in (None, part):
            run()
    if only != "start":
        suite.rss_after_load()
    if only in (None, "start"):
        suite.start_up()
    _say("\r")


def _run(options: argparse.Namespace) -> None:
    cpus = Cpus(is_pinned=not options.no_pin)
    facts = machine.facts(cpus)
    for name, value in facts.items():
        print(f"{name}: {value}")
    began_s = time.monotonic()
    with Suite(options.proxies, QUICK if options.quick else Plan(), cpus, _say) as suite:
        _measure(suite, options.only)
        versions = {name: server.proxy.version for name, server in suite.servers.items()}
    print(f"\n{report.table(suite.results)}\n\n{report.targets(suite.results)}")
    print(f"\n{time.monotonic() - began_s:.0f} s")
    if options.json:
        whole = {
            "machine": facts,
            "versions": versions,
            "quick": options.quick,
            **report.as_json(suite.results),
        }
        options.json.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))


def main() -> int:
    """0 whatever the figures; 1 when the run itself failed."""
    options = _options()
    try:
        with ended_by_sigterm():
            _run(options)
    except RunFailed as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
