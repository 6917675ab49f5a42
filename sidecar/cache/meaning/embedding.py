"""What the embedders have in common: their one error, vectors of length 1, the answer of `/v1/embeddings`.

numpy is imported when an embedder is made, never before: it takes 16 MB that a cache without one saves.
"""

import importlib
import importlib.util
import math
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]

# The largest that providers offer; an index of them takes 16 KB an entry.
MAX_DIMENSIONS = 4096
# So many numbers written with 17 digits, and room for what stands around them.
MAX_ANSWER_BYTES = 256 * 1024

_INSTALL = "pip install 'ai-sidecar[semantic]'"


class EmbedderError(Exception):
    """There is no vector for this text, or no embedder. One line, which holds neither a text nor a key."""


def required(name: str) -> ModuleType:
    """An imported package of the extra; EmbedderError says what to install where it is missing."""
    # One thread is enough for products of 10 MB, and others would spin in a container of half a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if importlib.util.find_spec(name) is None:
            raise EmbedderError(f"embedding needs {name}, which is not installed: {_INSTALL}") from None
        reason = str(error).strip().partition("\n")[0] or "it cannot be imported"
        raise EmbedderError(f"{name} is installed but does not work here: {reason}") from None


def folder_of(name: str) -> str:
    """Where a package of the extra is installed, without importing it; EmbedderError where it is not."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(f"embedding needs {name}, which is not installed: {_INSTALL}")
    return spec.submodule_search_locations[0]


def read_vector(body: bytes, dimensions: int | None) -> "Vector":
    """The unit vector in an answer of `/v1/embeddings` to one text; EmbedderError if there is none.

    `dimensions`: how many numbers it must have, None where none came before.
    """
    import numpy as np

    values = _values(body)
    if not 0 < len(values) <= MAX_DIMENSIONS:
        raise EmbedderError(f"an embedding of {len(values)} numbers: 1 to {MAX_DIMENSIONS} were expected")
    if dimensions is not None and len(values) != dimensions:
        raise EmbedderError(
            f"an embedding of {len(values)} numbers, after {dimensions} before: another model answers"
        )
    if not all(type(value) in (int, float) for value in values):
        raise EmbedderError("an embedding that is not made of numbers")
    numbers = np.array(values, np.float64)
    largest = np.abs(numbers).max()
    if not 0.0 < largest < math.inf:
        raise EmbedderError("an embedding without a direction: its numbers are all zero, or not finite")
    numbers /= largest  # no square of a finite number overflows then, nor vanishes
    return (numbers / math.sqrt(numbers @ numbers)).astype(np.float32)


def _values(body: bytes) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise EmbedderError("an answer that is not JSON") from None
    try:
        (entry,) = document["data"]
        values = entry["embedding"]
    except (TypeError, KeyError, ValueError):
        raise EmbedderError("an answer without one embedding in `data`") from None
    if type(values) is not list:
        raise EmbedderError("an embedding that is not a list of numbers")
    return values
