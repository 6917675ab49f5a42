"""Shows a configuration: as it is in force for `/config_dump`, without anything secret in it."""

import re
from datetime import date
from typing import Any

import msgspec

from sidecar.config.model import Config
from sidecar.config.secrets import HIDDEN, KeyHash, Secret
from sidecar.config.shapes import Kind, Shape, shape_of

# Vendors invent names for their keys; these are held back even where nobody called them a secret.
_CREDENTIAL_NAME = re.compile(r"key|token|secret|auth|password|cookie", re.IGNORECASE)


def redacted(config: Config) -> dict[str, Any]:
    """The whole configuration, defaults included, as JSON values under its YAML names.

    Secrets and key hashes are `***`; so are added headers that are named like a credential. What is off is
    left out.
    """
    shown: dict[str, Any] = show(shape_of(Config), config)
    return shown


def show(shape: Shape, value: Any) -> Any:
    """One value as it would be written in YAML."""
    if value is None:
        return None
    if isinstance(value, (Secret, KeyHash)):
        return HIDDEN
    if shape.kind is Kind.SECTION:
        return _show_section(value)
    if shape.kind is Kind.MAP:
        return {name: _show_entry(shape, name, entry) for name, entry in value.items()}
    if shape.kind is Kind.LIST:
        return [show(shape_of(shape.inner), item) for item in value]
    if shape.kind is Kind.CLASS:
        return str(value)
    if shape.codec:
        return shape.codec.show(value)
    return value.isoformat() if isinstance(value, date) else value


def _show_section(section: msgspec.Struct) -> dict[str, Any]:
    return {
        info.encode_name: show(shape_of(info.type), value)
        for info in msgspec.structs.fields(section)
        if (value := getattr(section, info.name)) is not None
    }


def _show_entry(shape: Shape, name: str, entry: Any) -> Any:
    if isinstance(entry, str) and _CREDENTIAL_NAME.search(name):
        return HIDDEN
    return show(shape_of(shape.inner), entry)
