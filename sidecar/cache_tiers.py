"""What there is of the answer cache, as the configuration has it: memory, Redis, meaning, and the checks.

Tiers come and go with a reload; what is stored stays as long as there is a cache at all.
"""

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sidecar.cache.answers import AnswerCache, Miss
from sidecar.cache.control import directives_of
from sidecar.cache.eligibility import Bypass
from sidecar.cache.embedding import EmbedderError
from sidecar.cache.endpoint_embedder import EndpointEmbedder
from sidecar.cache.flight import Flights
from sidecar.cache.key import Place, scope_of
from sidecar.cache.local_embedder import LocalEmbedder
from sidecar.cache.orders import Order
from sidecar.cache.outlook import look
from sidecar.cache.sealing import secret_of
from sidecar.cache.semantic import SemanticTier
from sidecar.cache.shadow import Shadow
from sidecar.config.auth import ServiceAccountRule
from sidecar.config.cache import Cache as CacheConfig
from sidecar.config.cache import Semantic
from sidecar.config.model import Config, matches
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.service_accounts import ID_PREFIX
from sidecar.exchange import Exchange
from sidecar.openai import Call
from sidecar.policy.callers import SHARED_BUCKET, Caller, bucket_of
from sidecar.routing.plan import Candidate
from sidecar.tasks import spawn
from sidecar.upstream.tls import client_context

if TYPE_CHECKING:
    from sidecar.cache.shared import SharedTier  # with redis-py 7 MB, for those who share

_log = logging.getLogger("sidecar")


class Outlook(NamedTuple):
    """What the cache would do with a request. `kind` is off, bypass or eligible, `would` hit, shadow (a hit
    that is asked anew), each with its tier, or miss; `reason` is why it is so, where there is one."""

    kind: str
    reason: str | None = None
    would: str | None = None
    notes: Sequence[str] = ()

    @property
    def is_hit(self) -> bool:
        """Whether the request would be answered with what is stored."""
        return self.would is not None and self.would.startswith("hit")


class Tiers:
    """The tiers of the process. `answers` None: there is no cache."""

    def __init__(
        self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._clock = clock
        self._config: Config | None = None
        self.answers: AnswerCache | None = None
        self.shared: SharedTier | None = None
        self.semantic: SemanticTier | None = None
        self.shadow = Shadow(0.0, 1.0, _tell_switch)
        self.flights = Flights()
        self.scope = "key"
        self.purged_s = float("-inf")  # the last time that anything was purged, monotonic

    # --- configuration --------------------------------------------------------------------------------

    def prepare(self, config: Config) -> SemanticTier | None:
        """The semantic tier of a configuration, the present one if it stays. Raises ConfigError where it
        cannot be had; then nothing has changed."""
        wanted = _semantic_of(config)
        if wanted is None:
            return None
        if self.semantic is not None and self._config is not None and _embeds_alike(self._config, config):
            return self.semantic
        try:
            return SemanticTier(wanted, _embedder(config, wanted))
        except (EmbedderError, OSError, ssl.SSLError) as error:
            raise ConfigError([Problem("cache.semantic", f"cannot be used: {error}")]) from None

    def configure(self, config: Config, semantic: SemanticTier | None) -> None:
        """Make a configuration the current one; `semantic` is what `prepare` made of it. Call it on the
        loop."""
        before, self._config = self._config, config
        cache = config.cache
        if self.semantic is not None and self.semantic is not semantic:
            spawn(self.semantic.close(), "close the embedder")
        self.semantic = semantic
        if semantic is not None and (wanted := _semantic_of(config)) is not None:
            semantic.configure(wanted)
        self._share(before, config)
        if cache is None:
            self.answers = None
            return
        self.scope = cache.scope
        if self.answers is None:
            self.answers = AnswerCache(cache)
        else:
            self.answers.configure(cache)
        self.shadow.configure(cache.shadow, cache.max_disagreement)

    def _share(self, before: Config | None, config: Config) -> None:
        """Begin to share answers, share others, or stop to."""
        wanted, had = _shared_with(config), _shared_with(before)
        if wanted == had:
            return
        if self.shared is not None:
            spawn(self.shared.stop(), "stop to share answers")
            self.shared = None
        if wanted is not None and config.cache is not None and config.cache.redis is not None:
            from sidecar.cache.shared import SharedTier

            largest = config.cache.max_bytes // _MAX_SHARE
            self.shared = SharedTier(config.cache.redis, wanted[1], largest, self._heed)
            self.shared.start()

    async def stop(self) -> None:
        """Close what is open."""
        if self.shared is not None:
            await self.shared.stop()
        if self.semantic is not None:
            await self.semantic.close()

    # --- the operator ---------------------------------------------------------------------------------

    def purge(self, *, key: bytes | None = None, route: str | None = None, scope: str | None = None) -> int:
        """Drop what has all that is given, here and at all who share it; nothing given: everything. `scope`
        is as `has_scope` knows it. Returns how many were here."""
        scopes = [None] if scope is None else self._scopes_named(scope)
        return sum(
            self._do(Order(self._wall(), digest=key, route=route, scope=digest), tell=True)
            for digest in scopes
        )

    def report_false_hit(self, key: bytes) -> bool:
        """Drop an answer and let what is stored under that key next serve its own words only. Returns whether
        it was here."""
        at_s = self._wall()
        was_here = bool(self._do(Order(at_s, digest=key), tell=True))
        self._do(Order(at_s, digest=key, is_pin=True), tell=True)
        return was_here

    def has_scope(self, name: str, own_team: str) -> bool:
        """Whether there may be answers of a team, or of a key: the id of a listed one or a service account's,
        or `shared` for all callers without either. `own_team` is of callers who have none."""
        config = self._config
        if config is None or self.scope == "all":
            return False
        rules = _rules(config)
        if self.scope == "team":
            teams = {own_team, *(key.team for key in config.keys), *(rule.team for rule in rules)}
            return name in teams or any(rule.team is None and matches(rule.namespace, name) for rule in rules)
        if name == SHARED_BUCKET or any(key.id == name for key in config.keys):
            return True
        namespace, _, account = name.removeprefix(ID_PREFIX).partition("/")
        return (name.startswith(ID_PREFIX) and account != "") and any(
            matches(rule.namespace, namespace) and matches(rule.name, account) for rule in rules
        )

    def outlook(self, x: Exchange, call: Call, caller: Caller, candidate: Candidate, now_s: float) -> Outlook:
        """What would be done with a request now, by a look in memory that changes nothing."""
        if self.answers is None or self._config is None or self._config.cache is None:
            return Outlook("off")
        scope = scope_of(self.scope, caller.bucket, caller.team, caller.regions)
        place = Place(scope, x.route, f"{candidate.provider.name}/{candidate.model}")
        found = look(self.answers, x, call, place, directives_of(x.fields), now_s)
        if isinstance(found, Bypass):
            return Outlook("bypass", found.reason)
        notes = []
        if caller.bucket == SHARED_BUCKET and self.scope == "key" and not candidate.provider.has_own_key:
            notes.append("answers are shared by key, and a caller with one of its own finds others")
        if isinstance(found, Miss):
            if self.shared is not None or self.semantic is not None:
                notes.append("the cache was looked at in memory: not in Redis, and not by meaning")
            return Outlook("eligible", None, "miss", notes)
        if not self.shadow.is_on(x.route, found.tier):
            reason = f"{found.tier} hits are off: too many answers differed"
            return Outlook("eligible", reason, f"shadow {found.tier}", notes)
        if self._config.cache.shadow:
            notes.append(f"of the hits {self._config.cache.shadow:.2%} are asked anew, to compare")
        return Outlook("eligible", None, f"hit {found.tier}", notes)

    def _heed(self, order: Order) -> None:
        self._do(order, tell=False)

    def _do(self, order: Order, *, tell: bool) -> int:
        if tell and self.shared is not None:
            self.shared.order(order)
        if self.answers is None:
            return 0
        if order.is_pin and order.digest is not None:
            self.answers.pin(order.digest)
            if self.semantic is not None:
                self.semantic.drop(order.digest)
            return 0
        self.purged_s = self._clock()
        return self.answers.store.purge(order.digest, route=order.route, scope=order.scope)

    def _scopes_named(self, name: str) -> list[bytes | None]:
        """The digests of a team or key: one for each residency that its callers may have."""
        config = self._config
        keys, rules = ((), ()) if config is None else (config.keys, _rules(config))
        regions = {(), *(key.regions for key in keys), *(rule.regions for rule in rules)}
        is_listed = any(key.id == name for key in keys)
        is_bucket = not is_listed and (name == SHARED_BUCKET or name.startswith(ID_PREFIX))
        bucket = name if is_bucket else bucket_of(name)
        return [scope_of(self.scope, bucket, name, some) for some in sorted(regions)]


# Of the memory's budget: what is larger would not be kept in memory either (store.py).
_MAX_SHARE = 8


def _rules(config: Config) -> tuple[ServiceAccountRule, ...]:
    """Whose tokens are accepted, where any are."""
    accounts = config.auth.service_accounts
    return () if accounts is None else accounts.callers


def _semantic_of(config: Config) -> Semantic | None:
    cache = config.cache
    if cache is None or cache.match != "semantic":
        return None
    return cache.semantic or Semantic()


def _embeds_alike(one: Config, other: Config) -> bool:
    """Whether two configurations embed with the same model from the same place."""

    def told(config: Config) -> object:
        wanted = _semantic_of(config)
        if wanted is None or wanted.provider is None:
            return wanted and wanted.embedder
        return wanted.model, wanted.timeout_s, config.providers[wanted.provider], config.locality

    return told(one) == told(other)


def _embedder(config: Config, wanted: Semantic) -> "LocalEmbedder | EndpointEmbedder":
    if wanted.provider is None:
        return LocalEmbedder()
    provider = config.providers[wanted.provider]
    return EndpointEmbedder(wanted, provider, config.locality, client_context(provider.tls.ca_file))


def _shared_with(config: Config | None) -> tuple[str, bytes, int] | None:
    """Where answers are shared and with whom; None: they are not."""
    cache: CacheConfig | None = None if config is None else config.cache
    if config is None or cache is None or cache.redis is None:
        return None
    keys = [p.api_key.reveal().encode() for p in config.providers.values() if p.api_key is not None]
    return cache.redis.reveal(), secret_of(keys), cache.max_bytes


def _tell_switch(route: str, tier: str, is_on: bool, share: float, checks: int) -> None:
    what = "given again" if is_on else "not given any more, only checked"
    whose = f"of route {route}" if route else "without a route"
    why = f"{share:.1%} of {checks} checks differed" if checks else "by hand"
    _log.warning("cache: %s hits %s are %s: %s", tier, whose, what, why)
