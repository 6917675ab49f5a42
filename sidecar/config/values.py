"""The scalar values of a configuration: durations, sizes, origins, names.

Each has a `Codec`: how it is parsed from YAML, how it is shown again, and what the JSON schema says of it.
The parsed value is a plain float, int or str, so that the request path pays nothing for it. Values with
parts of their own (addresses, URLs) are in `addresses`, what must not be shown in `secrets`.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta

# One pattern per value, for the parser and for the JSON schema alike; `(?![\s\S])` because Python's `$`
# also matches before a final newline, which must never get into a header.
END = r"(?![\s\S])"
DURATION_PATTERN = rf"^[0-9]{{1,9}}(\.[0-9]{{1,6}})?(ms|s|m|h|d){END}"
SIZE_PATTERN = rf"^[0-9]{{1,15}}(\.[0-9]{{1,6}})?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB){END}"
NAME_PATTERN = rf"^[!-~]{{1,256}}{END}"
URL_PATH_PATTERN = rf"^/[!-~]{{0,1024}}{END}"

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_BYTES = {"B": 1} | {
    f"{letter}{suffix}": base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("KMGT", start=1)
}
_NUMBER_AND_UNIT = re.compile(r"([0-9.]+)([A-Za-z]+)")
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)


class Codec(NamedTuple):
    """How one kind of value goes from YAML to Python and back."""

    parse: Callable[[object], Any]
    show: Callable[[Any], str]
    schema: dict[str, Any]


def parse_duration(raw: object) -> float:
    """Seconds from `250ms`, `10s`, `5m`, `1h` or `2d`; anything longer than 10 years is a slip of the pen."""
    seconds = parse_duration_or_zero(raw)
    if seconds == 0:
        raise ValueError("must be longer than 0")
    return seconds


def parse_duration_or_zero(raw: object) -> float:
    """As `parse_duration`, for the few durations that may be `0s`."""
    amount, unit = _split(raw, _DURATION, "a duration such as 250ms, 10s, 5m, 1h or 2d", "s")
    # Milliseconds are divided, not multiplied: 0.001 has no exact float, and 250ms must be 0.25.
    seconds = float(amount) / 1000 if unit == "ms" else float(amount) * _UNIT_S[unit]
    if seconds > 3660 * 86400:
        raise ValueError(f"{raw} is longer than 10 years: is the unit right?")
    return seconds


def show_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back, for example 300.0 as `5m`."""
    for unit in ("d", "h", "m", "s"):
        if seconds and (seconds / _UNIT_S[unit]).is_integer():
            return f"{int(seconds / _UNIT_S[unit])}{unit}"
    if seconds < 1:
        return f"{_decimal(seconds * 1000)}ms"
    return f"{_decimal(seconds)}s"


def parse_size(raw: object) -> int:
    """Bytes from `512B`, `64KiB`, `32MiB`, `1GiB` or the decimal `KB`, `MB`, `GB`."""
    amount, unit = _split(raw, _SIZE, "a size such as 512B, 64KiB, 32MiB or 1GiB", "MiB")
    whole = int(amount) * _UNIT_BYTES[unit] if amount.isdigit() else float(amount) * _UNIT_BYTES[unit]
    if whole < 1:
        raise ValueError("must be at least 1B")
    if isinstance(whole, float) and not whole.is_integer():
        raise ValueError(f"{raw} is not a whole number of bytes")
    return int(whole)


def show_size(size_bytes: int) -> str:
    """The shortest binary spelling that `parse_size` reads back, for example 33554432 as `32MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes % _UNIT_BYTES[unit] == 0:
            return f"{size_bytes // _UNIT_BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def parse_origin(raw: object) -> str:
    """A browser origin as browsers send it: lower case, no path, no default port."""
    expected = "expected an origin such as https://app.example or http://localhost:3000"
    if not isinstance(raw, str) or not re.fullmatch(r"[!-~]+", raw):
        raise ValueError(expected)
    try:
        parts = urlsplit(raw.lower())
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if not parts.scheme or not parts.hostname or "@" in parts.netloc:
        raise ValueError(expected)
    if parts.path or parts.query or parts.fragment or raw.endswith(("?", "#", ":")):
        raise ValueError("an origin ends after the host or the port: remove the rest")
    is_default = port is not None and port == {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.netloc.rpartition(':')[0] if is_default else parts.netloc}"


def parse_name(raw: object) -> str:
    """A name that may stand in a header or a metric label: visible ASCII, no spaces."""
    if isinstance(raw, (bool, int, float)):
        raise ValueError(f'expected a name, got the YAML value {raw}: quote it, "{raw}"')
    if not isinstance(raw, str) or not re.match(NAME_PATTERN, raw):
        raise ValueError("expected a name of 1 to 256 visible ASCII characters without spaces")
    return raw


def parse_url_path(raw: object) -> str:
    """The path of a request, which goes out as it stands."""
    if not isinstance(raw, str) or not re.match(URL_PATH_PATTERN, raw):
        raise ValueError("expected a path that begins with / and has no spaces, such as /models")
    return raw


def _split(raw: object, pattern: re.Pattern[str], expected: str, likely_unit: str) -> tuple[str, str]:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        shown = raw if isinstance(raw, int) or math.isfinite(raw) else 10
        raise ValueError(f"expected {expected}, got a number without a unit: write {shown}{likely_unit}")
    if not isinstance(raw, str) or not pattern.match(raw):
        raise ValueError(f"expected {expected}")
    match = _NUMBER_AND_UNIT.fullmatch(raw)
    assert match, raw  # noqa: S101  # both patterns are this one, made stricter
    return match[1], match[2]


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _text_schema(pattern: str, example: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern.removesuffix(END) + "$", "examples": [example]}


DURATION = Codec(parse_duration, show_duration, _text_schema(DURATION_PATTERN, "10s"))
DURATION_OR_ZERO = Codec(parse_duration_or_zero, show_duration, _text_schema(DURATION_PATTERN, "0s"))
SIZE = Codec(parse_size, show_size, _text_schema(SIZE_PATTERN, "32MiB"))
NAME = Codec(parse_name, str, _text_schema(NAME_PATTERN, "eu-west-1"))
ORIGIN = Codec(
    parse_origin, str, _text_schema(rf"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+{END}", "https://a.example")
)
URL_PATH = Codec(parse_url_path, str, _text_schema(URL_PATH_PATTERN, "/models"))

# Seen by a type checker as plain float, int and str.
Seconds: TypeAlias = Annotated[float, Meta(extra={"codec": DURATION})]
SecondsOrZero: TypeAlias = Annotated[float, Meta(extra={"codec": DURATION_OR_ZERO})]
Size: TypeAlias = Annotated[int, Meta(extra={"codec": SIZE})]
Name: TypeAlias = Annotated[str, Meta(extra={"codec": NAME})]
Origin: TypeAlias = Annotated[str, Meta(extra={"codec": ORIGIN})]
UrlPath: TypeAlias = Annotated[str, Meta(extra={"codec": URL_PATH})]

Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Positive: TypeAlias = Annotated[int, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Usd: TypeAlias = Annotated[float, Meta(ge=0)]
