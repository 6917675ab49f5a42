"""From the plain tree of a YAML file to the structs of `model`, with every problem and not only the first.

msgspec alone stops at the first error and cannot name the key of a map in its path. So the walk is ours and
goes field by field; msgspec still judges each plain value. A part that cannot be built is left out and its
problems are kept: the caller gets either a whole configuration or a list of problems.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from sidecar.config.problems import Path, Problem, field_path
from sidecar.config.secrets import Secret, resolve
from sidecar.config.shapes import Kind, Shape, shape_of
from sidecar.config.values import parse_name

T = TypeVar("T", bound=Struct)

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "array": "a list",
    "list": "a list",
    "object": "a mapping",
    "dict": "a mapping",
}

_BROKEN: Any = object()  # stands for a value that has a problem


class Decoder:
    """One walk over one file. `problems` fills up as it goes; so does `files`, what must be watched."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        self.files: list[str] = []

    def decode(self, struct: type[T], raw: object) -> T | None:
        """The tree as a struct, or None where `problems` says why not."""
        value = self._section(struct, raw, ())
        return None if value is _BROKEN else value

    def _value(self, shape: Shape, raw: object, path: Path) -> Any:
        if raw is None and shape.is_optional:
            return None
        if shape.kind is Kind.SECTION:
            return self._section(shape.inner, raw, path)
        if shape.kind is Kind.MAP:
            return self._map(shape, raw, path)
        if shape.kind is Kind.LIST:
            return self._list(shape, raw, path)
        if shape.kind is Kind.SECRET:
            return self._secret(raw, path)
        return self._scalar(shape, raw, path)

    def _section(self, struct: type[Struct], raw: object, path: Path) -> Any:
        if not isinstance(raw, Mapping):
            return self._problem(
                path, f"expected a section with {', '.join(_names(struct))}, got {_kind(raw)}"
            )
        self._refuse_unknown(struct, raw, path)
        values: dict[str, Any] = {}
        for info in msgspec.structs.fields(struct):
            if info.encode_name in raw:
                place = (*path, info.encode_name)
                values[info.name] = self._value(shape_of(info.type), raw[info.encode_name], place)
            elif info.required:
                values[info.name] = self._problem((*path, info.encode_name), "is missing: it must be given")
        if any(value is _BROKEN for value in values.values()):
            return _BROKEN
        try:
            return struct(**values)
        except ValueError as error:  # from __post_init__
            return self._problem(path, str(error))

    def _refuse_unknown(self, struct: type[Struct], raw: Mapping[object, object], path: Path) -> None:
        names = _names(struct)
        for key in raw:
            if key not in names:
                import difflib  # for a file with a mistake only

                close = difflib.get_close_matches(str(key), names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(names)}"
                self._problem((*path, str(key)), f"is not a known key: {hint}")

    def _map(self, shape: Shape, raw: object, path: Path) -> Any:
        if not isinstance(raw, Mapping):
            return self._problem(path, f"expected names with their values, got {_kind(raw)}")
        if len(raw) < shape.min_length:
            return self._problem(path, "is empty: give at least one entry")
        values = {}
        for key, value in raw.items():
            place = (*path, str(key))
            try:
                parse_name(key)
            except ValueError as error:
                self._problem(place, str(error))
            values[key] = self._value(shape_of(shape.inner), value, place)
        return _whole(values, values.values())

    def _list(self, shape: Shape, raw: object, path: Path) -> Any:
        if not isinstance(raw, list):
            return self._problem(path, f"expected a list, got {_kind(raw)}: write it in [ ]")
        if len(raw) < shape.min_length:
            return self._problem(path, "is empty: give at least one entry")
        inner = shape_of(shape.inner)
        values = tuple(self._value(inner, value, (*path, index)) for index, value in enumerate(raw))
        return _whole(values, values)

    def _secret(self, raw: object, path: Path) -> Secret:
        if isinstance(raw, Mapping) and isinstance(raw.get("file"), str):
            self.files.append(raw["file"])
        try:
            return resolve(raw, self.environ)
        except ValueError as error:
            self._problem(path, str(error))
            # A secret that is not there yet must not hide what else is wrong with the file.
            return Secret("missing")

    def _scalar(self, shape: Shape, raw: object, path: Path) -> Any:
        try:
            if shape.codec:
                return shape.codec.parse(raw)
            if shape.kind is Kind.CLASS:
                return shape.inner.parse(raw)
            return msgspec.convert(raw, shape.inner)
        except msgspec.ValidationError as error:
            return self._problem(path, _plain_message(str(error), raw, shape.inner))
        except ValueError as error:
            return self._problem(path, str(error))

    def _problem(self, path: Path, message: str) -> Any:
        self.problems.append(Problem(field_path(path), message))
        return _BROKEN


def _whole(value: Any, parts: Iterable[object]) -> Any:
    return _BROKEN if any(part is _BROKEN for part in parts) else value


def _plain_message(message: str, raw: object, annotation: Any) -> str:
    """msgspec's words in ours: what would have been right rather than which rule was broken."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) is Literal:
        *others, last = get_args(bare)
        return f"expected {', '.join(others)} or {last}, got {_word(raw)}"
    if bare is date:
        return "expected a date such as 2027-01-31"
    if bare is str and isinstance(raw, (bool, int, float)):
        return f'expected text, got the YAML value {_kind(raw)}: quote it, "{_kind(raw)}"'
    if bare is str and raw == "":
        return "is empty: expected some text"
    message = re.sub(r"`(\w+)`", lambda word: _WORDS.get(word[1], word[1]), message)
    return message[:1].lower() + message[1:].replace("got text", f"got {_word(raw)}")


def _word(raw: object) -> str:
    """What stands where one of a few words, or a number, was expected; a long text may be a secret."""
    is_word = isinstance(raw, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,16}", raw)
    return f'"{raw}"' if is_word else _kind(raw)


def _kind(raw: object) -> str:
    """What a value is; of texts, which may be a secret in the wrong place, not what it says."""
    if raw is None:
        return "nothing"
    if isinstance(raw, (bool, int, float)):
        return str(raw).lower()
    return _WORDS[type(raw).__name__]


def _names(struct: type[Struct]) -> tuple[str, ...]:
    return struct.__struct_encode_fields__
