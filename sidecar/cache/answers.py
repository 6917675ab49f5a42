"""The answer cache: what stands between a request and the store. Decisions only; nothing here waits.

A request is looked up once, before it is sent. A Hit is replayed. A Miss carries the key under which the
answer is offered when it is complete; a Bypass is neither looked up nor offered. Where the provider is asked
again (no-cache, too old, no usage in it), the stored answer stays until the new one replaces it.

Who calls this offers only whole answers of status 200 that the routed model gave from one target: not a
fallback's, not one that was gone on with from elsewhere.

A false hit that somebody reports is dropped and pinned: from then on what is stored under that digest answers
the very words it was given for, and no others.
"""

from collections import OrderedDict

from sidecar.cache.control import Directives
from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Key, Place, key_of, variant_of
from sidecar.cache.recording import Record
from sidecar.cache.replay import Answer
from sidecar.cache.store import Entry, Store
from sidecar.config.cache import Cache as CacheConfig
from sidecar.exchange import Exchange
from sidecar.openai import Call

# What was stored together must not expire together: the time to live is up to a tenth shorter.
_JITTER = 0.1
MAX_PINS = 1000


class Hit:
    """A stored answer. `tier`: exact for the very same words, canonical for others of the same form, semantic
    for others that mean the same. `key` is the request's, `digest` what the answer is stored under."""

    __slots__ = ("_entry", "age_s", "digest", "key", "tier", "took_s", "ttl_s")

    def __init__(self, key: Key, digest: bytes, entry: Entry, tier: str, now_s: float) -> None:
        self.key = key
        self.digest = digest
        self._entry = entry
        self.tier = tier
        self.age_s = max(0.0, now_s - entry.stored_s)
        self.ttl_s = entry.expires_s - now_s
        self.took_s = entry.took_s  # the provider, until it was whole

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
    """The answers in memory, for one `cache` of the configuration."""

    def __init__(self, config: CacheConfig) -> None:
        self.store = Store(config.max_bytes)
        self._pins: OrderedDict[bytes, None] = OrderedDict()  # the oldest first
        self.configure(config)

    def configure(self, config: CacheConfig) -> None:
        """Go on with another configuration; stored answers keep the time they were given."""
        self._is_canonical = config.match != "exact"
        self._ttl_s = config.ttl_s
        self.store.resize(config.max_bytes)

    def lookup(
        self, x: Exchange, call: Call, place: Place, directives: Directives, now_s: float
    ) -> Hit | Miss | Bypass:
        """Look a request up."""
        if directives.no_store:
            return _NO_STORE
        key = key_of(
            x.kind,
            x.target + variant_of(x.head, has_own_key=place.has_own_key),
            call,
            x.body,
            place,
            is_canonical=self._is_canonical,
            any_temperature=directives.max_age_s is not None,
        )
        if isinstance(key, Bypass):
            return key
        return Miss(key, "request") if directives.no_cache else self.recall(key, call, directives, now_s)

    def recall(self, key: Key, call: Call, directives: Directives, now_s: float) -> Hit | Miss:
        """What is stored under a key, as far as this request may have it."""
        entry = self.store.get(key.digest, now_s)
        if entry is None:
            return Miss(key, "miss")
        is_exact = entry.exact == key.exact
        if not is_exact and (not directives.tier or key.digest in self._pins):
            return Miss(key, "miss")
        tier = "exact" if is_exact else "canonical"
        return self._given(key, key.digest, entry, tier, call, directives, now_s)

    def of_same_meaning(
        self, key: Key, digest: bytes, call: Call, directives: Directives, now_s: float
    ) -> Hit | Miss | None:
        """What is stored under the digest of another question that means the same; None if nothing is."""
        entry = self.store.get(digest, now_s)
        if entry is None or digest in self._pins:
            return None
        return self._given(key, digest, entry, "semantic", call, directives, now_s)

    def holds(self, digest: bytes, now_s: float) -> bool:
        """Whether an answer is stored under a digest."""
        return self.store.peek(digest, now_s) is not None

    def _given(
        self,
        key: Key,
        digest: bytes,
        entry: Entry,
        tier: str,
        call: Call,
        directives: Directives,
        now_s: float,
    ) -> Hit | Miss:
        if directives.max_age_s is not None and now_s - entry.stored_s > directives.max_age_s:
            return Miss(key, "request")
        if not entry.has_usage and (not call.stream or call.asks_for_usage):
            # It came as a stream without figures, which every plain answer has.
            return Miss(key, "miss")
        return Hit(key, digest, entry, tier, now_s)

    def time_to_live_s(self, key: Key) -> float:
        """How long an answer to this is kept."""
        return self._ttl_s * (1 - _JITTER * key.digest[0] / 256)

    def offer(self, key: Key, record: Record, now_s: float, took_s: float = 0.0) -> bool:
        """Keep an answer for the time to live; False if it is too large. `took_s`: until it was whole."""
        expires_s = now_s + self.time_to_live_s(key)
        return self.store.put(key, Entry(key, record.content, record.has_usage, now_s, expires_s, took_s))

    def pin(self, digest: bytes) -> bool:
        """A false hit: drop the answer, and let what is stored there next serve its own words only. Returns
        whether there was one."""
        self._pins[digest] = None
        if len(self._pins) > MAX_PINS:
            self._pins.popitem(last=False)
        return bool(self.store.purge(digest))

    def is_pinned(self, digest: bytes) -> bool:
        """Whether a false hit was reported of it."""
        return digest in self._pins


_NO_STORE = Bypass("no-store")
