"""Reads a configuration: file, secrets and environment in, a `Loaded` or a `ConfigError` out.

It finds as much as it can in one go: what is not available, each wrong value, each missing secret, and then,
once the parts can be trusted, what does not fit together. It never changes anything and starts nothing.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config import document
from sidecar.config.addresses import Address, Url
from sidecar.config.checks import check
from sidecar.config.decode import Decoder
from sidecar.config.model import Config, Endpoint, Listen, Locality, Model, Provider
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.secrets import Secret, check_value
from sidecar.config.support import UNAVAILABLE, unavailable_parts
from sidecar.config.values import parse_name

DEFAULT_BASE_URL = "https://api.openai.com/v1"
NOTHING_SET = (
    "nothing to run: set OPENAI_API_KEY (and OPENAI_BASE_URL for a provider other than OpenAI),"
    " give a file with --config FILE, or try `sidecar demo`"
)

__all__ = ["ConfigError", "Loaded", "Problem", "from_environ", "listen_from", "load", "parse"]


class Loaded(Struct, frozen=True, kw_only=True):
    """A good configuration, and every file it came from: a change of any of them calls for a reload."""

    config: Config
    files: tuple[str, ...]


def load(
    path: str | os.PathLike[str],
    environ: Mapping[str, str],
    *,
    unavailable: Mapping[str, object] = UNAVAILABLE,
) -> Loaded:
    """The configuration of a file; ConfigError with all problems where there are some."""
    name = os.fspath(path)
    content = _read(name)
    try:
        loaded = parse(content, environ, unavailable=unavailable)
    except ConfigError as error:
        raise ConfigError(error.problems, [name, *error.files]) from None
    return Loaded(config=loaded.config, files=(name, *loaded.files))


def parse(
    content: bytes, environ: Mapping[str, str], *, unavailable: Mapping[str, object] = UNAVAILABLE
) -> Loaded:
    """The configuration in the text of a file; `Loaded.files` then holds only those the text refers to."""
    tree = document.parse(content)
    if not isinstance(tree, dict):
        what = "the file is empty" if tree is None else "the file is not a mapping"
        raise ConfigError([Problem("", f"{what}: expected at least `providers:` and `models:`")])
    decoder = Decoder(environ)
    config = decoder.decode(Config, tree)
    problems = [*unavailable_parts(tree, unavailable), *decoder.problems]
    files = decoder.files + _ca_files(tree)
    if config is not None:
        config = replace(config, listen=listen_from(environ, config.listen))
        problems += check(config)
    if config is None or problems:
        raise ConfigError(problems, files)
    return Loaded(config=_located(config, environ), files=tuple(dict.fromkeys(files)))


def from_environ(environ: Mapping[str, str]) -> Config:
    """The configuration of `sidecar run` without a file: one provider, every model."""
    key, base_url = environ.get("OPENAI_API_KEY"), environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        raise ConfigError([Problem("", NOTHING_SET)])
    endpoint = Endpoint(url=_from_variable("OPENAI_BASE_URL", base_url or DEFAULT_BASE_URL, Url.parse))
    secret = _from_variable("OPENAI_API_KEY", key, _secret)
    config = Config(
        providers={"openai": Provider(endpoints=(endpoint,), api_key=secret)},
        models={"*": Model(provider="openai")},
        listen=listen_from(environ),
    )
    if problems := check(config):
        raise ConfigError([problem._replace(path="OPENAI_BASE_URL") for problem in problems])
    return _located(config, environ)


def listen_from(environ: Mapping[str, str], listen: Listen | None = None) -> Listen:
    """The addresses to serve on: `SIDECAR_LISTEN_DATA`, `_ADMIN`, `_CONTROL`, `_HEALTH` win over the file's.

    Whoever sets them has told others of them: in Kubernetes the probes and the app's base URL.
    """
    listen = listen or Listen()
    return replace(
        listen,
        **{
            name: _from_variable(variable, environ.get(variable), _address) or getattr(listen, name)
            for name in ("data", "admin", "control", "health")
            for variable in (f"SIDECAR_LISTEN_{name.upper()}",)
        },
    )


def _address(raw: object) -> Address:
    # Kubernetes gives a pod's IP as it is, an IPv6 one without [ ].
    host, _, port = str(raw).rpartition(":")
    is_bare = host.count(":") > 1 and not host.startswith(("[", "unix:"))
    return Address.parse(f"[{host}]:{port}" if is_bare else raw)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            # One byte too many is enough to refuse it: `--config /dev/zero` must not fill the memory.
            return file.read(document.MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "not a file name"
        raise ConfigError([Problem("", f"{name} cannot be read: {reason}")], [name]) from None


def _ca_files(tree: Mapping[str, Any]) -> list[str]:
    """The authority files that a tree names, good or not: a file that is missing now may come."""
    found = []
    providers = tree.get("providers")
    for provider in providers.values() if isinstance(providers, dict) else ():
        tls = provider.get("tls") if isinstance(provider, dict) else None
        name = tls.get("ca_file") if isinstance(tls, dict) else None
        if isinstance(name, str):
            found.append(name)
    return found


def _located(config: Config, environ: Mapping[str, str]) -> Config:
    found = {
        name: getattr(config.locality, name) or _from_variable(variable, environ.get(variable), parse_name)
        for name, variable in (("region", "SIDECAR_REGION"), ("zone", "SIDECAR_ZONE"))
    }
    return replace(config, locality=Locality(**found))


def _secret(raw: object) -> Secret:
    return Secret(check_value(str(raw), "it"))


def _from_variable(name: str, value: str | None, parse_value: Callable[[object], Any]) -> Any:
    """A variable's value, None where it is unset or empty; it is judged as strictly as the file."""
    if not value:
        return None
    try:
        return parse_value(value)
    except ValueError as error:
        raise ConfigError([Problem(name, str(error))]) from None
