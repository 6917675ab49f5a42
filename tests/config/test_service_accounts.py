"""Service accounts that could not call, or would be told to the wrong ones, are refused by field path."""

from importlib.machinery import ModuleSpec

import pytest

from sidecar.config import service_accounts
from sidecar.config.addresses import Url
from sidecar.config.callers import warn_budgets
from sidecar.config.dump import redacted
from sidecar.config.problems import field_path
from sidecar.config.service_accounts import warn_service_accounts
from tests.config.support import MODELS, config_of, problems_of

ENDPOINTS = 'endpoints: [{url: "https://a.example/v1", region: eu}]'
BASE = f"providers: {{a: {{{ENDPOINTS}, api_key: {{env: GLOBAL_API_KEY}}}}}}\n{MODELS}"
PATH = "auth.service_accounts"


def auth(section: str, mode: str = "keys") -> str:
    return f"{BASE}auth: {{mode: {mode}, service_accounts: {{{section}}}}}\n"


def test_audience_and_callers_are_all_it_takes_in_a_cluster() -> None:
    accounts = config_of(auth("callers: [{namespace: payments}]")).auth.service_accounts
    assert accounts is not None
    assert (accounts.audience, accounts.api_server) == (
        "ai-sidecar",
        Url("https", "kubernetes.default.svc", 443),
    )
    assert (accounts.ca_file, accounts.token_file) == (None, None)
    (rule,) = accounts.callers
    assert (rule.namespace, rule.name, rule.team, rule.tier) == ("payments", "*", None, None)
    assert (rule.regions, rule.models) == ((), ("*",))


def test_they_are_shown_as_they_were_written() -> None:
    shown = redacted(config_of(auth("audience: gateway, callers: [{namespace: payments, name: checkout}]")))
    accounts = shown["auth"]["service_accounts"]
    assert (accounts["audience"], accounts["api_server"]) == ("gateway", "https://kubernetes.default.svc")
    assert accounts["callers"] == [
        {"namespace": "payments", "name": "checkout", "regions": [], "models": ["*"]}
    ]


GOOD = "callers: [{namespace: payments}]"


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        ("callers: []", f"{PATH}.callers", "is empty"),
        ("audience: a", f"{PATH}.callers", "is missing"),
        ("callers: [{name: a}]", f"{PATH}.callers[0].namespace", "is missing"),
        ("callers: [{namespace: 'a*b'}]", f"{PATH}.callers[0].namespace", "a * at its end only"),
        ("callers: [{namespace: a, name: '*b'}]", f"{PATH}.callers[0].name", "a * at its end only"),
        ("callers: [{namespace: a, models: ['*b']}]", f"{PATH}.callers[0].models[0]", "a * at its end only"),
        ("callers: [{namespace: a, tier: pro}]", f"{PATH}.callers[0].tier", "names no tier"),
        ("callers: [{namespace: a, nam: b}]", f"{PATH}.callers[0].nam", "did you mean name?"),
        (f"{GOOD}, api_server: 'http://api:6443'", f"{PATH}.api_server", "must be https"),
        (f"{GOOD}, ca_file: /nowhere", f"{PATH}.ca_file", "cannot be read"),
        (
            f"{GOOD}, audience: 'https://kubernetes.default.svc.cluster.local'",
            f"{PATH}.audience",
            "own: a token",
        ),
        (f"{GOOD}, audience: ''", f"{PATH}.audience", "expected a name"),
    ],
)
def test_what_cannot_work_is_refused(section: str, path: str, message: str) -> None:
    problems = problems_of(auth(section))
    assert list(problems) == [path]
    assert message in problems[path]


def test_they_need_a_sidecar_that_sends_no_callers_key_on() -> None:
    problems = problems_of(auth(GOOD, mode="passthrough"))
    assert list(problems) == [PATH]
    assert "needs auth.mode: keys" in problems[PATH]


def test_key_is_not_named_like_a_service_account() -> None:
    key = f"keys: [{{id: 'sa:payments/checkout', hash: 'blake2b:{'0' * 128}'}}]"
    assert list(problems_of(auth(GOOD) + key)) == ["keys[0].id"]
    assert config_of(BASE + key)


def test_missing_library_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == "jwt" else ModuleSpec(name, None)

    monkeypatch.setattr(service_accounts, "find_spec", find)
    assert "pip install 'ai-sidecar[gateway]'" in problems_of(auth(GOOD))[PATH]
    assert config_of(BASE)


def warnings_of(callers: str) -> dict[str, str]:
    found = warn_service_accounts(config_of(auth(f"callers: [{callers}]")))
    return {field_path(path): message for path, message in found}


@pytest.mark.parametrize(
    "callers",
    [
        "{namespace: a}, {namespace: a, name: b}",
        "{namespace: '*'}, {namespace: a, name: b}",
        "{namespace: 'a*', name: 'b*'}, {namespace: 'ab*', name: bc}",
        "{namespace: a, name: b}, {namespace: a, name: b}",
    ],
)
def test_rule_that_nobody_reaches_is_said(callers: str) -> None:
    warnings = warnings_of(callers)
    assert list(warnings) == [f"{PATH}.callers[1]"]
    assert "is never reached" in warnings[f"{PATH}.callers[1]"]


def test_rules_that_are_reached_are_not_said() -> None:
    assert warnings_of("{namespace: a, name: b}, {namespace: a}, {namespace: 'a*'}, {namespace: '*'}") == {}
    assert warnings_of("{namespace: a, name: '*', regions: [eu]}") == {}


def test_region_that_nobody_serves_is_said() -> None:
    assert warnings_of("{namespace: a, regions: [eu, us]}") == {
        f"{PATH}.callers[0].regions[1]": "no endpoint is in us"
    }


def test_budget_of_each_key_has_an_effect_on_service_accounts() -> None:
    priced = BASE.replace("{provider: a}", "{provider: a, price: {input: 1, output: 1}}")
    budget = "budgets: [{name: b, usd: 1, per: key}]"
    accounts = "auth: {mode: keys, service_accounts: {callers: [{namespace: a}]}}\n"
    assert list(warn_budgets(config_of(priced + accounts + budget))) == []
    assert list(warn_budgets(config_of(priced + budget))) != []
