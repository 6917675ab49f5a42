"""What kind of thing a type of `model` is: a section, a map, a list, or one value.

Decoding, dumping and the JSON schema all walk the same types; this is the one place that reads annotations.
"""

import types
from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from msgspec import Meta, Struct

from sidecar.config.secrets import Secret
from sidecar.config.values import Codec


class Kind(Enum):
    """How a type is walked."""

    SECTION = auto()  # a Struct: named fields
    MAP = auto()  # names chosen by the user
    LIST = auto()
    SECRET = auto()
    CODEC = auto()  # written as text, kept as a number or a string
    CLASS = auto()  # written as text, kept as a class with `parse` and `SCHEMA`
    PLAIN = auto()  # what msgspec knows: numbers, booleans, literals, dates


class Shape(NamedTuple):
    """A type taken apart; `inner` is the Struct, the element type, or the type itself."""

    kind: Kind
    inner: Any
    codec: Codec | None = None
    is_optional: bool = False
    min_length: int = 0


@cache
def shape_of(annotation: Any) -> Shape:
    """The shape of an annotation, `X | None` and `Annotated[X, ...]` seen through."""
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (arg for arg in get_args(annotation) if arg is not types.NoneType)
        return shape_of(inner)._replace(is_optional=True)
    metas: list[Meta] = []
    bare = annotation
    if get_origin(annotation) is Annotated:
        bare, *metas = get_args(annotation)
    for meta in metas:
        if meta.extra and "codec" in meta.extra:
            return Shape(Kind.CODEC, bare, codec=meta.extra["codec"])
    min_length = max((meta.min_length or 0 for meta in metas), default=0)
    if get_origin(bare) is tuple:
        return Shape(Kind.LIST, get_args(bare)[0], min_length=min_length)
    if get_origin(bare) is Mapping:
        return Shape(Kind.MAP, get_args(bare)[1], min_length=min_length)
    return _shape_of_class(bare, annotation)


def _shape_of_class(bare: Any, annotation: Any) -> Shape:
    if isinstance(bare, type) and issubclass(bare, Struct):
        return Shape(Kind.SECTION, bare)
    if bare is Secret:
        return Shape(Kind.SECRET, bare)
    if isinstance(bare, type) and hasattr(bare, "parse"):
        return Shape(Kind.CLASS, bare)
    return Shape(Kind.PLAIN, annotation)
