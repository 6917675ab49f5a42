"""The text of `config` in every shape that YAML has for it: the chart adds to it, and loses nothing of it."""

import json
from random import Random
from typing import Any

import pytest
import yaml

from sidecar.config import document
from tests.k8s.support_helm import Object, example, render

HEADS = (
    "",
    "# mine\n",
    "    # mine\n",
    "\n\n",
    " \n",
    "---\n",
    "# mine\n---\n",
    "--- # mine\n\n",
    "%YAML 1.1\n---\n",
)
ENDS = ("", "\n", "\n\n\n", "\n# mine", "\n   # mine\n", "\n...", "\n...\n", "\n... # mine\n\n# mine\n")
# A mapping that has no lines to put others after.
FLOW = (
    "{providers: {p: {endpoints: [{url: 'http://a.example/v1'}]}},"
    " models: {z: {provider: p}, '*': {provider: p}}}"
)


def texts(objects: list[Object]) -> dict[str, str]:
    """The text of each ConfigMap with a configuration, by namespace."""
    return {
        each["metadata"]["namespace"]: each["data"]["sidecar.yaml"]
        for each in objects
        if each["kind"] == "ConfigMap"
    }


def shapes(text: str) -> dict[str, str]:
    """The same configuration in other words."""
    lines = text.splitlines()
    tree = yaml.safe_load(text)
    quoted = text.replace("providers:", '"providers":', 1)
    return {
        "plain": text.rstrip("\n"),
        "indented": "\n".join(f"   {line}" for line in lines),
        "quoted": quoted.rstrip("\n"),
        "JSON": json.dumps(tree),
        "JSON on many lines": json.dumps(tree, indent=4),
        "JSON, indented": "\n".join(f"  {line}" for line in json.dumps(tree, indent=1).splitlines()),
        "YAML that looks like JSON": yaml.safe_dump(tree, default_flow_style=True, width=1000).rstrip("\n"),
    }


def parsed(values: Object) -> Any:
    """The tree of what the chart makes of `config`."""
    (text,) = set(texts(render(values)).values())
    return document.parse(text.encode())


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
@pytest.mark.parametrize("shape", shapes("providers:"))
def test_text_of_any_shape_means_the_same_and_keeps_its_comments(shape: str, mode: str) -> None:
    values = {**example(mode), "redis.secretKey": "redis-url"}
    expected = parsed(values)
    assert {"usage", "fleet"} <= expected.keys()
    random = Random(f"{shape} {mode}")
    for _ in range(5):
        head, end = random.choice(HEADS), random.choice(ENDS)
        text = f"{head}{shapes(values['config'])[shape]}{end}"
        text = random.choice(["", "\ufeff"]) + random.choice([text, text.replace("\n", "\r\n")])
        (made,) = set(texts(render({**values, "config": text})).values())
        assert document.parse(made.encode()) == expected, text
        # Those after the end of a document go with it.
        assert made.count("mine") == text.partition("\n...")[0].count("mine")


def test_json_keeps_the_order_of_its_models_too() -> None:
    values = {**example("sidecar"), "config": FLOW}
    assert list(parsed(values)["models"]) == ["z", "*"]
    assert parsed(values)["usage"] == {"path": "/var/lib/sidecar/usage.db"}


def test_text_that_needs_nothing_stays_as_it_is() -> None:
    text = f"# mine\n{FLOW[:-1]}, usage: {{path: /data/usage.db}}}}  # so\n"
    assert set(texts(render({**example("sidecar"), "config": text})).values()) == {text}


@pytest.mark.parametrize(
    "line", ["x: \ttab", "# ends in spaces  ", "# é, 日本, 🙂", "# {{ .Values.mode }}", "# 'a' \"b\" \\"]
)
def test_lines_that_yaml_or_helm_could_take_otherwise_arrive_as_they_are(line: str) -> None:
    values = example("sidecar")
    values["config"] += f"{line}\n"
    (made,) = set(texts(render(values)).values())
    assert f"\n{line}\n" in made
