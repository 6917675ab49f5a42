"""What the admin interface shows of the answer cache, as plain values: no HTTP here.

What is counted of requests outlives reloads, and so do the answers, as long as there is a cache at all.
"""

from typing import TYPE_CHECKING, Any

from sidecar.admin.state import State
from sidecar.exchange import NANO_USD
from sidecar.telemetry.metrics import CacheRow, Metrics

if TYPE_CHECKING:
    from sidecar.cache.answers import AnswerCache
    from sidecar.cache.meaning.tier import SemanticTier
    from sidecar.cache.shared.tier import SharedTier
    from sidecar.caching.tiers import Tiers

RESULTS = ("hit", "miss", "bypass", "collapsed", "shadow")


def cache_of(state: State) -> "tuple[Tiers, AnswerCache] | None":
    """The cache, if there is one now."""
    tiers = state.tiers
    return None if tiers is None or tiers.answers is None else (tiers, tiers.answers)


def cache(state: State) -> dict[str, Any] | None:
    """All there is to say of the cache; None where there is none."""
    config, there = state.snapshot.config.cache, cache_of(state)
    if config is None or there is None:
        return None
    tiers, answers = there
    metrics, stored = state.metrics, answers.store.stats
    requests = _requests(metrics)
    return {
        "match": config.match,
        "scope": config.scope,
        "ttl_s": config.ttl_s,
        "entries": stored.entries,
        "bytes": stored.bytes,
        "budget_bytes": config.max_bytes,
        "evictions": stored.evictions,
        "requests": requests,
        "hit_ratio": _hit_ratio(requests),
        "questions_under_way": len(tiers.flights),
        **_saved(metrics),
        "hits": _hits(metrics),
        "misses": _by_reason(metrics, "miss"),
        "bypasses": _by_reason(metrics, "bypass"),
        "shadow": config.shadow,
        "checks": _checks(tiers),
        "shared": None if tiers.shared is None else _shared(tiers.shared),
        "semantic": None if tiers.semantic is None else _semantic(tiers.semantic),
    }


def cache_stats(state: State) -> dict[str, Any]:
    """The figures for /stats; empty where there is no cache."""
    there = cache_of(state)
    if there is None:
        return {}
    metrics, stored = state.metrics, there[1].store.stats
    requests = _requests(metrics)
    return {
        "cache.entries": stored.entries,
        "cache.bytes": stored.bytes,
        "cache.evictions_total": stored.evictions,
        **{f"cache.{result}_total": count for result, count in requests.items()},
        "cache.hit_ratio": _hit_ratio(requests),
        **{f"cache.{name}_total": value for name, value in _saved(metrics).items()},
        "cache.tiers_off": len(tiers_off(state)),
    }


def tiers_off(state: State) -> list[str]:
    """Whose hits are not given any more, as too many answers disagreed: "exact hits of route auto"."""
    there = cache_of(state)
    if there is None:
        return []
    return [
        f"{one.tier} hits {f'of route {one.route}' if one.route else 'without a route'}"
        for one in there[0].shadow.report()
        if not one.is_on
    ]


def shared_results(tier: "SharedTier") -> dict[str, int]:
    """What came of look-ups, writes and orders in Redis, each by a word."""
    stats = tier.stats
    counts = {name: getattr(stats, name) for name in stats.__slots__}
    named = {"hit": counts.pop("hits"), "miss": counts.pop("misses"), **counts}
    return {**named, "dropped": tier.backlog.dropped, "orders_rejected": tier.log.rejected}


def _requests(metrics: Metrics) -> dict[str, int]:
    """How many requests, by result."""
    counts = dict.fromkeys(RESULTS, 0)
    for (_, result, _), row in metrics.cache_rows.items():
        counts[result] += row.requests
    return counts


def _hit_ratio(requests: dict[str, int]) -> float | None:
    """Hits among all that might have been; who shares another's answer is no hit."""
    looked_up = requests["hit"] + requests["miss"] + requests["collapsed"]
    return round(requests["hit"] / looked_up, 4) if looked_up else None


def _saved(metrics: Metrics) -> dict[str, float]:
    rows = metrics.cache_rows.values()
    return {
        "saved_usd": sum(row.saved_nano_usd for row in rows) / NANO_USD,
        "saved_s": round(sum(row.saved_s for row in rows), 3),
    }


def _hits(metrics: Metrics) -> list[dict[str, Any]]:
    """By route and tier."""
    hits: list[tuple[str, str, CacheRow]] = sorted(
        ((route, tier, row) for (route, result, tier), row in metrics.cache_rows.items() if result == "hit"),
        key=lambda hit: hit[:2],
    )
    return [
        {
            "route": route,
            "tier": tier,
            "hits": row.requests,
            "saved_usd": row.saved_nano_usd / NANO_USD,
            "saved_s": round(row.saved_s, 3),
        }
        for route, tier, row in hits
    ]


def _by_reason(metrics: Metrics, wanted: str) -> dict[str, int]:
    """What became of the answers to misses, or why the cache was passed by; the most frequent first."""
    counts: dict[str, int] = {}
    for (_, result, detail), row in metrics.cache_rows.items():
        if result == wanted:
            counts[detail] = counts.get(detail, 0) + row.requests
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _checks(tiers: "Tiers") -> list[dict[str, Any]]:
    return [
        {
            "route": one.route,
            "tier": one.tier,
            "checks": one.checks,
            "disagreed": one.disagreed,
            "on": one.is_on,
        }
        for one in tiers.shadow.report()
    ]


def _shared(tier: "SharedTier") -> dict[str, Any]:
    return {"on": tier.is_on, "results": shared_results(tier)}


def _semantic(tier: "SemanticTier") -> dict[str, Any]:
    stats = tier.stats
    return {
        "shadow_only": tier.is_shadow_only,
        "entries": tier.entries,
        "looked_up": stats.looked_up,
        "failures": stats.failures,
        "refused": stats.refused,
    }
