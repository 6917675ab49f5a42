"""Embeds in this process, by WordLlama's table: a vector for each of 32,000 tokens, of which a text's mean is
taken. No network, no model that runs: 30 µs for a question.

Two files of the package `wordllama` are read, nothing of it is imported: its import configures the logging,
and its loader asks a hub for what it does not find.

    weights     safetensors: 8 bytes of length, so much JSON, then the table in float16, 16 MB
    tokenizer   JSON for the package `tokenizers`

The table stays on disk: the rows of a text's tokens are read one by one, out of the system's page cache. A
mapped table was as fast (30 µs against 35) but became resident by and by, 13 MB in each pod, and a file that
is cut short would end the process (SIGBUS) instead of one look-up. In memory is mostly the tokenizer, 18 MB.
"""

import hashlib
import math
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sidecar.cache.meaning.embedding import EmbedderError, folder_of, required

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from sidecar.cache.meaning.embedding import Vector

DIMENSIONS = 256
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"
_ROW_BYTES = DIMENSIONS * 2
_LENGTH_BYTES = 8
# It names one tensor: 88 bytes.
_MAX_HEADER_BYTES = 64 * 1024
_DIGEST_BYTES = 8


class LocalEmbedder:
    """`folder` has the files as the package `wordllama` lays them out; by default that package's own.

    `identity` changes with the files, and vectors of two identities must not be compared.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Opens the files: 0.1 s. EmbedderError when the extra is not installed, or a file is no good."""
        self._np: Any = required("numpy")
        tokenizers = required("tokenizers")
        folder = Path(folder_of("wordllama")) if folder is None else folder
        self._file, self._first_byte, rows = _open(folder / _WEIGHTS)
        self._closing = weakref.finalize(self, os.close, self._file)
        try:
            self._tokenizer: Tokenizer = _read_tokenizer(tokenizers.Tokenizer, folder / _TOKENIZER, rows)
            digest = _digest(folder / _WEIGHTS, folder / _TOKENIZER)
        except BaseException:
            self._closing()
            raise
        self.identity = f"wordllama-{DIMENSIONS}-{digest}"

    def embed(self, text: str) -> "Vector":
        """The unit vector of a text, float32 of (256,). It takes up to 3 µs a token, so bound the text.

        EmbedderError for a text without a token, and where the file can no longer be read.
        """
        np = self._np
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        file, first = self._file, self._first_byte
        try:
            rows = b"".join([os.pread(file, _ROW_BYTES, first + index * _ROW_BYTES) for index in ids])
        except OSError as error:
            raise EmbedderError(f"the table of embeddings cannot be read: {error.strerror}") from None
        if not rows or len(rows) != len(ids) * _ROW_BYTES:
            raise EmbedderError(
                "a text without a token" if not ids else "the table of embeddings is cut short"
            )
        # The sum has the direction of the mean.
        total = np.frombuffer(rows, np.float16).reshape(-1, DIMENSIONS).sum(axis=0, dtype=np.float32)
        length = math.sqrt(total @ total)
        if not 0.0 < length < math.inf:
            raise EmbedderError("an embedding without a direction: the table holds no good numbers")
        vector: Vector = total / length
        return vector

    def close(self) -> None:
        """Close the file; nothing can be embedded after that."""
        self._closing()
        self._file = -1  # the number may soon be another file's


def _open(path: Path) -> tuple[int, int, int]:
    """An open descriptor of the weights, where the table begins in it, and how many rows it has."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EmbedderError(_unusable(path, error.strerror)) from None
    try:
        return file, *_table(file)
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        os.close(file)
        reason = str(error) if type(error) is ValueError else "its header is not as expected"
        raise EmbedderError(_unusable(path, reason)) from None


def _table(file: int) -> tuple[int, int]:
    """Where the table begins and how many rows it has; ValueError and its like where there is none."""
    header_bytes = int.from_bytes(os.pread(file, _LENGTH_BYTES, 0), "little")
    if not 0 < header_bytes <= _MAX_HEADER_BYTES:
        raise ValueError("it does not begin as safetensors do")
    tensor = orjson.loads(os.pread(file, header_bytes, _LENGTH_BYTES))[_TENSOR]
    rows, columns = tensor["shape"]
    start, end = tensor["data_offsets"]
    if tensor["dtype"] != "F16" or columns != DIMENSIONS or start < 0 or end - start != rows * _ROW_BYTES:
        raise ValueError(f"its table is not one of float16 with {DIMENSIONS} columns")
    first_byte = _LENGTH_BYTES + header_bytes + start
    if os.fstat(file).st_size < first_byte + rows * _ROW_BYTES:
        raise ValueError("it is cut short")
    return first_byte, rows


def _read_tokenizer(kind: Any, path: Path, rows: int) -> "Tokenizer":
    if not path.is_file():
        raise EmbedderError(_unusable(path, "there is no such file"))
    try:
        tokenizer: Tokenizer = kind.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise EmbedderError(_unusable(path, str(error).partition("\n")[0])) from None
    if tokenizer.get_vocab_size() > rows:
        raise EmbedderError(_unusable(path, f"it has more tokens than the table has rows, {rows}"))
    # Whatever the file says: a padded or cut text has another mean.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _digest(*paths: Path) -> str:
    """Of all their bytes: 20 ms. Tables of other numbers have the same header."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(256 * 1024):
                digest.update(piece)
    return digest.hexdigest()


def _unusable(path: Path, reason: str | None) -> str:
    mend = "pip install --force-reinstall --no-deps 'wordllama>=0.4.0.post1,<0.5'"
    return f"{path} cannot be used: {reason or 'it cannot be read'}: {mend}"
