"""Keys and tiers that cannot work are refused; those that do nothing are said, and budgets like them."""

import pytest

from sidecar.config.callers import overlap, warn_budgets, warn_tiers_and_keys
from sidecar.config.model import Tier, standard_tier
from sidecar.config.problems import field_path
from tests.config.support import MINIMAL, config_of, problems_of

LAST_DAY_S = 1_801_353_600.0  # 2027-01-31T00:00:00Z


def key(more: str) -> str:
    return f"{MINIMAL}keys: [{{id: k, hash: 'blake2b:{'0' * 128}', {more}}}]"


def warnings_of(text: str, wall_s: float = LAST_DAY_S) -> dict[str, str]:
    return {field_path(path): message for path, message in warn_tiers_and_keys(config_of(text), wall_s)}


# --- problems --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tiers", ["pro: {key_prefix: ga_pro_}", "pro: {key_prefix: ga_pro_}, max: {key_prefix: ga_max_}"]
)
def test_callers_without_such_a_prefix_need_a_tier(tiers: str) -> None:
    problems = problems_of(f"{MINIMAL}tiers: {{{tiers}}}")
    assert list(problems) == ["tiers"]
    assert "add standard, without a key_prefix" in problems["tiers"]


@pytest.mark.parametrize(
    "tiers", ["", "basic: {}", "pro: {key_prefix: a}, basic: {}", "standard: {key_prefix: a}"]
)
def test_tiers_with_a_standard_one_are_accepted(tiers: str) -> None:
    assert config_of(f"{MINIMAL}tiers: {{{tiers}}}")


def test_the_standard_tier_is_the_one_of_that_name_or_the_first_without_prefix() -> None:
    special, plain = Tier(key_prefix="a"), Tier()
    assert standard_tier({"basic": plain, "standard": special}) == "standard"
    assert standard_tier({"pro": special, "basic": plain, "other": plain}) == "basic"
    assert standard_tier({"pro": special}) is None
    assert standard_tier({}) is None


@pytest.mark.parametrize(
    "more",
    [
        "not_before: 2027-02-01, expires: 2027-01-31",
        "not_before: '2027-02-01T00:00:00Z', expires: 2027-01-31",
        "not_before: '2027-01-31T12:00:00Z', expires: '2027-01-31T12:00:00Z'",
    ],
)
def test_a_key_that_is_never_valid_is_refused(more: str) -> None:
    problems = problems_of(key(more))
    assert list(problems) == ["keys[0].not_before"]
    assert "would never be valid" in problems["keys[0].not_before"]


@pytest.mark.parametrize(
    "more",
    [
        "not_before: 2027-01-31, expires: 2027-01-31",
        "not_before: '2027-01-31T23:59:59Z', expires: 2027-01-31",
        "not_before: 2027-01-31",
        "expires: 2020-01-31",
    ],
)
def test_a_key_that_is_valid_at_some_time_is_accepted(more: str) -> None:
    assert config_of(key(more))


# --- warnings --------------------------------------------------------------------------------------------


def test_an_expired_key_is_said() -> None:
    text = key("expires: 2027-01-31")
    assert warnings_of(text, LAST_DAY_S + 86399) == {}
    assert list(warnings_of(text, LAST_DAY_S + 86400)) == ["keys[0].expires"]


@pytest.mark.parametrize(
    ("tier", "field"),
    [
        ("burst: 5", "burst"),
        ("burst: 5, tokens_per_minute: 100", "burst"),
        ("dry_run: true, priority: 3", "dry_run"),
    ],
)
def test_a_setting_without_effect_is_said(tier: str, field: str) -> None:
    assert list(warnings_of(f"{MINIMAL}tiers: {{t: {{{tier}}}}}")) == [f"tiers.t.{field}"]


def test_settings_with_effect_are_not_said() -> None:
    tiers = (
        "t: {requests_per_minute: 5, burst: 5}, u: {tokens_per_minute: 5, dry_run: true}, v: {priority: 1}"
    )
    assert warnings_of(f"{MINIMAL}tiers: {{{tiers}}}") == {}


# --- budgets ---------------------------------------------------------------------------------------------

PRICED = (
    'providers: {a: {endpoints: [{url: "https://a.example/v1"}]}}\n'
    'models: {m: {provider: a, price: {input: 1, output: 1}}, "Pro/*": {provider: a}, "*": {provider: a}}\n'
)
ROUTE = "routes: {auto: {split: [{model: m, weight: 1}]}, m: {split: [{model: m, weight: 1}]}}\n"
KEYS = f"keys: [{{id: k, hash: 'blake2b:{'0' * 128}'}}]\n"


def budget_warnings(budget: str, more: str = "") -> dict[str, str]:
    config = config_of(f"{PRICED}{more}budgets: [{{name: b, usd: 1, {budget}}}]")
    return {field_path(path): message for path, message in warn_budgets(config)}


@pytest.mark.parametrize(
    ("budget", "more", "path", "message"),
    [
        ("models: [auto, m]", ROUTE, "budgets[0].models[0]", "is a route"),
        ('models: ["Pro/*"]', "", "budgets[0].models", "have no price"),
        ("models: [m], at_limit: downgrade", "", "budgets[0].at_limit", "only a route"),
        ("models: [m], per: key", "", "budgets[0].per", "without keys"),
    ],
)
def test_a_budget_without_the_effect_it_seems_to_have_is_said(
    budget: str, more: str, path: str, message: str
) -> None:
    warnings = budget_warnings(budget, more)
    assert list(warnings) == [path]
    assert message in warnings[path]


@pytest.mark.parametrize(
    ("budget", "more"),
    [
        ("soft: 0.5", ""),
        ("models: [m]", ROUTE),
        ('models: ["m*"], at_limit: downgrade', ROUTE),
        ('models: ["Pro/*", m], per: key', KEYS),
        ("per: all, window: never", ""),
    ],
)
def test_a_budget_that_works_is_not_said(budget: str, more: str) -> None:
    assert budget_warnings(budget, more) == {}


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("*", "m", True),
        ("m", "m", True),
        ("Pro/*", "Pro/x", True),
        ("Pro/*", "Pro/x*", True),
        ("Pro/*", "Pro/", True),
        ("Pro", "Pro*", True),
        ("Pro", "Pro/*", False),
        ("Pro/*", "Pre/*", False),
        ("m", "n", False),
    ],
)
def test_patterns_overlap_where_a_name_matches_both(one: str, other: str, do: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is do


@pytest.mark.parametrize("usd", ["0", "-1", "1000000001", ".inf", ".nan"])
def test_a_limit_is_a_sum_of_money(usd: str) -> None:
    assert list(problems_of(f"{PRICED}budgets: [{{name: b, usd: {usd}}}]")) == ["budgets[0].usd"]


@pytest.mark.parametrize(
    "wrong", ["per: caller", "window: week", "at_limit: stop", "soft: 0", "soft: 1.1", "models: []"]
)
def test_a_budget_says_only_what_there_is(wrong: str) -> None:
    field = wrong.partition(":")[0]
    assert list(problems_of(f"{PRICED}budgets: [{{name: b, usd: 1, {wrong}}}]")) == [f"budgets[0].{field}"]
