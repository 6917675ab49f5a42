"""What was in force, and when: which answers a caller may have been given under it.

A request may meet any configuration that held between its beginning and its end; what none of them allows is
wrong. What was purged, or reported as false, before it began must not reach it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.faults.torture.cache_callers import WHO, Ask, Verdict
from tests.faults.torture.cache_provider import Stamp

TEAMS = {"ann": "red", "bob": "red", "cat": "blue", "": "test"}
assert set(TEAMS) == set(WHO)


class Purge(NamedTuple):
    """Of everything; between these two moments, monotonic seconds."""

    asked_s: float
    done_s: float


class Told(NamedTuple):
    """What somebody who stayed was told, and between which moments."""

    ask: Ask
    began_s: float
    ended_s: float
    cache_status: str
    verdict: Verdict

    @property
    def is_hit(self) -> bool:
        return "; hit;" in self.cache_status

    @property
    def is_collapsed(self) -> bool:
        return self.cache_status.endswith("collapsed")


class Book:
    """The settings of the cache (None: off), purges and reports of false hits, as they came."""

    def __init__(self) -> None:
        self.settings: list[tuple[float, Mapping[str, Any] | None]] = []
        self.purges: list[Purge] = []
        self.pins: dict[str, float] = {}  # by key, since when

    def wrong(self, told: Told, asked_at: list[float]) -> str:
        """Why an answer must not have been given; empty if it may. `asked_at`: the provider's calls."""
        if told.verdict.outcome != "whole":
            return ""
        ask, settings = told.ask, self._in_force(told.began_s, told.ended_s)
        caches = [cache for cache in settings if cache is not None]
        is_shared = told.is_hit or told.is_collapsed
        if is_shared and not caches:
            return "out of a cache that was off"
        if told.is_hit and ask.control in ("no-cache", "no-store"):
            return f"a hit in spite of {ask.control}"
        if not is_shared and ask.control == "only-if-cached" and len(caches) == len(settings):
            return "asked in spite of only-if-cached"
        is_exact = ask.is_exact or all(cache.get("match") == "exact" for cache in caches)
        purged_s = max((purge.asked_s for purge in self.purges if purge.done_s <= told.began_s), default=0.0)
        for stamp in told.verdict.stamps:
            if not is_shared and stamp.who.partition(".")[0] != ask.who:
                return "somebody else's answer without the cache"
            if not any(_may_share(cache, ask, stamp) for cache in caches) and is_shared:
                return "somebody else's answer"
            if told.is_hit and stamp.model != "main":
                return "a stored answer of another model"
            if is_shared and is_exact and stamp.wording != ask.wording:
                return "another wording's answer"
            if told.is_hit and asked_at[stamp.number] <= purged_s:
                return "an answer that was purged"
        return ""

    def is_false_again(self, told: Told, key: str) -> bool:
        """Whether another wording's answer was given under a key that was reported."""
        pinned_s = self.pins.get(key)
        if pinned_s is None or pinned_s > told.began_s or not (told.is_hit or told.is_collapsed):
            return False
        if None in self._in_force(pinned_s, told.ended_s):
            return False  # what was reported is forgotten with the cache
        return any(stamp.wording != told.ask.wording for stamp in told.verdict.stamps)

    def _in_force(self, began_s: float, ended_s: float) -> list[Mapping[str, Any] | None]:
        before = [cache for at_s, cache in self.settings if at_s <= began_s]
        return [*before[-1:], *(cache for at_s, cache in self.settings if began_s < at_s <= ended_s)]


def _may_share(cache: Mapping[str, Any], ask: Ask, stamp: Stamp) -> bool:
    """Whether the caller may have the answer of whoever was the first to ask."""
    owner = stamp.who.partition(".")[0]
    scope = cache.get("scope", "key")
    if scope == "key":
        return owner == ask.who
    return scope == "all" or TEAMS[owner] == TEAMS[ask.who]
