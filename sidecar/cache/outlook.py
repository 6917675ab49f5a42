"""What the cache would do with a request, found out by a look that changes nothing.

It asks an `AnswerCache` in front of the same answers, so that what is said is what then happens; but nothing
becomes the most recently used, nothing is dropped, nothing is counted. Only memory is looked at.
"""

import copy

from sidecar.cache.answers import AnswerCache, Hit, Miss
from sidecar.cache.control import Directives
from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Place
from sidecar.cache.store import Entry, Store
from sidecar.exchange import Exchange
from sidecar.openai import Call


def look(
    answers: AnswerCache, x: Exchange, call: Call, place: Place, directives: Directives, now_s: float
) -> Hit | Miss | Bypass:
    """What `AnswerCache.lookup` would find."""
    seen = copy.copy(answers)
    seen.store = _Window(answers.store)
    return seen.lookup(x, call, place, directives, now_s)


class _Window(Store):
    """Another's answers, to be looked at only."""

    def __init__(self, store: Store) -> None:
        super().__init__(0)
        self._store = store

    def get(self, digest: bytes, now_s: float) -> Entry | None:
        return self._store.peek(digest, now_s)
