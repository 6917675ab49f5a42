"""The JSON schema of a configuration file, for editors and for `sidecar check --schema`.

Not `msgspec.json.schema` as a whole: it knows durations as numbers and cannot show the defaults of classes
that are not its own. It still describes each plain value. What needs two places of a file is not in a schema.
"""

from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo

from sidecar.config.dump import show
from sidecar.config.model import Config
from sidecar.config.shapes import Kind, Shape, shape_of
from sidecar.config.values import NAME


def json_schema() -> dict[str, Any]:
    """The schema, in JSON Schema draft 2020-12."""
    definitions: dict[str, Any] = {}
    _define(Config, definitions)
    root = definitions.pop(Config.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AI sidecar configuration",
        **root,
        "$defs": definitions,
    }


def _define(struct: type[Struct], definitions: dict[str, Any]) -> None:
    fields = msgspec.structs.fields(struct)
    definition = definitions[struct.__name__] = {
        "description": (struct.__doc__ or "").strip(),
        "type": "object",
        "properties": {},
        "required": [info.encode_name for info in fields if info.required],
        "additionalProperties": False,
    }
    definition["properties"] = {info.encode_name: _field(info, definitions) for info in fields}


def _field(info: FieldInfo, definitions: dict[str, Any]) -> dict[str, Any]:
    shape = shape_of(info.type)
    schema = _of(shape, definitions)
    if shape.is_optional:
        return {"anyOf": [schema, {"type": "null"}], "default": None}
    default = info.default_factory() if info.default_factory is not NODEFAULT else info.default
    if default is not NODEFAULT:
        schema["default"] = show(shape, default)
    return schema


def _of(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    if shape.kind is Kind.SECTION:
        if shape.inner.__name__ not in definitions:
            _define(shape.inner, definitions)
        return {"$ref": f"#/$defs/{shape.inner.__name__}"}
    if shape.kind is Kind.MAP:
        return {
            "type": "object",
            "propertyNames": NAME.schema,
            "additionalProperties": _of(shape_of(shape.inner), definitions),
        } | ({"minProperties": shape.min_length} if shape.min_length else {})
    if shape.kind is Kind.LIST:
        items = {"type": "array", "items": _of(shape_of(shape.inner), definitions)}
        return items | ({"minItems": shape.min_length} if shape.min_length else {})
    if shape.codec:
        return dict(shape.codec.schema)
    return dict(shape.inner.SCHEMA) if hasattr(shape.inner, "SCHEMA") else msgspec.json.schema(shape.inner)
