"""What an operator asks of the tiers: whose answers there are, what a purge reaches, what would be done."""

from typing import Any

import orjson
import pytest

from sidecar.cache.answers import Miss
from sidecar.cache.control import NONE
from sidecar.cache.key import Place, scope_of
from sidecar.cache.meaning.tier import SemanticTier
from sidecar.cache.recording import Record, record_of
from sidecar.cache.shared.orders import Order
from sidecar.caching.outlook import outlook
from sidecar.caching.tiers import Tiers
from sidecar.clock import Ticker
from sidecar.config.cache import Semantic
from sidecar.config.load import parse
from sidecar.exchange import Exchange
from sidecar.openai import Call
from sidecar.policy.callers import Caller
from sidecar.routing.plan import Candidate
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.cache.support import asking, plain, request
from tests.policy.support import hash_of
from tests.support.running import ENVIRON, config_for

NOW_S, WALL_S = 1.0, 1_800_000_000.0
RULES = [
    {"namespace": "shop-*", "name": "web", "team": "shops", "regions": ["eu"]},
    {"namespace": "bank", "name": "*"},
]
LISTED = [
    {"id": "ann", "team": "red", "hash": hash_of("a"), "regions": ["us"]},
    {"id": "bob", "hash": hash_of("b")},
]


def tiers_of(**cache: Any) -> Tiers:
    """Tiers for two listed keys and some service accounts."""
    accounts = {"callers": RULES, "api_server": "https://api.example"}
    tree = config_for(
        "http://127.0.0.1:1/v1",
        cache=cache,
        keys=LISTED,
        auth={"mode": "keys", "service_accounts": accounts},
    )
    tiers = Tiers("own", None, lambda: WALL_S, lambda: NOW_S)
    tiers.configure(parse(orjson.dumps(tree), ENVIRON).config, None)
    return tiers


def store(
    tiers: Tiers, bucket: str, *, route: str = "", team: str = "own", regions: tuple[str, ...] = ()
) -> bytes:
    """Keep an answer for a caller; returns its digest."""
    answers = tiers.answers
    assert answers is not None
    x, call = request(asking())
    place = Place(scope_of(tiers.scopes.shared_by, bucket, team, regions), route, "p/m")
    missed = answers.lookup(x, call, place, NONE, NOW_S)
    assert isinstance(missed, Miss)
    record = record_of("chat", orjson.dumps(plain()))
    assert isinstance(record, Record)
    assert answers.offer(missed.key, record, NOW_S)
    return missed.key.digest


def entries(tiers: Tiers) -> int:
    assert tiers.answers is not None
    return tiers.answers.store.stats.entries


# --- scopes ---


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("ann", True),
        ("shared", True),
        ("sa:shop-1/web", True),
        ("sa:bank/anything", True),
        ("sa:shop-1/db", False),
        ("sa:garage/web", False),
        ("sa:bank", False),
        ("sa:bank/", False),
        ("bank/anything", False),
        ("red", False),
        ("", False),
    ],
)
def test_where_keys_share_a_scope_is_a_key_or_a_service_account(name: str, is_one: bool) -> None:
    assert tiers_of().scopes.has(name) is is_one


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("red", True),
        ("own", True),
        ("shops", True),
        ("bank", True),
        ("shop-1", False),  # its team is shops
        ("ann", False),
        ("", False),
    ],
)
def test_where_teams_share_a_scope_is_a_team_or_a_namespace(name: str, is_one: bool) -> None:
    assert tiers_of(scope="team").scopes.has(name) is is_one


def test_where_all_share_there_is_none() -> None:
    assert not tiers_of(scope="all").scopes.has("ann")


@pytest.mark.parametrize(
    ("bucket", "regions", "name"),
    [
        ("key:ann", ("us",), "ann"),
        ("key:bob", (), "bob"),
        ("shared", (), "shared"),
        ("sa:shop-1/web", ("eu",), "sa:shop-1/web"),
    ],
)
def test_a_scope_has_the_answers_of_each_residency(bucket: str, regions: tuple[str, ...], name: str) -> None:
    tiers = tiers_of()
    store(tiers, bucket, regions=regions)
    for other in {"ann", "bob", "shared", "sa:bank/x"} - {name}:
        assert tiers.purge(scope=other) == 0
    assert tiers.purge(scope=name) == 1


# --- purges ---


def test_what_is_given_together_narrows() -> None:
    tiers = tiers_of()
    digest = store(tiers, "key:bob", route="auto")
    other = store(tiers, "key:bob", route="other")
    assert tiers.purge(key=digest, route="other") == 0
    assert tiers.purge(key=digest, scope="ann") == 0
    assert tiers.purge(key=digest, route="auto", scope="bob") == 1
    assert tiers.purge(key=digest) == 0
    assert tiers.purge(key=other, scope="bob") == 1


def test_an_order_of_another_sidecar_narrows_too() -> None:
    tiers = tiers_of()
    digest = store(tiers, "key:bob", route="auto")
    tiers._heed(Order(WALL_S, digest=digest, route="other"))
    assert entries(tiers) == 1
    tiers._heed(Order(WALL_S - 1.0, digest=digest, route="auto"))
    assert entries(tiers) == 1  # it was stored since
    tiers._heed(Order(WALL_S, digest=digest, route="auto"))
    assert entries(tiers) == 0


def test_a_purge_without_a_cache_drops_nothing() -> None:
    assert Tiers("own").purge() == 0
    assert not Tiers("own").report_false_hit(b"x" * 16)


# --- what would be done ---


def test_without_a_cache_it_is_off() -> None:
    seen = outlook(Tiers("own"), *asked("gpt-4o-mini"), NOW_S)
    assert (seen.kind, seen.would, seen.is_hit) == ("off", None, False)


class NoEmbedder:
    """It is never asked: an outlook is of memory alone."""

    def embed(self, text: str) -> object:
        raise AssertionError(text)


def test_an_outlook_does_not_search_by_meaning_and_says_so() -> None:
    pytest.importorskip("numpy", reason="numpy is not installed: pip install 'ai-sidecar[semantic]'")
    tiers = tiers_of()
    tiers.semantic = SemanticTier(Semantic(), NoEmbedder())  # type: ignore[arg-type]
    seen = outlook(tiers, *asked("gpt-4o-mini"), NOW_S)
    assert (seen.kind, seen.would) == ("eligible", "miss")
    assert seen.notes == ["the cache was looked at in memory: not in Redis, and not by meaning"]
    assert tiers.semantic.stats.looked_up == 0


# --- who shares -------------------------------------------------------------------------------------------


def asked(model: str, **changes: Any) -> tuple[Exchange, Call, Caller, Candidate]:
    """A request of key bob, and where it is routed by a configuration with these changes."""
    tree = config_for("http://127.0.0.1:1/v1", cache={}, **changes)
    runtime = Runtime(Ticker(), Metrics("0"), "own")
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    x, call = request({**asking(), "model": model})
    plan = runtime.snapshot.router.plan(call, x)
    assert plan is not None
    return x, call, Caller("own", "", 0, "key:bob"), plan.candidates[0]


def place(caller: Caller, scope: str = "key", **changes: Any) -> tuple[bytes, str]:
    found = tiers_of(scope=scope).scopes.place_of(caller, "auto", asked("m", **changes)[3])
    return found.scope, found.model


BOB = Caller("red", "", 0, "key:bob")


def test_callers_without_a_key_of_their_own_share_within_their_team() -> None:
    one, other = Caller("red", "", 0, "shared"), Caller("blue", "", 0, "shared")
    assert place(one) != place(other)
    assert place(one, "all") == place(other, "all")


def test_who_brings_a_key_that_only_the_provider_knows_shares_with_nobody() -> None:
    stranger = Caller("red", "", 0, "credential:1")
    for scope in ("team", "all"):
        assert place(stranger, scope) == place(BOB, scope)
        forwarded = {"provider": {"api_key": None}}
        assert place(stranger, scope, **forwarded) != place(BOB, scope, **forwarded)


def test_another_address_or_header_of_the_provider_is_another_place() -> None:
    here = place(BOB)
    assert here == place(BOB)
    assert here != place(BOB, provider={"endpoints": [{"url": "http://127.0.0.1:2/v1"}]})
    assert here != place(BOB, provider={"headers": {"x-team": "red"}})
