"""What is allowed but doubtful is said."""

import os
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sidecar.config import checks
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
        (
            MINIMAL + "listen: {admin: 0.0.0.0:9901, control: unix:/run/s.sock}",
            "listen.admin",
            "can read its configuration",
        ),
        (MINIMAL + f"keys: [{KEY}]", "keys[0].regions[0]", "no endpoint is in mars"),
        (MINIMAL.replace('v1"}', 'v1", region: eu}'), "locality.region", "or $SIDECAR_REGION"),
        (
            'providers: {a: {endpoints: [{url: "https://a.example"}]},'
            ' b: {endpoints: [{url: "https://b.example"}], api_key: {env: GLOBAL_API_KEY}}}\n' + MODELS,
            "providers.b",
            "is used by no model",
        ),
        (MINIMAL + "break_glass: {path: /tmp/b.json}", "break_glass", "no provider has break_glass: true"),
        *(
            (
                provider(url=f"https://a.example/v1{call}") + MODELS,
                "providers.a.endpoints[0].url",
                f"ends in {call}, which each request adds: write https://a.example/v1",
            )
            for call in ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
        ),
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


# --- the files that are written -----------------------------------------------------------------------------

ENDPOINTS = 'endpoints: [{url: "https://a.example"}]'
WRITERS = [
    ("usage: {path: 'FILE'}", "usage.path", "lost at the end"),
    ("telemetry: {access_log: 'FILE'}", "telemetry.access_log", "would not start"),
    ("break_glass: {path: 'FILE'}", "break_glass.path", "would not survive a restart"),
]


@pytest.fixture
def others_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may look into and not write to, whoever runs it."""
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0o555)
    user = os.getuid()
    if user == 0:  # whom no mode keeps out; `access` goes by the real user
        os.setreuid(65534, 0)
    yield folder
    os.setreuid(user, user)


def said_of_files(text: str, name: Path | str) -> dict[str, str]:
    """The warnings of a configuration that may write this file, by field path."""
    direct = f"b: {{api_key: {{env: GLOBAL_API_KEY}}, {ENDPOINTS}, break_glass: true}}"
    providers = f"providers: {{a: {{{ENDPOINTS}}}, {direct}}}\n"
    return dict(warnings(config_of(providers + MODELS + text.replace("FILE", str(name)))))


@pytest.mark.parametrize(("text", "path", "then"), WRITERS)
def test_file_in_a_folder_that_is_not_there_is_said(text: str, path: str, then: str, tmp_path: Path) -> None:
    said = said_of_files(text, tmp_path / "none" / "file")
    assert said[path].startswith(f"folder {tmp_path}/none does not exist: ")
    assert then in said[path]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "path", "then"), WRITERS)
def test_file_that_cannot_be_made_is_said(text: str, path: str, then: str, others_folder: Path) -> None:
    said = said_of_files(text, others_folder / "new")
    assert said[path].startswith(f"folder {others_folder} cannot be written to by this user: ")


@pytest.mark.parametrize(("text", "path", "then"), WRITERS)
def test_folder_in_place_of_a_file_is_said(text: str, path: str, then: str, tmp_path: Path) -> None:
    assert said_of_files(text, tmp_path)[path].startswith("is a folder, and a file is expected: ")


def test_log_that_is_there_needs_no_folder_that_can_be_written(others_folder: Path) -> None:
    usage, log, _ = (text for text, _, _ in WRITERS)
    assert list(said_of_files(usage, others_folder / "file")) == ["usage.path"]
    assert said_of_files(log, "/dev/null") == {}
    message = said_of_files(log, others_folder / "file")["telemetry.access_log"]
    assert message.startswith(f"{others_folder}/file cannot be written to by this user: ")


@pytest.mark.parametrize(("text", "path", "then"), WRITERS)
def test_file_that_can_be_written_is_not_doubtful_nor_made(
    text: str, path: str, then: str, tmp_path: Path
) -> None:
    assert said_of_files(text, tmp_path / "new") == {}
    assert said_of_files("telemetry: {access_log: 'off'}", "") == {}
    assert not list(tmp_path.iterdir())


# --- the answer cache ---------------------------------------------------------------------------------------


def listed(name: str, regions: str = "") -> str:
    """A key of a team of the same name."""
    return f"{{id: {name}, team: {name}, hash: 'blake2b:{name * 128}', regions: [{regions}]}}"


def called_by(rules: str, more: str = "") -> str:
    """A gateway that knows its callers by service accounts, in region eu; `more` goes to its providers."""
    endpoint = '{url: "https://a.example", region: eu}'
    return (
        f"providers: {{a: {{api_key: {{env: GLOBAL_API_KEY}}, endpoints: [{endpoint}]}}{more}}}\n"
        f"auth: {{mode: keys, service_accounts: {{callers: [{rules}]}}}}\nlocality: {{region: eu}}\n" + MODELS
    )


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        (MINIMAL + f"cache: {{scope: all}}\nkeys: [{listed('a')}, {listed('b')}]", True),
        (MINIMAL + f"cache: {{scope: team}}\nkeys: [{listed('a')}, {listed('b')}]", False),
        (MINIMAL + f"cache: {{scope: all}}\nkeys: [{listed('a')}]", False),
        (MINIMAL + "cache: {scope: all}", False),
        (called_by("{namespace: shop}, {namespace: search}") + "cache: {scope: all}", True),
        (called_by('{namespace: "team-*"}') + "cache: {scope: all}", True),
        (called_by('{namespace: "team-*", team: one}') + "cache: {scope: all}", False),
    ],
)
def test_answers_that_go_from_team_to_team_are_said(text: str, is_said: bool) -> None:
    said = [warning.path for warning in warnings(config_of(text))]
    assert said == (["cache.scope"] if is_said else [])


@pytest.mark.parametrize(
    ("cache", "is_said"),
    [
        ("match: semantic", True),
        ("match: semantic, semantic: {threshold: 0.97}", True),
        ("match: semantic, shadow: 0.01", False),
        ("match: semantic, semantic: {shadow_only: true}", False),
        ("match: canonical", False),
    ],
)
def test_hits_by_meaning_that_nobody_measures_are_said(
    monkeypatch: pytest.MonkeyPatch, cache: str, is_said: bool
) -> None:
    # Not every platform has all of the embedder's packages.
    monkeypatch.setattr(checks, "find_spec", lambda name: ModuleSpec(name, None))
    said = [warning.path for warning in warnings(config_of(MINIMAL + f"cache: {{{cache}}}"))]
    assert said == (["cache.match"] if is_said else [])


BY_MEANING = "cache: {match: semantic, shadow: 0.05, semantic: {embedder: endpoint, provider: e, model: m}}\n"
EMBEDDER = ', e: {api_key: {env: GLOBAL_API_KEY}, endpoints: [{url: "https://e.example", region: us}]}'


def test_provider_that_only_embeds_is_used() -> None:
    assert warnings(config_of(called_by("{namespace: shop}", EMBEDDER) + BY_MEANING)) == []
    (warning,) = warnings(config_of(called_by("{namespace: shop}", EMBEDDER)))
    assert (warning.path, warning.message[:20]) == ("providers.e", "is used by no model:")


def test_callers_bound_to_where_nothing_embeds_are_named() -> None:
    rules = "{namespace: shop, regions: [eu]}, {namespace: search, regions: [us]}, {namespace: tests}"
    keys = f"keys: [{listed('a', 'eu')}, {listed('b', 'us, eu')}, {listed('c')}]\n"
    (warning,) = warnings(config_of(called_by(rules, EMBEDDER) + BY_MEANING + keys))
    assert warning.path == "cache.semantic.provider"
    assert "no endpoint in the regions of a, shop/*: they get no hits by meaning" in warning.message


@pytest.mark.parametrize(
    ("url", "is_said"), [("https://e.example", True), ("http://127.0.0.1:8081", False)], ids=["far", "here"]
)
def test_embedding_without_a_key_is_said_but_not_on_this_host(url: str, is_said: bool) -> None:
    providers = (
        'providers: {a: {api_key: {env: GLOBAL_API_KEY}, endpoints: [{url: "https://a.example"}]},'
        f' e: {{endpoints: [{{url: "{url}"}}]}}}}\n'
    )
    said = [warning.message for warning in warnings(config_of(providers + MODELS + BY_MEANING))]
    assert ["a caller's own is never used to embed" in message for message in said] == [True] * is_said
