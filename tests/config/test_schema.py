"""The schema says what the loader takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sidecar.config.schema import json_schema
from tests.config.support import full_text


def faults(schema: dict[str, Any], value: Any, definitions: dict[str, Any]) -> Iterator[str]:
    """Where a value breaks the part of the schema that names and nests: enough for a whole file."""
    if "$ref" in schema:
        yield from faults(definitions[schema["$ref"].rpartition("/")[2]], value, definitions)
    elif "anyOf" in schema:
        yield from faults(schema["anyOf"][0], value, definitions)
    elif schema.get("type") == "object":
        yield from (f"missing {name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema["additionalProperties"]
            if inner is False:
                yield f"unknown {name}"
            else:
                yield from faults(inner, item, definitions)
    elif schema.get("type") == "array":
        for item in value:
            yield from faults(schema["items"], item, definitions)
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{value} not in {schema['enum']}"


def test_full_configuration_fits_the_schema(tmp_path: Path) -> None:
    schema = json_schema()
    tree = yaml.safe_load(full_text(tmp_path))
    assert list(faults(schema, tree, schema["$defs"])) == []
    assert list(faults(schema, tree | {"rout": 1}, schema["$defs"])) == ["unknown rout"]
    assert list(faults(schema, {"models": {}}, schema["$defs"])) == ["missing providers"]


def test_full_configuration_has_every_setting_of_the_cache(tmp_path: Path) -> None:
    definitions, said = json_schema()["$defs"], yaml.safe_load(full_text(tmp_path))["cache"]
    assert said.keys() == definitions["Cache"]["properties"].keys()
    assert said["semantic"].keys() == definitions["Semantic"]["properties"].keys()


def test_schema_is_json_of_draft_2020_12_with_descriptions() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["providers", "models"]
    assert all(definition["description"] for definition in schema["$defs"].values())


def test_durations_sizes_and_addresses_are_texts_with_their_defaults() -> None:
    definitions = json_schema()["$defs"]
    connect = definitions["Timeouts"]["properties"]["connect"]
    listen = definitions["Listen"]["properties"]
    assert connect["type"] == "string"
    assert connect["pattern"] == r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d)$"
    assert connect["default"] == "1s"
    assert (listen["max_body"]["default"], listen["data"]["default"]) == ("32MiB", "127.0.0.1:8080")


def test_secret_is_a_reference_by_env_or_file() -> None:
    api_key = json_schema()["$defs"]["Provider"]["properties"]["api_key"]
    assert [list(choice["properties"]) for choice in api_key["anyOf"][0]["oneOf"]] == [["env"], ["file"]]
