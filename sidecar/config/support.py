"""What the configuration may say but this version cannot do yet.

A part that is written down and then ignored is worse than one that is refused: someone relies on it. So each
stands here by its field path until it works; `*` stands for any name or index. The value says which setting
is refused, ANY that every one is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.config.problems import Path, Problem, field_path

ANY = object()

UNAVAILABLE: Mapping[str, object] = {
    "telemetry.otlp": ANY,
    "telemetry.slo": ANY,
}


def unavailable_parts(tree: Any, unavailable: Mapping[str, object]) -> list[Problem]:
    """One problem for each part of a raw tree that is not available."""
    problems = []
    for pattern, refused in unavailable.items():
        for path, value in _find(tree, tuple(pattern.split(".")), ()):
            if value is None or (refused is not ANY and value != refused):
                continue
            setting = "" if refused is ANY else f"{str(refused).lower()} "
            problems.append(
                Problem(field_path(path), f"{setting}is not available in this version: remove it")
            )
    return problems


def _find(tree: Any, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    if not pattern:
        yield path, tree
        return
    first, rest = pattern[0], pattern[1:]
    for key, value in _children(tree):
        if first in ("*", key):
            yield from _find(value, rest, (*path, key))


def _children(tree: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from enumerate(tree)
