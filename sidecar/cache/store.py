"""The answers in memory: least recently used out first, within a budget of bytes that is never exceeded.

Look-up, store and eviction are O(1): an OrderedDict, as a plain dictionary that loses its first member
again and again walks over all the gaps it left. An entry costs its bytes, compressed where that pays, and
what Python needs around them, measured. One that would take more than an eighth of the budget is refused,
as it would push out too many others. What is out of date goes when it is met or when room is needed. Purging
walks through everything (1 ms for 10,000 entries), which an operator does by hand.
"""

import math
import sys
import zlib
from collections import OrderedDict

from sidecar.cache.key import Key

# Below it a text hardly shrinks. Level 1 halves 4 KB of JSON in 28 µs; higher levels win 10 % in twice that.
COMPRESS_FROM_BYTES = 1024
MAX_SHARE = 8
# Around its bytes: the Entry with its times (168), two digests (112), its place in the dictionary; 337 to 382
# as the dictionary fills and grows, by tracemalloc.
OVERHEAD_BYTES = 384


class Entry:
    """One stored answer. Times are monotonic seconds; `exact` is the digest of the words it was given for.

    `has_usage`: the provider's figures are in it, as a plain answer needs them. `took_s`: how long it took
    until it was whole.
    """

    __slots__ = (
        "_data",
        "_is_compressed",
        "exact",
        "expires_s",
        "has_usage",
        "route",
        "scope",
        "stored_s",
        "took_s",
    )

    def __init__(
        self,
        key: Key,
        record: bytes,
        has_usage: bool,
        stored_s: float,
        expires_s: float,
        took_s: float = 0.0,
    ) -> None:
        self.exact = key.exact
        self.scope = key.scope
        self.route = key.route
        self.has_usage = has_usage
        self.stored_s = stored_s
        self.expires_s = expires_s
        self.took_s = took_s
        self._data = record
        self._is_compressed = False
        if len(record) > COMPRESS_FROM_BYTES:
            compressed = zlib.compress(record, 1)
            if len(compressed) < len(record):
                self._data = compressed
                self._is_compressed = True

    @property
    def record(self) -> bytes:
        """The answer as it was given to the store."""
        return zlib.decompress(self._data) if self._is_compressed else self._data

    @property
    def size_bytes(self) -> int:
        """What it takes in memory with its key. Scope and route are shared with other entries."""
        return sys.getsizeof(self._data) + OVERHEAD_BYTES


class Stats:
    """What the store holds now, and how many answers it dropped for want of room since its start."""

    __slots__ = ("bytes", "entries", "evictions")

    def __init__(self) -> None:
        self.entries = 0
        self.bytes = 0
        self.evictions = 0


class Store:
    """Answers by digest, in at most `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self.stats = Stats()
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()  # the least recently used one first

    @property
    def max_entry_bytes(self) -> int:
        """The largest that is taken."""
        return self._budget_bytes // MAX_SHARE

    def get(self, digest: bytes, now_s: float) -> Entry | None:
        """The answer stored under a digest, unless its time is over."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry.expires_s <= now_s:
            self._forget(self._entries.pop(digest))
            return None
        self._entries.move_to_end(digest)
        return entry

    def peek(self, digest: bytes, now_s: float) -> Entry | None:
        """As `get`, and nothing is changed by it, not even the order."""
        entry = self._entries.get(digest)
        return entry if entry is not None and entry.expires_s > now_s else None

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep an answer, in place of the one stored under that key; False if it is too large."""
        size = entry.size_bytes
        if size > self.max_entry_bytes:
            return False
        entries, stats = self._entries, self.stats
        if (replaced := entries.pop(key.digest, None)) is not None:
            self._forget(replaced)
        while stats.bytes + size > self._budget_bytes:
            self._forget(entries.popitem(last=False)[1])
            stats.evictions += 1
        entries[key.digest] = entry
        stats.entries += 1
        stats.bytes += size
        return True

    def purge(
        self,
        digest: bytes | None = None,
        *,
        route: str | None = None,
        scope: bytes | None = None,
        until_s: float = math.inf,
    ) -> int:
        """Drop what has all that is given and was stored by then; returns how many."""
        among = self._entries
        if digest is not None:
            among = OrderedDict({digest: among[digest]}) if digest in among else OrderedDict()
        doomed = [
            name
            for name, entry in among.items()
            if entry.stored_s <= until_s
            and (route is None or entry.route == route)
            and (scope is None or entry.scope == scope)
        ]
        for name in doomed:
            self._forget(self._entries.pop(name))
        return len(doomed)

    def resize(self, budget_bytes: int) -> None:
        """Go on with another budget, and drop what it has no room for."""
        self._budget_bytes = budget_bytes
        while self.stats.bytes > budget_bytes:
            self._forget(self._entries.popitem(last=False)[1])
            self.stats.evictions += 1

    def _forget(self, entry: Entry) -> None:
        self.stats.entries -= 1
        self.stats.bytes -= entry.size_bytes
