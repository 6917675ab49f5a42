"""What Prometheus gets: the counters, and what the live state adds to them when it is asked."""

import time

from sidecar.accounts import Accounts
from sidecar.admin.state import State
from sidecar.exchange import NANO_USD
from sidecar.telemetry.exposition import Fleet, Health, Limits, expose

_BREAKER_STATES = ("closed", "half_open", "open")


def scrape(state: State) -> bytes:
    """All series, in the text format."""
    providers = state.snapshot.providers.values()
    health = [
        Health(
            provider.name,
            endpoint.url,
            endpoint.region,
            endpoint.breaker.state == "closed" and not endpoint.is_checked_out,
            _BREAKER_STATES.index(endpoint.breaker.state),
        )
        for provider in providers
        for endpoint in provider.endpoints
    ]
    queued = {provider.name: provider.slots.waiting for provider in providers}
    return expose(state.metrics, health, queued, _limits(state.accounts))


def _limits(accounts: Accounts) -> Limits:
    limited: dict[tuple[str, bool], int] = {}
    for tier, counts in accounts.limiter.counts.items():
        limited[f"tier {tier}", False] = counts.limited
        limited[f"tier {tier}", True] = counts.would_limit
    for budget, exceeded in accounts.budgets.counts.items():
        limited[f"budget {budget}", False] = exceeded.exceeded
    budgets: dict[tuple[str, str, str], float] = {}
    for status in accounts.budgets.status(time.time()):
        for kind, nano_usd in (
            ("limit", status.limit_nano_usd),
            ("spent", status.spent_nano_usd),
            ("reserved", status.reserved_nano_usd),
        ):
            budgets[status.name, status.whom, kind] = nano_usd / NANO_USD
    ledger = accounts.ledger
    return Limits(limited, budgets, 0 if ledger is None else ledger.failures, _fleet(accounts))


def _fleet(accounts: Accounts) -> Fleet | None:
    leases = accounts.leases
    if leases is None:
        return None
    has_local_share = leases.local_share_since_s is not None
    return Fleet(leases.is_connected, leases.round_trips, leases.failures, has_local_share)
