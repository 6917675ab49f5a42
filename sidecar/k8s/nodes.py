"""A manifest as a tree of YAML nodes: looked into, changed, and turned into values.

Nodes keep what values lose: how a scalar was written. `0644` and `yes` mean to Kubernetes what they meant
before, whatever Python would have made of them.
"""

import re
from collections.abc import Iterator
from typing import Any

from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.representer import SafeRepresenter

# With every alias written out: far more than any manifest, far less than a "billion laughs".
MAX_NODES = 1_000_000

_STR = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"
# What Kubernetes reads as a number or a truth value where PyYAML reads, and writes, plain text: 1e3, y.
_AMBIGUOUS = re.compile(r"[-+]?[.0-9]+([eE][-+]?[0-9]+)?|[-+]?0o[0-7]+|[yYnN]")
_scalars = SafeConstructor()
_READERS = {
    "tag:yaml.org,2002:bool": _scalars.construct_yaml_bool,
    "tag:yaml.org,2002:int": _scalars.construct_yaml_int,
    "tag:yaml.org,2002:float": _scalars.construct_yaml_float,
    NULL: _scalars.construct_yaml_null,
}


class BadManifest(Exception):
    """The text is no manifest; the message says where, and why."""


def find(node: Node | None, *path: str) -> Node | None:
    """The value at the end of these keys; None where there is none. Merges are not looked into."""
    for name in path:
        if not isinstance(node, MappingNode):
            return None
        node = next((value for key, value in reversed(node.value) if key.value == name), None)
    return node


def text(node: Node | None, *path: str) -> str:
    """The scalar at the end of these keys, as it was written; empty where there is none."""
    found = find(node, *path)
    return str(found.value) if isinstance(found, ScalarNode) else ""


def value_of(node: Node) -> Any:
    """What the node stands for. A scalar that is not what its tag says is text; keys are text always."""
    if isinstance(node, MappingNode):
        return {key.value: value_of(value) for key, value in node.value if isinstance(key, ScalarNode)}
    if isinstance(node, SequenceNode):
        return [value_of(item) for item in node.value]
    assert isinstance(node, ScalarNode)  # noqa: S101  # there are three kinds
    read = _READERS.get(node.tag)
    try:
        return read(node) if read else node.value
    except (ValueError, LookupError):  # such as `!!int many`, or more digits than Python takes
        return node.value


def node_of(value: Any) -> Node:
    """Nodes for a value of JSON; text that could be read as something else is quoted."""
    return _Representer(default_flow_style=False, sort_keys=False).represent_data(value)


def add(node: Any, path: str, value: Any) -> None:
    """One `add` of a JSON Patch. The parent is there; what it has of this name is null."""
    *way, last = path.split("/")[1:]
    for token in way:
        node = node.value[int(token)] if isinstance(node, SequenceNode) else find(node, token)
    made = node_of(value)
    if isinstance(node, SequenceNode):
        node.value.insert(len(node.value) if last == "-" else int(last), made)
        return
    node.value = [pair for pair in node.value if pair[0].value != last]
    node.value.append((ScalarNode(_STR, last), made))


def unfolded(node: Node) -> Node:
    """A copy in which aliases and merges are written out: a change in one place is one in no other."""
    return _Unfolding().unfolded(node)


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_str(representer: SafeRepresenter, data: str) -> Node:
    return representer.represent_scalar(_STR, data, style="'" if _AMBIGUOUS.fullmatch(data) else None)


_Representer.add_representer(str, _represent_str)


class _Unfolding:
    def __init__(self) -> None:
        self._count = 0

    def unfolded(self, node: Node) -> Node:
        self._count += 1
        if self._count > MAX_NODES:
            raise BadManifest(f"the aliases of a document unfold to more than {MAX_NODES} values")
        if isinstance(node, ScalarNode):
            return ScalarNode(node.tag, node.value, style=node.style)
        if isinstance(node, SequenceNode):
            items = [self.unfolded(item) for item in node.value]
            return SequenceNode(node.tag, items, flow_style=node.flow_style)
        assert isinstance(node, MappingNode)  # noqa: S101
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
