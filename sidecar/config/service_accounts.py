"""What of `auth.service_accounts` cannot work, and what is allowed but doubtful."""

from collections.abc import Iterator
from importlib.util import find_spec

from sidecar.config.auth import ID_PREFIX, ServiceAccountRule
from sidecar.config.model import Config, matches
from sidecar.config.problems import Path

Found = Iterator[tuple[Path, str]]

_PATH: Path = ("auth", "service_accounts")


def check_service_accounts(config: Config) -> Found:
    """Tokens go nowhere else, can be verified, and lead to tiers that exist."""
    accounts = config.auth.service_accounts
    if accounts is None:
        return
    if config.auth.mode != "keys":
        yield _PATH, "needs auth.mode: keys: otherwise callers' tokens would be sent on to a provider"
    if not accounts.api_server.is_tls:
        yield (*_PATH, "api_server"), "must be https: whoever answers for it decides who may call"
    if accounts.audience.startswith("https://kubernetes.default"):
        what = "is the API server's own: a token for it would let its receiver act as the caller there"
        yield (*_PATH, "audience"), what
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        yield _PATH, "needs PyJWT and cryptography: pip install 'ai-sidecar[gateway]'"
    for index, rule in enumerate(accounts.callers):
        yield from _check_rule(config, rule, (*_PATH, "callers", index))
    for index, key in enumerate(config.keys):
        if key.id.startswith(ID_PREFIX):
            yield (
                ("keys", index, "id"),
                f"begins with {ID_PREFIX}, as those of service accounts do: change it",
            )


def _check_rule(config: Config, rule: ServiceAccountRule, path: Path) -> Found:
    if rule.tier is not None and rule.tier not in config.tiers:
        known = ", ".join(config.tiers) or "none is there"
        yield (*path, "tier"), f"names no tier: expected one of tiers ({known})"
    patterns: list[tuple[Path, str]] = [(("namespace",), rule.namespace), (("name",), rule.name)]
    patterns += [(("models", index), pattern) for index, pattern in enumerate(rule.models)]
    for place, pattern in patterns:
        if "*" in pattern[:-1]:
            yield (*path, *place), "may have a * at its end only"


def warn_service_accounts(config: Config) -> Found:
    """Rules that nobody reaches, and regions that nobody serves."""
    accounts = config.auth.service_accounts
    if accounts is None:
        return
    served = {endpoint.region for provider in config.providers.values() for endpoint in provider.endpoints}
    for index, rule in enumerate(accounts.callers):
        path: Path = (*_PATH, "callers", index)
        if any(_covers(earlier, rule) for earlier in accounts.callers[:index]):
            yield path, "is never reached: one before it matches all of its accounts first"
        for place, region in enumerate(rule.regions):
            if region not in served:
                yield (*path, "regions", place), f"no endpoint is in {region}"


def _covers(one: ServiceAccountRule, other: ServiceAccountRule) -> bool:
    """Whether whoever falls under the other falls under the one."""
    return matches(one.namespace, other.namespace) and matches(one.name, other.name)
