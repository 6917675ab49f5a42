"""sidecar.yaml as the chart writes it: the sidecar takes it, and what it would not take helm refuses."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import Loaded, load
from sidecar.config.model import Config
from sidecar.config.warnings import warnings
from tests.k8s.support_helm import Object, example, one, render, render_script

SECRETS = "/var/run/secrets/ai-sidecar"


def texts(objects: list[Object]) -> dict[str, str]:
    """The text of each ConfigMap with a configuration, by namespace."""
    return {
        each["metadata"]["namespace"]: each["data"]["sidecar.yaml"]
        for each in objects
        if each["kind"] == "ConfigMap"
    }


def loaded(text: str, folder: Path) -> Loaded:
    """What the sidecar makes of it, with its Secret in `folder`."""
    for name, value in (("api-key", "sk-one"), ("redis-url", "redis://redis:6379/0")):
        (folder / name).write_text(value)
    file = folder / "sidecar.yaml"
    file.write_text(text.replace(SECRETS, str(folder)))
    return load(file, {"SIDECAR_REGION": "us-east-1"})


def configured(values: Object, folder: Path) -> Config:
    (text,) = set(texts(render(values)).values())
    return loaded(text, folder).config


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_example_is_a_configuration_without_a_warning(mode: str, tmp_path: Path) -> None:
    assert warnings(configured(example(mode), tmp_path)) == []


def test_every_namespace_gets_the_same_configuration_beside_its_pods() -> None:
    made = texts(render(example("sidecar")))
    assert set(made) == {"shop", "search"}
    assert len(set(made.values())) == 1


def test_models_keep_their_order_since_the_first_match_wins(tmp_path: Path) -> None:
    values = example("sidecar")
    models = '"z/*": {provider: global-api}\n  "a/*": {provider: global-api}\n  "*"'
    values["config"] = values["config"].replace('"*"', models)
    assert list(configured(values, tmp_path).models) == ["z/*", "a/*", "*"]


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    assert configured(example("sidecar"), tmp_path).tiers["standard"].tokens_per_minute == 2_000_000


def test_usage_is_kept_on_the_volume_unless_said_otherwise(tmp_path: Path) -> None:
    values = example("sidecar")
    usage = configured(values, tmp_path).usage
    assert usage and usage.path == "/var/lib/sidecar/usage.db"
    values["config"] += "usage: {path: /data/usage.db}\n"
    usage = configured(values, tmp_path).usage
    assert usage and usage.path == "/data/usage.db"


def test_redis_comes_from_the_secret(tmp_path: Path) -> None:
    values = {**example("sidecar"), "redis": {"secretKey": "redis-url", "expected": 7}}
    fleet = configured(values, tmp_path).fleet
    assert fleet and fleet.redis.reveal() == "redis://redis:6379/0"
    assert fleet.expected == 7


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_cache_of_the_text_is_the_sidecars(mode: str, tmp_path: Path) -> None:
    values = example(mode)
    values["config"] += f"cache: {{match: exact, ttl: 10m, redis: {{file: {SECRETS}/redis-url}}}}\n"
    cache = configured(values, tmp_path).cache
    assert cache and cache.redis
    assert (cache.match, cache.ttl_s, cache.redis.reveal()) == ("exact", 600, "redis://redis:6379/0")


def test_gateway_knows_the_names_its_callers_use_and_leaves_slowly(tmp_path: Path) -> None:
    made = render(example("gateway"))
    config = loaded(texts(made)["ai-sidecar"], tmp_path).config
    name, space = one(made, "Service")["metadata"]["name"], "ai-sidecar"
    short = f"{name}.{space}"
    assert config.listen.hosts == (name, short, f"{short}.svc", f"{short}.svc.cluster.local")
    grace_s = one(made, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > config.drain.max_s > config.drain.min_s >= 5


def test_gateway_may_know_its_callers_by_service_accounts_alone(tmp_path: Path) -> None:
    values = example("gateway")
    text, keys = values["config"].split("# `sidecar key new`")
    assert "hash:" in keys
    accounts = "auth: {mode: keys, service_accounts: {callers: [{namespace: shop, tier: standard}]}}"
    values["config"] = text.replace("auth: {mode: keys}", accounts)
    config = configured(values, tmp_path)
    assert config.keys == ()
    assert config.auth.service_accounts and config.auth.service_accounts.audience == "ai-sidecar"
    assert warnings(config) == []


# --- refused ---


def gateway_with(text: str) -> Object:
    values = example("gateway")
    values["config"] += text
    return values


REFUSED: list[tuple[Object, str]] = [
    ({**example("sidecar"), "config": "models: ["}, "config: not the text of a YAML mapping"),
    ({**example("sidecar"), "config": "models: {a: {provider: b}}"}, "config: providers is missing"),
    (
        {**example("sidecar"), "config": example("sidecar")["config"] + "listen: {data: '0.0.0.0:1'}\n"},
        r"listen\.data is set by the chart: remove it",
    ),
    (gateway_with("listen: {control: 'unix:/s'}\n"), r"listen\.control is set by the chart: remove it"),
    ({**example("sidecar"), "mode": "gateway"}, r"set auth\.mode: keys, and list the keys"),
    (gateway_with("listen: {hosts: [ai-sidecar]}\n"), r"listen\.hosts lacks ai-sidecar\.ai-sidecar"),
    (
        {**gateway_with("fleet: {expected: 1}\n"), "redis": {"secretKey": "redis-url"}},
        r"redis\.secretKey: config has fleet already",
    ),
    (
        {**example("sidecar"), "namespaces": ["shop", "ai-sidecar"]},
        "ai-sidecar is the release's own namespace, where nothing is injected",
    ),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_configuration_that_could_not_work_is_refused_by_helm(values: dict[str, Any], message: str) -> None:
    with pytest.raises(render_script.HelmError, match=message):
        render(values)
