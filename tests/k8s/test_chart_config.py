"""sidecar.yaml as the chart writes it: the sidecar takes it, and what it would not take helm refuses."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import Loaded, load
from sidecar.config.model import Config
from sidecar.config.warnings import warnings
from tests.k8s.support_helm import Object, example, one, render, render_script
from tests.k8s.test_chart_text import FLOW, texts

SECRETS = "/var/run/secrets/ai-sidecar"


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


def sidecar_with(text: str) -> Object:
    values = example("sidecar")
    values["config"] += text
    return values


def replaced(mode: str, old: str, new: str) -> Object:
    values = example(mode)
    assert old in values["config"]
    values["config"] = values["config"].replace(old, new)
    return values


KEY = "{file: /var/run/secrets/ai-sidecar/api-key}"
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
    (sidecar_with("---\na: 1\n"), "config: a second YAML document stands in it: keep one"),
    (sidecar_with("...\na: 1\n"), "config: a second YAML document stands in it: keep one"),
    (
        {**example("sidecar"), "config": f"&a {FLOW}"},
        r"the chart cannot add to it .*\(usage: .*write that yourself",
    ),
    ({**example("sidecar"), "config": "[providers, models]"}, "config: not the text of a YAML mapping"),
    (
        {**example("sidecar"), "config": "providers: [1]\nmodels: {a: {provider: b}}"},
        "config: providers: expected keys with their values, found a list: mend it, or remove it",
    ),
    (
        replaced("gateway", "auth: {mode: keys}", "auth:"),
        "config: auth: expected keys with their values, found nothing: mend it",
    ),
    (
        replaced("gateway", "auth: {mode: keys}", "auth: keys"),
        "config: auth: expected keys with their values, found a text",
    ),
    (sidecar_with("listen:\n"), "config: listen: expected keys with their values, found nothing"),
    (gateway_with("listen: 0.0.0.0:8080\n"), "config: listen: expected keys with their values, found a text"),
    (gateway_with("listen: {hosts: }\n"), r"config: listen\.hosts: expected a list, found nothing"),
    (gateway_with("listen: {hosts: ai-sidecar}\n"), r"config: listen\.hosts: expected a list, found a text"),
    (gateway_with("drain:\n"), "config: drain: expected keys with their values, found nothing"),
    (gateway_with("drain: {max: 25}\n"), r"config: drain\.max: 25 is not a duration such as 25s"),
    (gateway_with("drain: {max: }\n"), r"config: drain\.max: .* is not a duration such as 25s"),
    *(
        (
            replaced(mode, KEY, "{env: OPENAI_API_KEY}"),
            r"config: providers\.global-api\.api_key: the container has no variable OPENAI_API_KEY: put the"
            r" value into the Secret, and write {file: /var/run/secrets/ai-sidecar/NAME}",
        )
        for mode in ("sidecar", "gateway")
    ),
    (
        gateway_with("cache: {match: exact, redis: {env: R}}\n"),
        r"cache\.redis: the container has no variable R",
    ),
    (sidecar_with("fleet: {redis: {env: R}}\n"), r"fleet\.redis: the container has no variable R"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_configuration_that_could_not_work_is_refused_by_helm(values: dict[str, Any], message: str) -> None:
    with pytest.raises(render_script.HelmError, match=message):
        render(values)


def test_header_that_is_called_env_is_no_secret() -> None:
    assert render(replaced("sidecar", "    endpoints:", "    headers: {env: production}\n    endpoints:"))


@pytest.mark.parametrize(
    ("longest", "grace_s", "is_taken"),
    [
        ("40s", 45, True),
        ("40001ms", 45, False),
        ("1.5m", 95, True),
        ("1.5m", 94, False),
        ("1h", 3605, True),
        ("90s", 45, False),
        (None, 30, True),
        (None, 29, False),
    ],
)
def test_gateway_is_not_killed_before_it_has_drained(
    longest: str | None, grace_s: int, is_taken: bool
) -> None:
    values = gateway_with(f"drain: {{min: 5s, max: {longest}}}\n" if longest else "")
    values["gateway.terminationGracePeriodSeconds"] = grace_s
    if is_taken:
        assert render(values)
        return
    message = (
        rf"terminationGracePeriodSeconds: {grace_s} is too short for drain\.max, which is {longest or '25s'}"
    )
    with pytest.raises(
        render_script.HelmError, match=rf"{message}: .* Set it to \d+ or more, or lower drain"
    ):
        render(values)
