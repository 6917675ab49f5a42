"""What must not be shown: `Secret` (a key, a Redis URL) and `KeyHash` (of a caller's key).

Secrets never stand in the file itself: the file names an environment variable or another file. `resolve`
reads them; where a secret came from may be shown and watched, what it is may not.
"""

import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

HIDDEN = "***"

# A key is a line, not a document: 64 KiB is what all request headers together may have.
_MAX_SECRET_BYTES = 64 * 1024


class Secret:
    """A value that shows itself as `***` wherever it is printed, logged or dumped."""

    __slots__ = ("_value", "file")

    SCHEMA: ClassVar[dict[str, Any]] = {
        "oneOf": [
            {
                "type": "object",
                "properties": {source: {"type": "string", "minLength": 1, "description": text}},
                "required": [source],
                "additionalProperties": False,
            }
            for source, text in (
                ("env", "the name of an environment variable"),
                ("file", "the path of a file that holds nothing else"),
            )
        ]
    }

    def __init__(self, value: str, file: str | None = None) -> None:
        self._value = value
        self.file = file  # where it was read from, for the watcher; not a part of its identity

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret is not pickled: it would leave the process in clear")


class KeyHash:
    """The BLAKE2b-512 of a caller's key, from `blake2b:` and 128 hex digits."""

    __slots__ = ("digest",)

    SCHEMA: ClassVar[dict[str, Any]] = {"type": "string", "pattern": "^blake2b:[0-9a-fA-F]{128}$"}

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    @classmethod
    def parse(cls, raw: object) -> Self:
        """The hash as `sidecar key new` and `sidecar key hash` print it."""
        match = re.fullmatch(r"blake2b:([0-9a-fA-F]{128})", raw) if isinstance(raw, str) else None
        if not match:
            raise ValueError(
                "expected blake2b: and 128 hex digits, as `sidecar key hash` prints them, not the key itself"
            )
        return cls(bytes.fromhex(match[1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyHash) and hmac.compare_digest(self.digest, other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return HIDDEN


def resolve(raw: object, environ: Mapping[str, str]) -> Secret:
    """The secret that `{env: NAME}` or `{file: PATH}` points to; a ValueError never holds its value."""
    if not isinstance(raw, Mapping) or set(raw) not in ({"env"}, {"file"}):
        raise ValueError("expected {env: NAME} or {file: PATH}: a secret never stands in the file itself")
    ((source, name),) = raw.items()
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError("expected a name after env: or a path after file:")
    value = _from_environ(name, environ) if source == "env" else _from_file(name)
    return Secret(value, file=name if source == "file" else None)


def check_value(value: str, origin: str) -> str:
    """The value, if it can be sent in a header: a control character there could end the header early."""
    if not value:
        raise ValueError(f"{origin} is empty: put the secret there")
    if not re.fullmatch(r"[ -~]+", value) or value != value.strip():
        raise ValueError(
            f"{origin} holds a control or non-ASCII character, or begins or ends with a space:"
            " it goes into a header, so give one line of plain ASCII"
        )
    return value


def _from_environ(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise ValueError(f"environment variable {name} is not set: set it, or use {{file: PATH}}")
    return check_value(environ[name], f"environment variable {name}")


def _from_file(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"file {name} cannot be read: {error.strerror or 'not a readable file'}") from None
    if len(content) > _MAX_SECRET_BYTES:
        raise ValueError(f"file {name} is longer than 64 KiB: it must hold the secret and nothing else")
    # latin-1 takes any byte; what is not ASCII is refused below with a message of ours.
    return check_value(content.decode("latin-1").rstrip("\r\n"), f"file {name}")
