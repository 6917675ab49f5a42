"""The parts of a pod that the injector looks at. Everything else is skipped unread, and never written again.

`null` and an absent field mean the same to Kubernetes; both are None here. Wrong types are refused by
msgspec, with the path of the field in the message.
"""

from collections.abc import Iterator
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


class Source(Part):
    """An entry of `envFrom`: all keys of an object, with the prefix before each."""

    prefix: str | None = None


class Target(Part):
    """What a probe or hook asks. A port's name is one of `ports`; without a host it is the pod itself."""

    port: int | str | None = None
    host: str | None = None


class Handler(Part):
    """A probe, or a hook of a container's life."""

    http_get: Target | None = None
    tcp_socket: Target | None = None
    grpc: Target | None = None

    @property
    def port(self) -> int | None:
        """The port of the pod that it asks, where that is a number."""
        asked = self.http_get or self.tcp_socket or self.grpc
        return asked.port if asked and not asked.host and isinstance(asked.port, int) else None


class Lifecycle(Part):
    """The hooks of a container's life."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Resources(Part):
    """Quantities by the resource's name: text, or numbers in YAML."""

    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class Container(Part):
    """A container of any kind; `restart_policy` is `Always` on a native sidecar."""

    name: str = ""
    env: list[Variable] | None = None
    env_from: list[Source] | None = None
    ports: list[Port] | None = None
    startup_probe: Handler | None = None
    readiness_probe: Handler | None = None
    liveness_probe: Handler | None = None
    lifecycle: Lifecycle | None = None
    resources: Resources | None = None
    restart_policy: str | None = None

    def value_of(self, *names: str) -> Variable | None:
        """The first variable of `env` with one of these names."""
        return next((variable for variable in self.env or () if variable.name in names), None)

    def may_bring(self, name: str) -> bool:
        """Whether `envFrom` could set the variable: the objects it names cannot be seen from here."""
        return any(name.startswith(source.prefix or "") for source in self.env_from or ())

    @property
    def asked_ports(self) -> Iterator[tuple[str, int]]:
        """The ports that probes and hooks ask, each with the field that says so."""
        hooks = self.lifecycle or Lifecycle()
        for field, handler in (
            ("startupProbe", self.startup_probe),
            ("readinessProbe", self.readiness_probe),
            ("livenessProbe", self.liveness_probe),
            ("postStart hook", hooks.post_start),
            ("preStop hook", hooks.pre_stop),
        ):
            if handler is not None and (port := handler.port) is not None:
                yield field, port


class Expression(Part):
    """One condition on a node's label."""

    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class Term(Part):
    """Conditions that hold all together."""

    match_expressions: list[Expression] | None = None


class Terms(Part):
    """Of these terms one holds."""

    node_selector_terms: list[Term] | None = None


class NodeAffinity(Part):
    """Which nodes the pod must have; those that it would like do not matter here."""

    required_during_scheduling_ignored_during_execution: Terms | None = None


class Affinity(Part):
    """Where the pod may run."""

    node_affinity: NodeAffinity | None = None


class Spec(Part):
    """What the pod runs, and where."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    volumes: list[Named] | None = None
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    os: Named | None = None
    host_network: bool | None = None
    restart_policy: str | None = None
    resources: Resources | None = None

    @property
    def has_resources(self) -> bool:
        """Whether the pod as a whole has resources, which its containers then share."""
        return self.resources is not None and bool(self.resources.requests or self.resources.limits)

    @property
    def node_terms(self) -> list[Term]:
        """The terms of the node affinity, of which one must hold."""
        affinity = self.affinity.node_affinity if self.affinity else None
        required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
        return (required.node_selector_terms if required else None) or []

    @property
    def all_containers(self) -> list[Container]:
        """The containers that start with the pod; ephemeral ones come later and listen on nothing."""
        return [*(self.init_containers or ()), *self.containers]


class Owner(Part):
    """What has made the pod; one owner at most is its controller."""

    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Metadata(Part):
    """Whose pod it is, and what is said of it. One from a controller has no name yet, only its beginning."""

    name: str | None = None
    generate_name: str | None = None
    owner_references: list[Owner] | None = None
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
    def name(self) -> str:
        """The name, or the beginning of the one it will get and a star."""
        metadata = self.metadata or Metadata()
        return metadata.name or (f"{metadata.generate_name}*" if metadata.generate_name else "")

    @property
    def owner(self) -> str:
        """The controller's kind and name, or those of another owner; empty where there is none."""
        owners = (self.metadata.owner_references if self.metadata else None) or []
        owner = next((one for one in owners if one.controller), owners[0] if owners else None)
        return f"{owner.kind}/{owner.name}" if owner else ""

    @property
    def annotations(self) -> dict[str, str]:
        return _texts(self.metadata.annotations if self.metadata else None)


def _texts(values: dict[str, str | None] | None) -> dict[str, str]:
    return {name: value or "" for name, value in (values or {}).items()}
