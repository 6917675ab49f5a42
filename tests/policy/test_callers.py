"""Who is let in as whom, and that a refusal tells nothing."""

import hashlib
import hmac
import subprocess
import sys
from typing import Any

import orjson
import pytest

from sidecar.exchange import RequestHead
from sidecar.policy import callers as module
from sidecar.policy import service_accounts
from sidecar.policy.callers import (
    MAX_KEY_BYTES,
    MAX_TOKEN_BYTES,
    REMEMBERED_HEADS,
    REMEMBERED_MODELS,
    SHARED_BUCKET,
    Callers,
    presented_key,
)
from sidecar.policy.service_accounts import KeySet, read_keys
from tests.config.support import config_of
from tests.policy.support import (
    FORWARDING,
    NOW_S,
    OWN_KEY,
    TIERS,
    admitted,
    bearer,
    callers_of,
    hash_of,
    head,
    keys,
    listed,
    refused,
)
from tests.support.tokens import ISSUER, account, key_set, signer

LONGEST = "k" * MAX_KEY_BYTES
ONE_KEY = OWN_KEY + TIERS + keys(listed("sk-a"))
DAY_S = 86400.0
LAST_DAY_S = 1_801_353_600.0  # 2027-01-31T00:00:00Z


# --- listed keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "presented",
    [
        head(authorization="Bearer sk-a"),
        head(authorization="bearer   sk-a"),
        head(x_api_key="sk-a"),
        head(api_key="sk-a"),
        head(authorization="Bearer sk-a", x_api_key="sk-a"),
        head(authorization="", x_api_key="sk-a"),
    ],
)
def test_listed_key_is_known_wherever_it_stands(presented: RequestHead) -> None:
    assert admitted(callers_of(ONE_KEY).identify(presented, NOW_S)).id == "sk-a"


def test_key_gives_what_its_entry_says() -> None:
    entry = listed("sk-a", ", team: pay, tier: pro, regions: [eu], models: [gpt-4o, 'Pro/*']")
    tiers = "tiers: {standard: {priority: 1}, pro: {priority: 10}}\n"
    caller = admitted(callers_of(OWN_KEY + tiers + keys(entry)).identify(bearer("sk-a"), NOW_S))
    assert (caller.id, caller.team, caller.tier, caller.priority) == ("sk-a", "pay", "pro", 10)
    assert (caller.regions, caller.models) == (("eu",), ("gpt-4o", "Pro/*"))
    assert caller.bucket == "key:sk-a"
    assert caller.unforwarded is caller


def test_key_without_team_and_tier_has_the_default_team_and_the_standard_tier() -> None:
    caller = admitted(callers_of(ONE_KEY).identify(bearer("sk-a"), NOW_S))
    assert (caller.team, caller.tier, caller.regions) == ("default-team", "standard", ())


def test_listed_key_without_tier_has_that_of_its_prefix() -> None:
    text = OWN_KEY + TIERS + keys(listed("ga_pro_x"), listed("ga_pro_y", ", tier: standard"))
    callers = callers_of(text)
    assert admitted(callers.identify(bearer("ga_pro_x"), NOW_S)).tier == "pro"
    assert admitted(callers.identify(bearer("ga_pro_y"), NOW_S)).tier == "standard"


def test_without_tiers_a_caller_has_none() -> None:
    caller = admitted(callers_of(OWN_KEY + keys(listed("sk-a"))).identify(bearer("sk-a"), NOW_S))
    assert (caller.tier, caller.priority) == ("", 0)


def test_one_key_is_one_caller_whatever_its_head() -> None:
    callers = callers_of(ONE_KEY)
    first = callers.identify(bearer("sk-a"), NOW_S)
    assert callers.identify(head(x_api_key="sk-a"), NOW_S) is first


def test_key_of_the_longest_length_is_known() -> None:
    text = OWN_KEY + keys(f"{{id: a, hash: '{hash_of(LONGEST)}'}}")
    assert admitted(callers_of(text).identify(bearer(LONGEST), NOW_S)).id == "a"


# --- refusals --------------------------------------------------------------------------------------------

UNKNOWN = {
    "none": head(),
    "wrong": bearer("sk-b"),
    "almost right": bearer("sk-A"),
    "a part": bearer("sk-"),
    "empty": head(authorization="Bearer "),
    "no scheme": head(authorization="sk-a"),
    "another scheme": head(authorization="Basic sk-a"),
    "doubled in one line": head(authorization="Bearer sk-a, Bearer sk-a"),
    "two that differ": head(authorization="Bearer sk-a", x_api_key="sk-b"),
    "another scheme beside a right key": head(authorization="Basic abc", x_api_key="sk-a"),
    "the digest": bearer(hashlib.blake2b(b"sk-a").hexdigest()),
    "the hash as configured": bearer(hash_of("sk-a")),
    "the digest's bytes": head(x_api_key=hashlib.blake2b(b"sk-a").digest()),
    "huge": bearer("x" * 8000),
    "a listed key with more behind it": bearer(LONGEST + "x"),
    "not ASCII": head(x_api_key=b"\xff\x00"),
}
LISTED = OWN_KEY + keys(
    listed("sk-a"), f"{{id: long, hash: '{hash_of(LONGEST)}'}}", f"{{id: nothing, hash: '{hash_of('')}'}}"
)


@pytest.mark.parametrize("presented", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_whatever_is_not_a_listed_key_gets_the_same_401(presented: RequestHead) -> None:
    reply = refused(callers_of(LISTED).identify(presented, NOW_S))
    usual = refused(callers_of(LISTED).identify(bearer("other"), NOW_S))
    assert (reply.status, reply.body, reply.lines) == (401, usual.body, usual.lines)
    assert reply.lines == [b'www-authenticate: Bearer realm="sidecar"']
    error = orjson.loads(reply.body)["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.parametrize("presented", [*UNKNOWN.values(), bearer("sk-a")], ids=[*UNKNOWN.keys(), "right"])
def test_every_key_costs_one_hash_and_one_comparison(
    presented: RequestHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = callers_of(LISTED)
    hashed: list[int] = []
    compared: list[int] = []

    really = hmac.compare_digest

    def counting_comparison(one: bytes, other: bytes) -> bool:
        compared.append(len(one) + len(other))
        return really(one, other)

    monkeypatch.setattr(hashlib, "blake2b", _Counting(hashlib.blake2b, hashed))
    monkeypatch.setattr(hmac, "compare_digest", counting_comparison)
    callers.identify(presented, NOW_S)
    assert len(hashed) == 1
    assert hashed[0] <= MAX_KEY_BYTES
    assert compared == [128]


def test_a_refusal_may_be_changed_by_who_sends_it() -> None:
    callers = callers_of(ONE_KEY)
    refused(callers.identify(head(), NOW_S)).lines.append(b"x: y")
    assert len(refused(callers.identify(head(), NOW_S)).lines) == 1


def test_no_message_repeats_a_key() -> None:
    text = OWN_KEY + keys(listed("sk-old-secret", ", expires: 2020-01-01"))
    for presented in ("sk-old-secret", "sk-unknown-secret"):
        reply = refused(callers_of(text).identify(bearer(presented), NOW_S))
        assert b"secret" not in reply.body + b"".join(reply.lines)


# --- rotation --------------------------------------------------------------------------------------------


def test_a_date_is_valid_through_its_end() -> None:
    callers = callers_of(OWN_KEY + keys(listed("sk-a", ", expires: 2027-01-31")))
    presented = bearer("sk-a")
    assert admitted(callers.identify(presented, LAST_DAY_S + DAY_S - 0.001)).id == "sk-a"
    reply = refused(callers.identify(presented, LAST_DAY_S + DAY_S))
    assert b"has expired" in reply.body
    assert reply.code == "invalid_api_key"


def test_a_key_begins_and_ends_while_its_head_is_remembered() -> None:
    entry = listed("sk-a", ", not_before: '2027-01-31T06:00:00Z', expires: '2027-01-31T18:00:00+02:00'")
    callers = callers_of(OWN_KEY + keys(entry))
    presented = bearer("sk-a")
    assert b"not valid yet" in refused(callers.identify(presented, LAST_DAY_S)).body
    assert admitted(callers.identify(presented, LAST_DAY_S + 6 * 3600)).id == "sk-a"
    assert admitted(callers.identify(presented, LAST_DAY_S + 16 * 3600 - 1)).id == "sk-a"
    assert b"has expired" in refused(callers.identify(presented, LAST_DAY_S + 16 * 3600)).body
    assert b"not valid yet" in refused(callers.identify(presented, LAST_DAY_S + 1)).body


def test_two_keys_overlap_in_a_rotation() -> None:
    old, new = (
        listed("old", ", team: t, expires: 2027-01-31"),
        listed("new", ", team: t, not_before: 2027-01-31"),
    )
    callers = callers_of(OWN_KEY + keys(old, new))
    for at_s, valid in [(-1.0, ["old"]), (0.0, ["old", "new"]), (DAY_S, ["new"])]:
        outcomes = [callers.identify(bearer(key), LAST_DAY_S + at_s) for key in ("old", "new")]
        assert [caller.id for caller in outcomes if isinstance(caller, module.Caller)] == valid


def test_an_expired_key_is_refused_where_strangers_are_let_in() -> None:
    text = FORWARDING + keys(listed("sk-a", ", expires: 2026-01-31, regions: [eu]"), mode="passthrough")
    callers = callers_of(text)
    assert refused(callers.identify(bearer("sk-a"), NOW_S)).status == 401
    assert admitted(callers.identify(bearer("sk-b"), NOW_S)).regions == ()


# --- passthrough -----------------------------------------------------------------------------------------


def test_listed_key_is_verified_under_passthrough_too() -> None:
    text = FORWARDING + TIERS + keys(listed("sk-a", ", team: pay, tier: pro"), mode="passthrough")
    caller = admitted(callers_of(text).identify(bearer("sk-a"), NOW_S))
    assert (caller.id, caller.team, caller.tier) == ("sk-a", "pay", "pro")


def test_forwarded_key_has_the_tier_of_the_longest_prefix() -> None:
    tiers = "tiers: {low: {}, pro: {key_prefix: ga_}, max: {key_prefix: ga_pro_, priority: 7}}\n"
    callers = callers_of(FORWARDING + tiers)
    for key, tier in [("ga_pro_x", "max"), ("ga_x", "pro"), ("GA_pro_x", "low"), ("x_ga_pro_", "low")]:
        assert admitted(callers.identify(bearer(key), NOW_S)).tier == tier
    assert admitted(callers.identify(bearer("ga_pro_x"), NOW_S)).priority == 7


def test_forwarded_key_has_a_bucket_that_does_not_give_it_away() -> None:
    callers = callers_of(FORWARDING + TIERS)
    one, same, other = (
        admitted(callers.identify(made, NOW_S))
        for made in (bearer("ga_pro_x"), head(x_api_key="ga_pro_x"), bearer("ga_pro_y"))
    )
    assert one.bucket == same.bucket != other.bucket
    assert "ga_pro" not in one.bucket
    assert len(one.bucket) == len("credential:") + 16
    assert (one.id, one.team) == ("", "default-team")


def test_where_its_key_is_not_forwarded_a_stranger_is_the_shared_caller() -> None:
    callers = callers_of(FORWARDING + TIERS)
    shared = admitted(callers.identify(bearer("ga_pro_x"), NOW_S)).unforwarded
    assert (shared.tier, shared.bucket) == ("standard", SHARED_BUCKET)
    assert shared is admitted(callers.identify(head(), NOW_S))


def test_key_that_goes_nowhere_decides_nothing() -> None:
    callers = callers_of(OWN_KEY + TIERS)
    one = admitted(callers.identify(bearer("ga_pro_x"), NOW_S))
    assert (one.id, one.tier, one.bucket) == ("", "standard", SHARED_BUCKET)
    assert admitted(callers.identify(bearer("ga_pro_y"), NOW_S)) is one


@pytest.mark.parametrize(
    "presented",
    [
        head(),
        head(authorization="Basic abc"),
        head(authorization="Bearer ga_pro_x", x_api_key="random-1"),
        head(authorization="Bearer ga_pro_x", api_key="random-2"),
    ],
)
def test_no_plain_credential_means_the_shared_bucket(presented: RequestHead) -> None:
    """Else a random x-api-key beside the key the provider reads would be a fresh bucket each time."""
    caller = admitted(callers_of(FORWARDING + TIERS).identify(presented, NOW_S))
    assert (caller.tier, caller.bucket) == ("standard", SHARED_BUCKET)


def test_first_tier_without_prefix_is_the_standard_one_where_none_is_called_so() -> None:
    callers = callers_of(FORWARDING + "tiers: {pro: {key_prefix: p}, basic: {}, other: {}}\n")
    assert admitted(callers.identify(head(), NOW_S)).tier == "basic"


# --- what is remembered ----------------------------------------------------------------------------------


def test_a_head_seen_before_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    callers = callers_of(ONE_KEY)
    presented = bearer("sk-a")
    first = callers.identify(presented, NOW_S)
    hashed: list[int] = []
    monkeypatch.setattr(hashlib, "blake2b", _Counting(hashlib.blake2b, hashed))
    assert callers.identify(presented, NOW_S) is first
    assert hashed == []


def test_memory_of_heads_is_bounded() -> None:
    callers = callers_of(FORWARDING + TIERS)
    for number in range(3 * REMEMBERED_HEADS):
        callers.identify(bearer(f"key-{number}"), NOW_S)
        assert len(callers._remembered) <= REMEMBERED_HEADS
    large = head(authorization="Bearer x", x_padding="y" * 8000)
    assert isinstance(callers.identify(large, NOW_S), module.Caller)
    assert large not in callers._remembered


def test_models_are_allowed_by_name_and_by_pattern() -> None:
    entry = listed("sk-a", ", models: [gpt-4o, 'Pro/*']")
    caller = admitted(callers_of(OWN_KEY + keys(entry)).identify(bearer("sk-a"), NOW_S))
    for _ in range(2):
        verdicts = [caller.may_use(name) for name in ("gpt-4o", "Pro/x", "gpt-4o-mini", "pro/x", "")]
        assert verdicts == [True, True, False, False, False]


def test_memory_of_models_is_bounded_and_the_answer_stays_right() -> None:
    entry = listed("sk-a", ", models: ['m-*']")
    caller = admitted(callers_of(OWN_KEY + keys(entry)).identify(bearer("sk-a"), NOW_S))
    for number in range(REMEMBERED_MODELS + 100):
        assert caller.may_use(f"m-{number}")
        assert not caller.may_use(f"n-{number}")
    assert len(caller._verdicts) == REMEMBERED_MODELS


def test_the_key_presented_is_one_or_none() -> None:
    assert presented_key({}) == b""
    assert presented_key({b"authorization": b"Bearer  a\t"}) == b"a"
    assert presented_key({b"authorization": b"Bearer a", b"api-key": b"a"}) == b"a"
    assert presented_key({b"authorization": b"Bearer a", b"api-key": b"b"}) == b""


# --- service accounts ------------------------------------------------------------------------------------

ACCOUNTS = (
    OWN_KEY
    + "tiers: {standard: {}, pro: {priority: 10}}\n"
    + "auth: {mode: keys, service_accounts: {callers: ["
    + "{namespace: payments, name: checkout, team: pay, tier: pro, regions: [eu], models: [gpt-4o]}, "
    + "{namespace: search}]}}\n"
)


class Issuer:
    def __init__(self) -> None:
        self.keys: KeySet | None = read_keys(ISSUER, key_set(signer()), NOW_S)

    def refresh_soon(self) -> None:
        pass


def with_accounts(more: str = "") -> tuple[Callers, Issuer]:
    issuer = Issuer()
    return Callers(config_of(ACCOUNTS + more), "default-team", issuer), issuer


def test_service_account_is_what_its_rule_says() -> None:
    callers, _ = with_accounts()
    caller = admitted(callers.identify(bearer(signer().token(NOW_S)), NOW_S))
    assert (caller.id, caller.bucket, caller.team) == ("sa:payments/checkout", "sa:payments/checkout", "pay")
    assert (caller.tier, caller.priority) == ("pro", 10)
    assert (caller.regions, caller.may_use("gpt-4o"), caller.may_use("o3")) == (("eu",), True, False)
    assert caller.unforwarded is caller
    token = signer().token(NOW_S, **account("search", "crawler"))
    other = admitted(callers.identify(bearer(token), NOW_S))
    assert (other.id, other.team, other.tier) == ("sa:search/crawler", "search", "standard")


def test_token_may_stand_where_a_key_may() -> None:
    callers, _ = with_accounts()
    token = signer().token(NOW_S)
    for presented in (head(x_api_key=token), head(api_key=token), head(authorization=f"bearer {token}")):
        assert admitted(callers.identify(presented, NOW_S)).id == "sa:payments/checkout"
    assert (
        refused(callers.identify(head(authorization=f"Bearer {token}", x_api_key="k"), NOW_S)).status == 401
    )


def test_listed_key_and_service_account_call_side_by_side() -> None:
    callers, _ = with_accounts(f"keys: [{listed('sk.a.b')}]")
    assert admitted(callers.identify(bearer("sk.a.b"), NOW_S)).id == "sk.a.b"
    assert admitted(callers.identify(bearer(signer().token(NOW_S)), NOW_S)).id == "sa:payments/checkout"
    reply = refused(callers.identify(bearer("sk.a.c"), NOW_S))
    assert b"token for the audience ai-sidecar" in reply.body


def test_token_ends_while_its_head_is_remembered() -> None:
    callers, _ = with_accounts()
    presented = bearer(signer().token(NOW_S))
    first = admitted(callers.identify(presented, NOW_S))
    assert callers.identify(presented, NOW_S + 3600) is first
    assert b"has expired" in refused(callers.identify(presented, NOW_S + 3600 + 30)).body


def test_keys_that_got_too_old_end_what_is_remembered() -> None:
    callers, _ = with_accounts()
    presented = bearer(signer().token(NOW_S, exp=NOW_S + 10 * DAY_S))
    assert admitted(callers.identify(presented, NOW_S))
    assert refused(callers.identify(presented, NOW_S + DAY_S)).status == 503


def test_token_of_a_key_that_is_gone_is_refused_though_it_was_remembered() -> None:
    callers, issuer = with_accounts()
    presented = bearer(signer().token(NOW_S))
    assert admitted(callers.identify(presented, NOW_S))
    issuer.keys = read_keys(ISSUER, key_set(signer("two")), NOW_S)
    callers.forget()
    assert refused(callers.identify(presented, NOW_S)).status == 401


def test_token_is_verified_once_whatever_head_it_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    callers, _ = with_accounts()
    token = signer().token(NOW_S)
    first = callers.identify(bearer(token), NOW_S)
    monkeypatch.setattr(service_accounts, "_JWS", None)
    assert callers.identify(head(authorization=f"Bearer {token}", x_request_id="2"), NOW_S) is first


def test_token_is_remembered_by_all_of_its_bytes() -> None:
    callers, _ = with_accounts()
    token = signer().token(NOW_S)
    assert admitted(callers.identify(bearer(token), NOW_S))
    for other in (token[:-4] + "AAAA", token + "A", token[:MAX_KEY_BYTES]):
        assert refused(callers.identify(bearer(other), NOW_S)).status == 401


def test_memory_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_TOKENS", 3)
    callers, _ = with_accounts()
    for number in range(8):
        assert admitted(callers.identify(bearer(signer().token(NOW_S, jti=str(number))), NOW_S))
        assert len(callers._by_token) <= 3


def test_token_of_8_kib_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    callers, _ = with_accounts()
    longest = signer().token(NOW_S, jti="x" * 5000)
    assert len(longest) < MAX_TOKEN_BYTES
    assert admitted(callers.identify(bearer(longest), NOW_S))
    monkeypatch.setattr(service_accounts, "_read_header", None)
    reply = refused(callers.identify(bearer(signer().token(NOW_S, jti="x" * 6000)), NOW_S))
    assert reply.body == refused(callers.identify(bearer("other"), NOW_S)).body


def test_no_refusal_repeats_a_token() -> None:
    callers, _ = with_accounts()
    for token in (
        signer().token(NOW_S, exp=1),
        signer("two").token(NOW_S),
        signer().token(NOW_S)[:-3] + "AAA",
    ):
        reply = refused(callers.identify(bearer(token), NOW_S))
        said = reply.body + b"".join(reply.lines)
        assert not any(part[:16].encode() in said for part in token.split("."))


def test_without_service_accounts_their_library_is_not_loaded() -> None:
    code = (
        "import sys\n"
        "from sidecar import runtime, server\n"
        "print([name for name in ('jwt', 'cryptography') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


class _Counting:
    """A hash function that notes the length of what it is given."""

    def __init__(self, function: Any, lengths: list[int]) -> None:
        self._function = function
        self._lengths = lengths

    def __call__(self, data: bytes) -> Any:
        self._lengths.append(len(data))
        return self._function(data)
