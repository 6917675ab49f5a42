"""Parts that are right by themselves and wrong together."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sidecar.config import checks
from tests.config.support import CA_FILE, ENVIRON, MINIMAL, MODELS, config_of, problems_of

KEY = "api_key: {env: GLOBAL_API_KEY}"
URL = 'endpoints: [{url: "https://a.example/v1"}]'
CALLER = f"{{id: k, hash: 'blake2b:{'0' * 128}'}}"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("listen: {admin: 127.0.0.1:8080}", "listen.admin", "address of listen.data too"),
        ("listen: {admin: localhost:8080}", "listen.admin", "address of listen.data too"),
        ("listen: {health: 0.0.0.0:9901}", "listen.health", "address of listen.admin too"),
        ("listen: {data: 'unix:/a', admin: 'unix:/a'}", "listen.admin", "address of listen.data too"),
        ("listen: {control: 'unix:/a', admin: 'unix:/a'}", "listen.control", "address of listen.admin too"),
        ("listen: {control: '127.0.0.1:9903'}", "listen.control", "expected unix:/absolute/path"),
        ("listen: {hosts: ['https://a']}", "listen.hosts[0]", "expected a host name alone"),
        ("listen: {data: 0.0.0.0:8080}", "listen.data", "or list callers with auth.mode: keys"),
        ("drain: {min: 30s}", "drain.min", "longer than drain.max"),
        ("auth: {mode: keys}\nkeys: []", "keys", "no caller could get in"),
    ],
)
def test_listeners_must_fit_together(text: str, path: str, message: str) -> None:
    problems = problems_of(f"providers: {{a: {{{URL}, {KEY}}}}}\n{MODELS}{text}")
    assert list(problems) == [path]
    assert message in problems[path]


@pytest.mark.parametrize(
    "text",
    [
        "listen: {data: 127.0.0.1:0, admin: 127.0.0.1:0, health: 127.0.0.1:0}",
        "listen: {data: 127.0.0.1:1, admin: 127.0.0.2:1}",
        "listen: {data: 'unix:/a', admin: 'unix:/b', hosts: [api.internal, 10.0.0.1, '[::1]']}",
        "listen: {control: 'unix:/run/sidecar/control.sock'}",
        "listen: {control: 'unix:/a', admin: 'unix:/b', data: 'unix:/c'}",
        "drain: {min: 0s, max: 0s}",
    ],
)
def test_listeners_that_fit_are_accepted(text: str) -> None:
    assert config_of(MINIMAL + text)


@pytest.mark.parametrize("url", ["http://redis:6379", "redis://", "redis://:pass/word@redis:6379"])
def test_redis_url_must_be_one_and_is_not_repeated(url: str) -> None:
    text = MINIMAL + "fleet: {redis: {env: REDIS_URL}, expected: 2}"
    problems = problems_of(text, ENVIRON | {"REDIS_URL": url})
    assert list(problems) == ["fleet.redis"]
    assert problems["fleet.redis"].startswith("must be a URL such as redis://")
    assert "pass/word" not in problems["fleet.redis"]


def test_redis_url_that_is_not_there_is_told_once() -> None:
    text = MINIMAL + "fleet: {redis: {env: NOT_SET}, expected: 2}"
    assert problems_of(text) == {
        "fleet.redis": "environment variable NOT_SET is not set: set it, or use {file: PATH}"
    }


def test_listener_off_loopback_needs_keys() -> None:
    text = f"listen: {{data: 0.0.0.0:8080}}\nauth: {{mode: keys}}\nkeys: [{CALLER}]\n{MODELS}"
    assert config_of(f"{text}providers: {{a: {{{URL}, {KEY}}}}}")
    assert list(problems_of(f"{text}providers: {{a: {{{URL}}}, b: {{{URL}}}}}")) == [
        "providers.a.api_key",
        "providers.b.api_key",
    ]


def test_callers_key_goes_to_one_provider_only() -> None:
    problems = problems_of(f"providers: {{a: {{{URL}}}, b: {{{URL}, {KEY}}}, c: {{{URL}}}}}\n{MODELS}")
    assert list(problems) == ["providers.c.api_key"]
    assert "one provider only" in problems["providers.c.api_key"]


def test_endpoint_stands_once() -> None:
    urls = '[{url: "https://a.example/v1"}, {url: "https://b.example"}, {url: "https://A.example:443/v1/"}]'
    problems = problems_of(f"providers: {{a: {{endpoints: {urls}}}}}\n{MODELS}")
    assert problems == {"providers.a.endpoints[2].url": "is the URL of endpoints[0] too: remove one"}


def test_sidecar_is_not_its_own_provider() -> None:
    text = 'providers: {a: {endpoints: [{url: "http://localhost:8080/v1"}]}}\n' + MODELS
    assert "own listen.data" in problems_of(text)["providers.a.endpoints[0].url"]
    assert config_of(text + "listen: {data: 127.0.0.1:8081}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ('"x:y"', "a", "is not a header name"),
        ("Authorization", "Bearer sk-plain", "give it as api_key"),
        ("api-key", "sk-plain", "give it as api_key"),
        ("Host", "a", "set by the sidecar itself"),
        ("transfer-encoding", "chunked", "set by the sidecar itself"),
        ("content-length", '"5"', "set by the sidecar itself"),
        ("x-a", '"a\\r\\nx-evil: 1"', "expected visible ASCII on one line"),
        ("x-a", '""', "expected visible ASCII on one line"),
        ("x-a", "é", "expected visible ASCII on one line"),
    ],
)
def test_header_that_would_break_requests_is_refused(name: str, value: str, message: str) -> None:
    problems = problems_of(f"providers: {{a: {{{URL}, headers: {{{name}: {value}}}}}}}\n{MODELS}")
    ((path, said),) = problems.items()
    assert path.startswith("providers.a.headers.")
    assert message in said
    assert "sk-plain" not in said


def test_header_stands_once_whatever_its_case() -> None:
    problems = problems_of(f"providers: {{a: {{{URL}, headers: {{x-a: b, X-A: c}}}}}}\n{MODELS}")
    assert list(problems) == ["providers.a.headers.X-A"]


def test_authority_file_must_hold_a_certificate(tmp_path: Path) -> None:
    text = f"providers: {{a: {{{URL}, tls: {{ca_file: FILE}}}}}}\n{MODELS}"
    (tmp_path / "empty.pem").write_text("nothing")
    absent = problems_of(text.replace("FILE", str(tmp_path / "absent.pem")))
    empty = problems_of(text.replace("FILE", str(tmp_path / "empty.pem")))
    assert "cannot be read: No such file" in absent["providers.a.tls.ca_file"]
    assert "holds no certificate: expected PEM" in empty["providers.a.tls.ca_file"]
    assert config_of(text.replace("FILE", CA_FILE))


BY_MEANING = "cache: {match: semantic}\n"
BY_PROVIDER = "cache: {match: semantic, semantic: {embedder: endpoint, provider: a, model: m}}\n"


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def find(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name in names else None

    monkeypatch.setattr(checks, "find_spec", find)


@pytest.mark.parametrize(
    ("there", "cache", "missing"),
    [
        ((), BY_MEANING, "numpy, tokenizers, wordllama"),
        (("numpy", "tokenizers"), BY_MEANING, "wordllama"),
        (("numpy",), "cache: {match: semantic, semantic: {threshold: 0.9}}", "tokenizers, wordllama"),
        (("tokenizers", "wordllama"), BY_PROVIDER, "numpy"),
    ],
)
def test_what_hits_by_meaning_need_is_missed_before_the_start(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], cache: str, missing: str
) -> None:
    installed(monkeypatch, *there)
    said = f"semantic needs {missing}: pip install 'ai-sidecar[semantic]'"
    assert problems_of(MINIMAL + cache) == {"cache.match": said}


@pytest.mark.parametrize(
    ("there", "cache"),
    [
        (("numpy", "tokenizers", "wordllama"), BY_MEANING),
        (("numpy",), BY_PROVIDER),
        ((), "cache: {match: canonical}"),
        ((), "cache: {}"),
        ((), ""),
    ],
)
def test_what_is_not_needed_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], cache: str
) -> None:
    installed(monkeypatch, *there)
    assert config_of(MINIMAL + cache)


def test_what_hits_by_meaning_need_is_looked_for_and_not_loaded() -> None:
    code = (
        "import sys\n"
        "from sidecar.config.load import parse\n"
        "from sidecar.config.problems import ConfigError\n"
        "try:\n"
        "    parse(sys.argv[1].encode(), {})\n"
        "except ConfigError as error:\n"
        "    assert {problem.path for problem in error.problems} == {'cache.match'}, error\n"
        "print([name for name in ('numpy', 'tokenizers', 'wordllama') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, MINIMAL + BY_MEANING]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
