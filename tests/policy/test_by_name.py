"""A caller found by name is the one that its key or token lets in."""

import re

import pytest

from sidecar.policy.by_name import Found, find_caller
from sidecar.policy.callers import Caller, Callers
from sidecar.policy.service_accounts import KeySet, read_keys
from tests.config.support import config_of
from tests.policy.support import NOW_S, OWN_KEY, TIERS, admitted, bearer, listed
from tests.support.tokens import ISSUER, account, key_set, signer

RULES = (
    "{namespace: payments, name: checkout, team: pay, tier: pro, regions: [eu], models: [gpt-4o]}, "
    "{namespace: payments, name: 'c*'}, {namespace: 'search-*', name: crawler.v2}"
)
AUTH = f"auth: {{mode: keys, service_accounts: {{callers: [{RULES}]}}}}\n"
KEYS = f"keys: [{listed('sk-a', ', team: one, tier: pro')}, {listed('sk-b', ', expires: 2026-11-01')}]\n"
BOTH = OWN_KEY + TIERS + AUTH + KEYS


class Issuer:
    keys: KeySet | None = read_keys(ISSUER, key_set(signer()), NOW_S)

    def refresh_soon(self) -> None:
        pass


def found(text: str, name: str = "", team: str = "") -> Found:
    config = config_of(text)
    return find_caller(config, Callers(config, "own"), name, team, NOW_S)


def facts(caller: Caller | None) -> tuple[object, ...]:
    assert caller is not None
    names = ("id", "bucket", "team", "tier", "priority", "regions", "models")
    return tuple(getattr(caller, name) for name in names)


@pytest.mark.parametrize(
    ("namespace", "name"), [("payments", "checkout"), ("payments", "cart"), ("search-eu", "crawler.v2")]
)
def test_a_service_account_is_found_as_its_token_would_be(namespace: str, name: str) -> None:
    token = signer().token(NOW_S, **account(namespace, name))
    callers = Callers(config_of(BOTH), "own", Issuer())
    known = admitted(callers.identify(bearer(token), NOW_S))
    asked = found(BOTH, f"sa:{namespace}/{name}")
    assert facts(asked.caller) == facts(known)
    assert (asked.refusal, asked.note) == (None, "")


def test_a_listed_key_is_found_as_it_would_be_sent() -> None:
    callers = Callers(config_of(BOTH), "own")
    known = admitted(callers.identify(bearer("sk-a"), NOW_S))
    for asked in (found(BOTH, "sk-a"), found(BOTH, team="one")):
        assert facts(asked.caller) == facts(known)
        assert (asked.refusal, asked.note) == (None, "")


def test_a_service_account_that_no_rule_matches_is_refused() -> None:
    for name in ("sa:payments/web", "sa:shop/checkout", "sa:search-eu/crawler"):
        asked = found(BOTH, name)
        assert asked.caller is None and asked.refusal is not None
        assert (asked.refusal.status, asked.refusal.code) == (403, "service_account_not_allowed")
        assert f"No entry of auth.service_accounts.callers matches {name}.".encode() in asked.refusal.body


@pytest.mark.parametrize(
    "name",
    ["sa:", "sa:payments", "sa:payments/", "sa:/checkout", "sa:payments/*", "sa:payments/c/d", "sa:P/c"],
)
def test_what_names_no_service_account_is_a_sentence(name: str) -> None:
    said = f"{name!r} names no service account: give sa:NAMESPACE/NAME"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        found(BOTH, name)


def test_without_service_accounts_an_account_is_a_key_that_is_not_listed() -> None:
    text = OWN_KEY + TIERS + "auth: {mode: keys}\n"
    with pytest.raises(ValueError, match=r"no key has the id 'sa:payments/checkout'; listed are sk-a, sk-b$"):
        found(text + KEYS, "sa:payments/checkout")
    own = f"keys: [{{id: 'sa:own/key', hash: 'blake2b:{'0' * 128}'}}]"
    caller = found(text + own, "sa:own/key").caller
    assert caller is not None and caller.bucket == "key:sa:own/key"


def test_an_unknown_id_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'z'; listed are sk-a, sk-b; or give sa:NAMESPACE/NAME"):
        found(BOTH, "z")
    with pytest.raises(ValueError, match="'z'; listed are none; or give sa:NAMESPACE/NAME"):
        found(OWN_KEY + TIERS + AUTH, "z")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            BOTH,
            "only listed keys and service accounts may call: say which with key=ID, of sk-a, sk-b, or"
            " key=sa:NAMESPACE/NAME",
        ),
        (OWN_KEY + TIERS + AUTH, "only service accounts may call: say which with key=sa:NAMESPACE/NAME"),
        (
            OWN_KEY + TIERS + "auth: {mode: keys}\n" + KEYS,
            "only listed keys may call: say which with key=ID, of sk-a, sk-b",
        ),
    ],
)
def test_who_may_call_is_said_where_nobody_is_named(text: str, note: str) -> None:
    asked = found(text)
    assert asked.caller is None and asked.refusal is not None
    assert (asked.refusal.status, asked.note) == (401, note)


def test_a_stranger_is_the_shared_caller_where_strangers_may_call() -> None:
    text = OWN_KEY + TIERS + f"keys: [{listed('sk-a', ', team: one')}]"
    for asked in (found(text), found(text, team="own")):
        assert facts(asked.caller)[:3] == ("", "shared", "own")
        assert (asked.refusal, asked.note) == (None, "")


def test_a_key_outside_its_dates_is_found_and_refused() -> None:
    asked = found(BOTH, "sk-b")
    assert asked.caller is not None and asked.refusal is not None
    assert (asked.caller.id, asked.refusal.status) == ("sk-b", 401)
    assert b"The key sk-b has expired." in asked.refusal.body
    assert asked.note == "key sk-b has its tier by its prefix, which is not known here: taken for standard"
