"""The parts of a pod that the injector looks at. Everything else is skipped unread, and never written again.

`null` and an absent field mean the same to Kubernetes; both are None here. Wrong types are refused by
msgspec, with the path of the field in the message.
"""

from typing import Any

from msgspec import Struct


class Part(Struct, rename="camel"):
    """What all parts have in common: camelCase names, unknown fields skipped."""


class Named(Part):
    """A volume, or the operating system: only its name matters."""

    name: str = ""


class Variable(Part):
    """An entry of `env`; its value is None where it comes from elsewhere (`valueFrom`)."""

    name: str = ""
    value: str | None = None


class Port(Part):
    """An entry of `ports`."""

    container_port: int = 0
    protocol: str | None = None


class Container(Part):
    """A container of any kind; `restart_policy` is `Always` on a native sidecar."""

    name: str = ""
    env: list[Variable] | None = None
    env_from: list[Any] | None = None
    ports: list[Port] | None = None
    restart_policy: str | None = None

    def value_of(self, *names: str) -> Variable | None:
        """The first variable of `env` with one of these names."""
        return next((variable for variable in self.env or () if variable.name in names), None)


class Spec(Part):
    """What the pod runs, and where."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    volumes: list[Named] | None = None
    node_selector: dict[str, str] | None = None
    os: Named | None = None
    host_network: bool | None = None
    restart_policy: str | None = None
    resources: dict[str, Any] | None = None

    @property
    def all_containers(self) -> list[Container]:
        """The containers that start with the pod; ephemeral ones come later and listen on nothing."""
        return [*(self.init_containers or ()), *self.containers]


class Metadata(Part):
    """Labels and annotations."""

    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None


class Pod(Part):
    """A pod, or the template of one."""

    spec: Spec
    metadata: Metadata | None = None

    @property
    def labels(self) -> dict[str, str]:
        return _texts(self.metadata.labels if self.metadata else None)

    @property
    def annotations(self) -> dict[str, str]:
        return _texts(self.metadata.annotations if self.metadata else None)


def _texts(values: dict[str, str | None] | None) -> dict[str, str]:
    return {name: value or "" for name, value in (values or {}).items()}
