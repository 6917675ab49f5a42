"""The answers that wait to be written: so many, of so many bytes; the oldest makes room for a new one."""

from collections import deque

MAX_WRITES = 256
MAX_BYTES = 8 * 1024 * 1024


class Write:
    """An answer on its way to `name`; `written_s` is the Unix time from which it is `ttl_s` good."""

    __slots__ = ("exact", "has_usage", "name", "record", "took_s", "ttl_s", "written_s")

    def __init__(
        self,
        name: str,
        exact: bytes,
        record: bytes,
        has_usage: bool,
        *,
        took_s: float,
        written_s: float,
        ttl_s: float,
    ) -> None:
        self.name = name
        self.exact = exact
        self.record = record
        self.has_usage = has_usage
        self.took_s = took_s
        self.written_s = written_s
        self.ttl_s = ttl_s


class Backlog:
    """First in, first out. `dropped` counts those that were never taken."""

    __slots__ = ("_writes", "bytes", "dropped")

    def __init__(self) -> None:
        self._writes: deque[Write] = deque()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._writes)

    def put(self, write: Write) -> None:
        """Add one; it is dropped itself where it alone is too large."""
        self._writes.append(write)
        self.bytes += len(write.record)
        while len(self._writes) > MAX_WRITES or self.bytes > MAX_BYTES:
            self.take()
            self.dropped += 1

    def take(self) -> Write:
        """The oldest."""
        write = self._writes.popleft()
        self.bytes -= len(write.record)
        return write
