"""What may be said of an injected sidecar: by `--default NAME=VALUE` for all pods, by annotation for one.

Both take the same names and the same text, and are judged by the same parsers. A value is refused when a pod
that had it could not start, since nobody looks at an annotation once the pod hangs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

Mode: TypeAlias = Literal["native", "classic"]

# `memory-limit: 128` is 128 bytes and `128m` a tenth of one; no sidecar starts below this.
MIN_MEMORY_BYTES = 32 * 1024 * 1024
MAX_SHOWN = 60

_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{_NAME}(?:/{_NAME})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"m": Decimal("0.001"), "": Decimal(1)}
_UNITS |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGT", start=1)}
_UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGT", start=1)}


class Settings(Struct, frozen=True, kw_only=True):
    """One sidecar's settings, all of them good. Quantities stay text, as Kubernetes writes them."""

    image: str
    mode: Mode = "native"
    config: str = "ai-sidecar"
    secret: str = "ai-sidecar-key"  # noqa: S105  # the name of a Secret
    port: int = 8080
    health_port: int = 9902
    admin_port: int = 9901
    log_level: str = "info"
    env: bool = True
    token_audience: str | None = None
    cpu_request: str | None = "50m"
    cpu_limit: str | None = None
    memory_request: str | None = "64Mi"
    memory_limit: str | None = "256Mi"

    @property
    def ports(self) -> dict[str, int]:
        """The ports that the sidecar binds, by the setting's name."""
        return {"port": self.port, "health-port": self.health_port, "admin-port": self.admin_port}

    @property
    def data_address(self) -> str:
        """Where the app finds the sidecar; of the pod alone, as all on loopback is."""
        return f"127.0.0.1:{self.port}"


class Unknown(ValueError):
    """There is no setting of this name."""


def changed(settings: Settings, values: Mapping[str, str]) -> tuple[Settings, list[tuple[str, ValueError]]]:
    """The settings with these values put over them, and what is wrong with which name.

    A name that does not exist is an `Unknown`. What is wrong is left out of the result.
    """
    parts: dict[str, Any] = {}
    faults: list[tuple[str, ValueError]] = []
    for name, text in values.items():
        parse = PARSERS.get(name)
        try:
            if parse is None:
                raise Unknown(f"there is no such setting: choose from {', '.join(PARSERS)}")
            parts[name.replace("-", "_")] = parse(text)
        except ValueError as error:
            faults.append((name, error))
    return replace(settings, **parts), faults


def contradictions(settings: Settings) -> Iterator[str]:
    """Where settings that are good by themselves do not fit together."""
    ports = settings.ports
    for name, other in (("health-port", "port"), ("admin-port", "port"), ("admin-port", "health-port")):
        if ports[name] == ports[other]:
            yield f"{name} and {other} are both {ports[name]}: change one"
    for what, request, limit in (
        ("cpu", settings.cpu_request, settings.cpu_limit),
        ("memory", settings.memory_request, settings.memory_limit),
    ):
        if request is not None and limit is not None and amount_of(request) > amount_of(limit):
            fault = f"{what}-request {request} is more than {what}-limit {limit}"
            yield f"{fault}: change one; an empty limit is none"


def amount_of(quantity: str) -> Decimal:
    """The number that a quantity of Kubernetes stands for; ValueError where it is not one."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{shown(quantity)} is not a quantity such as 100m, 0.5, 64Mi or 1Gi")
    return Decimal(match[1]) * _UNITS[match[2] or ""]


def shown(text: str) -> str:
    """Somebody's text, fit for a message: quoted, one line, not long."""
    return ascii(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def _image(text: str) -> str:
    if len(text) > 512 or not _IMAGE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not an image such as registry.example/ai-sidecar:1.2")
    return text


def _object_name(text: str) -> str:
    if len(text) > 253 or not _SUBDOMAIN.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a name: use lower-case letters, digits, - and .")
    return text


def _port(text: str) -> int:
    # Below 1024 a process that is not root may not listen.
    if not re.fullmatch(r"[0-9]{4,5}", text) or not 1024 <= int(text) <= 65535:
        raise ValueError(f"{shown(text)} is not a port from 1024 to 65535")
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{shown(text)} is not one of {', '.join(choices)}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


def _audience(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,253}", text):
        raise ValueError(f"{shown(text)} is not an audience: use visible ASCII without spaces")
    return text


def _cpu(text: str) -> str:
    if amount_of(text) <= 0:
        raise ValueError(f"{shown(text)} is no CPU at all: use for example 50m")
    if amount_of(text) % Decimal("0.001"):
        raise ValueError(f"{shown(text)} is finer than a thousandth of a CPU: round it")
    return text


def _memory(text: str) -> str:
    if amount_of(text) < MIN_MEMORY_BYTES:
        raise ValueError(f"{shown(text)} is under 32Mi, too little to start: is the unit right?")
    return text


def _or_none(parse: Callable[[str], str]) -> Callable[[str], str | None]:
    """An amount, or no text for none: Kubernetes takes a container without it."""
    return lambda text: parse(text) if text else None


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "image": _image,
    "config": _object_name,
    "secret": _object_name,
    "port": _port,
    "health-port": _port,
    "admin-port": _port,
    "log-level": _one_of("debug", "info", "warning", "error"),
    "env": _switch,
    "token-audience": _audience,
    "cpu-request": _or_none(_cpu),
    "cpu-limit": _or_none(_cpu),
    "memory-request": _or_none(_memory),
    "memory-limit": _or_none(_memory),
}


def from_arguments(image: str, mode: Mode, defaults: Iterable[str]) -> Settings:
    """The settings of `--image`, `--mode` and the `NAME=VALUE` of each `--default`.

    ValueError says which is wrong, and how.
    """
    values = {"image": image}
    for argument in defaults:
        name, equals, text = argument.partition("=")
        if not equals:
            raise ValueError(f"--default {shown(argument)}: expected NAME=VALUE, such as port=8081")
        values[name] = text
    settings, faults = changed(Settings(image=image, mode=mode), values)
    for name, fault in faults:
        raise ValueError(f"--image: {fault}" if name == "image" else f"--default {name}: {fault}")
    for contradiction in contradictions(settings):
        raise ValueError(f"--default: {contradiction}")
    return settings
