"""Explanations: the way of a request as it is now, with nothing changed by asking."""

import copy
import math
import re
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from sidecar.accounts import Accounts
from sidecar.cache.answers import Miss
from sidecar.cache.control import NONE
from sidecar.cache.recording import Record, record_of
from sidecar.caching.tiers import Tiers
from sidecar.clock import Ticker
from sidecar.config.auth import ServiceAccountRule
from sidecar.config.load import parse
from sidecar.config.model import Model
from sidecar.exchange import NANO_USD
from sidecar.explain import Question, explain, question_of
from sidecar.policy.budget import Reservation
from sidecar.policy.callers import SHARED_BUCKET, Caller, bucket_of
from sidecar.policy.service_accounts import Account
from sidecar.routing.plan import Candidate
from sidecar.runtime import Runtime, Snapshot
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from tests.cache.support import plain, request
from tests.policy.support import hash_of
from tests.support.running import ENVIRON, config_for

NOW_S, WALL_S = 1000.0, 1_795_000_000.0  # 2026-11-18
A, B, C = (f"http://{name}.example/v1" for name in "abc")
MODELS = {
    "fast": {
        "provider": "p",
        "price": {"input": 0.1, "output": 0.4},
        "max_output": 1000,
        "fallback": ["deep"],
    },
    "deep": {"provider": "q", "price": {"input": 1.0, "output": 4.0}, "max_output": 1000, "premium": True},
}
ROUTE = {
    "split": [{"model": "fast", "weight": 3}, {"model": "deep", "weight": 1}],
    "fallback": ["fast"],
    "classify": [
        {"when": {"importance": "critical"}, "model": "deep"},
        {"when": {"keywords": ["analyze"]}, "model": "deep"},
    ],
}
KEYS = [
    {"id": "a", "team": "payments", "tier": "pro", "hash": hash_of("secret-a"), "regions": ["r1"]},
    {"id": "b", "hash": hash_of("secret-b"), "models": ["fast"], "expires": "2026-11-30"},
]
TIERS = {"standard": {"requests_per_minute": 2}, "pro": {"tokens_per_minute": 5000, "priority": 3}}


def two_providers(**sections: Any) -> dict[str, Any]:
    """Provider `p` here and in another region, and `q` here."""
    tree = config_for(A, B, provider={"retry": {"attempts": 3}}, models=MODELS, **sections)
    one, other = tree["providers"]["p"]["endpoints"]
    one["region"], other["region"] = "r0", "r1"
    tree["locality"] = {"region": "r0"}
    tree["providers"]["q"] = {"api_key": {"env": "KEY"}, "endpoints": [{"url": C, "region": "r0"}]}
    for provider in tree["providers"].values():
        provider["circuit_breaker"] = {"consecutive_failures": 1}
    return tree


class World:
    """A configuration made live, without a process around it."""

    def __init__(self, tree: dict[str, Any] | None = None, **sections: Any) -> None:
        config = parse(orjson.dumps(tree or two_providers(**sections)), ENVIRON).config
        runtime = Runtime(Ticker(lambda: NOW_S), Metrics("0"), "own")
        # Without the issuer of tokens, whose keys would be fetched.
        runtime.apply(replace(config, auth=replace(config.auth, service_accounts=None)))
        self.snapshot = Snapshot(config, runtime.snapshot.providers, "own")
        self.accounts = Accounts(config, None, lambda: WALL_S)
        self.tiers = Tiers("own", None, lambda: WALL_S)
        self.tiers.configure(config, None)

    def explain(self, body: Any = None, **query: str) -> dict[str, Any]:
        said = None if body is None else orjson.dumps(body)
        return self.explained(question_of(query, said))

    def explained(self, question: Question) -> dict[str, Any]:
        shown = explain(question, self.snapshot, self.accounts, NOW_S, WALL_S, self.tiers)
        orjson.dumps(shown)  # it goes out as JSON
        return shown

    def endpoints(self) -> list[Endpoint]:
        return [endpoint for provider in self.snapshot.providers.values() for endpoint in provider.endpoints]

    def breaks(self, *urls: str) -> None:
        for endpoint in self.endpoints():
            if endpoint.url in urls:
                endpoint.breaker.record(False, NOW_S)

    def stores(
        self, document: dict[str, Any], model: str = "p/fast", route: str = "", bucket: str = SHARED_BUCKET
    ) -> None:
        """An answer to this is in memory, as if it had come a second ago."""
        answers = self.tiers.answers
        assert answers is not None
        x, call = request(document)
        provider, _, name = model.partition("/")
        candidate = Candidate(name, Model(provider=provider), self.snapshot.providers[provider])
        place = self.tiers.scopes.place_of(Caller("own", "", 0, bucket), route, candidate)
        missed = answers.lookup(x, call, place, NONE, NOW_S - 1)
        assert isinstance(missed, Miss)
        record = record_of("chat", orjson.dumps(plain()))
        assert isinstance(record, Record)
        assert answers.offer(missed.key, record, NOW_S - 1)

    def spends(self, team: str, model: str, usd: float) -> None:
        reserved = self.accounts.budgets.reserve(Caller(team, "", 0, "x"), model, 1, WALL_S)
        assert isinstance(reserved, Reservation)
        reserved.settle(int(usd * NANO_USD), WALL_S)


def chat(text: str, model: str = "auto", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def targets(shown: dict[str, Any], *, is_in: bool = True) -> list[tuple[str, str]]:
    return [(one["model"], one["endpoint"]) for one in shown["targets"] if one["in"] is is_in]


def error(shown: dict[str, Any]) -> tuple[int, str]:
    assert shown["would"] == f"answer {shown['error']['status']} {shown['error']['code']}"
    return shown["error"]["status"], shown["error"]["code"]


# --- the plan ---


def test_a_named_model_goes_to_the_closest_and_then_along_its_fallbacks() -> None:
    shown = World().explain(model="fast")
    assert (shown["model"], shown["route"], shown["reason"]) == ("fast", None, "named")
    assert targets(shown) == [("fast", A), ("fast", B), ("deep", C)]
    assert [one["share"] for one in shown["targets"]] == [1.0, 0.0, 0.0]
    assert (shown["would"], shown["error"], shown["attempts"]) == (f"send to {A}", None, 3)
    assert shown["cache"] == {"class": "off", "reason": None, "would": None}


def test_importance_and_keywords_choose_by_rule() -> None:
    world = World(routes={"auto": ROUTE})
    shown = world.explain(model="auto", importance="critical")
    assert (shown["route"], shown["reason"], shown["arms"]) == ("auto", "classify[0]", [])
    assert targets(shown) == [("deep", C), ("fast", A), ("fast", B)]
    assert world.explain(chat("Analyze this"))["reason"] == "classify[1]"


def test_without_messages_the_arms_are_listed_and_said_to_depend_on_the_conversation() -> None:
    shown = World(routes={"auto": ROUTE}).explain(model="auto")
    assert shown["reason"] == "split"
    assert shown["arms"] == [{"model": "fast", "weight": 3.0}, {"model": "deep", "weight": 1.0}]
    assert any("depends on the conversation" in note for note in shown["notes"])
    assert any("rules that look at messages" in note for note in shown["notes"])


def test_a_whole_body_falls_on_the_arm_that_the_request_would() -> None:
    world = World(routes={"auto": ROUTE})
    arms = {world.explain(chat(f"question {n}"))["targets"][0]["model"] for n in range(40)}
    assert arms == {"fast", "deep"}
    assert world.explain(chat("hello"))["notes"] == []


@pytest.mark.parametrize("is_named", [True, False])
def test_break_glass_providers_are_left_out_while_it_is_off_and_last_while_it_is_on(is_named: bool) -> None:
    direct = {"api_key": {"env": "KEY"}, "endpoints": [{"url": "http://d.example/v1"}], "break_glass": True}
    tree = config_for(A, models={"m": {"provider": "p", "fallback": ["n"] if is_named else []}})
    tree["providers"]["direct"] = direct
    if is_named:
        tree["models"]["n"] = {"provider": "direct"}
    world = World(tree)
    shown = world.explain(model="m")
    name = "n" if is_named else "m"
    assert shown["left_out"] == [{"model": name, "provider": "direct", "why": "break-glass is off"}]
    world.snapshot.router.set_break_glass(True)
    shown = world.explain(model="m")
    assert shown["left_out"] == []
    assert targets(shown) == [("m", A), (name, "http://d.example/v1")]


def test_break_glass_is_out_where_the_limit_has_no_second_request() -> None:
    direct = {"api_key": {"env": "KEY"}, "endpoints": [{"url": "http://d.example/v1"}], "break_glass": True}
    tree = config_for(A, models={"m": {"provider": "p"}}, tiers=TIERS)
    tree["providers"]["direct"] = direct
    world = World(tree)
    world.snapshot.router.set_break_glass(True)
    assert len(targets(world.explain(model="m"))) == 2
    world.accounts.limiter.admit(world.snapshot.callers._shared, 0, NOW_S)
    shown = world.explain(model="m")
    assert targets(shown) == [("m", A)]
    assert "break-glass counts twice" in shown["targets"][1]["why"]


# --- refusals ---


def test_an_unknown_model_is_a_404_with_the_nearest_names() -> None:
    shown = World().explain(model="fest")
    assert error(shown) == (404, "model_not_found")
    assert "Did you mean `fast`?" in shown["error"]["message"]
    assert shown["targets"] == [] and shown["limits"] is None


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": 1}', b'{"model":"fast","model":"deep"}', b"\xff"])
def test_a_body_that_the_sidecar_would_refuse_is_explained_as_400(body: bytes) -> None:
    assert error(World().explained(Question(body))) == (400, "bad_request")


def test_keys_mode_without_a_key_is_a_401_that_says_whom_to_name() -> None:
    shown = World(auth={"mode": "keys"}, tiers=TIERS, keys=KEYS).explain(model="fast")
    assert error(shown) == (401, "invalid_api_key")
    assert "of a, b" in shown["notes"][0]


def test_a_listed_key_brings_team_tier_regions_and_its_models() -> None:
    world = World(auth={"mode": "keys"}, tiers=TIERS, keys=KEYS)
    shown = world.explain(model="fast", key="a")
    assert shown["caller"] == {
        "team": "payments",
        "key": "a",
        "tier": "pro",
        "regions": ["r1"],
        "may_use": True,
    }
    assert world.explain(model="fast", team="payments")["caller"] == shown["caller"]
    shown = world.explain(model="deep", key="b")
    assert (shown["caller"]["team"], shown["caller"]["may_use"]) == ("own", False)
    assert error(shown) == (403, "model_not_allowed")
    assert targets(shown) == [("deep", C)]  # all the same


ACCOUNTS = {
    "mode": "keys",
    "service_accounts": {
        "callers": [
            {"namespace": "shop", "name": "checkout", "tier": "pro", "regions": ["r1"], "models": ["fast"]},
            {"namespace": "search", "team": "find"},
        ]
    },
}


def test_a_service_account_brings_what_its_rule_says() -> None:
    world = World(auth=ACCOUNTS, tiers=TIERS, keys=KEYS)
    shown = world.explain(model="fast", key="sa:shop/checkout")
    assert shown["caller"] == {
        "team": "shop",
        "key": "sa:shop/checkout",
        "tier": "pro",
        "regions": ["r1"],
        "may_use": True,
    }
    assert targets(shown) == [("fast", B)]
    assert shown["limits"]["tokens"]["limit"] == 5000
    assert error(world.explain(model="deep", key="sa:shop/checkout")) == (403, "model_not_allowed")


def test_a_service_accounts_limit_and_budget_are_its_own() -> None:
    world = World(auth=ACCOUNTS, tiers=TIERS, budgets=[budget()])
    asked = world.explain(model="fast", key="sa:search/crawler")
    account = world.snapshot.callers.of_account(
        Account("search", "crawler", ServiceAccountRule(namespace="search", team="find"), math.inf)
    )
    world.accounts.limiter.admit(account, 0, NOW_S)
    world.spends("find", "deep", 1.0)
    shown = world.explain(model="fast", key="sa:search/crawler")
    assert asked["limits"]["requests"]["remaining"] == 2
    assert shown["limits"]["requests"]["remaining"] == 1
    assert shown["budgets"][0]["spent_usd"] == 1.0
    other = world.explain(model="fast", key="sa:search/indexer")
    assert other["limits"]["requests"]["remaining"] == 2


def test_a_service_account_that_may_not_call_is_a_403() -> None:
    shown = World(auth=ACCOUNTS, tiers=TIERS).explain(model="fast", key="sa:shop/cart")
    assert error(shown) == (403, "service_account_not_allowed")
    assert shown["caller"] is None and shown["targets"] == []


def test_an_expired_key_is_a_401() -> None:
    keys = [KEYS[0], {**KEYS[1], "expires": "2026-11-01"}]
    shown = World(tiers=TIERS, keys=keys).explain(model="fast", key="b")
    assert error(shown) == (401, "invalid_api_key")
    assert "The key b has expired" in shown["error"]["message"]


def test_residency_takes_the_other_regions_out() -> None:
    shown = World(tiers=TIERS, keys=KEYS).explain(model="fast", key="a")
    assert targets(shown) == [("fast", B)]
    assert {one["why"] for one in shown["targets"] if not one["in"]} == {"not in regions r1 of key a"}
    shown = World(tiers=TIERS, keys=KEYS).explain(model="deep", key="a")
    assert error(shown) == (503, "no_healthy_upstream")
    assert "regions of this key (r1)" in shown["error"]["message"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "give model=NAME"),
        ({"model": "m", "key": "z"}, "no key has the id 'z'; listed are a, b"),
        ({"model": "m", "team": "z"}, "the teams are own, payments"),
        ({"model": "m", "stream": "yes"}, "stream must be 0 or 1"),
        ({"model": "m", "importance": "high"}, "normal or critical"),
        ({"model": "m", "path": "/v1/files"}, "/v1/embeddings"),
        ({"model": "m", "modle": "m"}, "modle is not known here"),
    ],
)
def test_a_question_that_is_not_understood_is_a_sentence(query: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        World(tiers=TIERS, keys=KEYS).explain(**query)


# --- health ---


def test_a_broken_endpoint_is_out_and_the_next_one_takes_over() -> None:
    world = World()
    world.breaks(A)
    shown = world.explain(model="fast")
    assert targets(shown) == [("fast", B), ("deep", C)]
    assert targets(shown, is_in=False) == [("fast", A)]
    assert shown["would"] == f"send to {B}"


def test_with_everything_out_one_request_a_second_is_a_probe_and_the_others_get_a_503() -> None:
    world = World()
    world.breaks(A, B, C)
    shown = world.explain(model="deep")
    assert shown["would"].startswith(f"send to {C} as a probe")
    provider = world.snapshot.providers["q"]
    assert provider._panic.allows(NOW_S)  # the explanation did not use it up
    assert error(world.explain(model="deep")) == (503, "no_healthy_upstream")


def test_all_parked_is_the_429_with_its_wait() -> None:
    world = World()
    for endpoint, provider in zip(world.endpoints(), "ppq", strict=True):
        credential = world.snapshot.providers[provider]._credential
        for model in MODELS:
            endpoint.parking.park(credential, model, NOW_S + 7.0)
    shown = world.explain(model="fast")
    assert error(shown) == (429, "rate_limit_exceeded")
    assert "try again in 7.0 s" in shown["error"]["message"]


def test_a_forwarded_key_is_said_to_be_unknown_here() -> None:
    tree = config_for(A)
    del tree["providers"]["p"]["api_key"]
    assert any("own key is forwarded" in note for note in World(tree).explain(model="m")["notes"])


# --- limits, budgets, prices ---


def test_limits_are_shown_as_they_stand_and_refuse_when_empty() -> None:
    world = World(tiers=TIERS)
    shared = world.snapshot.callers._shared
    assert world.explain(model="fast")["limits"] == {
        "requests": {"limit": 2, "remaining": 2, "reset_s": 0.0},
        "tokens": None,
    }
    for _ in range(2):
        world.accounts.limiter.admit(shared, 0, NOW_S)
    shown = world.explain(model="fast")
    assert shown["limits"]["requests"] == {"limit": 2, "remaining": 0, "reset_s": 60.0}
    assert error(shown) == (429, "rate_limit_exceeded")
    assert targets(shown) == [("fast", A), ("fast", B), ("deep", C)]


def test_a_request_that_may_use_more_tokens_than_there_ever_are_is_refused() -> None:
    world = World(tiers=TIERS, keys=KEYS)
    assert world.explain(chat("hi", "fast", max_tokens=4000), key="a")["error"] is None
    assert error(world.explain(chat("hi", "fast", max_tokens=5000), key="a")) == (429, "rate_limit_exceeded")


def test_a_dry_run_lets_in_and_says_so() -> None:
    world = World(tiers={"standard": {"requests_per_minute": 1, "dry_run": True}})
    world.accounts.limiter.admit(world.snapshot.callers._shared, 0, NOW_S)
    shown = world.explain(model="fast")
    assert shown["error"] is None
    assert "dry run" in shown["notes"][0]


def test_the_price_and_the_worst_case_are_those_of_each_model() -> None:
    body = chat("x" * 1000, "fast", max_tokens=500)
    shown = World().explain(body)
    tokens_in = -(-len(orjson.dumps(body)) // 4)
    fast, _, deep = shown["targets"]
    assert fast["price"] == {"input": 0.1, "output": 0.4}
    assert fast["worst_case_usd"] == pytest.approx((tokens_in * 0.1 + 500 * 0.4) / 1e6, abs=1e-9)
    assert deep["worst_case_usd"] == pytest.approx((tokens_in * 1.0 + 500 * 4.0) / 1e6, abs=1e-9)


def budget(at_limit: str = "reject") -> dict[str, Any]:
    return {"name": "daily", "per": "team", "models": ["deep"], "usd": 1, "at_limit": at_limit}


def test_a_budget_takes_the_fallback_out_that_it_has_no_room_for() -> None:
    world = World(budgets=[budget()])
    world.spends("own", "deep", 1.0)
    shown = world.explain(model="fast")
    assert targets(shown, is_in=False) == [("deep", C)]
    assert shown["targets"][-1]["why"] == "budget daily has no room for it"
    (standing,) = shown["budgets"]
    assert (standing["whom"], standing["spent_usd"], standing["limit_usd"]) == ("own", 1.0, 1.0)


def test_a_used_up_budget_is_the_429_that_the_caller_would_get() -> None:
    world = World(budgets=[budget()], tiers=TIERS, keys=KEYS)
    world.spends("own", "deep", 1.0)
    assert error(world.explain(model="deep")) == (429, "budget_exceeded")
    # Another team's is another one.
    assert world.explain(model="fast", key="a")["budgets"][0]["spent_usd"] == 0.0


def test_a_used_up_budget_brings_a_route_down() -> None:
    world = World(budgets=[budget("downgrade")], routes={"auto": ROUTE})
    world.spends("own", "deep", 1.0)
    shown = world.explain(model="auto", importance="critical")
    assert (shown["reason"], shown["error"]) == ("downgrade", None)
    assert targets(shown) == [("fast", A), ("fast", B)]
    assert "budget daily is used up: down to fast" in shown["notes"]


# --- nothing happens ---


def test_explaining_a_hundred_times_changes_nothing() -> None:
    world = World(tiers=TIERS, keys=KEYS, budgets=[budget()], routes={"auto": ROUTE})
    world.breaks(A)
    limiter, budgets = world.accounts.limiter, world.accounts.budgets

    def state() -> Any:
        breakers = [
            (e.breaker.state, e.breaker._is_probing, e.requests, len(e._speeds)) for e in world.endpoints()
        ]
        counts = {name: (c.limited, c.would_limit) for name, c in limiter.counts.items()}
        providers = [(p.budget.requests, p._panic._next_s) for p in world.snapshot.providers.values()]
        return copy.deepcopy((breakers, counts, dict(limiter._named), providers, budgets.status(WALL_S)))

    before = state()
    shown = [world.explain(model="auto", key="a", importance="critical") for _ in range(100)]
    assert all(one == shown[0] for one in shown)
    for n in range(100):
        world.explain(chat(f"Analyze {n}"))
    assert state() == before


def test_no_secret_is_in_it() -> None:
    world = World(tiers=TIERS, keys=KEYS, routes={"auto": ROUTE})
    text = orjson.dumps([world.explain(chat("hi there"), key="a"), world.explain(model="fast")])
    for secret in (b"sk-provider-secret", b"secret-a", hash_of("secret-a").encode(), b"hi there"):
        assert secret not in text


# --- the cache ---

EGG, SAME = "How do I boil an egg?", "how can I boil an egg"


def cache(shown: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return shown["cache"]["class"], shown["cache"]["reason"], shown["cache"]["would"]


def test_what_is_stored_is_what_would_answer() -> None:
    world = World(cache={})
    assert cache(world.explain(chat(EGG, "fast"))) == ("eligible", None, "miss")
    world.stores(chat(EGG, "fast"))
    shown = world.explain(chat(EGG, "fast"))
    assert cache(shown) == ("eligible", None, "hit exact")
    assert shown["would"] == "answer from the cache: hit exact"
    assert cache(world.explain(chat(SAME, "fast"))) == ("eligible", None, "hit canonical")
    assert cache(world.explain(chat(EGG, "deep"))) == ("eligible", None, "miss")


def test_an_answer_belongs_to_its_route_and_to_its_caller() -> None:
    route = {"split": [{"model": "fast", "weight": 1}]}
    world = World(cache={}, routes={"auto": route}, keys=KEYS, tiers=TIERS)
    world.stores(chat(EGG), route="auto", bucket=bucket_of("b"))
    assert cache(world.explain(chat(EGG)))[2] == "miss"
    world = World(cache={}, routes={"auto": route}, keys=[{**KEYS[1], "models": ["*"]}])
    world.stores(chat(EGG), route="auto", bucket=bucket_of("b"))
    assert cache(world.explain(chat(EGG), key="b"))[2] == "hit exact"
    assert cache(world.explain(chat(EGG, "fast"), key="b"))[2] == "miss"


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"temperature": 1}, "temperature"), ({"n": 2}, "choices"), ({"store": True}, "state")],
)
def test_a_request_that_is_not_eligible_says_why(more: dict[str, Any], reason: str) -> None:
    shown = World(cache={}).explain(chat(EGG, "fast", **more))
    assert cache(shown) == ("bypass", reason, None)
    assert shown["would"] == f"send to {A}"


def test_without_a_body_it_is_not_known() -> None:
    world = World(cache={})
    world.stores({"model": "fast", "messages": [{"role": "user", "content": EGG}]})
    assert cache(world.explain(model="fast")) == ("unknown", "give the body to know", None)


def test_who_is_refused_before_does_not_come_to_the_cache() -> None:
    world = World(cache={}, keys=KEYS, tiers=TIERS)
    world.stores(chat(EGG, "deep"), model="q/deep", bucket=bucket_of("b"))
    shown = world.explain(chat(EGG, "deep"), key="b")
    assert cache(shown) == ("unknown", "refused before", None)
    assert error(shown) == (403, "model_not_allowed")


def test_a_hit_needs_no_dollars_and_no_target() -> None:
    budget = {"name": "all", "per": "all", "usd": 1}
    world = World(cache={}, budgets=[budget])
    world.stores(chat(EGG, "fast"))
    world.spends("own", "fast", 1.0)
    world.breaks(A, B, C)
    shown = world.explain(chat(EGG, "fast"))
    assert (shown["would"], shown["error"]) == ("answer from the cache: hit exact", None)
    assert error(world.explain(chat("How do I boil rice?", "fast")))[0] == 429


def test_hits_of_a_tier_that_is_off_are_sent() -> None:
    world = World(cache={"shadow": 0.01})
    world.stores(chat(EGG, "fast"))
    for _ in range(20):
        world.tiers.shadow.note("", "exact", False)
    shown = world.explain(chat(EGG, "fast"))
    reason = "exact hits are off: too many answers differed"
    assert cache(shown) == ("eligible", reason, "shadow exact")
    assert shown["would"] == f"send to {A}"


def test_that_hits_are_drawn_for_a_check_is_noted_and_none_is_drawn() -> None:
    world = World(cache={"shadow": 0.01})
    world.stores(chat(EGG, "fast"))
    for _ in range(100):
        shown = world.explain(chat(EGG, "fast"))
        assert shown["notes"] == ["of the hits 1.00% are asked anew, to compare"]
        assert cache(shown)[2] == "hit exact"
    assert world.tiers.shadow._drawn == {}


def test_asking_leaves_the_cache_as_it_was() -> None:
    world = World(cache={})
    world.stores(chat(EGG, "fast"))
    assert world.tiers.answers is not None
    stats = world.tiers.answers.store.stats
    before = [getattr(stats, name) for name in stats.__slots__]
    for text in (EGG, SAME, "How do I boil rice?"):
        world.explain(chat(text, "fast"))
    assert [getattr(stats, name) for name in stats.__slots__] == before


def test_a_caller_with_a_key_of_its_own_may_find_other_answers() -> None:
    tree = two_providers(cache={})
    del tree["providers"]["p"]["api_key"]
    shown = World(tree).explain(chat(EGG, "fast"))
    assert any("a caller with one of its own finds others" in note for note in shown["notes"])
