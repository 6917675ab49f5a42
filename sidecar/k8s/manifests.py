"""The same injection into a YAML file: for GitOps, where no webhook may change what was reviewed.

The text is taken as a tree of YAML nodes, not of Python values, and written from it again. So a scalar goes
out as it came in: `0644` and `yes` mean to Kubernetes what they meant before, whatever Python would have made
of them. Comments are lost; in documents with pods, aliases and merges are written out.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from msgspec import Struct
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.representer import SafeRepresenter

from sidecar.k8s.container import NAME
from sidecar.k8s.patch import Outcome, inject
from sidecar.k8s.pod import Pod
from sidecar.k8s.settings import Settings, shown

# With every alias written out: far more than any manifest, far less than a "billion laughs".
MAX_NODES = 1_000_000

_WORKLOAD = ("spec", "template")
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", *_WORKLOAD),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"), _WORKLOAD
    ),
}
_GROUPS = ("", "apps", "batch")
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


class BadManifest(Exception):
    """The text is not YAML; the message says where."""


class Injected(Struct):
    """The new text, and what there is to say, each with the object it is about."""

    text: str
    warnings: list[str]


def injected(text: str, defaults: Settings) -> Injected:
    """All documents, with the sidecar in every pod and pod template that can have one."""
    warnings: list[str] = []
    try:
        documents = [
            _document(node, defaults, warnings)
            for node in yaml.compose_all(text, _Loader)
            if node.tag != _NULL
        ]
        written = yaml.serialize_all(
            documents,
            Dumper=yaml.SafeDumper,
            width=1_000_000,
            allow_unicode=True,
            explicit_start=len(documents) > 1,
        )
    except yaml.YAMLError as error:
        raise BadManifest(_where(error)) from None
    except RecursionError:
        raise BadManifest("nested too deeply for a manifest") from None
    return Injected(str(written), warnings)


class _Loader(yaml.SafeLoader):
    """Plain scalars as Kubernetes' own reader takes them: no dates, no base-60 numbers."""

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012  # PyYAML's name and shape
        first: [pair for pair in pairs if pair[0].rpartition(":")[2] in ("bool", "null", "merge")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_INT = re.compile(r"[-+]?(0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)\Z")
_FLOAT = re.compile(
    r"([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def _document(node: Node, defaults: Settings, warnings: list[str]) -> Node:
    kind = _text(node, "kind")
    if kind in _TEMPLATES or kind.endswith("List"):
        node = _Unfolding().unfolded(node)
        for item in _items(node, kind):
            _inject_object(item, defaults, warnings)
    return node


def _items(node: Node, kind: str) -> Iterator[Node]:
    items = _find(node, "items")
    if not kind.endswith("List") or not isinstance(items, SequenceNode):
        yield node
        return
    for item in items.value:
        yield from _items(item, _text(item, "kind"))


def _inject_object(node: Node, defaults: Settings, warnings: list[str]) -> None:
    kind = _text(node, "kind")
    path = _TEMPLATES.get(kind)
    if path is None or _text(node, "apiVersion").rpartition("/")[0] not in _GROUPS:
        return
    template: Node | None = node
    for name in path:
        template = _find(template, name)
    if not isinstance(template, MappingNode):
        return
    outcome = _outcome(template, defaults)
    name = "/".join(filter(None, (_text(node, "metadata", "namespace"), _text(node, "metadata", "name"))))
    warnings += [f"{kind} {shown(name)[1:-1]}: {warning}" for warning in outcome.warnings]
    for operation in outcome.patch:
        _add(template, operation["path"].split("/")[1:], operation["value"])


def _outcome(template: MappingNode, defaults: Settings) -> Outcome:
    tree = _Loader("").construct_document(template)
    try:
        return inject(msgspec.convert(tree, Pod), defaults)
    except msgspec.ValidationError as error:
        hint = ": quote it" if "Expected `str" in str(error) else ""
        reason = f"{NAME} is not injected: the pod cannot be read: {error}{hint}"
        return Outcome("refused", [], [reason])


def _add(node: Any, tokens: list[str], value: Any) -> None:
    """One `add` of a JSON Patch; its parent is there."""
    for token in tokens[:-1]:
        node = node.value[int(token)] if isinstance(node, SequenceNode) else _find(node, token)
    made = SafeRepresenter(default_flow_style=False, sort_keys=False).represent_data(value)
    last = tokens[-1]
    if isinstance(node, SequenceNode):
        node.value.insert(len(node.value) if last == "-" else int(last), made)
        return
    node.value = [pair for pair in node.value if pair[0].value != last]  # it is null where it is there
    node.value.append((ScalarNode("tag:yaml.org,2002:str", last), made))


class _Unfolding:
    """Writes out aliases and merges, so that a change in one place is a change in no other."""

    def __init__(self) -> None:
        self._count = 0

    def unfolded(self, node: Node) -> Node:
        """A copy of the tree that shares nothing."""
        self._count += 1
        if self._count > MAX_NODES:
            raise BadManifest(f"the aliases of a document unfold to more than {MAX_NODES} values")
        if isinstance(node, ScalarNode):
            return ScalarNode(node.tag, node.value, style=node.style)
        if isinstance(node, SequenceNode):
            items = [self.unfolded(item) for item in node.value]
            return SequenceNode(node.tag, items, flow_style=node.flow_style)
        assert isinstance(node, MappingNode)  # noqa: S101  # there are three kinds
        pairs = [(self.unfolded(key), self.unfolded(value)) for key, value in _pairs(node)]
        return MappingNode(node.tag, pairs, flow_style=node.flow_style)


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """A mapping's keys and values: of those that stand there twice the last, merged ones only where it has
    no such key itself."""
    found: dict[Any, tuple[Node, Node]] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            for source in value.value if isinstance(value, SequenceNode) else (value,):
                if not isinstance(source, MappingNode):
                    raise BadManifest(f"line {key.start_mark.line + 1}: << takes a mapping")
                for pair in _pairs(source):
                    found.setdefault(_identity(pair[0]), pair)
    own = {_identity(key): (key, value) for key, value in node.value if key.tag != _MERGE}
    return iter((found | own).values())


def _identity(key: Node) -> Any:
    return key.value if isinstance(key, ScalarNode) else id(key)


def _find(node: Node | None, name: str) -> Node | None:
    """The value of a key; None where there is none. Merges are not looked into."""
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, value in reversed(node.value) if key.value == name), None)


def _text(node: Node | None, *path: str) -> str:
    for name in path:
        node = _find(node, name)
    return str(node.value) if isinstance(node, ScalarNode) else ""


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    return f"{where}not valid YAML: {shown(str(what))[1:-1]}"
