"""Manifests written in JSON: one document, or several one after another, as kubectl takes them.

JSON is YAML too, but what is written as YAML is not JSON, and kubectl takes a text for JSON when it begins
with a brace. So JSON goes out as JSON, with the indentation that it came with.
"""

import json
import re
from collections.abc import Callable
from typing import NoReturn

from yaml.nodes import Node

from sidecar.k8s.nodes import BadManifest, node_of, value_of

_SPACE = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r"\{\r?\n([ \t]+)")


def rewritten(text: str, change: Callable[[Node], Node | None]) -> str | None:
    """The text with every document as `change` returns it, or as it came where it returns None.

    None where the text is not JSON. BadManifest where it begins with a JSON document and goes on as neither
    JSON nor another document of YAML.
    """
    at = _after_space(text, 0)
    if not text.startswith("{", at):
        return None
    parts = [text[:at]]
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError as error:
            if len(parts) == 1 or text.startswith("---", at):
                return None
            raise BadManifest(_where(error)) from None
        node = change(node_of(value))
        parts.append(text[at:end] if node is None else _written(node, text))
        at = _after_space(text, end)
        parts.append(text[end:at])
    return "".join(parts)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Python takes NaN and Infinity, which JSON does not have.
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _written(node: Node, text: str) -> str:
    indent = _INDENT.search(text)
    try:
        return json.dumps(
            value_of(node), indent=indent[1] if indent else 2, ensure_ascii=text.isascii(), allow_nan=False
        )
    except ValueError:
        raise BadManifest("a number is too large: Kubernetes takes none beyond 1.8e308") from None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
    return f"not valid JSON: {error}"
