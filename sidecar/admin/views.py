"""What the admin interface shows, as plain values: no HTTP here."""

import os
import sys
import time
from typing import Any

from sidecar import __version__, data_path
from sidecar.admin.cache_views import cache_stats, tiers_off
from sidecar.admin.state import State
from sidecar.break_glass import show_moment
from sidecar.upstream.endpoint import Endpoint


def stats(state: State) -> dict[str, Any]:
    """Name -> number (None where there is no data yet): counts since start, quantiles of the last minute."""
    metrics = state.metrics
    token = metrics.recent_first_token.quantiles(0.5, 0.95, 0.99)
    request = metrics.recent_request.quantiles(0.5, 0.95, 0.99)
    return {
        "server.uptime_s": round(time.time() - state.started_at, 3),
        "server.loop_lag_ms": round(state.clock_lag_s * 1e3, 1),
        "server.memory_bytes": resident_bytes(),
        "http.requests_total": metrics.requests,
        "http.errors_total": metrics.errors,
        "http.requests_in_flight": metrics.in_flight,
        "http.streams_open": metrics.streams_open,
        **{f"http.first_token_p{q}_ms": _ms(v) for q, v in zip((50, 95, 99), token, strict=True)},
        **{f"http.request_p{q}_ms": _ms(v) for q, v in zip((50, 95, 99), request, strict=True)},
        "config.reloads_ok_total": metrics.reloads["ok"],
        "config.reloads_failed_total": metrics.reloads["failed"],
        "access_log.dropped_total": metrics.log_lines_dropped,
        **cache_stats(state),
    }


def clusters(state: State) -> list[dict[str, Any]]:
    """The providers with their endpoints, closest first."""
    now_s = time.monotonic()
    return [
        {
            "name": provider.name,
            "rq_queued": provider.slots.waiting,
            "endpoints": [_endpoint(endpoint, now_s) for endpoint in provider.endpoints],
        }
        for provider in state.snapshot.providers.values()
    ]


def clusters_text(state: State) -> str:
    """Envoy's line format: cluster::host::name::value; the value is empty where there is no data yet."""
    lines = []
    for cluster in clusters(state):
        for endpoint in cluster["endpoints"]:
            start = f"{cluster['name']}::{endpoint.pop('url')}"
            lines += [f"{start}::{name}::{'' if v is None else v}" for name, v in endpoint.items()]
    return "\n".join(lines) + "\n"


def server_info(state: State) -> dict[str, Any]:
    """Version, state, addresses and the libraries a bug report needs."""
    from importlib import metadata  # 1 MB of imports for something that is rarely asked

    return {
        "version": __version__,
        "data_path": data_path(),
        "state": state.phase,
        "ready": state.is_ready,
        "pid": os.getpid(),
        "uptime_s": round(time.time() - state.started_at, 1),
        "listeners": state.bound,
        "break_glass": break_glass(state),
        "cache_off": tiers_off(state),
        "python": sys.version.split()[0],
        "libraries": {name: metadata.version(name) for name in ("aiohttp", "httptools", "orjson", "uvloop")},
    }


def break_glass(state: State) -> dict[str, Any]:
    """Whether the direct providers may be asked, who said so, and what to know besides."""
    glass = state.break_glass
    grant = glass.in_force
    return {
        "on": grant is not None,
        "since": None if grant is None else show_moment(grant.since_s),
        "until": None if grant is None else show_moment(grant.until_s),
        "left_s": round(glass.left_s, 1),
        "reason": None if grant is None else grant.reason,
        "by": None if grant is None else grant.by,
        "providers": glass.providers,
        "notes": glass.notes(),
    }


def resident_bytes() -> int:
    """The process's resident memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _endpoint(endpoint: Endpoint, now_s: float) -> dict[str, Any]:
    """`last_error` says why it is out, or else what went wrong last: one failure takes nobody out."""
    pool = endpoint.pool
    is_up, said = endpoint.health(now_s)
    return {
        "url": endpoint.url,
        "region": endpoint.region,
        "zone": endpoint.zone,
        "health": "up" if is_up else "down",
        "breaker": endpoint.breaker.state,
        "parked": len(endpoint.parking),
        "last_error": said,
        "rq_total": endpoint.requests,
        "rq_error": endpoint.failures,
        "rq_active": endpoint.in_flight,
        "cx_active": pool.open_count,
        "cx_idle": pool.idle_count,
        "cx_total": pool.dialled,
        "first_token_p50_ms": _ms(endpoint.first_token.quantiles(0.5)[0]),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)
