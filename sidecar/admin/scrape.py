"""What Prometheus gets: the counters, and what the live state adds to them when it is asked."""

import time
from typing import TYPE_CHECKING

from sidecar.accounts import Accounts
from sidecar.admin.cache_views import cache_of, shared_results
from sidecar.admin.state import State
from sidecar.exchange import NANO_USD
from sidecar.telemetry.cache_series import Cache, Checked, Semantic, Shared
from sidecar.telemetry.exposition import Fleet, Health, Limits, expose
from sidecar.telemetry.metrics import Histogram

if TYPE_CHECKING:
    from sidecar.cache.answers import AnswerCache
    from sidecar.cache.meaning.tier import SemanticTier
    from sidecar.caching.tiers import Tiers

_BREAKER_STATES = ("closed", "half_open", "open")


def scrape(state: State) -> bytes:
    """All series, in the text format."""
    providers, now_s = state.snapshot.providers.values(), time.monotonic()
    health = [
        Health(
            provider.name,
            endpoint.url,
            endpoint.region,
            endpoint.health(now_s)[0],
            _BREAKER_STATES.index(endpoint.breaker.state),
        )
        for provider in providers
        for endpoint in provider.endpoints
    ]
    queued = {provider.name: provider.slots.waiting for provider in providers}
    there = cache_of(state)
    cache = None if there is None else _cache(*there)
    return expose(state.metrics, health, queued, _limits(state.accounts), cache)


def _limits(accounts: Accounts) -> Limits:
    limited: dict[tuple[str, bool], int] = {}
    for tier, counts in accounts.limiter.counts.items():
        limited[f"tier {tier}", False] = counts.limited
        limited[f"tier {tier}", True] = counts.would_limit
    for budget, exceeded in accounts.budgets.counts.items():
        limited[f"budget {budget}", False] = exceeded.exceeded
    budgets: dict[tuple[str, str, str], float] = {}
    for status in accounts.budgets.status(time.time()):
        for kind, nano_usd in (
            ("limit", status.limit_nano_usd),
            ("spent", status.spent_nano_usd),
            ("reserved", status.reserved_nano_usd),
        ):
            budgets[status.name, status.whom, kind] = nano_usd / NANO_USD
    ledger = accounts.ledger
    return Limits(limited, budgets, 0 if ledger is None else ledger.failures, _fleet(accounts))


def _fleet(accounts: Accounts) -> Fleet | None:
    leases = accounts.leases
    if leases is None:
        return None
    has_local_share = leases.local_share_since_s is not None
    return Fleet(leases.is_connected, leases.round_trips, leases.failures, has_local_share)


def _cache(tiers: "Tiers", answers: "AnswerCache") -> Cache:
    shared, semantic, stats = tiers.shared, tiers.semantic, answers.store.stats
    return Cache(
        stats.entries,
        stats.bytes,
        stats.evictions,
        [Checked(*standing) for standing in tiers.shadow.report()],
        None if shared is None else Shared(shared.is_on, shared_results(shared)),
        None if semantic is None else _semantic(semantic),
    )


def _semantic(tier: "SemanticTier") -> Semantic:
    from sidecar.cache.meaning.tier import SIMILARITIES  # there already

    stats = tier.stats
    similarity = Histogram(SIMILARITIES)
    similarity.counts, similarity.sum_s = stats.similarities, stats.similarity_sum
    return Semantic(tier.entries, stats.failures, stats.refused, similarity)
