"""Who may spend what, through a running sidecar: keys, limits, budgets, prices and the ledger."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar import accounts
from sidecar.accounts import Accounts
from sidecar.attempt import Attempt
from sidecar.commands.key import hash_of
from sidecar.config.load import parse
from sidecar.exchange import Usage
from sidecar.fleet.leases import Leases
from sidecar.openai import Call, read_call
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.routing.plan import Plan
from sidecar.usage.report import Window, report
from sidecar.usage.store import open_read_only
from tests.routing.support import asking as asking_router
from tests.routing.support import router_for
from tests.support.demo import QUESTION, STREAM, demo_provider
from tests.support.exchanges import finished
from tests.support.http1 import Answer, ask
from tests.support.raw import post
from tests.support.redis import fleet_of
from tests.support.running import ENVIRON, Running, config_for, running

PRICE = {"input": 1.0, "output": 10.0}
PREMIUM = {"provider": "p", "price": PRICE, "premium": True, "max_output": 100}
ANSWER_TOKENS = 20
MODELS = {"listed": {"provider": "p"}, "*": {"provider": "p"}}


def asking(key: str = "", **facts: Any) -> bytes:
    headers = f"Authorization: Bearer {key}\r\n" if key else ""
    return post(orjson.dumps({**QUESTION, **facts}), headers=headers, close=False)


def listed(name: str, key: str, **facts: Any) -> dict[str, Any]:
    return {"id": name, "hash": hash_of(key), **facts}


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = orjson.loads(answer.body)["error"]
    return error


def usage_of(answer: Answer) -> dict[str, int]:
    usage: dict[str, int] = orjson.loads(answer.body)["usage"]
    return usage


async def statuses(sidecar: Running, request: bytes, count: int) -> list[int]:
    return [(await ask(sidecar.port, request)).status for _ in range(count)]


# --- keys ---


@pytest.mark.parametrize("key", ["", "wrong", "sk-provider-secret", hash_of("right"), "x" * 6000])
async def test_only_listed_keys_may_call_where_keys_are_asked_for(key: str) -> None:
    keys = [listed("a", "right", team="payments")]
    async with demo_provider() as provider:
        tree = config_for(provider.url, auth={"mode": "keys"}, keys=keys)
        async with running(tree) as sidecar:
            refused = await ask(sidecar.port, asking(key))
            assert (refused.status, error_of(refused)["code"]) == (401, "invalid_api_key")
            assert not provider.requests
            assert (await ask(sidecar.port, asking("right"))).status == 200
            assert provider.requests[0].api_key == "sk-provider-secret"
            labels = {"team": "payments", "model": "demo", "provider": "p", "region": "", "code": "200"}
            assert await sidecar.metric("sidecar_requests_total", **labels) == 1


async def test_the_upload_lane_asks_for_a_key_too() -> None:
    upload = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\n"
    async with demo_provider() as provider:
        tree = config_for(provider.url, auth={"mode": "keys"}, keys=[listed("a", "right")])
        async with running(tree) as sidecar:
            refused = await ask(sidecar.port, upload + b"Content-Length: 3\r\n\r\nabc")
            assert refused.status == 401
            assert not provider.requests


async def test_two_keys_overlap_in_a_rotation_without_a_failed_request() -> None:
    async with demo_provider() as provider:
        old, new = listed("old", "k1", team="t"), listed("new", "k2", team="t")
        async with running(config_for(provider.url, auth={"mode": "keys"}, keys=[old])) as sidecar:
            assert await statuses(sidecar, asking("k1"), 2) == [200, 200]
            for keys, answers in (([old, new], [200, 200]), ([new], [401, 200])):
                tree = config_for(provider.url, auth={"mode": "keys"}, keys=keys)
                sidecar.sidecar._apply(parse(orjson.dumps(tree), ENVIRON).config)
                assert [(await ask(sidecar.port, asking(key))).status for key in ("k1", "k2")] == answers


async def test_a_key_reaches_only_its_models_and_regions() -> None:
    async with demo_provider("us") as us, demo_provider("eu") as eu:
        keys = [
            listed("a", "european", regions=["eu"], models=["demo"]),
            listed("b", "nowhere", regions=["ap"]),
        ]
        tree = config_for(us.url, eu.url, keys=keys, locality={"region": "us"})
        for endpoint, region in zip(tree["providers"]["p"]["endpoints"], ("us", "eu"), strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            for _ in range(5):
                assert (await ask(sidecar.port, asking("european"))).head.get("x-sidecar-region") == "eu"
            eu.scenario.update({"error_ratio": 1.0})
            assert (await ask(sidecar.port, asking("european"))).status == 500
            refused = await ask(sidecar.port, asking("european", model="other"))
            assert (refused.status, error_of(refused)["code"]) == (403, "model_not_allowed")
            refused = await ask(sidecar.port, asking("nowhere"))
            assert refused.status == 503
            assert "regions of this key (ap)" in error_of(refused)["message"]
        assert not us.requests


# --- limits ---


async def test_an_empty_bucket_is_told_at_once_and_says_when_to_come_back() -> None:
    async with demo_provider() as provider:
        tree = config_for(provider.url, tiers={"standard": {"requests_per_minute": 2}})
        async with running(tree) as sidecar:
            assert await statuses(sidecar, asking(), 2) == [200, 200]
            refused = await ask(sidecar.port, asking())
            assert (refused.status, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
            assert refused.head.get("x-ratelimit-limit-requests") == "2"
            assert refused.head.get("x-ratelimit-remaining-requests") == "0"
            assert 0 < int(refused.head.get("retry-after") or 0) <= 30
            assert len(provider.requests) == 2
            assert await sidecar.metric("sidecar_limited_total", limit="tier standard", dry_run="false") == 1


async def test_a_pro_key_has_the_limits_of_its_tier_where_it_is_forwarded() -> None:
    tiers = {
        "standard": {"requests_per_minute": 1},
        "pro": {"key_prefix": "ga_pro_", "requests_per_minute": 3},
    }
    async with demo_provider() as provider:
        tree = config_for(provider.url, tiers=tiers)
        del tree["providers"]["p"]["api_key"]
        async with running(tree) as sidecar:
            assert await statuses(sidecar, asking("ga_pro_1"), 4) == [200, 200, 200, 429]
            assert await statuses(sidecar, asking("ga_standard_1"), 2) == [200, 429]


async def test_tokens_are_reserved_at_the_worst_case_and_settled_by_what_was_used() -> None:
    async with demo_provider(knobs={"tokens": ANSWER_TOKENS}) as provider:
        tree = config_for(provider.url, tiers={"standard": {"tokens_per_minute": 3000}})
        async with running(tree) as sidecar:
            # Three worst cases do not fit; settled they are a tenth of it.
            for _ in range(5):
                assert (await ask(sidecar.port, asking(max_tokens=2000))).status == 200
                await asyncio.sleep(0.06)  # the next tick settles
            refused = await ask(sidecar.port, asking(max_tokens=5000))
            assert refused.head.get("x-should-retry") == "false"
            assert "never fits" in error_of(refused)["message"]


async def test_a_dry_run_only_counts() -> None:
    async with demo_provider() as provider:
        tree = config_for(provider.url, tiers={"standard": {"requests_per_minute": 1, "dry_run": True}})
        async with running(tree) as sidecar:
            assert await statuses(sidecar, asking(), 3) == [200, 200, 200]
            assert await sidecar.metric("sidecar_limited_total", limit="tier standard", dry_run="true") == 2


# --- prices ---


async def test_cost_and_saving_are_counted_and_a_model_without_price_is_never_free() -> None:
    models = {"demo": {"provider": "p", "price": PRICE}, "*": {"provider": "p"}}
    telemetry = {"access_log": "off", "baseline": {"name": "b", "price": {"input": 2.0, "output": 20.0}}}
    async with (
        demo_provider(knobs={"tokens": ANSWER_TOKENS}) as provider,
        running(config_for(provider.url, models=models, telemetry=telemetry)) as sidecar,
    ):
        usage = usage_of(await ask(sidecar.port, asking()))
        cost = (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 10.0) / 1e6
        labels = {"team": "test", "model": "demo", "provider": "p", "region": ""}
        assert await sidecar.metric("sidecar_cost_usd_total", **labels) == pytest.approx(cost)
        assert await sidecar.metric("sidecar_saved_usd_total", **labels) == pytest.approx(cost)
        await ask(sidecar.port, asking(model="other"))
        labels["model"] = "other"
        assert await sidecar.metric("sidecar_unpriced_total", **labels) == 1
        assert await sidecar.metric("sidecar_cost_usd_total", **labels) == 0


async def test_only_the_answer_that_was_given_is_paid_for() -> None:
    models = {
        "dear": {"provider": "p", "price": {"input": 100.0, "output": 100.0}, "fallback": ["cheap"]},
        "cheap": {"provider": "p", "price": PRICE},
    }
    knobs = {"error_ratio": 1.0, "error_models": ["dear"], "tokens": ANSWER_TOKENS}
    async with demo_provider(knobs=knobs) as provider:
        tree = config_for(provider.url, models=models, provider={"retry": {"attempts": 3}})
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, asking(model="dear"))
            assert answer.head.get("x-sidecar-model") == "cheap"
            usage = usage_of(answer)
            cost = (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 10.0) / 1e6
            labels = {"team": "test", "model": "cheap", "provider": "p", "region": ""}
            assert await sidecar.metric("sidecar_cost_usd_total", **labels) == pytest.approx(cost)
            assert await sidecar.metric("sidecar_cost_usd_total", **{**labels, "model": "dear"}) is None


# --- budgets ---


def budgeted(url: str, usd: float, at_limit: str = "reject", **changes: Any) -> dict[str, Any]:
    models = {"Pro/demo": PREMIUM, "*": {"provider": "p", "price": {"input": 0.0, "output": 0.1}}}
    budget = {"name": "premium", "models": ["Pro/*"], "usd": usd, "window": "day", "at_limit": at_limit}
    return config_for(url, models=models, budgets=[budget], **changes)


async def test_a_hundred_requests_at_once_do_not_exceed_a_budget() -> None:
    worst_usd = 0.0012  # 100 tokens of output and some input
    async with (
        demo_provider(knobs={"tokens": 100, "first_token_s": 0.05}) as provider,
        running(budgeted(provider.url, 10 * worst_usd)) as sidecar,
    ):
        answers = await asyncio.gather(
            *(ask(sidecar.port, asking(model="Pro/demo", max_tokens=100)) for _ in range(100))
        )
        good = [answer for answer in answers if answer.status == 200]
        assert 5 <= len(good) <= 11
        assert {error_of(a)["code"] for a in answers if a.status != 200} == {"budget_exceeded"}
        spent = await sidecar.metric("sidecar_budget_usd", budget="premium", team="test", kind="spent")
        assert spent is not None
        assert spent <= 10 * worst_usd
        # What is not premium goes on.
        assert (await ask(sidecar.port, asking())).status == 200


async def test_a_route_goes_down_to_its_cheapest_model_when_the_premium_budget_is_used_up() -> None:
    routes = {"auto": {"split": [{"model": "Pro/demo", "weight": 1}], "fallback": ["small"]}}
    async with demo_provider() as provider:
        tree = budgeted(provider.url, 0.000001, "downgrade", routes=routes)
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, asking(model="auto"))
            assert (answer.status, answer.head.get("x-sidecar-model")) == (200, "small")
            refused = await ask(sidecar.port, asking(model="Pro/demo"))
            assert (refused.status, error_of(refused)["code"]) == (429, "budget_exceeded")
            assert refused.head.get("x-should-retry") == "false"


async def test_a_fallback_that_there_is_no_money_for_is_passed_over() -> None:
    models = {
        "first": {"provider": "p", "price": PRICE, "fallback": ["Pro/demo", "last"]},
        "Pro/demo": PREMIUM,
        "last": {"provider": "p", "price": PRICE},
    }
    knobs = {"error_ratio": 1.0, "error_models": ["first"]}
    async with demo_provider(knobs=knobs) as provider:
        tree = budgeted(provider.url, 0.000001, provider={"retry": {"attempts": 3}})
        tree["models"] = models
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, asking(model="first"))
            assert (answer.status, answer.head.get("x-sidecar-model")) == (200, "last")


async def test_a_failed_request_gives_its_reservation_back() -> None:
    async with (
        demo_provider(knobs={"error_ratio": 1.0, "error_status": 400}) as provider,
        running(budgeted(provider.url, 0.0015)) as sidecar,
    ):
        assert await statuses(sidecar, asking(model="Pro/demo", max_tokens=100), 1) == [400]
        provider.scenario.update({"error_ratio": 0.0})
        await asyncio.sleep(0.06)
        assert await statuses(sidecar, asking(model="Pro/demo", max_tokens=100), 1) == [200]


# --- the ledger ---


async def test_a_restart_forgets_no_spending(tmp_path: Path) -> None:
    path = str(tmp_path / "usage.db")
    async with demo_provider(knobs={"tokens": 100}) as provider:
        tree = budgeted(provider.url, 0.0015, usage={"path": path})
        async with running(tree) as sidecar:
            assert await statuses(sidecar, asking(model="Pro/demo", max_tokens=100), 1) == [200]
        async with running(tree) as sidecar:
            assert await statuses(sidecar, asking(model="Pro/demo", max_tokens=100), 1) == [429]
    told = report(open_read_only(path), ["model"], Window())
    lines = {line.group[0]: line for line in told.lines}
    assert (lines["Pro/demo"].figures["requests"], lines["Pro/demo"].figures["attempts"]) == (2, 1)


async def test_a_cut_stream_is_paid_for_as_far_as_it_came() -> None:
    models = {"demo": {"provider": "p", "price": PRICE}}
    knobs = {"tokens": 40, "cut_after_events": 21}
    async with (
        demo_provider(knobs=knobs) as provider,
        running(config_for(provider.url, models=models)) as sidecar,
    ):
        answer = await ask(sidecar.port, post(orjson.dumps(STREAM), close=False))
        assert not answer.is_whole
        labels = {"team": "test", "model": "demo", "provider": "p", "region": ""}
        cost = await sidecar.metric("sidecar_cost_usd_total", **labels)
        assert cost is not None
        assert cost * 1e6 == pytest.approx(20 * 10, rel=0.25)


# --- break-glass ---


def broken_with_direct(url: str, direct: str, **changes: Any) -> dict[str, Any]:
    tree = config_for(url, provider={"retry": {"attempts": 2}}, **changes)
    tree["providers"]["direct"] = {
        "api_key": {"env": "KEY"},
        "endpoints": [{"url": direct, "region": "us"}],
        "break_glass": True,
    }
    return tree


async def test_what_break_glass_serves_counts_twice() -> None:
    async with demo_provider(knobs={"error_ratio": 1.0}) as broken, demo_provider() as direct:
        tiers = {"standard": {"requests_per_minute": 4}}
        tree = broken_with_direct(broken.url, direct.url, tiers=tiers)
        async with running(tree) as sidecar:
            assert (await ask(sidecar.port, asking())).status == 500
            assert not direct.requests
            sidecar.sidecar.break_glass.turn_on(60.0, "the provider is down", "test")
            # Three are left: one request that takes two, and one that cannot.
            answers = [await ask(sidecar.port, asking()) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 500, 429]
            assert answers[0].head.get("x-sidecar-provider") == "direct"
            assert len(direct.requests) == 1


async def test_residency_binds_under_break_glass_too() -> None:
    async with demo_provider(knobs={"error_ratio": 1.0}) as broken, demo_provider() as direct:
        tree = broken_with_direct(broken.url, direct.url, keys=[listed("a", "european", regions=["eu"])])
        tree["providers"]["p"]["endpoints"][0]["region"] = "eu"
        async with running(tree) as sidecar:
            sidecar.sidecar.break_glass.turn_on(60.0, "the provider is down", "test")
            assert (await ask(sidecar.port, asking())).head.get("x-sidecar-provider") == "direct"
            assert (await ask(sidecar.port, asking("european"))).status == 500
            assert len(direct.requests) == 1


# --- in a fleet ---


def test_the_fleets_totals_are_of_a_bounded_number_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_LEARNED_MODELS", 2)
    config = parse(orjson.dumps(config_for("http://p.example/v1", models=MODELS)), ENVIRON).config
    leases = Leases(fleet_of("redis://127.0.0.1:1"))
    one = Accounts(config, None, lambda: 120.0, leases)
    for model in ("listed", "a", "b", "c", "a"):
        one._add_total(leases, "team", model, Usage(10, 5), 7, is_request=True)
    one._add_total(leases, "team", "b", Usage(1, 0), None, is_request=False)
    one._add_total(leases, "team", "listed", None, None, is_request=True)
    assert sorted(leases.totals.drain()) == [
        (2, "team", "a", 2, 30, 14),
        (2, "team", "b", 1, 16, 7),
        (2, "team", "listed", 2, 15, 7),
        (2, "team", "other", 1, 15, 7),
    ]


def fleet_desk() -> tuple[Accounts, Plan, Call]:
    """Of a sidecar that Redis has answered, and leased nothing to yet."""
    sections: dict[str, Any] = {
        "tiers": {"standard": {"requests_per_minute": 100, "tokens_per_minute": 100_000}},
        "models": {"*": {"provider": "p", "price": PRICE}},
        "budgets": [{"name": "b", "usd": 1.0}],
    }
    config = parse(orjson.dumps(config_for("http://p.example/v1", **sections)), ENVIRON).config
    leases = Leases(fleet_of("redis://127.0.0.1:1", expected=2))
    leases._standing.is_local = False
    plan = router_for(**sections).plan(*asking_router("m"))
    call = read_call(b'{"model":"m","max_tokens":100}')
    assert plan is not None and isinstance(call, Call)
    return Accounts(config, None, leases=leases), plan, call


async def test_who_waited_in_vain_has_its_part_of_what_the_fleet_has_left_and_no_more() -> None:
    one, plan, call = fleet_desk()
    waited = asyncio.get_running_loop().create_future()
    caller = Caller("team", "standard", 0, SHARED_BUCKET)

    def admitted(*waited_for: Any) -> bool:
        attempt, now_s = Attempt(), time.monotonic()
        refusal = one.admit(finished(body=b"x" * 40), attempt, caller, call, plan, now_s, *waited_for)
        assert attempt.account is not None
        return refusal is None and isinstance(one.reserve(attempt.account, call, plan, *waited_for), Plan)

    assert not admitted()
    # Half of 100 requests; the tokens and dollars would last for longer.
    assert [admitted(waited) for _ in range(60)].count(True) in (50, 51)
    assert not admitted()
    (status,) = one.budgets.status(time.time())
    assert status.reserved_nano_usd <= 0.5 * 1e9


def test_a_sidecar_by_itself_waits_for_nothing() -> None:
    config = parse(orjson.dumps(config_for("http://p.example/v1")), ENVIRON).config
    one = Accounts(config, None)
    assert (one.leases, one.is_on) == (None, False)
