"""Every wrong part is found, and named by its path with what was expected."""

import pytest

from sidecar.config.decode import Decoder
from sidecar.config.model import Config
from tests.config.support import MINIMAL, MODELS, problems_of

A = 'endpoints: [{url: "https://a.example"}]'


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("drain: 5s", "drain", "expected a section with min, max, got text"),
        ("listen: [1]", "listen", "expected a section with data, admin"),
        ("drain: {min: 5}", "drain.min", "write 5s"),
        ("drain: {mim: 5s}", "drain.mim", "is not a known key: did you mean min?"),
        ("drain: {zzz: 5s}", "drain.zzz", "is not a known key: expected min, max"),
        ("routs: {}", "routs", "did you mean routes?"),
        ("listen: {data: 8080}", "listen.data", "such as 127.0.0.1:8080"),
        ("listen: {max_body: 32}", "listen.max_body", "write 32MiB"),
        ("listen: {hosts: a}", "listen.hosts", "expected a list, got text: write it in [ ]"),
        ('listen: {origins: ["https://x/"]}', "listen.origins[0]", "ends after the host"),
        ("locality: {region: 5}", "locality.region", 'quote it, "5"'),
        ("routes: []", "routes", "expected names with their values, got a list"),
        ("routes: {auto: {split: []}}", "routes.auto.split", "is empty: give at least one entry"),
        ('routes: {"a b": {split: [{model: x, weight: 1}]}}', 'routes["a b"]', "visible ASCII"),
        (
            "routes: {auto: {split: [{model: x, weight: 0}]}}",
            "routes.auto.split[0].weight",
            "expected a number > 0",
        ),
        (
            "routes: {auto: {split: [{model: x, weight: 1}], classify: [{when: {}, model: x}]}}",
            "routes.auto.classify[0].when",
            "is empty: give importance",
        ),
        ("auth: {mode: keys-and-tokens-too}", "auth.mode", "expected passthrough or keys, got text"),
        ("auth: {mode: [keys]}", "auth.mode", "expected passthrough or keys, got a list"),
        ("auth: {mode: open}", "auth.mode", 'expected passthrough or keys, got "open"'),
        ("tiers: {t: {burst: 0}}", "tiers.t.burst", "expected a whole number >= 1"),
        ("tiers: {t: {burst: ten}}", "tiers.t.burst", 'expected a whole number, got "ten"'),
        ("tiers: {t: {burst: [1]}}", "tiers.t.burst", "expected a whole number, got a list"),
        ("keys: [{id: a}]", "keys[0].hash", "is missing"),
        ("keys: [{id: a, hash: sk-plain}]", "keys[0].hash", "128 hex digits"),
        ("budgets: [{name: a, usd: 0}]", "budgets[0].usd", "expected a number > 0"),
        (
            "budgets: [{name: a, usd: 1, window: week}]",
            "budgets[0].window",
            'expected hour, day, month or never, got "week"',
        ),
        ("cache: {shadow: 2}", "cache.shadow", "expected a number <= 1"),
        ("fleet: {redis: {env: REDIS_URL}}", "fleet.expected", "is missing"),
        ("fleet: {redis: sk-plain, expected: 2}", "fleet.redis", "expected {env: NAME} or {file: PATH}"),
        ("usage: {path: ''}", "usage.path", "is empty: expected some text"),
        ("telemetry: {access_log: false}", "telemetry.access_log", 'quote it, "false"'),
        ("telemetry: {slo: {availability: 1}}", "telemetry.slo.availability", "expected a number < 1"),
    ],
)
def test_wrong_part_is_named(text: str, path: str, message: str) -> None:
    problems = problems_of(f"{MINIMAL}{text}")
    assert list(problems) == [path]
    assert message in problems[path]
    assert "sk-plain" not in problems[path]


@pytest.mark.parametrize(
    ("provider", "field", "message"),
    [
        ("{}", "endpoints", "is missing"),
        ("{endpoints: []}", "endpoints", "is empty"),
        ("{endpoints: [{}]}", "endpoints[0].url", "is missing"),
        ('{endpoints: [{url: "a.example"}]}', "endpoints[0].url", "begin with http:// or https://"),
        (f"{{{A}, api_key: {{env: NOT_SET}}}}", "api_key", "variable NOT_SET is not set"),
        (f"{{{A}, retry: {{budget: -1}}}}", "retry.budget", "expected a number >= 0"),
        (f"{{{A}, capabilities: [vision]}}", "capabilities[0]", "expected stream_usage or prefill"),
        (f"{{{A}, break_glass: maybe}}", "break_glass", 'expected true or false, got "maybe"'),
        (f"{{{A}, headers: {{x-n: 5}}}}", "headers.x-n", 'quote it, "5"'),
        (f"{{{A}, health_check: {{path: models}}}}", "health_check.path", "begins with /"),
    ],
)
def test_wrong_part_of_a_provider_is_named(provider: str, field: str, message: str) -> None:
    problems = problems_of(f"providers: {{a: {provider}}}\n{MODELS}")
    assert list(problems) == [f"providers.a.{field}"]
    assert message in problems[f"providers.a.{field}"]


def test_expiry_is_a_date() -> None:
    key = f"{{id: a, hash: 'blake2b:{'0' * 128}', expires: soon}}"
    assert problems_of(f"{MINIMAL}keys: [{key}]") == {
        "keys[0].expires": "expected a date such as 2027-01-31",
    }


def test_all_problems_are_found_at_once() -> None:
    problems = problems_of("models: {gpt-4.1: {price: {input: x}}}\nproviders: {}\ndrain: {min: 1, max: 2}")
    assert list(problems) == [
        "providers",
        'models["gpt-4.1"].provider',
        'models["gpt-4.1"].price.input',
        'models["gpt-4.1"].price.output',
        "drain.min",
        "drain.max",
    ]


def test_nothing_given_means_off_only_where_off_is_possible() -> None:
    decoder = Decoder({})
    tree = {
        "providers": {"a": {"endpoints": [{"url": "https://a.example"}]}},
        "models": {"*": {"provider": "a"}},
    }
    assert decoder.decode(Config, tree | {"cache": None})
    assert decoder.decode(Config, tree | {"drain": None}) is None
    assert str(decoder.problems[0]) == "drain: expected a section with min, max, got nothing"
