"""What is shown of the providers' lists and of the configuration, and in which order."""

from typing import Any

import orjson
import pytest

from sidecar.catalog import MAX_MODELS, as_list, merge, model_entry, provider_of, read_list, route_entry
from sidecar.config.model import Config
from tests.config.support import config_of

NOW_S = 1_700_000_000
CONFIG = """
providers:
  a: {endpoints: [{url: "https://a.example/v1"}], api_key: {env: GLOBAL_API_KEY}}
  b: {endpoints: [{url: "https://b.example/v1"}], api_key: {env: GLOBAL_API_KEY}}
  direct: {endpoints: [{url: "https://d.example/v1"}], api_key: {env: GLOBAL_API_KEY}, break_glass: true}
models:
  exact: {provider: a, fallback: [direct-only]}
  direct-only: {provider: direct}
  "Pro/*": {provider: b}
  Pro/hidden: {provider: a}
  "a-*": {provider: a}
routes:
  auto: {split: [{model: exact, weight: 1}]}
  exact: {split: [{model: a-1, weight: 1}]}
"""


def loads(entry: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(entry)
    return found


def listed(*names: str, provider: str = "a") -> dict[str, bytes]:
    body = orjson.dumps({"object": "list", "data": [{"id": name, "size": 7} for name in names]})
    entries = read_list(body, provider, NOW_S)
    assert entries is not None
    return entries


def names(config: Config, lists: dict[str, dict[str, bytes]]) -> list[str]:
    shown = merge(config, lists, NOW_S)
    assert [loads(entry)["id"] for entry in shown.values()] == list(shown)
    return list(shown)


@pytest.fixture
def config() -> Config:
    return config_of(CONFIG)


# --- a provider's list ---


def test_a_models_own_fields_are_kept_and_ours_added() -> None:
    given = {
        "id": "m/1",
        "object": "model",
        "created": 5,
        "owned_by": "them",
        "context_length": 8192,
        "sidecar": {"forged": True},
    }
    entries = read_list(orjson.dumps({"data": [given]}), "a", NOW_S)
    assert entries is not None
    assert loads(entries["m/1"]) == given | {"sidecar": {"provider": "a", "kind": "model"}}


@pytest.mark.parametrize(
    "given", [{}, {"created": None, "owned_by": None}, {"created": "now", "owned_by": 1}]
)
def test_what_the_sdks_rely_on_is_always_there_and_of_its_type(given: dict[str, object]) -> None:
    entries = read_list(orjson.dumps([{"id": "m", "object": 3, **given}]), "a", NOW_S)
    assert entries is not None
    assert loads(entries["m"]) | {"sidecar": 0} == {
        "id": "m",
        "object": "model",
        "created": NOW_S,
        "owned_by": "a",
        "sidecar": 0,
    }


@pytest.mark.parametrize("body", [b'{"data":[]}', b'{"object":"list","data":null}', b"[]"])
def test_a_list_of_nothing_is_a_list(body: bytes) -> None:
    assert read_list(body, "a", NOW_S) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"7",
        b"{}",
        b'{"error":{"message":"no"}}',
        b'{"data":{"id":"m"}}',
        b'{"data":"m"}',
        b'{"data":[1,null,"m",[],{}]}',
        b'{"data":[{"id":7},{"id":""}]}',
        b'{"data":[{"id":"%b"}]}' % (b"x" * 2000),
        b'{"data":[{"id":"m"}',
        b'{"data":[{"id":"m","x":' + b"[" * 500 + b"]" * 500 + b"}]}",
        b"[" * 100_000,
        b'{"data":[{"id":"\\ud800"}]}',
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_model_list_is_none(body: bytes) -> None:
    assert read_list(body, "a", NOW_S) is None


def test_bad_entries_do_not_cost_the_good_ones() -> None:
    body = b'{"data":[1,{"id":"m","n":1},{"id":null},{"id":"m","n":2},{"id":"k"}]}'
    entries = read_list(body, "a", NOW_S)
    assert entries is not None
    assert list(entries) == ["m", "k"]
    assert loads(entries["m"])["n"] == 1


def test_a_list_without_end_is_read_up_to_a_bound() -> None:
    entries = read_list(orjson.dumps([{"id": f"m{n}"} for n in range(MAX_MODELS + 5)]), "a", NOW_S)
    assert entries is not None
    assert len(entries) == MAX_MODELS


# --- all together ---


def test_routes_come_first_then_exact_names_then_the_lists(config: Config) -> None:
    lists = {"a": listed("a-2", "a-1"), "b": listed("Pro/x", provider="b")}
    assert names(config, lists) == ["auto", "exact", "Pro/hidden", "a-2", "a-1", "Pro/x"]


def test_a_model_is_shown_only_of_the_provider_it_is_asked_at(config: Config) -> None:
    lists = {"a": listed("Pro/x", "a-1"), "b": listed("a-1", "nobody's", provider="b")}
    assert names(config, lists) == ["auto", "exact", "Pro/hidden", "a-1"]


def test_where_a_pattern_stands_before_an_exact_name_its_provider_is_named(config: Config) -> None:
    entry = merge(config, {}, NOW_S)["Pro/hidden"]
    assert loads(entry)["sidecar"] == {"provider": "b", "kind": "model"}


def test_an_exact_name_is_shown_as_its_provider_lists_it(config: Config) -> None:
    entries = merge(config, {"b": listed("Pro/hidden")}, NOW_S)
    assert loads(entries["Pro/hidden"])["size"] == 7


def test_a_route_wins_over_a_model_of_its_name(config: Config) -> None:
    entries = merge(config, {"a": listed("exact", "auto")}, NOW_S)
    found = [loads(entries[name])["sidecar"] for name in ("exact", "auto")]
    assert found == [{"provider": None, "kind": "route"}] * 2


def test_models_for_break_glass_are_neither_shown_nor_served(config: Config) -> None:
    assert "direct-only" not in names(config, {"direct": listed("direct-only", "d", provider="direct")})
    assert provider_of(config, "direct-only") is None


def test_a_name_goes_to_the_provider_of_the_first_entry_that_matches(config: Config) -> None:
    found = {name: provider_of(config, name) for name in ("exact", "Pro/any", "a-", "other")}
    assert found == {"exact": "a", "Pro/any": "b", "a-": "a", "other": None}


def test_the_answer_is_openais_list_object() -> None:
    entries = [route_entry("auto", NOW_S), model_entry("m", "a", NOW_S)]
    answer = loads(as_list(entries))
    assert answer == {"object": "list", "data": [loads(entry) for entry in entries]}
    assert loads(as_list([])) == {"object": "list", "data": []}
