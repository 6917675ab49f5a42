"""What there is of the answer cache, as the configuration has it: memory, Redis, meaning, and the checks.

Tiers come and go with a reload; what is stored stays as long as there is a cache at all.
"""

import logging
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.cache.answers import AnswerCache
from sidecar.cache.checks.shadow import Shadow
from sidecar.cache.flight import Flights
from sidecar.cache.meaning.embedding import EmbedderError
from sidecar.cache.meaning.endpoint_embedder import EndpointEmbedder
from sidecar.cache.meaning.local_embedder import LocalEmbedder
from sidecar.cache.meaning.tier import SemanticTier
from sidecar.cache.shared.orders import Order, Purges
from sidecar.cache.shared.sealing import secret_of
from sidecar.cache.store import MAX_SHARE
from sidecar.caching.scopes import Scopes
from sidecar.clock import Ticker
from sidecar.config.cache import Cache as CacheConfig
from sidecar.config.cache import Semantic
from sidecar.config.model import Config
from sidecar.config.problems import ConfigError, Problem
from sidecar.tasks import spawn
from sidecar.upstream.tls import client_context

if TYPE_CHECKING:
    from sidecar.cache.shared.tier import SharedTier  # with redis-py 7 MB, for those who share

_log = logging.getLogger("sidecar")


class Tiers:
    """The tiers of the process. `answers` None: there is no cache."""

    scopes: Scopes

    def __init__(
        self,
        team: str,
        ticker: Ticker | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._team = team
        self._wall = wall
        self._clock = clock
        self._config: Config | None = None
        self.answers: AnswerCache | None = None
        self.shared: SharedTier | None = None
        self.semantic: SemanticTier | None = None
        self.shadow = Shadow(0.0, 1.0, _tell_switch)
        self.flights = Flights(ticker or Ticker())
        self._purges = Purges()  # also of when nothing was shared
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
        self.scopes = Scopes(config, self._team)
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
            from sidecar.cache.shared.tier import SharedTier

            largest = config.cache.max_bytes // MAX_SHARE
            self.shared = SharedTier(config.cache.redis, wanted[1], largest, self._heed, purges=self._purges)
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
        is a name that `scopes` knows. Returns how many were here."""
        scopes: list[bytes | None] = [None] if scope is None else [*self.scopes.named(scope)]
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

    def _heed(self, order: Order) -> None:
        self._do(order, tell=False)

    def _do(self, order: Order, *, tell: bool) -> int:
        if not order.is_pin:
            self._purges.note(order)
        if tell and self.shared is not None:
            self.shared.order(order)
        if self.answers is None:
            return 0
        if order.is_pin and order.digest is not None:
            self.answers.pin(order.digest)
            if self.semantic is not None:
                self.semantic.drop(order.digest)
            return 0
        # An order is heard late, and at the start once more; what was stored since is not meant.
        until_s = self._clock() - max(0.0, self._wall() - order.at_s)
        self.purged_s = max(self.purged_s, until_s)
        self.flights.close_doors()
        return self.answers.store.purge(order.digest, route=order.route, scope=order.scope, until_s=until_s)


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
