"""`sidecar inject`: puts the sidecar into the pods and pod templates of YAML or JSON manifests, without a
cluster.

Exit codes: 0 done (what was not injected is said on stderr), 2 bad arguments, or neither YAML nor JSON.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.output import fail, show

if TYPE_CHECKING:
    from sidecar.k8s.settings import Settings

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "inject",
        help="put the sidecar into Kubernetes manifests",
        description="Every Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob and List gets"
        ' the sidecar, unless its pods have the label ai-sidecar/inject: "false". JSON stays JSON; in YAML'
        " comments are not kept where there was something to inject.",
    )
    parser.add_argument(
        "-f", "--file", metavar="FILE", default="-", help="the manifests; - or nothing is standard input"
    )
    add_settings(parser)
    parser.set_defaults(command=run)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what `sidecar inject` and `sidecar injector` have in common."""
    parser.add_argument("--image", required=True, metavar="REF", help="the sidecar's image")
    parser.add_argument(
        "--mode",
        choices=("native", "classic"),
        default="native",
        help="native needs Kubernetes 1.29; on an older cluster use classic, where Jobs never complete",
    )
    parser.add_argument(
        "--default",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for pods whose annotation ai-sidecar/NAME does not say otherwise: config secret port"
        " health-port admin-port log-level env token-audience cpu-request cpu-limit memory-request"
        " memory-limit (an empty amount is none)",
    )


def settings_of(options: argparse.Namespace) -> "Settings":
    """The settings that the arguments ask for; ValueError says which is wrong."""
    from sidecar.k8s.settings import from_arguments

    return from_arguments(options.image, options.mode, options.default)


def run(options: argparse.Namespace) -> int:
    """Write the manifests to standard output; returns the exit code."""
    from sidecar.k8s.manifests import KINDS, injected
    from sidecar.k8s.nodes import BadManifest

    name = "standard input" if options.file == "-" else options.file
    try:
        defaults = settings_of(options)
        done = injected(_read(options.file), defaults)
    except ValueError as error:
        return fail("inject", str(error), 2)
    except OSError as error:
        return fail("inject", f"{name} cannot be read: {error.strerror}", 2)
    except BadManifest as error:
        return fail("inject", f"{name}: {error}", 2)
    show(done.text)
    if not done.objects:
        sys.stderr.write(f"sidecar inject: {name}: nothing to inject: no {', '.join(KINDS)} in it\n")
    for warning in done.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return 0


def _read(name: str) -> str:
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the manifests are not UTF-8 text (byte {error.start})") from None
