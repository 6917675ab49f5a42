"""From a file and an environment to a configuration, or to all that is wrong with it."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.load import from_environ, listen_from, load, parse
from sidecar.config.model import Locality, Price
from sidecar.config.problems import ConfigError
from sidecar.config.secrets import Secret
from tests.config.support import CA_FILE, ENVIRON, MINIMAL, config_of, full_text, problems_of

LOCAL = {"SIDECAR_REGION": "eu-west-1", "SIDECAR_ZONE": "eu-west-1b"}


def test_full_configuration_is_read_whole(tmp_path: Path) -> None:
    config = config_of(full_text(tmp_path))
    assert config.providers["global-api"].api_key == Secret("sk-global")
    assert config.providers["global-api-pro"].api_key == Secret("sk-pro")
    assert config.providers["global-api"].headers == {"x-team": "platform"}
    assert config.models["Pro/*"].price == Price(input_usd=0.0, output_usd=2.5)
    assert config.models["Qwen/Qwen3-32B"].p99_budget_s == 1.5
    assert config.routes["auto"].classify[1].when.keywords == ("analyze", "compare", "reason")
    assert config.keys[0].expires == date(2099, 1, 31)
    assert config.budgets[0].limit_usd == 50
    assert config.fleet and config.fleet.redis.reveal().startswith("redis://")
    assert config.telemetry.otlp and config.telemetry.otlp.endpoint.port == 4318


def test_every_file_the_configuration_depends_on_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(full_text(tmp_path))
    assert load(path, ENVIRON, unavailable={}).files == (str(path), str(tmp_path / "pro-key"), CA_FILE)


def test_files_of_a_bad_configuration_are_listed_too(tmp_path: Path) -> None:
    path, absent = tmp_path / "sidecar.yaml", tmp_path / "absent"
    path.write_text(MINIMAL.replace("{endpoints", f"{{api_key: {{file: {absent}}}, endpoints"))
    with pytest.raises(ConfigError, match=r"providers\.a\.api_key: file .* cannot be read") as raised:
        load(path, {})
    assert raised.value.files == (str(path), str(absent))


@pytest.mark.parametrize("name", ["absent.yaml", ".", "nul\0"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / name, {})


def test_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load("/dev/zero", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty: expected at least `providers:` and `models:`"),
        ("- a", "the file is not a mapping: expected at least `providers:` and `models:`"),
        ("a: [", "line 2, column 1: not valid YAML: did not find expected node content"),
    ],
)
def test_file_without_a_mapping_is_refused(text: str, message: str) -> None:
    assert problems_of(text) == {"": message}


def test_missing_secret_does_not_hide_what_does_not_fit_together() -> None:
    text = MINIMAL.replace("{endpoints", "{api_key: {env: NOT_SET}, endpoints") + "drain: {min: 1m}"
    assert list(problems_of(text)) == ["providers.a.api_key", "drain.min"]


def test_locality_comes_from_the_environment_where_the_file_is_silent() -> None:
    assert config_of(MINIMAL, LOCAL).locality == Locality(region="eu-west-1", zone="eu-west-1b")
    assert config_of(f"{MINIMAL}locality: {{region: a}}", LOCAL).locality == Locality(
        region="a", zone="eu-west-1b"
    )
    assert config_of(MINIMAL, {"SIDECAR_REGION": ""}).locality == Locality()


def test_locality_of_the_environment_must_be_a_name_too() -> None:
    assert list(problems_of(MINIMAL, {"SIDECAR_ZONE": "a b"})) == ["SIDECAR_ZONE"]


def test_key_alone_means_openai() -> None:
    config = from_environ({"OPENAI_API_KEY": "sk-1"} | LOCAL)
    assert str(config.providers["openai"].endpoints[0].url) == "https://api.openai.com/v1"
    assert config.providers["openai"].api_key == Secret("sk-1")
    assert config.models["*"].provider == "openai"
    assert config.locality.zone == "eu-west-1b"


def test_base_url_alone_forwards_the_callers_key() -> None:
    provider = from_environ({"OPENAI_BASE_URL": "http://localhost:11434/v1"}).providers["openai"]
    assert provider.endpoints[0].url.port == 11434
    assert provider.api_key is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "^nothing to run: set OPENAI_API_KEY .*--config FILE, or try `sidecar demo`$"),
        ({"OPENAI_API_KEY": ""}, "^nothing to run"),
        ({"OPENAI_BASE_URL": "localhost"}, "^OPENAI_BASE_URL: must begin with http"),
        ({"OPENAI_API_KEY": "sk\n"}, "^OPENAI_API_KEY: it holds a control"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"}, "^OPENAI_BASE_URL: is the sidecar's own listen"),
    ],
)
def test_environment_that_gives_no_provider_is_refused_in_one_line(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        from_environ(environ)
    assert len(raised.value.problems) == 1


KEYS = st.sampled_from(["providers", "models", "listen", "a", "endpoints", "url", "api_key", "env", "file"])
SCALARS = st.sampled_from(["", "a", '"*"', "1", "10s", "null", "true", "https://a.example", "127.0.0.1:80"])
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(KEYS, inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_tree_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        parse(text.encode(), {})
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)


# --- where to listen ---


def test_addresses_of_the_environment_win_over_the_files() -> None:
    environ = {"SIDECAR_LISTEN_DATA": "127.0.0.1:8181", "SIDECAR_LISTEN_HEALTH": "10.0.0.7:9902"}
    listen = parse(
        b"listen: {data: 127.0.0.1:1, admin: 127.0.0.1:2}\n" + MINIMAL.encode(), environ
    ).config.listen
    assert (str(listen.data), str(listen.admin), str(listen.health)) == (
        "127.0.0.1:8181",
        "127.0.0.1:2",
        "10.0.0.7:9902",
    )


def test_control_is_off_unless_the_file_or_the_environment_has_it() -> None:
    environ = {"SIDECAR_LISTEN_CONTROL": "unix:/run/b.sock"}
    text = b"listen: {control: 'unix:/run/a.sock'}\n" + MINIMAL.encode()
    assert parse(MINIMAL.encode(), {}).config.listen.control is None
    assert str(parse(text, {}).config.listen.control) == "unix:/run/a.sock"
    assert str(parse(text, environ).config.listen.control) == "unix:/run/b.sock"


@pytest.mark.parametrize("address", ["fd00::7:9902", "[fd00::7]:9902"])
def test_an_ipv6_address_of_the_environment_may_do_without_brackets(address: str) -> None:
    assert str(listen_from({"SIDECAR_LISTEN_HEALTH": address}).health) == "[fd00::7]:9902"


def test_a_bad_address_of_the_environment_is_named() -> None:
    with pytest.raises(ConfigError, match="SIDECAR_LISTEN_ADMIN: "):
        listen_from({"SIDECAR_LISTEN_ADMIN": "nowhere"})


def test_addresses_of_the_environment_must_fit_together_too() -> None:
    with pytest.raises(ConfigError, match=r"address of listen\.data too"):
        parse(MINIMAL.encode(), {"SIDECAR_LISTEN_HEALTH": "127.0.0.1:8080"})
