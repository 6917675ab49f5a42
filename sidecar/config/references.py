"""Checks of names that point elsewhere in the file: models, routes, tiers, keys and budgets.

A provider for break-glass is asked only while that is on, and last. So an entry of `models` may name one only
where a fallback leads there, from an entry with another provider or from a route; no split, rule or
long_context may lead there, nor may "*" name one, which also serves what is passed on unread. And it needs a
key of its own: the caller's is never sent along a fallback.
"""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from sidecar.config.callers import overlap
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
    yield from _check_break_glass(config)


def check_routes(config: Config) -> Found:
    """Each model a route may choose is served by some entry of `models`, at any time."""
    for name, route in config.routes.items():
        path: Path = ("routes", name)
        arms: dict[str, int] = {}
        for index, target in enumerate(route.split):
            place: Path = (*path, "split", index, "model")
            yield from _check_choice(config, target.model, place)
            first = arms.setdefault(target.model, index)
            if first != index:
                yield place, f"is the model of split[{first}] too: give that one both weights"
        yield from _check_targets(config, route.fallback, (*path, "fallback"))
        for index, rule in enumerate(route.classify):
            yield from _check_choice(config, rule.model, (*path, "classify", index, "model"))
        if route.long_context is not None:
            yield from _check_choice(config, route.long_context, (*path, "long_context"))


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
        yield from _check_counted(config, budget.models, ("budgets", index, "models"))
    prefixes: dict[str, str] = {}
    for name, tier in config.tiers.items():
        if tier.key_prefix is not None:
            other = prefixes.setdefault(tier.key_prefix, name)
            if other != name:
                yield ("tiers", name, "key_prefix"), f"is that of tier {other} too: which is meant?"


def _check_break_glass(config: Config) -> Found:
    providers = config.providers
    keyless = [name for name, provider in providers.items() if provider.api_key is None]
    if config.auth.mode != "keys" and keyless and providers[keyless[0]].break_glass:
        what = "is missing: break-glass is a fallback, and the caller's own key is never sent along one"
        yield ("providers", keyless[0], "api_key"), what
    always = [model for model in config.models.values() if not _is_break_glass(config, model)]
    if len(always) == len(config.models):
        return
    named = [*(model.fallback for model in always), *(route.fallback for route in config.routes.values())]
    reached = {find_model(config.models, name) for names in named for name in names}
    for pattern, model in config.models.items():
        if not _is_break_glass(config, model):
            continue
        place: Path = ("models", pattern, "provider")
        if pattern == "*":
            yield place, f"{model.provider} is for break-glass: name one here that may always be asked"
        elif pattern not in reached:
            what = "and no fallback leads here: list it in one, or remove it"
            yield place, f"{model.provider} is for break-glass {what}"


def _is_break_glass(config: Config, model: Model) -> bool:
    provider = config.providers.get(model.provider)
    return provider is not None and provider.break_glass


def _check_choice(config: Config, name: str, path: Path) -> Found:
    """A model that a route may begin with."""
    yield from _check_target(config, name, path)
    pattern = find_model(config.models, name)
    if "*" not in name and pattern is not None and _is_break_glass(config, config.models[pattern]):
        yield path, f"{name} has a provider for break-glass, asked only while that is on: list it in fallback"


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


def _check_counted(config: Config, patterns: Iterable[str], path: Path) -> Found:
    """A budget that nothing can be charged to would be relied on in vain."""
    for index, pattern in enumerate(patterns):
        if "*" not in pattern[:-1] and not any(overlap(pattern, entry) for entry in config.models):
            hint = ", and budgets count models, not routes" if pattern in config.routes else ""
            yield (*path, index), f"matches no entry of models{hint}: add one, or mend the name"


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
