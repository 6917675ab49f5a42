"""The vector files of tests/vectors, one dictionary a line."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

Vector = dict[str, Any]

_FOLDER = Path(__file__).parent.parent / "vectors"


def load(name: str) -> list[Vector]:
    """The lines of `name`.jsonl."""
    with (_FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def raw_of(vector: Vector) -> bytes:
    """The bytes of a vector, which is kept as base64, and large ones compressed."""
    if "raw" in vector:
        return base64.b64decode(vector["raw"])
    return zlib.decompress(base64.b64decode(vector["raw_zlib"]))


def segments_of(vector: Vector) -> list[bytes]:
    """The writes of a provider."""
    if "segments" in vector:
        return [base64.b64decode(segment) for segment in vector["segments"]]
    return [zlib.decompress(base64.b64decode(segment)) for segment in vector["segments_zlib"]]


def ident(vector: Vector) -> str:
    """A vector's name, for pytest."""
    return str(vector["id"])
