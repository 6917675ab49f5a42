"""Names that point to another place of the file lead somewhere."""

import pytest

from tests.config.support import config_of, problems_of

PROVIDERS = 'providers: {a: {endpoints: [{url: "https://a.example/v1"}]}}\n'
NO_STAR = PROVIDERS + 'models: {m: {provider: a}, "Pro/*": {provider: a}}\n'


def key(name: str, digit: str, more: str = "") -> str:
    return f"{{id: {name}, hash: 'blake2b:{digit * 128}'{more}}}"


@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("split: [{model: m, weight: 1}, {model: x, weight: 1}]", "split[1].model"),
        ("split: [{model: m, weight: 1}], fallback: [Pro/a, x]", "fallback[1]"),
        (
            "split: [{model: m, weight: 1}], classify: [{when: {keywords: [a]}, model: x}]",
            "classify[0].model",
        ),
        ("split: [{model: m, weight: 1}], long_context: x", "long_context"),
    ],
)
def test_route_to_an_unknown_model_is_refused(route: str, field: str) -> None:
    problems = problems_of(f"{NO_STAR}routes: {{auto: {{{route}}}}}")
    assert problems == {f"routes.auto.{field}": "x matches no entry of models: add one, or mend the name"}


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{}", "give importance, keywords, min_chars, max_chars, question, tools or images"),
        ("{keywords: []}", "is empty"),
        ("{keywords: [a, ' ']}", "a keyword of spaces alone"),
        ("{min_chars: 3, max_chars: 2}", "more min_chars than max_chars"),
    ],
)
def test_rule_that_matches_all_or_nothing_is_refused(when: str, message: str) -> None:
    rule = f"{{when: {when}, model: m}}"
    problems = problems_of(
        f"{NO_STAR}routes: {{auto: {{split: [{{model: m, weight: 1}}], classify: [{rule}]}}}}"
    )
    assert list(problems) == ["routes.auto.classify[0].when"]
    assert message in problems["routes.auto.classify[0].when"]


def test_arm_that_stands_twice_is_refused() -> None:
    problems = problems_of(
        f"{NO_STAR}routes: {{auto: {{split: [{{model: m, weight: 1}}, {{model: m, weight: 2}}]}}}}"
    )
    assert problems == {
        "routes.auto.split[1].model": "is the model of split[0] too: give that one both weights"
    }


def test_route_to_a_pattern_is_refused() -> None:
    problems = problems_of(f"{NO_STAR}routes: {{auto: {{split: [{{model: 'Pro/*', weight: 1}}]}}}}")
    assert "expected one model" in problems["routes.auto.split[0].model"]


@pytest.mark.parametrize(
    ("models", "path", "message"),
    [
        ("m: {provider: b}", "models.m.provider", "b is not one of a"),
        ("m: {provider: a, fallback: [x]}", "models.m.fallback[0]", "x matches no entry of models"),
        ('m: {provider: a}, "a*b": {provider: a}', "models.a*b", "may have a * at its end only"),
        ("m: {provider: a, fallback: [m]}", "models.m.fallback", "in a circle, m > m"),
        (
            'm: {provider: a, fallback: [o/1]}, "o/*": {provider: a, fallback: [n]},'
            " n: {provider: a, fallback: [m]}",
            "models.m.fallback",
            "in a circle, m > o/* > n > m",
        ),
        (
            "m: {provider: a, fallback: [n, n]}, n: {provider: a}",
            "models.m.fallback[1]",
            "names n a second time",
        ),
    ],
)
def test_model_must_lead_somewhere(models: str, path: str, message: str) -> None:
    problems = problems_of(f"{PROVIDERS}models: {{{models}}}")
    assert list(problems) == [path]
    assert message in problems[path]


def test_pattern_may_fall_back_to_one_of_its_own_models() -> None:
    assert config_of(f'{PROVIDERS}models: {{"*": {{provider: a, fallback: [gpt-4o]}}}}')


SHUT = (
    'providers: {a: {endpoints: [{url: "https://a.example/v1"}]}, b: {break_glass: true,'
    ' api_key: {env: GLOBAL_API_KEY}, endpoints: [{url: "https://b.example/v1"}]}}\n'
)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("models: {m: {provider: a}, n: {provider: b}}", "models.n.provider", "no fallback leads here"),
        (
            'models: {m: {provider: a}, "n/*": {provider: b, fallback: [n/1]}}',
            "models.n/*.provider",
            "no fallback leads here",
        ),
        (
            'models: {m: {provider: a, fallback: [n]}, "*": {provider: b}}',
            "models.*.provider",
            "may always be asked",
        ),
        (
            "models: {m: {provider: a, fallback: [n]}, n: {provider: b}}\n"
            "routes: {auto: {split: [{model: n, weight: 1}]}}",
            "routes.auto.split[0].model",
            "list it in fallback",
        ),
        (
            "models: {m: {provider: a, fallback: [n]}, n: {provider: b}}\n"
            "routes: {auto: {split: [{model: m, weight: 1}], classify: [{when: {tools: true}, model: n}]}}",
            "routes.auto.classify[0].model",
            "list it in fallback",
        ),
        (
            "models: {m: {provider: a, fallback: [n]}, n: {provider: b}}\n"
            "routes: {auto: {split: [{model: m, weight: 1}], long_context: n}}",
            "routes.auto.long_context",
            "list it in fallback",
        ),
    ],
)
def test_provider_for_break_glass_is_reached_by_fallbacks_only(text: str, path: str, message: str) -> None:
    problems = problems_of(SHUT + text)
    assert list(problems) == [path]
    assert message in problems[path]


@pytest.mark.parametrize(
    "text",
    [
        'models: {"*": {provider: a}}',
        'models: {m: {provider: a, fallback: [n]}, n: {provider: b}, "*": {provider: a}}',
        "models: {m: {provider: a}, 'n/*': {provider: b}}\n"
        "routes: {auto: {split: [{model: m, weight: 1}], fallback: [n/1]}}",
    ],
)
def test_provider_for_break_glass_that_fallbacks_or_nothing_leads_to_is_accepted(text: str) -> None:
    assert config_of(SHUT + text)


def test_provider_for_break_glass_needs_a_key_of_its_own() -> None:
    shut = 'providers: {b: {break_glass: true, endpoints: [{url: "https://b.example/v1"}]}, '
    good = 'a: {api_key: {env: GLOBAL_API_KEY}, endpoints: [{url: "https://a.example/v1"}]}}\n'
    problems = problems_of(f'{shut}{good}models: {{"*": {{provider: a}}}}')
    assert list(problems) == ["providers.b.api_key"]
    assert "never sent along" in problems["providers.b.api_key"]


def test_long_chain_of_fallbacks_is_no_circle() -> None:
    chain = ", ".join(f"m{n}: {{provider: a, fallback: [m{n + 1}]}}" for n in range(1500))
    assert config_of(f"{PROVIDERS}models: {{{chain}, m1500: {{provider: a}}}}")


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (f"keys: [{key('k', '0')}, {key('k', '1')}]", "keys[1].id", "is that of keys[0] too"),
        (f"keys: [{key('k', '0')}, {key('l', '0')}]", "keys[1].hash", "is that of keys[0] too"),
        (f"keys: [{key('k', '0', ', tier: pro')}]", "keys[0].tier", "names no tier"),
        (f"keys: [{key('k', '0', ', models: [a*b]')}]", "keys[0].models[0]", "* at its end only"),
        ("budgets: [{name: b, usd: 1}, {name: b, usd: 2}]", "budgets[1].name", "is that of budgets[0]"),
        ("budgets: [{name: b, usd: 1, models: ['**']}]", "budgets[0].models[0]", "* at its end only"),
        ("budgets: [{name: b, usd: 1, models: [m, x]}]", "budgets[0].models[1]", "no entry of models: add"),
        ("budgets: [{name: b, usd: 1, models: ['x/*']}]", "budgets[0].models[0]", "no entry of models: add"),
        (
            "routes: {auto: {split: [{model: m, weight: 1}]}}\nbudgets: [{name: b, usd: 1, models: [auto]}]",
            "budgets[0].models[0]",
            "budgets count models, not routes",
        ),
        (
            "tiers: {s: {key_prefix: g}, t: {key_prefix: g}, standard: {}}",
            "tiers.t.key_prefix",
            "that of tier s too",
        ),
    ],
)
def test_callers_must_be_told_apart(text: str, path: str, message: str) -> None:
    problems = problems_of(NO_STAR + text)
    assert list(problems) == [path]
    assert message in problems[path]
