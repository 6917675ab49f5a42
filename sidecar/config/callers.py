"""Checks of keys and tiers, and what of them and of budgets is allowed but doubtful."""

from collections.abc import Iterator

from sidecar.config.instants import end_s, start_s
from sidecar.config.model import Budget, Config, matches, standard_tier
from sidecar.config.problems import Path
from sidecar.config.service_accounts import warn_service_accounts

Found = Iterator[tuple[Path, str]]


def check_tiers_and_keys(config: Config) -> Found:
    """Every caller has a tier, and every key a time in which it is valid."""
    if config.tiers and standard_tier(config.tiers) is None:
        what = "has none for callers whose key begins otherwise: add standard, without a key_prefix"
        yield ("tiers",), what
    for index, key in enumerate(config.keys):
        if start_s(key.not_before) >= end_s(key.expires):
            yield ("keys", index, "not_before"), "is not before expires: the key would never be valid"


def warn_tiers_and_keys(config: Config, wall_s: float) -> Found:
    """What has no effect. `wall_s` is the time of day in Unix seconds."""
    for name, tier in config.tiers.items():
        path: Path = ("tiers", name)
        has_limit = tier.requests_per_minute is not None or tier.tokens_per_minute is not None
        if tier.burst is not None and tier.requests_per_minute is None:
            yield (*path, "burst"), "has no effect without requests_per_minute: add that, or remove this"
        if tier.dry_run and not has_limit:
            yield (*path, "dry_run"), "has no effect: the tier has no limit to try out"
    for index, key in enumerate(config.keys):
        if end_s(key.expires) <= wall_s:
            yield (
                ("keys", index, "expires"),
                "is over: the key is refused; make a new one, or remove this one",
            )
    yield from warn_service_accounts(config)


def warn_budgets(config: Config) -> Found:
    """Budgets that do not do what they seem to."""
    for index, budget in enumerate(config.budgets):
        path: Path = ("budgets", index)
        for place, pattern in enumerate(budget.models):
            if pattern in config.routes and pattern not in config.models:
                yield (*path, "models", place), "is a route: name the models that requests are sent to"
        if not _has_price(config, budget):
            yield (*path, "models"), "have no price, so nothing is counted: give them one in models"
        if budget.at_limit == "downgrade" and not config.routes:
            yield (*path, "at_limit"), "is reject in effect: only a route has models to go down to"
        if budget.per == "key" and not config.keys and config.auth.service_accounts is None:
            yield (*path, "per"), "has no effect: without keys all callers share the budget"


def overlap(one: str, other: str) -> bool:
    """Whether there is a model name that both patterns match."""
    return matches(one, other.removesuffix("*")) or matches(other, one.removesuffix("*"))


def _has_price(config: Config, budget: Budget) -> bool:
    return any(
        entry.price is not None and any(overlap(pattern, name) for pattern in budget.models)
        for name, entry in config.models.items()
    )
