"""`sidecar injector`: the mutating admission webhook that puts the sidecar into pods.

Exit codes: 0 done, 1 cannot start, 2 bad arguments. It needs `ai-sidecar[injector]`.
"""

import argparse
import asyncio
import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.commands.inject import add_settings, settings_of
from sidecar.commands.output import fail

if TYPE_CHECKING:
    from sidecar.k8s.injector import Source
    from sidecar.k8s.settings import Settings
    from sidecar.k8s.tls import Serving

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("injector", help="run the Kubernetes webhook that injects the sidecar")
    add_settings(parser)
    given = parser.add_argument_group("a certificate from files (cert-manager, or your own)")
    given.add_argument("--cert", metavar="FILE", help="PEM, the chain; a change is served without a restart")
    given.add_argument("--key", metavar="FILE", help="PEM")
    managed = parser.add_argument_group("a certificate made, kept and renewed by the injector")
    managed.add_argument("--managed", metavar="SECRET", help="the Secret that keeps it")
    managed.add_argument("--service", metavar="NAME", help="the Service before the injector")
    managed.add_argument("--webhook", metavar="NAME", help="the MutatingWebhookConfiguration for caBundle")
    parser.add_argument("--port", type=_port, default=8443, help="of the webhook; by default 8443")
    parser.add_argument(
        "--health-port", type=_port, default=9902, help="/livez /readyz /metrics; by default 9902"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    try:
        _check(options)
        defaults = settings_of(options)
    except ValueError as error:
        return fail("injector", str(error), 2)
    if importlib.util.find_spec("cryptography") is None:
        return fail("injector", "the package cryptography is missing: pip install 'ai-sidecar[injector]'", 1)
    import uvloop

    from sidecar.lean import import_aiohttp

    import_aiohttp()
    from sidecar.k8s.api import ApiError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, defaults))
    except (OSError, ValueError, ApiError) as error:
        return fail("injector", f"cannot start: {error}", 1)
    return 0


async def _serve(options: argparse.Namespace, defaults: "Settings") -> None:
    from sidecar.k8s.injector import Injector

    injector = Injector(defaults, _source(options), options.port, options.health_port)
    injector.handle_signals()
    await injector.start()
    await injector.wait_stopped()


def _source(options: argparse.Namespace) -> "Callable[[Serving], Source]":
    from sidecar.k8s.api import in_cluster
    from sidecar.k8s.given import Given
    from sidecar.k8s.keeper import Keeper, Names

    def given(serving: "Serving") -> "Source":
        files = Given(options.cert, options.key, serving)
        files.load()
        return files

    def managed(serving: "Serving") -> "Source":
        api, namespace = in_cluster(os.environ)
        names = Names(
            namespace=namespace, secret=options.managed, service=options.service, webhook=options.webhook
        )
        return Keeper(api, names, serving)

    return managed if options.managed else given


def _check(options: argparse.Namespace) -> None:
    """ValueError unless there is one way, and a whole one, to have a certificate."""
    files = (options.cert, options.key)
    names = (options.managed, options.service, options.webhook)
    if any(files) and any(names):
        raise ValueError("give either --cert and --key, or --managed, --service and --webhook")
    if not (all(files) or all(names)):
        raise ValueError("give --cert and --key, or --managed, --service and --webhook: all of them")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)
