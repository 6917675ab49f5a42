"""Sees that a configuration file, or a file it refers to, has changed.

By polling, not inotify: Kubernetes updates a mounted ConfigMap or Secret by swapping the `..data` symlink
two directories up, so that a watch on the file itself sees its old inode deleted once and then nothing more;
and inotify says nothing on network and FUSE mounts. A stat of some ten files a second costs next to nothing.

Theory of operation: each file has a mark (resolved path, inode, mtime in ns, size). A change is reported once
all marks are different from those last reported and were the same in two polls running: an editor that writes
in place is mostly caught half-way, and half a file can be a valid one.
"""

import os
from collections.abc import Iterable
from typing import TypeAlias

# None: not there, or not to be seen.
Mark: TypeAlias = tuple[str, int, int, int] | None

_NEVER = float("-inf")


class Watcher:
    """Polls a set of files. Create it before reading them, so that no change falls in between.

    It does no more than stat; the caller calls `changed` at will and reloads when it says so.
    """

    def __init__(self, paths: Iterable[str], *, interval_s: float = 1.0) -> None:
        self.interval_s = interval_s
        self._reported = {path: _mark(path) for path in paths}
        self._last = self._reported
        self._polled_at = _NEVER

    def watch(self, paths: Iterable[str]) -> None:
        """Watch these from now on; what was watched before keeps its mark, so no change is lost."""
        marks = {path: self._reported[path] if path in self._reported else _mark(path) for path in paths}
        self._reported = self._last = marks

    def changed(self, now: float) -> bool:
        """Whether some file is new since the last report, and no longer being written. Looks at most once
        an interval."""
        if now - self._polled_at < self.interval_s:
            return False
        self._polled_at = now
        before, self._last = self._last, {path: _mark(path) for path in self._reported}
        if self._last == self._reported or self._last != before:
            return False
        self._reported = self._last
        return True


def _mark(path: str) -> Mark:
    try:
        # The resolved path too: two targets of a symlink can share size and time, and even the inode number
        # when they are on different file systems.
        resolved = os.path.realpath(path)
        stat = os.stat(resolved)
    except (OSError, ValueError):
        return None
    return resolved, stat.st_ino, stat.st_mtime_ns, stat.st_size
