"""Manifests written in YAML. Comments are lost in a text that is changed; in documents that are, aliases and
merges are written out."""

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.nodes import CollectionNode, Node

from sidecar.k8s.nodes import NULL, BadManifest
from sidecar.k8s.settings import shown


def rewritten(text: str, change: Callable[[Node], Node | None]) -> str:
    """The text with every document as `change` returns it; as it came where it returns None for all.

    BadManifest where it is not YAML.
    """
    try:
        before = [node for node in yaml.compose_all(text, _Loader) if node.tag != NULL]
        after = [change(node) for node in before]
        if not any(after):
            return text
        documents = [new or old for old, new in zip(before, after, strict=True)]
        for document in documents:
            if isinstance(document, CollectionNode):
                # kubectl takes what begins with a brace for JSON, and `---` only alone on its line.
                document.flow_style = False
        written = yaml.serialize_all(
            documents,
            Dumper=yaml.SafeDumper,
            width=1_000_000,
            allow_unicode=True,
            explicit_start=len(documents) > 1,
        )
    except yaml.YAMLError as error:
        raise BadManifest(_where(error)) from None
    return str(written)


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


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    return f"{where}not valid YAML: {shown(str(what))[1:-1]}"
