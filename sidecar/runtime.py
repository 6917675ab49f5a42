"""Configuration made live: an immutable `Snapshot` that requests read, swapped whole on reload.

A request keeps the snapshot it started with. Endpoints are the exception to "built anew": one whose provider,
address and TLS stay the same is carried over with its connections and counters, so that a reload neither
drops a stream nor forgets what is known of an endpoint's health.
"""

from pathlib import Path

from sidecar.clock import Ticker
from sidecar.config.model import Config, matches
from sidecar.config.model import Provider as ProviderConfig
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Address
from sidecar.upstream.provider import Provider
from sidecar.upstream.tls import ClientContext, client_context

MAX_REMEMBERED_MODELS = 1000


class Snapshot:
    """What a request needs to know of the configuration."""

    def __init__(self, config: Config, providers: dict[str, Provider], team: str) -> None:
        self.config = config
        self.providers = providers
        self.team = team
        self.max_body_bytes = config.listen.max_body_bytes
        self.hosts = frozenset(host.lower() for host in config.listen.hosts)
        self.origins = frozenset(str(origin) for origin in config.listen.origins)
        everything = config.models.get("*")
        self.default = providers[everything.provider] if everything is not None else None
        self.lists_models = self.default or next(iter(providers.values()))
        self._patterns = [(pattern, providers[model.provider]) for pattern, model in config.models.items()]
        self._found: dict[str, Provider | None] = {}

    def find(self, model: str) -> Provider | None:
        """The provider that serves a model: the first entry that matches. Remembered, within bounds."""
        try:
            return self._found[model]
        except KeyError:
            provider = next((p for pattern, p in self._patterns if matches(pattern, model)), None)
            if len(self._found) < MAX_REMEMBERED_MODELS:
                self._found[model] = provider
            return provider


class Runtime:
    """Holds the current snapshot and builds the next."""

    snapshot: Snapshot

    def __init__(self, ticker: Ticker, metrics: Metrics, team: str) -> None:
        self._ticker = ticker
        self._metrics = metrics
        self._team = team
        self._endpoints: dict[tuple[object, ...], Endpoint] = {}
        ticker.every_second(self._expire)

    def apply(self, config: Config) -> None:
        """Make `config` the current one. Raises OSError or ssl.SSLError for a CA file that cannot be used;
        then nothing has changed."""
        kept: dict[tuple[object, ...], Endpoint] = {}
        home = (config.locality.region or "", config.locality.zone or "")
        providers = {
            name: self._build(name, provider, kept, home) for name, provider in config.providers.items()
        }
        for key, endpoint in self._endpoints.items():
            if key not in kept:
                endpoint.pool.retire()
        self._endpoints = kept
        self._metrics.configure(frozenset(config.models))
        self.snapshot = Snapshot(config, providers, self._team)

    def close(self) -> None:
        """Close all idle connections to providers."""
        for endpoint in self._endpoints.values():
            endpoint.pool.retire()

    def _build(
        self,
        name: str,
        config: ProviderConfig,
        kept: dict[tuple[object, ...], Endpoint],
        home: tuple[str, str],
    ) -> Provider:
        tls: ClientContext | None = None
        # The content, not the name: authorities are rotated in place.
        authorities = Path(config.tls.ca_file).read_bytes() if config.tls.ca_file is not None else None
        endpoints: list[Endpoint] = []
        for wanted in config.endpoints:
            url = wanted.url
            key = (name, str(url), wanted.region, wanted.zone, authorities)
            endpoint = self._endpoints.get(key)
            if endpoint is None:
                if url.is_tls and tls is None:
                    tls = client_context(config.tls.ca_file)
                endpoint = Endpoint(
                    str(url),
                    Address(url.host, url.port, tls if url.is_tls else None),
                    url.authority,
                    url.prefix,
                    wanted.region or "",
                    wanted.zone or "",
                    self._ticker,
                )
            endpoint.pool.connect_s = config.timeouts.connect_s
            kept[key] = endpoint
            endpoints.append(endpoint)
        return Provider(
            name,
            endpoints,
            config.api_key.reveal() if config.api_key is not None else None,
            dict(config.headers),
            config.timeouts,
            "stream_usage" in config.capabilities,
            home,
        )

    def _expire(self, now_s: float) -> None:
        for endpoint in self._endpoints.values():
            endpoint.pool.expire(now_s)
            endpoint.first_token.advance(now_s)
