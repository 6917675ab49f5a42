"""The same injection into a file of manifests: for GitOps, where no webhook may change what was reviewed.

What is YAML goes out as YAML and what is JSON as JSON. A text with nothing to inject goes out as it came.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct
from yaml.nodes import MappingNode, Node, SequenceNode

from sidecar.k8s import json_text, yaml_text
from sidecar.k8s.annotations import PREFIX
from sidecar.k8s.container import NAME
from sidecar.k8s.nodes import BadManifest, add, find, text, unfolded, value_of
from sidecar.k8s.patch import Outcome, inject
from sidecar.k8s.pod import Pod
from sidecar.k8s.settings import Settings, shown

_WORKLOAD = ("spec", "template")
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", *_WORKLOAD),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"), _WORKLOAD
    ),
}
KINDS = tuple(_TEMPLATES)
_GROUPS = ("", "apps", "batch")


class Injected(Struct):
    """The new text, what there is to say with the object it is about, and how many objects have pods."""

    text: str
    warnings: list[str]
    objects: int


def injected(manifests: str, defaults: Settings) -> Injected:
    """All documents, with the sidecar in every pod and pod template that can have one.

    BadManifest where the text cannot be read.
    """
    work = _Work(defaults)
    try:
        written = json_text.rewritten(manifests, work.changed)
        if written is None:
            written = yaml_text.rewritten(manifests, work.changed)
    except RecursionError:
        raise BadManifest("nested too deeply for a manifest") from None
    return Injected(written, work.warnings, work.objects)


class _Work:
    """One text's injection."""

    def __init__(self, defaults: Settings) -> None:
        self._defaults = defaults
        self.warnings: list[str] = []
        self.objects = 0

    def changed(self, node: Node) -> Node | None:
        """The document with the sidecar where it belongs; None where it stays as it is."""
        kind = text(node, "kind")
        if kind not in _TEMPLATES and not kind.endswith("List"):
            return None
        node = unfolded(node)
        is_changed = False
        for item, item_kind, version in _items(node, kind, text(node, "apiVersion")):
            if item_kind in _TEMPLATES and version.rpartition("/")[0] in _GROUPS:
                is_changed |= self._inject(item, item_kind)
        return node if is_changed else None

    def _inject(self, node: Node, kind: str) -> bool:
        path = _TEMPLATES[kind]
        template = find(node, *path)
        if not isinstance(template, MappingNode):
            return False
        self.objects += 1
        outcome = _outcome(template, self._defaults)
        name = _name(node, kind)
        said = [*_misplaced(node, path), *outcome.warnings]
        self.warnings += [f"{name}: {warning}" for warning in said]
        for operation in outcome.patch:
            add(template, operation["path"], operation["value"])
        return bool(outcome.patch)


def _items(node: Node, kind: str, version: str) -> Iterator[tuple[Node, str, str]]:
    """The objects of a list, each with its kind and apiVersion, which are the list's where it has none."""
    items = find(node, "items")
    if not kind.endswith("List") or not isinstance(items, SequenceNode):
        yield node, kind, version
        return
    for item in items.value:
        if own := text(item, "kind"):
            yield from _items(item, own, text(item, "apiVersion"))
        else:
            yield item, kind.removesuffix("List"), version


def _name(node: Node, kind: str) -> str:
    name = text(node, "metadata", "name")
    if not name and (beginning := text(node, "metadata", "generateName")):
        name = f"{beginning}*"
    place = "/".join(filter(None, (text(node, "metadata", "namespace"), name)))
    return f"{kind} {shown(place)[1:-1]}" if name else f"{kind} without a name"


def _misplaced(node: Node, path: tuple[str, ...]) -> Iterator[str]:
    """What stands on the object that makes the pods, where it reaches none of them."""
    for what in ("label", "annotation"):
        there = find(node, "metadata", f"{what}s") if path else None
        for key, _ in there.value if isinstance(there, MappingNode) else ():
            if str(key.value).startswith(PREFIX):
                right = ".".join((*path, "metadata", f"{what}s"))
                yield f"{what} {shown(str(key.value))[1:-1]} means nothing here: put it into {right}"


def _outcome(template: MappingNode, defaults: Settings) -> Outcome:
    try:
        return inject(msgspec.convert(value_of(template), Pod), defaults)
    except msgspec.ValidationError as error:
        hint = ": quote it" if "Expected `str" in str(error) else ""
        reason = f"{NAME} is not injected: the pod cannot be read: {error}{hint}"
        return Outcome("refused", [], [reason])
