"""What has to fit together: checks that need more than one place of a configuration.

Each check is a generator over a whole `Config`, so that all problems come out at once. They look at nothing
outside it but the authority files, which are useless to name if they cannot be read, and whether the packages
are installed that it wants. References between models, routes, tiers and keys are in `references`.
"""

import re
import ssl
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import combinations

from sidecar.config.addresses import Address
from sidecar.config.cache import Semantic
from sidecar.config.callers import check_tiers_and_keys
from sidecar.config.model import Config, Provider
from sidecar.config.problems import Path, Problem, field_path
from sidecar.config.redis_url import redis_fault
from sidecar.config.references import check_callers, check_models, check_routes
from sidecar.config.service_accounts import check_service_accounts

Found = Iterator[tuple[Path, str]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_FIELD_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.IGNORECASE)
# Of the extra, by embedder. The vectors of either are compared by numpy.
_EMBEDDER_PACKAGES = {"local": ("numpy", "tokenizers", "wordllama"), "endpoint": ("numpy",)}
_CREDENTIALS = frozenset(("authorization", "api-key", "x-api-key", "cookie"))
# Written anew for each request and hop (RFC 9110 section 7.6.1): set by hand they would break its framing.
_RESERVED = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def check(config: Config) -> list[Problem]:
    """All problems of a configuration whose parts are each right by themselves."""
    return [
        Problem(field_path(path), message)
        for checker in (
            _check_listeners,
            _check_access,
            _check_drain,
            _check_fleet,
            _check_cache,
            _check_providers,
            check_models,
            check_routes,
            check_callers,
            check_tiers_and_keys,
            check_service_accounts,
        )
        for path, message in checker(config)
    ]


def _check_listeners(config: Config) -> Found:
    listen = config.listen
    listeners = {"data": listen.data, "admin": listen.admin, "health": listen.health}
    if listen.control is not None:
        listeners["control"] = listen.control
    for (first, one), (second, other) in combinations(listeners.items(), 2):
        if _collide(one, other):
            yield ("listen", second), f"is the address of listen.{first} too: give each its own"
    if listen.control is not None and listen.control.path is None:
        yield ("listen", "control"), "expected unix:/absolute/path: a port keeps nobody on this host out"
    for index, host in enumerate(listen.hosts):
        if not _HOST_NAME.fullmatch(host):
            yield ("listen", "hosts", index), "expected a host name alone: no scheme, port, path or wildcard"


def _collide(one: Address, other: Address) -> bool:
    if one.path is not None or other.path is not None:
        return one.path == other.path
    if one.port != other.port or one.port == 0:
        return False
    return _bound_host(one) == _bound_host(other) or one.is_wildcard or other.is_wildcard


def _bound_host(address: Address) -> str:
    return "127.0.0.1" if address.host == "localhost" else address.host


def _check_access(config: Config) -> Found:
    keyless = [name for name, provider in config.providers.items() if provider.api_key is None]
    if config.auth.mode == "keys":
        for name in keyless:
            what = "is missing: with auth.mode keys a caller's own key is never sent on, so give {env: NAME}"
            yield ("providers", name, "api_key"), what
        if not config.keys and config.auth.service_accounts is None:
            yield ("keys",), "is empty: with auth.mode keys no caller could get in, so list the keys"
        accounts = config.auth.service_accounts
        if accounts is not None and accounts.ca_file is not None and (fault := _ca_fault(accounts.ca_file)):
            yield ("auth", "service_accounts", "ca_file"), fault
    elif not config.listen.data.is_loopback:
        what = "is off loopback, where anyone may call: use 127.0.0.1, or list callers with auth.mode: keys"
        yield ("listen", "data"), what
    for name in keyless[1:] if config.auth.mode != "keys" else ():
        what = f"is missing, as for {keyless[0]}: a caller's own key may go to one provider only"
        yield ("providers", name, "api_key"), what


def _check_drain(config: Config) -> Found:
    if config.drain.min_s > config.drain.max_s:
        yield ("drain", "min"), "is longer than drain.max: make it shorter"


def _check_fleet(config: Config) -> Found:
    if config.fleet is not None and (fault := redis_fault(config.fleet.redis)):
        yield ("fleet", "redis"), fault


def _check_cache(config: Config) -> Found:
    """What is left over, missing, or could not work."""
    cache = config.cache
    if cache is None:
        return
    if cache.redis is not None:
        if fault := redis_fault(cache.redis):
            yield ("cache", "redis"), fault
        if all(provider.api_key is None for provider in config.providers.values()):
            yield ("cache", "redis"), _NO_KEYS
    if cache.match == "semantic":
        packages = _EMBEDDER_PACKAGES[(cache.semantic or Semantic()).embedder]
        # Looked for, not imported: a check needs none of their 35 MB.
        if missing := [name for name in packages if find_spec(name) is None]:
            what = f"semantic needs {', '.join(missing)}: pip install 'ai-sidecar[semantic]'"
            yield ("cache", "match"), what
    if cache.semantic is not None:
        if cache.match != "semantic":
            yield ("cache", "semantic"), f"is not used with match: {cache.match}: write match: semantic"
        yield from _check_embedder(config, cache.semantic)


def _check_embedder(config: Config, semantic: Semantic) -> Found:
    path: Path = ("cache", "semantic")
    for name in ("provider", "model"):
        value = getattr(semantic, name)
        if semantic.embedder == "local" and value is not None:
            yield (*path, name), "is for embedder: endpoint; the local one needs none: remove it"
        elif semantic.embedder == "endpoint" and value is None:
            yield (*path, name), "is missing: say which provider embeds, and with which model"
    if semantic.provider is not None and semantic.provider not in config.providers:
        yield (*path, "provider"), f"is not among the providers: {', '.join(config.providers)}"


_NO_KEYS = (
    "needs a provider with an api_key: what is stored there is authenticated by the providers' keys, which"
    " all sidecars of a fleet have and the store does not"
)


def _check_providers(config: Config) -> Found:
    for name, provider in config.providers.items():
        path: Path = ("providers", name)
        yield from _check_endpoints(config, provider, path)
        yield from _check_headers(provider, path)
        if provider.tls.ca_file is not None and (fault := _ca_fault(provider.tls.ca_file)):
            yield (*path, "tls", "ca_file"), fault


def _check_endpoints(config: Config, provider: Provider, path: Path) -> Found:
    first: dict[str, int] = {}
    data = config.listen.data
    for index, endpoint in enumerate(provider.endpoints):
        url = endpoint.url
        place = (*path, "endpoints", index, "url")
        if str(url) in first:
            yield place, f"is the URL of endpoints[{first[str(url)]}] too: remove one"
        first.setdefault(str(url), index)
        if url.is_loopback and _serves_loopback(data) and url.port == data.port != 0:
            yield place, "is the sidecar's own listen.data: give the address of the provider"


def _serves_loopback(address: Address) -> bool:
    return address.path is None and (address.is_loopback or address.is_wildcard)


def _check_headers(provider: Provider, path: Path) -> Found:
    seen: set[str] = set()
    for name, value in provider.headers.items():
        place = (*path, "headers", name)
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            yield place, "is not a header name: use letters, digits and -"
        elif lower in _CREDENTIALS:
            yield place, "is a credential: give it as api_key: {env: NAME} or {file: PATH}"
        elif lower in _RESERVED:
            yield place, "is set by the sidecar itself: remove it"
        elif lower in seen:
            yield place, "stands here twice, for case does not matter: keep one"
        seen.add(lower)
        if not _FIELD_VALUE.fullmatch(value):
            yield place, "expected visible ASCII on one line, not empty, no space at either end"


def _ca_fault(name: str) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=name)
    except ssl.SSLError:
        return f"file {name} holds no certificate: expected PEM, as in -----BEGIN CERTIFICATE-----"
    except (OSError, ValueError) as error:
        return f"file {name} cannot be read: {getattr(error, 'strerror', None) or 'not a file name'}"
    return None
