"""What is added to an app's `env`, and what is not because it may stand elsewhere."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.k8s.environment import additions, cautions
from sidecar.k8s.pod import Container
from tests.k8s.support import DEFAULTS

FROM = [{"secretRef": {"name": "openai"}}]


def app(*env: tuple[str, str | None], **parts: Any) -> Container:
    variables = [{"name": name, "value": value} for name, value in env]
    return msgspec.convert({"name": "app", "env": variables, **parts}, Container)


def added(container: Container) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in additions(container, DEFAULTS)}


def test_the_anthropic_url_has_no_version_and_the_openai_url_has() -> None:
    assert added(app()) == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080",
        "OPENAI_API_KEY": "sidecar",
    }


def test_a_key_that_envFrom_may_bring_is_never_covered() -> None:
    assert "OPENAI_API_KEY" not in added(app(envFrom=FROM))
    assert "OPENAI_BASE_URL" in added(app(envFrom=FROM))
    assert "envFrom" in next(cautions(app(envFrom=FROM), DEFAULTS))


def test_there_is_nothing_to_say_of_envFrom_where_the_url_is_set() -> None:
    assert list(cautions(app(("OPENAI_BASE_URL", "x"), envFrom=FROM), DEFAULTS)) == []


@pytest.mark.parametrize(
    ("prefix", "added_names", "told"),
    [
        ("X_", {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"}, []),
        (
            "OPENAI_",
            {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"},
            ["OPENAI_BASE_URL there is replaced", "OPENAI_API_KEY is expected there"],
        ),
        (
            "ANTHROPIC_",
            {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"},
            ["ANTHROPIC_BASE_URL there is replaced"],
        ),
        (
            "OPENAI_API_KEY",
            {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"},
            ["OPENAI_API_KEY is expected there"],
        ),
    ],
)
def test_an_envFrom_with_a_prefix_can_bring_only_names_that_begin_so(
    prefix: str, added_names: set[str], told: list[str]
) -> None:
    container = app(envFrom=[{"prefix": prefix, "configMapRef": {"name": "c"}}])
    assert set(added(container)) == added_names
    said = [f"container 'app' has envFrom: {', '.join(told)}"] if told else []
    assert list(cautions(container, DEFAULTS)) == said


@pytest.mark.parametrize("prefix", [None, ""])
def test_an_empty_prefix_is_none_and_one_source_without_it_is_enough(prefix: str | None) -> None:
    container = app(envFrom=[{"prefix": "X_"}, {"prefix": prefix}])
    assert "OPENAI_API_KEY" not in added(container)
    assert len(list(cautions(container, DEFAULTS))) == 1


def test_an_empty_envFrom_is_none() -> None:
    assert "OPENAI_API_KEY" in added(app(envFrom=[]))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_an_app_behind_a_proxy_asks_the_sidecar_directly(name: str) -> None:
    assert added(app((name, "http://proxy:3128")))["NO_PROXY"] == "127.0.0.1,localhost"


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_of_its_own_stand_and_are_pointed_out_where_loopback_is_missing(name: str) -> None:
    proxied = ("HTTP_PROXY", "http://proxy:3128")
    assert "NO_PROXY" not in added(app(proxied, (name, ".corp")))
    assert f"add 127.0.0.1 to {name}" in next(cautions(app(proxied, (name, ".corp")), DEFAULTS))
    assert f"add 127.0.0.1 to {name}" in next(cautions(app(proxied, (name, None)), DEFAULTS))
    assert list(cautions(app(proxied, (name, ".corp,127.0.0.1")), DEFAULTS)) == []


def test_exceptions_that_envFrom_may_bring_are_not_replaced_and_that_is_said() -> None:
    proxied = ("HTTP_PROXY", "http://proxy:3128")
    assert "NO_PROXY" not in added(app(proxied, envFrom=FROM))
    assert "NO_PROXY, here or in its envFrom, must have 127.0.0.1" in str(
        list(cautions(app(proxied, envFrom=FROM), DEFAULTS))
    )
    prefixed = app(proxied, envFrom=[{"prefix": "X_"}])
    assert added(prefixed)["NO_PROXY"] == "127.0.0.1,localhost"
    assert list(cautions(prefixed, DEFAULTS)) == []


def test_a_star_excepts_everything_from_the_proxy() -> None:
    assert list(cautions(app(("HTTP_PROXY", "http://proxy:3128"), ("NO_PROXY", "*")), DEFAULTS)) == []


def test_env_off_adds_and_says_nothing() -> None:
    off = replace(DEFAULTS, env=False)
    assert additions(app(), off) == []
    assert list(cautions(app(envFrom=FROM), off)) == []
