"""What is allowed but probably not meant; `sidecar check` prints it and still exits 0.

Of what is outside the file it looks at the folders that the sidecar will write to, and writes nothing.
"""

import os
import time
from collections.abc import Iterator

from sidecar.config.addresses import Url
from sidecar.config.auth import ServiceAccountRule
from sidecar.config.cache import Semantic
from sidecar.config.callers import warn_budgets, warn_tiers_and_keys
from sidecar.config.model import Config, Timeouts
from sidecar.config.problems import Path, Problem, field_path

Found = Iterator[tuple[Path, str]]

# What apps put behind a base URL; the longer of two that end alike stands first.
_CALLS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")


def warnings(config: Config) -> list[Problem]:
    """One entry for each doubtful setting of a configuration that passed every check."""
    return [
        Problem(field_path(path), message)
        for warn in (
            _warn_listeners,
            _warn_providers,
            _warn_models,
            _warn_localities,
            _warn_callers,
            _warn_cache,
            _warn_break_glass,
            _warn_files,
        )
        for path, message in warn(config)
    ]


def _warn_listeners(config: Config) -> Found:
    if not config.listen.admin.is_loopback:
        what = "drain the sidecar" if config.listen.control is None else "read its configuration"
        yield ("listen", "admin"), f"is off loopback: anyone who reaches it can {what}"


def _warn_providers(config: Config) -> Found:
    used = {model.provider for model in config.models.values()}
    if (semantic := _semantic(config)) is not None and semantic.provider is not None:
        used.add(semantic.provider)
    for name, provider in config.providers.items():
        path: Path = ("providers", name)
        if name not in used and not provider.break_glass:
            yield path, "is used by no model: name it in models, or remove it"
        key = "the caller's key" if provider.api_key is None else "the key"
        for index, endpoint in enumerate(provider.endpoints):
            if not endpoint.url.is_tls and not endpoint.url.is_loopback:
                yield (*path, "endpoints", index, "url"), f"sends {key} in clear: use https"
            if call := _call_of(endpoint.url):
                base = str(endpoint.url).removesuffix(call)
                what = f"ends in {call}, which each request adds: write {base}"
                yield (*path, "endpoints", index, "url"), what
        if provider.tls.ca_file and not any(endpoint.url.is_tls for endpoint in provider.endpoints):
            yield (*path, "tls", "ca_file"), "has no effect: no endpoint is https"
        yield from _warn_timeouts(provider.timeouts, path)


def _call_of(url: Url) -> str:
    return next((call for call in _CALLS if url.prefix.endswith(call)), "")


def _warn_timeouts(timeouts: Timeouts, path: Path) -> Found:
    if timeouts.total_s < max(timeouts.first_token_s, timeouts.answer_s):
        yield (*path, "timeouts", "total"), "is shorter than one attempt may take: it will cut it short"


def _warn_models(config: Config) -> Found:
    patterns = list(config.models)
    if "*" not in patterns:
        yield ("models",), 'has no "*": every other model is answered with 404'
    for index, pattern in enumerate(patterns):
        for earlier in patterns[:index]:
            if earlier.endswith("*") and pattern.startswith(earlier[:-1]):
                yield ("models", pattern), f"is never reached: {earlier} stands before it and matches first"
                break


def _warn_localities(config: Config) -> Found:
    regions = {endpoint.region for provider in config.providers.values() for endpoint in provider.endpoints}
    if regions != {None} and config.locality.region is None:
        what = "is not set, so the closest endpoint is not known: set it, or $SIDECAR_REGION"
        yield ("locality", "region"), what
    for index, key in enumerate(config.keys):
        for place, region in enumerate(key.regions):
            if region not in regions:
                yield ("keys", index, "regions", place), f"no endpoint is in {region}"


def _warn_callers(config: Config) -> Found:
    if config.budgets and config.fleet is None:
        yield (
            ("budgets",),
            "without fleet each sidecar has the whole budget to itself",
        )
        if config.usage is None:
            yield ("budgets",), "without usage.path a restart forgets what was spent"
    yield from warn_budgets(config)
    yield from warn_tiers_and_keys(config, time.time())


def _warn_cache(config: Config) -> Found:
    cache = config.cache
    if cache is None:
        return
    if cache.scope == "all" and _has_several_teams(config):
        what = "gives each team what was answered to others: write team, unless that is what you want"
        yield ("cache", "scope"), what
    semantic = _semantic(config)
    if semantic is None:
        return
    if not cache.shadow and not semantic.shadow_only:
        what = (
            "gives answers to questions that were worded otherwise, and nothing counts the wrong ones: set"
            " shadow, or measure first with semantic.shadow_only"
        )
        yield ("cache", "match"), what
    if semantic.provider is not None:
        yield from _warn_embedder(config, semantic.provider)


def _warn_embedder(config: Config, name: str) -> Found:
    path: Path = ("cache", "semantic", "provider")
    provider = config.providers[name]
    if provider.api_key is None and not all(endpoint.url.is_loopback for endpoint in provider.endpoints):
        yield path, f"is {name}, which has no api_key: a caller's own is never used to embed, so give it one"
    regions = {endpoint.region for endpoint in provider.endpoints}
    bound = [key.id for key in config.keys if key.regions and regions.isdisjoint(key.regions)]
    bound += [
        f"{rule.namespace}/{rule.name}"
        for rule in _rules(config)
        if rule.regions and regions.isdisjoint(rule.regions)
    ]
    if bound:
        callers = ", ".join(bound)
        yield path, f"is {name}, with no endpoint in the regions of {callers}: they get no hits by meaning"


def _semantic(config: Config) -> Semantic | None:
    """How answers are found by meaning, where they are."""
    cache = config.cache
    if cache is None or cache.match != "semantic":
        return None
    return cache.semantic or Semantic()


def _has_several_teams(config: Config) -> bool:
    rules = _rules(config)
    teams = {key.team for key in config.keys} | {rule.team or rule.namespace for rule in rules}
    return len(teams) > 1 or any(rule.team is None and rule.namespace.endswith("*") for rule in rules)


def _rules(config: Config) -> tuple[ServiceAccountRule, ...]:
    accounts = config.auth.service_accounts
    return () if accounts is None else accounts.callers


def _warn_break_glass(config: Config) -> Found:
    direct = any(provider.break_glass for provider in config.providers.values())
    if config.break_glass is not None and not direct:
        yield ("break_glass",), "has no effect: no provider has break_glass: true"


def _warn_files(config: Config) -> Found:
    log = config.telemetry.access_log
    if log not in ("stdout", "off") and (fault := _fault_of(log, is_replaced=False)):
        yield ("telemetry", "access_log"), f"{fault}: the sidecar would not start"
    # SQLite keeps its log beside the database; the state file is replaced by a new one.
    if config.usage is not None and (fault := _fault_of(config.usage.path, is_replaced=True)):
        yield ("usage", "path"), f"{fault}: usage would be kept in memory, and lost at the end"
    glass = config.break_glass
    if glass is not None and glass.path is not None and (fault := _fault_of(glass.path, is_replaced=True)):
        yield ("break_glass", "path"), f"{fault}: an operator's word would not survive a restart"


def _fault_of(name: str, *, is_replaced: bool) -> str:
    """Why a file could not be written here and now, by this user; empty if it could."""
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        return f"folder {folder} does not exist"
    if os.path.isdir(name):
        return "is a folder, and a file is expected"
    exists = os.path.exists(name)
    if (is_replaced or not exists) and not os.access(folder, os.W_OK | os.X_OK):
        return f"folder {folder} cannot be written to by this user"
    return f"{name} cannot be written to by this user" if exists and not os.access(name, os.W_OK) else ""
