"""Two sidecars and the Redis they share: limits and budgets hold for both together, also when Redis dies."""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.commands import usage
from sidecar.commands.key import hash_of
from sidecar.config.load import parse
from sidecar.config.problems import ConfigError
from sidecar.demo.provider import DemoProvider
from sidecar.exchange import NANO_USD
from sidecar.server import _refuse_fixed_changes
from tests.support.demo import QUESTION
from tests.support.http1 import Answer, ask, client
from tests.support.raw import post
from tests.support.redis import RedisServer
from tests.support.running import ENVIRON, Running, config_for, running
from tests.support.waiting import until

PRICE = {"input": 1.0, "output": 10.0}


def fleet_config(provider: DemoProvider, **changes: Any) -> dict[str, Any]:
    """One of a fleet of two. It waits for longer than in earnest: the machine may be a busy one."""
    fleet = {"redis": {"env": "REDIS_URL"}, "expected": 2, "timeout": "600ms"}
    return config_for(provider.url, fleet=fleet, **changes)


@contextlib.asynccontextmanager
async def two(redis: RedisServer, tree: dict[str, Any]) -> AsyncIterator[tuple[Running, Running]]:
    """Two sidecars with the same configuration, once both are connected."""
    environ = {**ENVIRON, "REDIS_URL": redis.url}
    async with running(tree, environ) as one, running(tree, environ) as other:
        await until(lambda: leases_of(one).is_connected and leases_of(other).is_connected)
        yield one, other


def leases_of(sidecar: Running) -> Any:
    leases = sidecar.sidecar.accounts.leases
    assert leases is not None
    return leases


async def ask_in_turn(sidecars: tuple[Running, ...], count: int, **facts: Any) -> list[Answer]:
    request = post(orjson.dumps({**QUESTION, **facts}), close=False)
    turns = cycle(sidecars)
    return [await ask(next(turns).port, request) for _ in range(count)]


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


# --- limits ---


async def test_two_sidecars_share_ten_requests_a_minute(redis: RedisServer, provider: DemoProvider) -> None:
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 10}})
    async with two(redis, tree) as sidecars:
        began_s = time.monotonic()
        answers = await ask_in_turn(sidecars, 30)
        took_s = time.monotonic() - began_s
        good = statuses(answers).count(200)
        # Capacity and what has come back meanwhile; of a lease that the other holds none is lost for long.
        assert 9 <= good <= 10 + took_s * 10 / 60
        assert len(provider.requests) == good
        if took_s < 5:
            assert statuses(answers)[-10:] == [429] * 10
        refused = answers[-1]
        assert refused.head.get("x-ratelimit-limit-requests") == "10"
        assert int(refused.head.get("retry-after") or 0) > 0


async def test_tokens_that_one_sidecar_did_not_use_are_there_for_both(
    redis: RedisServer, provider: DemoProvider
) -> None:
    # A worst case is most of the limit, and what is used of it next to nothing.
    tree = fleet_config(provider, tiers={"standard": {"tokens_per_minute": 3000}})
    async with two(redis, tree) as (one, other):
        for sidecar in (one, one, one, other):
            if sidecar is other:
                # What nobody uses goes back after two seconds.
                await until(lambda: not leases_of(one)._standing.active)
            assert statuses(await ask_in_turn((sidecar,), 1, max_tokens=2000)) == [200]
            sidecar.sidecar.metrics  # noqa: B018  # settles


async def test_a_dry_run_counts_what_the_fleet_would_have_refused(
    redis: RedisServer, provider: DemoProvider
) -> None:
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 10, "dry_run": True}})
    async with two(redis, tree) as sidecars:
        assert statuses(await ask_in_turn(sidecars, 20)) == [200] * 20
        over = sum(s.sidecar.accounts.limiter.counts["standard"].would_limit for s in sidecars)
        assert 8 <= over <= 11


async def test_an_upload_is_let_in_without_a_wait(redis: RedisServer, provider: DemoProvider) -> None:
    upload = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\n"
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 10}})
    async with two(redis, tree) as (one, _):
        answers = [await ask(one.port, upload + b"Content-Length: 3\r\n\r\nabc") for _ in range(12)]
        assert answers[0].status != 429
        assert answers[-1].status == 429


async def test_a_caller_that_leaves_while_its_request_waits_leaves_nothing_behind(
    redis: RedisServer, provider: DemoProvider
) -> None:
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 10}})
    async with two(redis, tree) as (sidecar, _):
        redis.pause()
        async with client(sidecar.port) as caller:
            caller.send(post(orjson.dumps(QUESTION), close=False))
            await until(lambda: sidecar.sidecar.metrics.in_flight)
            assert leases_of(sidecar)._waiters or leases_of(sidecar)._served_next
        await until(lambda: not sidecar.sidecar.metrics.in_flight)
        redis.resume()
        await until(lambda: leases_of(sidecar).is_connected)
        assert not provider.requests
        assert statuses(await ask_in_turn((sidecar,), 1)) == [200]


# --- budgets ---


def budgeted(provider: DemoProvider, usd: float, **changes: Any) -> dict[str, Any]:
    budget = {"name": "premium", "models": ["Pro/*"], "usd": usd, "window": "never", **changes}
    models = {"Pro/*": {"provider": "p", "price": PRICE, "premium": True}, "*": {"provider": "p"}}
    return fleet_config(provider, models=models, budgets=[budget])


def spent_usd(sidecar: Running) -> float:
    (status,) = sidecar.sidecar.accounts.budgets.status(time.time())
    return status.spent_nano_usd / NANO_USD


async def test_a_budget_holds_over_two_sidecars(redis: RedisServer, provider: DemoProvider) -> None:
    limit_usd = 0.003  # some ten answers
    async with two(redis, budgeted(provider, limit_usd)) as sidecars:
        answers = await ask_in_turn(sidecars, 40, model="Pro/demo", max_tokens=20)
        codes = {orjson.loads(a.body)["error"]["code"] for a in answers if a.status != 200}
        assert codes == {"budget_exceeded"}
        assert {200, 429} == set(statuses(answers))
        cost_usd = sum(
            (u["prompt_tokens"] * PRICE["input"] + u["completion_tokens"] * PRICE["output"]) / 1e6
            for u in (orjson.loads(a.body)["usage"] for a in answers if a.status == 200)
        )
        assert limit_usd / 2 <= cost_usd <= limit_usd
        # Both come to know what both have spent.
        await until(lambda: all(spent_usd(s) == pytest.approx(cost_usd) for s in sidecars), within_s=8)
        # What no budget counts goes on.
        assert statuses(await ask_in_turn(sidecars, 2)) == [200, 200]


async def test_a_route_goes_down_where_the_fleets_budget_is_used_up_and_not_where_a_lease_is(
    redis: RedisServer, provider: DemoProvider
) -> None:
    tree = budgeted(provider, 0.003, at_limit="downgrade")
    tree["routes"] = {"auto": {"split": [{"model": "Pro/demo", "weight": 1}], "fallback": ["plain"]}}
    async with two(redis, tree) as sidecars:
        answers = await ask_in_turn(sidecars, 40, model="auto", max_tokens=20)
        assert set(statuses(answers)) == {200}
        models = [answer.head.get("x-sidecar-model") for answer in answers]
        # Nothing is leased before the first request of each.
        assert models[:2] == ["Pro/demo"] * 2
        assert models[-10:] == ["plain"] * 10


async def test_what_a_fleet_has_spent_outlives_a_sidecar(redis: RedisServer, provider: DemoProvider) -> None:
    tree = budgeted(provider, 1.0)
    async with two(redis, tree) as (one, _):
        assert statuses(await ask_in_turn((one,), 3, model="Pro/demo", max_tokens=20)) == [200] * 3
        one.sidecar.metrics  # noqa: B018  # settles
        spent = spent_usd(one)
        assert spent > 0
    async with two(redis, tree) as (fresh, _):
        assert statuses(await ask_in_turn((fresh,), 1, model="Pro/demo", max_tokens=20)) == [200]
        assert spent_usd(fresh) >= spent


# --- somebody else was faster ---


@pytest.mark.parametrize("model", ["demo", "Pro/demo"], ids=["limit", "budget"])
async def test_who_waited_for_a_lease_and_finds_it_taken_is_let_in(
    redis: RedisServer, provider: DemoProvider, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Of a limit that nobody has used: a request that comes right after the answer of Redis has all of it."""
    tree = budgeted(provider, 100.0)
    if model == "demo":
        tree["tiers"] = {"standard": {"requests_per_minute": 6000, "tokens_per_minute": 1_000_000}}
    async with two(redis, tree) as (one, _):
        leases = leases_of(one)
        release, taken = leases._release, 0

        def after_somebody(waiters: Any) -> None:
            nonlocal taken
            for lease in tuple(leases._standing.active) if waiters else ():
                taken += lease.take(time.monotonic(), max(1, lease.held))
            release(waiters)

        monkeypatch.setattr(leases, "_release", after_somebody)
        assert statuses(await ask_in_turn((one,), 3, model=model, max_tokens=20)) == [200] * 3
        assert taken


async def test_a_burst_at_limits_that_nobody_has_used_is_let_in(
    redis: RedisServer, provider: DemoProvider
) -> None:
    tree = budgeted(provider, 100.0, per="key")
    tree["tiers"] = {"standard": {"requests_per_minute": 6000}}
    tree["keys"] = [{"id": f"k{number}", "hash": hash_of(f"key{number}")} for number in range(20)]
    body = orjson.dumps({**QUESTION, "model": "Pro/demo", "max_tokens": 20})
    async with two(redis, tree) as (one, _):
        for number in range(20):
            request = post(body, headers=f"Authorization: Bearer key{number}\r\n", close=False)
            answers = await asyncio.gather(*(ask(one.port, request) for _ in range(6)))
            assert statuses(answers) == [200] * 6


# --- Redis away ---


async def test_redis_dies_and_each_sidecar_goes_on_with_its_share(
    redis: RedisServer, provider: DemoProvider
) -> None:
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 40}})
    async with two(redis, tree) as sidecars:
        assert statuses(await ask_in_turn(sidecars, 4)) == [200] * 4
        assert await sidecars[0].metric("sidecar_fleet_connected") == 1
        redis.kill()
        began_s = time.monotonic()
        answers = await ask_in_turn(sidecars, 60)
        await until(lambda: not any(leases_of(sidecar).is_connected for sidecar in sidecars), within_s=8)
        answers += await ask_in_turn(sidecars, 60)
        assert set(statuses(answers)) == {200, 429}
        for sidecar in (0, 1):
            assert statuses(answers[sidecar::2]).count(200) >= 5
        # What was there, and a lease each beside it.
        refilled = (time.monotonic() - began_s) * 40 / 60
        assert statuses(answers).count(200) <= 36 + 2 * 4 + refilled + 1
        assert await sidecars[0].metric("sidecar_fleet_connected") == 0
        assert await sidecars[0].metric("sidecar_fleet_local_share") == 1
        failures = await sidecars[0].metric("sidecar_fleet_failures_total") or 0
        assert 1 <= failures <= (await sidecars[0].metric("sidecar_fleet_round_trips_total") or 0)


async def test_a_sidecar_starts_and_serves_without_redis(provider: DemoProvider) -> None:
    tree = fleet_config(provider, tiers={"standard": {"requests_per_minute": 10}})
    async with running(tree, {**ENVIRON, "REDIS_URL": "redis://127.0.0.1:1"}) as sidecar:
        assert statuses(await ask_in_turn((sidecar,), 7)) == [200] * 5 + [429] * 2


# --- usage ---


def report(config: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    parser = argparse.ArgumentParser(prog="sidecar")
    usage.add_parser(parser.add_subparsers())
    options = parser.parse_args(["usage", "--fleet", "--config", str(config), *more])
    code: int = options.command(options)
    out, errors = capsys.readouterr()
    return code, out, errors


async def test_usage_shows_the_requests_of_the_whole_fleet(
    redis: RedisServer,
    provider: DemoProvider,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis.url)
    config = tmp_path / "config.yaml"
    config.write_text("fleet: {redis: {env: REDIS_URL}, expected: 2}\n")
    code, out, errors = await asyncio.to_thread(report, config, capsys)
    assert (code, out) == (1, "") and "holds no usage yet" in errors
    models = {"demo": {"provider": "p", "price": PRICE}, "*": {"provider": "p"}}
    async with two(redis, fleet_config(provider, models=models)) as (one, other):
        await ask_in_turn((one,), 3)
        await ask_in_turn((other,), 2)
    code, out, errors = await asyncio.to_thread(report, config, capsys, "--format", "json")
    assert (code, errors) == (0, "")
    (row,) = orjson.loads(out)["rows"]
    assert (row["team"], row["model"], row["requests"]) == ("test", "demo", 5)
    assert row["tokens"] > 0 and row["cost_nano_usd"] > 0
    code, out, _ = await asyncio.to_thread(report, config, capsys, "--by", "team,day", "--format", "csv")
    assert code == 0 and out.splitlines()[0] == "team,day,cost_usd,requests,tokens,cost_nano_usd"
    assert out.splitlines()[-1].split(",")[3] == "5"
    redis.kill()
    code, out, errors = await asyncio.to_thread(report, config, capsys)
    assert (code, out) == (1, "")
    assert f"Redis cannot be used: 127.0.0.1:{redis.port} cannot be reached" in errors


# --- reload ---


async def test_a_reload_may_change_a_fleet_but_not_begin_or_end_it(
    redis: RedisServer, provider: DemoProvider
) -> None:
    environ = {**ENVIRON, "REDIS_URL": redis.url}
    alone = parse(orjson.dumps(config_for(provider.url)), environ).config
    tree = fleet_config(provider)
    shared = parse(orjson.dumps(tree), environ).config
    tree["fleet"]["expected"] = 5
    larger = parse(orjson.dumps(tree), environ).config
    _refuse_fixed_changes(shared, larger)
    for old, new in ((alone, shared), (shared, alone)):
        with pytest.raises(ConfigError, match="fleet: cannot change while running"):
            _refuse_fixed_changes(old, new)
    async with running(fleet_config(provider), environ) as sidecar:
        await until(lambda: leases_of(sidecar).is_connected)
        sidecar.sidecar._apply(larger)
        assert leases_of(sidecar)._fleet.expected == 5
