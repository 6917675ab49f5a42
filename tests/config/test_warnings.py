"""What is allowed but doubtful is said."""

from pathlib import Path

import pytest

from sidecar.config.warnings import warnings
from tests.config.support import CA_FILE, MINIMAL, MODELS, config_of, full_text

KEY = f"{{id: k, hash: 'blake2b:{'0' * 128}', regions: [mars]}}"


def provider(more: str = "", url: str = "https://a.example", name: str = "a") -> str:
    return f'providers: {{{name}: {{endpoints: [{{url: "{url}"}}]{more}}}}}\n'


def test_full_and_minimal_configurations_have_no_warnings(tmp_path: Path) -> None:
    assert [warning.path for warning in warnings(config_of(full_text(tmp_path)))] == []
    assert warnings(config_of(MINIMAL)) == []


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (provider(url="http://a.example") + MODELS, "providers.a.endpoints[0].url", "caller's key in clear"),
        (
            provider(", api_key: {env: GLOBAL_API_KEY}", "http://10.0.0.1:80") + MODELS,
            "providers.a.endpoints[0].url",
            "the key in clear: use https",
        ),
        (
            provider(f", tls: {{ca_file: {CA_FILE}}}", "http://127.0.0.1:1") + MODELS,
            "providers.a.tls.ca_file",
            "no endpoint is https",
        ),
        (
            provider(", timeouts: {total: 1m}") + MODELS,
            "providers.a.timeouts.total",
            "shorter than one",
        ),
        (provider() + "models: {m: {provider: a}}", "models", 'no "*"'),
        (
            provider() + 'models: {"P*": {provider: a}, "Pro/*": {provider: a}, "*": {provider: a}}',
            "models.Pro/*",
            "P* stands before it",
        ),
        (MINIMAL + "listen: {admin: 0.0.0.0:9901}", "listen.admin", "can drain the sidecar"),
        (MINIMAL + f"keys: [{KEY}]", "keys[0].regions[0]", "no endpoint is in mars"),
        (MINIMAL.replace('v1"}', 'v1", region: eu}'), "locality.region", "or $SIDECAR_REGION"),
        (
            'providers: {a: {endpoints: [{url: "https://a.example"}]},'
            ' b: {endpoints: [{url: "https://b.example"}], api_key: {env: GLOBAL_API_KEY}}}\n' + MODELS,
            "providers.b",
            "is used by no model",
        ),
        (MINIMAL + "break_glass: {path: /tmp/b.json}", "break_glass", "no provider has break_glass: true"),
    ],
)
def test_doubtful_setting_is_said(text: str, path: str, message: str) -> None:
    (warning,) = warnings(config_of(text))
    assert warning.path == path
    assert message in warning.message


def test_what_a_budget_lacks_to_be_a_hard_one_is_said() -> None:
    said = [w.message for w in warnings(config_of(MINIMAL + "budgets: [{name: b, usd: 1}]"))]
    assert any("each sidecar has the whole budget" in message for message in said)
    assert any("a restart forgets" in message for message in said)
    said = [
        w.message for w in warnings(config_of(MINIMAL + "budgets: [{name: b, usd: 1}]\nusage: {path: u}"))
    ]
    assert not any("a restart forgets" in message for message in said)


def test_plain_http_on_loopback_is_not_doubtful() -> None:
    assert warnings(config_of(provider(url="http://localhost:11434/v1") + MODELS)) == []
