"""The answer cache: what stands between a request and the store. Decisions only; nothing here waits.

A request is looked up once, before it is sent. A Hit is replayed. A Miss carries the key under which the
answer is offered when it is complete; a Bypass is neither looked up nor offered. Where the provider is asked
again (no-cache, too old, no usage in it), the stored answer stays until the new one replaces it.

Who calls this offers only whole answers of status 200 that the routed model gave from one target: not a
fallback's, not one that was resumed, not one whose caller had left before its end.
"""

from sidecar.cache.control import Directives, not_cached
from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Key, Place, key_of
from sidecar.cache.recording import Record
from sidecar.cache.replay import Answer
from sidecar.cache.store import Entry, Store
from sidecar.config.model import Cache as CacheConfig
from sidecar.exchange import Exchange, Reply
from sidecar.openai import Call

# What was stored together must not expire together: the time to live is up to a tenth shorter.
_JITTER = 0.1


class Hit:
    """A stored answer. `tier`: exact for the very same words, canonical for others of the same form."""

    __slots__ = ("_entry", "age_s", "key", "tier", "ttl_s")

    def __init__(self, key: Key, entry: Entry, now_s: float) -> None:
        self.key = key
        self._entry = entry
        self.tier = "exact" if entry.exact == key.exact else "canonical"
        self.age_s = now_s - entry.stored_s
        self.ttl_s = entry.expires_s - now_s

    def answer(self, kind: str) -> Answer:
        """The answer, read for its replay."""
        return Answer(kind, self._entry.record)


class Miss:
    """Nothing that may be given. `forwarded` is RFC 9211's word: miss, or request if directives forbade."""

    __slots__ = ("forwarded", "key")

    def __init__(self, key: Key, forwarded: str) -> None:
        self.key = key
        self.forwarded = forwarded


class AnswerCache:
    """The cache of this process, for one `cache` of the configuration."""

    def __init__(self, config: CacheConfig) -> None:
        self.store = Store(config.max_bytes)
        self.configure(config)

    def configure(self, config: CacheConfig) -> None:
        """Go on with another configuration; stored answers keep the time they were given."""
        self._is_canonical = config.match != "exact"
        self._ttl_s = config.ttl_s
        self.store.resize(config.max_bytes)

    def lookup(
        self, x: Exchange, call: Call, place: Place, directives: Directives, now_s: float
    ) -> Hit | Miss | Bypass | Reply:
        """Look a request up. A Reply (504) only to only-if-cached, where there is no hit."""
        found = self._find(x, call, place, directives, now_s)
        return not_cached() if directives.only_if_cached and not isinstance(found, Hit) else found

    def _find(
        self, x: Exchange, call: Call, place: Place, directives: Directives, now_s: float
    ) -> Hit | Miss | Bypass:
        if directives.no_store:
            return _NO_STORE
        key = key_of(
            x.kind,
            x.target,
            call,
            x.body,
            place,
            is_canonical=self._is_canonical,
            any_temperature=directives.max_age_s is not None,
        )
        if isinstance(key, Bypass):
            return key
        if directives.no_cache:
            return Miss(key, "request")
        entry = self.store.get(key.digest, now_s)
        if entry is None:
            return Miss(key, "miss")
        if directives.max_age_s is not None and now_s - entry.stored_s > directives.max_age_s:
            return Miss(key, "request")
        if not entry.has_usage and (not call.stream or call.asks_for_usage):
            # It came as a stream without figures, which every plain answer has.
            return Miss(key, "miss")
        return Hit(key, entry, now_s)

    def offer(self, key: Key, record: Record, now_s: float) -> bool:
        """Keep an answer for the time to live; False if it is too large."""
        ttl_s = self._ttl_s * (1 - _JITTER * key.digest[0] / 256)
        return self.store.put(key, record.content, record.has_usage, now_s, ttl_s)


_NO_STORE = Bypass("no-store")
