"""Checks of names that point elsewhere in the file: models, routes, tiers, keys and budgets."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from sidecar.config.model import Config, Model, find_model
from sidecar.config.problems import Path

Found = Iterator[tuple[Path, str]]


def check_models(config: Config) -> Found:
    """Each model has a provider, and its fallbacks lead somewhere and come to an end."""
    for pattern, model in config.models.items():
        path: Path = ("models", pattern)
        if "*" in pattern[:-1]:
            yield path, "may have a * at its end only"
        if model.provider not in config.providers:
            known = ", ".join(config.providers)
            yield (*path, "provider"), f"names no provider: {model.provider} is not one of {known}"
        yield from _check_targets(config, model.fallback, (*path, "fallback"))
    if cycle := _fallback_cycle(config.models):
        circle = " > ".join(reversed(cycle))
        yield ("models", cycle[-1], "fallback"), f"goes in a circle, {circle}: remove one of them"


def check_routes(config: Config) -> Found:
    """Each model a route may choose is served by some entry of `models`."""
    for name, route in config.routes.items():
        path: Path = ("routes", name)
        for index, target in enumerate(route.split):
            yield from _check_target(config, target.model, (*path, "split", index, "model"))
        yield from _check_targets(config, route.fallback, (*path, "fallback"))
        for index, rule in enumerate(route.classify):
            yield from _check_target(config, rule.model, (*path, "classify", index, "model"))
        if route.long_context is not None:
            yield from _check_target(config, route.long_context, (*path, "long_context"))


def check_callers(config: Config) -> Found:
    """Keys, tiers and budgets: names are used once, and those referred to exist."""
    yield from _twice("keys", "id", (key.id for key in config.keys))
    yield from _twice("keys", "hash", (key.hash for key in config.keys))
    yield from _twice("budgets", "name", (budget.name for budget in config.budgets))
    for index, key in enumerate(config.keys):
        if key.tier is not None and key.tier not in config.tiers:
            known = ", ".join(config.tiers) or "none is there"
            yield ("keys", index, "tier"), f"names no tier: expected one of tiers ({known})"
        yield from _check_patterns(key.models, ("keys", index, "models"))
    for index, budget in enumerate(config.budgets):
        yield from _check_patterns(budget.models, ("budgets", index, "models"))
    prefixes: dict[str, str] = {}
    for name, tier in config.tiers.items():
        if tier.key_prefix is not None:
            other = prefixes.setdefault(tier.key_prefix, name)
            if other != name:
                yield ("tiers", name, "key_prefix"), f"is that of tier {other} too: which is meant?"


def _check_targets(config: Config, names: Iterable[str], path: Path) -> Found:
    seen: set[str] = set()
    for index, name in enumerate(names):
        yield from _check_target(config, name, (*path, index))
        if name in seen:
            yield (*path, index), f"names {name} a second time: remove it"
        seen.add(name)


def _check_target(config: Config, name: str, path: Path) -> Found:
    if "*" in name:
        yield path, "expected one model: a * may stand in the names of models only"
    elif find_model(config.models, name) is None:
        yield path, f"{name} matches no entry of models: add one, or mend the name"


def _check_patterns(patterns: Iterable[str], path: Path) -> Found:
    for index, pattern in enumerate(patterns):
        if "*" in pattern[:-1]:
            yield (*path, index), "may have a * at its end only"


def _twice(section: str, field: str, values: Iterable[object]) -> Found:
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            yield (section, index, field), f"is that of {section}[{first[value]}] too: each must differ"


def _fallback_cycle(models: Mapping[str, Model]) -> list[str]:
    """The entries of one circle of fallbacks, each leading to the one before it; empty where there is none.

    A pattern may name one of its own models ("*" falling back to a model that "*" serves): that ends, because
    a request never goes to a model twice, and it is how a default is said.
    """
    graph: dict[str, set[str]] = {}
    for pattern, model in models.items():
        following = {found for name in model.fallback if (found := find_model(models, name)) is not None}
        graph[pattern] = following - {pattern} if pattern.endswith("*") else following
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []
