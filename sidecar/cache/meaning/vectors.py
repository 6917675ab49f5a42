"""The index of the search by meaning: unit vectors, and for each what the guards compare.

An array of float32 for each partition, scanned whole: 0.2 ms for 10,000 vectors of 256 numbers. That is
exact, and an entry is dropped at once, where graph indexes only mark it. An array grows by doubling from one
row, as most partitions hold one or two; a dropped row is filled with the last one. At most `max_entries` in
all partitions together, then the oldest goes. All but the scan is O(1), amortised.

numpy is imported when an index is made, never before.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from sidecar.cache.meaning.embedding import required
from sidecar.cache.meaning.sameness import Features, differs

if TYPE_CHECKING:
    from sidecar.cache.meaning.embedding import Vector

# Of those that are near enough so many are shown to the guards, the nearest first.
CANDIDATES = 3
# How far the square of a unit vector's length may be from 1, by the roundings of float16 sources.
_TOLERANCE = 0.01


class Found:
    """What a look-up brought. `digest` is empty and `similarity` 0 where there is no hit.

    `nearest` is the similarity of the nearest vector, served or not, -1 where there is none; `refused` the
    guard that spoke against the nearest one within the threshold, empty if none had to.
    """

    __slots__ = ("digest", "nearest", "refused", "similarity")

    def __init__(self, digest: bytes, similarity: float, nearest: float, refused: str) -> None:
        self.digest = digest
        self.similarity = similarity
        self.nearest = nearest
        self.refused = refused


class _Entry:
    """Where a digest stands."""

    __slots__ = ("digest", "features", "partition", "row")

    def __init__(self, digest: bytes, features: Features, partition: "_Partition", row: int) -> None:
        self.digest = digest
        self.features = features
        self.partition = partition
        self.row = row


class _Partition:
    """The vectors that may be found from each other: a row for each entry, and rows that are free."""

    __slots__ = ("entries", "name", "rows")

    def __init__(self, name: bytes, rows: Any) -> None:
        self.name = name
        self.rows = rows
        self.entries: list[_Entry] = []


class Vectors:
    """Digests by vector. All vectors are of one embedder: another one needs another index."""

    def __init__(self, max_entries: int = 10_000) -> None:
        """EmbedderError where numpy is not installed."""
        self._np: Any = required("numpy")
        self._max_entries = max_entries
        self._dimensions = 0  # those of the first vector
        self._partitions: dict[bytes, _Partition] = {}
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the arrays take."""
        return sum(partition.rows.nbytes for partition in self._partitions.values())

    def find(self, partition: bytes, features: Features, vector: "Vector", threshold: float) -> Found:
        """The nearest entry of the partition, of at least this cosine, that no guard forbids.

        A vector that `add` would refuse finds nothing.
        """
        here = self._partitions.get(partition)
        if here is None or self._fault(vector):
            return Found(b"", 0.0, -1.0, "")
        entries = here.entries
        similarities = here.rows[: len(entries)] @ vector
        nearest, refused = -1.0, ""
        for rank in range(min(CANDIDATES, len(entries))):
            row = int(similarities.argmax())
            similarity = min(1.0, float(similarities[row]))
            if rank == 0:
                nearest = similarity
            if similarity < threshold:
                break
            entry = entries[row]
            guard = differs(entry.features, features)
            if not guard:
                return Found(entry.digest, similarity, nearest, refused)
            refused = refused or guard
            similarities[row] = -2.0
        return Found(b"", 0.0, nearest, refused)

    def add(self, partition: bytes, digest: bytes, features: Features, vector: "Vector") -> None:
        """Keep a vector as the newest, in place of the one under its digest; at the bound the oldest goes.

        ValueError for one that is not of length 1 (zero, not finite), or not of the first one's dimensions.
        """
        if fault := self._fault(vector):
            raise ValueError(fault)
        self.drop(digest)
        if len(self._entries) >= self._max_entries:
            self.drop(next(iter(self._entries)))
        self._dimensions = len(vector)
        here = self._partitions.get(partition)
        if here is None:
            here = self._partitions[partition] = _Partition(partition, self._empty(1))
        row = len(here.entries)
        if row == len(here.rows):
            self._resize(here, 2 * row)
        here.rows[row] = vector
        entry = self._entries[digest] = _Entry(digest, features, here, row)
        here.entries.append(entry)

    def drop(self, digest: bytes) -> bool:
        """Forget the vector of a digest; False if there was none."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return False
        here = entry.partition
        last = here.entries.pop()
        if last is not entry:
            here.rows[entry.row] = here.rows[last.row]
            here.entries[entry.row] = last
            last.row = entry.row
        if not here.entries:
            del self._partitions[here.name]
        elif len(here.entries) <= len(here.rows) // 4:
            self._resize(here, len(here.rows) // 2)
        return True

    def clear(self) -> None:
        """Forget all vectors."""
        self._entries.clear()
        self._partitions.clear()

    def _fault(self, vector: "Vector") -> str:
        """What is wrong with a vector; empty if nothing is."""
        if vector.ndim != 1 or (self._dimensions and len(vector) != self._dimensions):
            return f"a vector of shape {vector.shape}, where ({self._dimensions or 'n'},) was expected"
        # Not a number is near nothing.
        if abs(float(vector @ vector) - 1.0) <= _TOLERANCE:
            return ""
        return "a vector that is not of length 1"

    def _empty(self, rows: int) -> Any:
        return self._np.empty((rows, self._dimensions), self._np.float32)

    def _resize(self, here: _Partition, rows: int) -> None:
        resized, held = self._empty(rows), len(here.entries)
        resized[:held] = here.rows[:held]
        here.rows = resized
