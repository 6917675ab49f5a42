"""How often the log says the same, where it would be said again and again: one line tells as much as a
thousand, as of a controller that makes the pods anew that are let in without a sidecar."""

from collections.abc import Hashable

from msgspec import Struct

INTERVAL_S = 60.0
MAX_KEYS = 1000


class _Last(Struct):
    said_s: float
    held: int = 0


class LogLimit:
    """A line per key and minute, the rest counted. Of more keys than `MAX_KEYS` the oldest are forgotten."""

    def __init__(self) -> None:
        # Oldest first: a key moves to the end when its line is said.
        self._last: dict[Hashable, _Last] = {}

    def held(self, key: Hashable, now_s: float) -> int | None:
        """How many lines were held back since the last one, where one may be said now; None to hold this one
        back as well. `now_s` is of a clock that never goes back."""
        last = self._last.get(key)
        if last is not None and now_s < last.said_s + INTERVAL_S:
            last.held += 1
            return None
        self._last.pop(key, None)
        self._last[key] = _Last(now_s)
        if len(self._last) > MAX_KEYS:
            del self._last[next(iter(self._last))]
        return last.held if last else 0
