"""A configuration made live, and what of the one before carries over."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.config.model import Config
from sidecar.routing.router import MAX_REMEMBERED
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.routing.support import asking
from tests.support.certificates import Authority
from tests.support.demo import QUESTION
from tests.support.http1 import ask
from tests.support.raw import post, raw_provider
from tests.support.running import ENVIRON, config_for, running
from tests.support.waiting import until
from tests.upstream.test_tls import TlsProvider

A, B = "http://a.example/v1", "http://b.example/v1"


def config(*urls: str, environ: dict[str, str] | None = None, **changes: Any) -> Config:
    return parse(orjson.dumps(config_for(*urls, **changes)), environ or ENVIRON).config


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(Ticker(lambda: 0.0), Metrics("1"), "team")


def endpoints(runtime: Runtime) -> list[Any]:
    return runtime.snapshot.providers["p"].endpoints


def test_an_endpoint_that_stays_is_carried_over_with_its_counters(runtime: Runtime) -> None:
    runtime.apply(config(A, B))
    kept, _ = endpoints(runtime)
    kept.requests = 17
    runtime.apply(config(A, "http://c.example/v1", provider={"headers": {"x-new": "1"}}))
    now, new = endpoints(runtime)
    assert now is kept
    assert (now.requests, new.requests) == (17, 0)


@pytest.mark.parametrize(
    "change",
    [{"region": "eu-west-1"}, {"zone": "a"}, {"url": "http://a.example/v2"}, {"url": "https://a.example/v1"}],
)
def test_an_endpoint_that_is_another_one_now_starts_anew(runtime: Runtime, change: dict[str, str]) -> None:
    runtime.apply(config(A))
    (before,) = endpoints(runtime)
    tree = config_for(A)
    tree["providers"]["p"]["endpoints"][0] |= change
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    assert endpoints(runtime)[0] is not before


def test_the_snapshot_before_stays_as_it_was(runtime: Runtime) -> None:
    runtime.apply(config(A))
    before = runtime.snapshot
    runtime.apply(config(B))
    assert [e.url for e in before.providers["p"].endpoints] == [A]
    assert [e.url for e in endpoints(runtime)] == [B]


def test_a_change_of_the_connect_timeout_reaches_kept_endpoints(runtime: Runtime) -> None:
    runtime.apply(config(A))
    runtime.apply(config(A, provider={"timeouts": {"connect": "250ms"}}))
    assert endpoints(runtime)[0].pool.connect_s == 0.25


def test_the_first_entry_that_matches_serves_a_model(runtime: Runtime) -> None:
    tree = config_for(A)
    tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": B}]}
    tree["models"] = {"exact": {"provider": "q"}, "pro/*": {"provider": "q"}, "p*": {"provider": "p"}}
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    router = runtime.snapshot.router
    found = {name: router.plan(*asking(name)) for name in ("exact", "pro/x", "pro", "exactly", "other")}
    names = {name: plan.candidates[0].provider.name if plan else None for name, plan in found.items()}
    assert names == {"exact": "q", "pro/x": "q", "pro": "p", "exactly": None, "other": None}
    assert runtime.snapshot.default is None


def test_names_from_callers_are_remembered_within_bounds(runtime: Runtime) -> None:
    runtime.apply(config(A))
    router = runtime.snapshot.router
    for number in range(2 * MAX_REMEMBERED):
        assert router.plan(*asking(f"m{number}")) is not None
    assert len(router._plans) <= MAX_REMEMBERED


# --- with connections ---


async def test_connections_of_a_removed_endpoint_are_closed_and_those_of_a_kept_one_stay() -> None:
    async with raw_provider() as first, raw_provider() as second, running(config_for(first.url)) as sidecar:
        await ask(sidecar.port, post(orjson.dumps(QUESTION)))
        pool = sidecar.endpoint().pool
        sidecar.sidecar.runtime.apply(config(first.url, second.url))
        assert (pool.open_count, pool.idle_count) == (1, 1)
        sidecar.sidecar.runtime.apply(config(second.url))
        assert pool.idle_count == 0
        await ask(sidecar.port, post(orjson.dumps(QUESTION)))
        assert len(second.requests) == 1
        assert first.closed == 1


async def test_authorities_that_are_rotated_in_place_are_taken(tmp_path: Path) -> None:
    old = Authority(tmp_path)
    async with TlsProvider(old.server("localhost")).serving() as provider:
        settings = {"tls": {"ca_file": old.ca_file}}
        async with running(config_for(provider.url, provider=settings)) as sidecar:
            request = post(orjson.dumps(QUESTION), close=False)
            assert (await ask(sidecar.port, request)).status == 200
            await provider.hang_up()
            await until(lambda: sidecar.endpoint().pool.open_count == 0)
            Authority(tmp_path)  # the same file, another authority
            sidecar.sidecar.runtime.apply(config(provider.url, provider=settings))
            assert (await ask(sidecar.port, request)).status == 503


async def test_an_authority_file_that_broke_changes_nothing(tmp_path: Path) -> None:
    good = Authority(tmp_path)
    runtime = Runtime(Ticker(lambda: 0.0), Metrics("1"), "team")
    runtime.apply(config(A))
    before = runtime.snapshot
    wanted = config(A, "https://b.example/v1", provider={"tls": {"ca_file": good.ca_file}})
    Path(good.ca_file).write_text("broken")
    with pytest.raises(OSError):
        runtime.apply(wanted)
    assert runtime.snapshot is before
    assert endpoints(runtime)[0].pool.connect_s == 1.0
