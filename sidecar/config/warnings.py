"""What is allowed but probably not meant; `sidecar check` prints it and still exits 0."""

import time
from collections.abc import Iterator

from sidecar.config.callers import warn_budgets, warn_tiers_and_keys
from sidecar.config.model import Config, Timeouts
from sidecar.config.problems import Path, Problem, field_path

Found = Iterator[tuple[Path, str]]


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
            _warn_break_glass,
        )
        for path, message in warn(config)
    ]


def _warn_listeners(config: Config) -> Found:
    if not config.listen.admin.is_loopback:
        yield ("listen", "admin"), "is off loopback: anyone who reaches it can drain the sidecar"


def _warn_providers(config: Config) -> Found:
    used = {model.provider for model in config.models.values()}
    for name, provider in config.providers.items():
        path: Path = ("providers", name)
        if name not in used and not provider.break_glass:
            yield path, "is used by no model: name it in models, or remove it"
        key = "the caller's key" if provider.api_key is None else "the key"
        for index, endpoint in enumerate(provider.endpoints):
            if not endpoint.url.is_tls and not endpoint.url.is_loopback:
                yield (*path, "endpoints", index, "url"), f"sends {key} in clear: use https"
        if provider.tls.ca_file and not any(endpoint.url.is_tls for endpoint in provider.endpoints):
            yield (*path, "tls", "ca_file"), "has no effect: no endpoint is https"
        yield from _warn_timeouts(provider.timeouts, path)


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


def _warn_break_glass(config: Config) -> Found:
    direct = any(provider.break_glass for provider in config.providers.values())
    if config.break_glass is not None and not direct:
        yield ("break_glass",), "has no effect: no provider has break_glass: true"
