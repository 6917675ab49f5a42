"""Configuration made live: an immutable `Snapshot` that requests read, swapped whole on reload.

A request keeps the snapshot it started with. Endpoints are the exception to "built anew": one whose provider,
address and TLS stay the same is carried over with its connections and counters, so that a reload neither
drops a stream nor forgets what is known of an endpoint's health.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.clock import Ticker
from sidecar.config.auth import ServiceAccounts
from sidecar.config.model import Config, Model
from sidecar.config.model import Provider as ProviderConfig
from sidecar.policy.callers import Callers
from sidecar.routing.plan import Candidate, Plan
from sidecar.routing.router import Router
from sidecar.tasks import spawn
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.connection import Connection
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health import HealthChecker, asker
from sidecar.upstream.pool import Address
from sidecar.upstream.provider import Provider, ProviderState
from sidecar.upstream.tls import ClientContext, client_context

if TYPE_CHECKING:
    from sidecar.issuer import Issuer


class Snapshot:
    """What a request needs to know of the configuration."""

    def __init__(
        self,
        config: Config,
        providers: dict[str, Provider],
        team: str,
        issuer: "Issuer | None" = None,
    ) -> None:
        self.config = config
        self.providers = providers
        self.router = Router(config, providers)
        self.callers = Callers(config, team, issuer)
        self.max_body_bytes = config.listen.max_body_bytes
        self.hosts = frozenset(host.lower() for host in config.listen.hosts)
        self.origins = frozenset(str(origin) for origin in config.listen.origins)
        everything = config.models.get("*")
        self.default = None if everything is None else providers[everything.provider]
        # What is passed through unread has one provider and nothing to fall back on.
        self.unread = None if self.default is None else _unread(self.default)


def _unread(provider: Provider) -> Plan:
    return Plan((Candidate("", Model(provider=provider.name), provider),))


class Runtime:
    """Holds the current snapshot and builds the next."""

    snapshot: Snapshot

    def __init__(self, ticker: Ticker, metrics: Metrics, team: str) -> None:
        self._ticker = ticker
        self._metrics = metrics
        self._team = team
        self._endpoints: dict[tuple[object, ...], Endpoint] = {}
        self._states: dict[str, ProviderState] = {}
        self._checks: list[asyncio.Task[None]] = []
        self._issuer: Issuer | None = None
        ticker.every_second(self._each_second)

    def apply(self, config: Config) -> None:
        """Make `config` the current one. Raises OSError or ssl.SSLError for a CA file that cannot be used;
        then nothing has changed."""
        kept: dict[tuple[object, ...], Endpoint] = {}
        home = (config.locality.region or "", config.locality.zone or "")
        endpoints = {name: self._build(name, provider, kept) for name, provider in config.providers.items()}
        # From here on nothing fails.
        for key, endpoint in self._endpoints.items():
            if key not in kept:
                endpoint.pool.retire()
        self._endpoints = kept
        self._states = {name: self._state(name, provider) for name, provider in config.providers.items()}
        providers: dict[str, Provider] = {}
        for name, provider in config.providers.items():
            for endpoint in endpoints[name]:
                endpoint.pool.connect_s = provider.timeouts.connect_s
                endpoint.breaker.configure(provider.circuit_breaker)
            providers[name] = Provider(name, provider, endpoints[name], home, self._states[name])
        self._metrics.configure(frozenset(config.models))
        self._issuer = self._issuer_of(config.auth.service_accounts)
        self.snapshot = Snapshot(config, providers, self._team, self._issuer)
        self._check_health(config)

    async def ready(self) -> None:
        """Wait until the keys of callers' tokens were asked for once: some seconds at most."""
        if self._issuer is not None:
            await self._issuer.tried()

    def close(self) -> None:
        """End what runs in the background and close all idle connections to providers."""
        for task in self._checks:
            task.cancel()
        if self._issuer is not None:
            self._issuer.stop()
        for endpoint in self._endpoints.values():
            endpoint.pool.retire()

    def _state(self, name: str, config: ProviderConfig) -> ProviderState:
        state = self._states.get(name)
        if state is None:
            return ProviderState(config, self._ticker)
        state.configure(config)
        return state

    def _build(
        self, name: str, config: ProviderConfig, kept: dict[tuple[object, ...], Endpoint]
    ) -> list[Endpoint]:
        """A provider's endpoints, those carried over that are still the same."""
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
            kept[key] = endpoint
            endpoints.append(endpoint)
        return endpoints

    def _issuer_of(self, config: ServiceAccounts | None) -> "Issuer | None":
        """Who has the keys of callers' tokens: as long as it is the same API server, the one there is."""
        before = self._issuer
        if config is not None:
            from sidecar.issuer import Issuer, source_of  # with PyJWT and cryptography 9 MB

            if before is not None and before.source == source_of(config):
                return before
        if before is not None:
            before.stop()
        return None if config is None else Issuer(config, lambda: self.snapshot.callers.forget())

    def _check_health(self, config: Config) -> None:
        """Begin the active health checks anew, where they are configured."""
        for task in self._checks:
            task.cancel()
        self._checks = []
        for name, provider in config.providers.items():
            if provider.health_check is None:
                for endpoint in self.snapshot.providers[name].endpoints:
                    endpoint.is_checked_out = False
                continue
            key = provider.api_key.reveal() if provider.api_key is not None else None
            ask = asker(provider.health_check.path, key, provider.headers)
            checker = HealthChecker(
                self.snapshot.providers[name].endpoints, provider.health_check, ask, _take_out
            )
            self._checks.append(spawn(checker.run(), f"health checks of {name}"))

    def _each_second(self, now_s: float) -> None:
        for endpoint in self._endpoints.values():
            endpoint.pool.expire(now_s)
            endpoint.parking.expire(now_s)
            endpoint.first_token.advance(now_s)
        for provider in self.snapshot.providers.values():
            provider.budget.advance(now_s)
            provider.localities.refresh()
            for endpoint in provider.localities.to_measure(now_s):
                spawn(_measure(endpoint), f"measure {endpoint.url}")


async def _measure(endpoint: Endpoint) -> None:
    """Dial an endpoint that gets no traffic, to know how far it is; the connection is kept for a request."""
    outcome = await endpoint.pool.connect()
    if isinstance(outcome, Connection):
        endpoint.pool.keep(outcome)


def _take_out(endpoint: Endpoint, is_out: bool) -> None:
    endpoint.is_checked_out = is_out
