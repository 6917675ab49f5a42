"""From the text of a YAML file to a plain tree of dicts, lists and scalars, or a `ConfigError`.

Not `yaml.safe_load`: that lets a repeated key win silently, reads `off` as false and `1:30` as ninety
(YAML 1.1), and its C composer overflows the C stack on deep nesting. Here libyaml only cuts the text into
events; the tree is built from them with YAML 1.2's core scalars and with bounds on depth and on what aliases
unfold to. Tags are refused, anchors and `<<` merges are understood.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from sidecar.config.problems import ConfigError, Path, Problem, field_path

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
# With every alias counted at its full size: a large file has some thousands, a "billion laughs" billions.
MAX_NODES = 100_000

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]{1,18}(\.[0-9]*)?)([eE][-+]?[0-9]{1,2})?")


class _Refused(Exception):
    def __init__(self, path: str, message: str) -> None:
        self.problem = Problem(path, message)


class _Anchored(NamedTuple):
    tree: Any
    nodes: int


def parse(content: bytes) -> Any:
    """The tree of one YAML document; ConfigError says where it is not one."""
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem("", "the file is larger than 1 MiB: this cannot be a configuration")])
    try:
        builder = _Builder(content.decode("utf-8-sig"))
        tree = builder.document()
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("", f"the file is not UTF-8 text (byte {error.start})")]) from None
    except _Refused as refused:
        raise ConfigError([refused.problem]) from None
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error)]) from None
    if builder.problems:
        raise ConfigError(builder.problems)
    return tree


class _Builder:
    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, _Parser)
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0
        self.problems: list[Problem] = []

    def document(self) -> Any:
        tree: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Refused("", f"line {_line(event)}: a second document begins here: keep one")
                tree = self._node(next(self._events), ())
        return tree

    def _node(self, event: Any, path: Path) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self._nodes
        self._count(1, event, path)
        if event.tag is not None and event.tag != "!":
            raise _Refused(
                field_path(path), f"line {_line(event)}: tags such as {event.tag} are not supported"
            )
        if isinstance(event, yaml.ScalarEvent):
            tree = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            tree = self._sequence(path)
        else:
            tree = self._mapping(path)
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(tree, self._nodes - before)
        return tree

    def _alias(self, event: Any, path: Path) -> Any:
        # An alias inside its own anchor finds nothing here, so that a tree cannot hold itself.
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise _Refused(
                field_path(path), f"line {_line(event)}: alias *{event.anchor} has no anchor before it"
            )
        self._count(anchored.nodes, event, path)
        return anchored.tree

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, place = self._key(event, path)
            if key in lines:
                twice = f"appears twice, on lines {lines[key]} and {_line(event)}: keep one"
                self.problems.append(Problem(field_path(place), twice))
            lines[key] = _line(event)
            value = self._node(next(self._events), place)
            if key == "<<" and event.implicit[0]:
                merged = _merge(value, place)
            else:
                own[key] = value
        return merged | own

    def _key(self, event: Any, path: Path) -> tuple[str, Path]:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused(field_path(path), f"line {_line(event)}: a key must be plain text")
        self._node(event, path)
        return event.value, (*path, event.value)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted, or tagged `!`
            return text
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _count(self, nodes: int, event: Any, path: Path) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refused("", f"line {_line(event)}: the file unfolds to more than {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            raise _Refused("", f"line {_line(event)}: nested deeper than {MAX_DEPTH} levels")


def _merge(value: Any, path: Path) -> dict[str, Any]:
    """The mapping, or the mappings, that `<<` brings in; of several the first has the word."""
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, dict) for source in sources):
        raise _Refused(field_path(path), "expected a mapping, or a list of them, to merge")
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged |= source
    return merged


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    hint = _hint(what, getattr(error, "context", None) or "")
    return Problem("", f"{where}not valid YAML: {what}{hint}")


def _hint(what: str, context: str) -> str:
    if "cannot start any token" in what:
        return ": indent with spaces, and quote what begins with % @ or `"
    return ': write the name * in quotes, "*"' if "alias" in context else ""
