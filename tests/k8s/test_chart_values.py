"""The chart's values: documented one by one, and refused by the schema where they make no sense."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.k8s.support_helm import CHART, Object, example, render, render_script

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(tree: Object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; a mapping that is empty is a value."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_readme_has_every_value_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(default) for name, default in rows} == dict(leaves(VALUES))
    assert len(rows) == len(dict(rows))


def test_schema_knows_every_value_and_no_other() -> None:
    def names(schema: Object, path: str = "") -> Iterator[str]:
        while "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if "properties" not in schema:
            yield path
            return
        assert schema["additionalProperties"] is False, f"{path} takes anything"
        for name, part in schema["properties"].items():
            yield from names(part, f"{path}.{name}" if path else name)

    known = set(names(SCHEMA)) - {"global"}
    written = {name for name, _ in leaves(VALUES)}
    # Labels are free, and so go deeper than the schema does.
    free = {name for name in written if name.rpartition(".")[0].endswith(("labels", "annotations"))}
    assert {name.rpartition(".")[0] if name in free else name for name in written} - known <= {
        "certificates.issuerRef"
    }
    # Of an issuer and of amounts, only some are in the defaults.
    unset = {name for name in known - written if not re.search(r"\.(issuerRef|limits|requests)\.", name)}
    assert unset == {"monitoring.dashboard.labels"}


def test_defaults_alone_are_enough_for_an_injector() -> None:
    assert render({})


def wrong(**values: Any) -> Object:
    return {**example("sidecar"), **values}


REFUSED: list[tuple[Object, str]] = [
    (wrong(replicas=3), r"additional properties 'replicas' not allowed"),
    (
        wrong(injector={"replicaCount": 3}),
        r"at '/injector': additional properties 'replicaCount' not allowed",
    ),
    (wrong(mode="daemonset"), r"at '/mode': value must be one of 'sidecar', 'gateway'"),
    (wrong(injector={"replicas": 0}), r"at '/injector/replicas': minimum: got 0, want 1"),
    (wrong(injector={"replicas": "2"}), r"at '/injector/replicas': got string, want integer"),
    (
        wrong(injector={"failurePolicy": "Maybe"}),
        r"at '/injector/failurePolicy': value must be one of 'Ignore'",
    ),
    (wrong(injector={"timeoutSeconds": 31}), r"at '/injector/timeoutSeconds': maximum: got 31, want 30"),
    (wrong(namespaces="shop"), r"at '/namespaces': got string, want array"),
    (wrong(namespaces=["kube-system"]), "namespaces: kube-system is the cluster's own: remove it"),
    (wrong(namespaces=["Shop"]), r"at '/namespaces/0': 'Shop' does not match pattern"),
    (wrong(namespaces=["shop", "shop"]), r"at '/namespaces': items at 0 and 1 are equal"),
    (wrong(config={"providers": {}}), r"at '/config': got object, want string"),
    (wrong(config=""), r"at '/config': minLength: got 0, want 1"),
    (wrong(sidecar={"port": 80}), r"at '/sidecar/port': minimum: got 80, want 1,?024"),
    (wrong(sidecar={"resources": {"limits": {"memory": "128MB"}}}), r"'128MB' does not match pattern"),
    (wrong(sidecar={"healthPort": 8080}), "port, healthPort and adminPort must differ"),
    (wrong(certificates={"mode": "given"}), r"at '/certificates/caBundle': minLength"),
    (wrong(certificates={"mode": "helm"}), r"at '/certificates/mode': value must be one of 'managed'"),
    (wrong(certificates={"issuerRef": {"kind": "Issuer"}}), r"at '/certificates/issuerRef'"),
    (wrong(image={"digest": "sha256:1"}), r"at '/image/digest'"),
    (wrong(monitoring={"rules": {"availability": 99.9}}), r"at '/monitoring/rules/availability': maximum"),
    (wrong(gateway={"networkPolicy": {"allow": [{"cidr": "example.com"}]}}), r"/allow/0/cidr"),
    (
        wrong(gateway={"networkPolicy": {"enabled": False, "closeEgress": True}}),
        r"at '/gateway/networkPolicy/enabled': value must be true",
    ),
    (
        wrong(gateway={"autoscaling": {"minReplicas": 20}}),
        "minReplicas 20 is more than maxReplicas 10",
    ),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_value_that_makes_no_sense_is_refused(values: Object, message: str) -> None:
    with pytest.raises(render_script.HelmError, match=message):
        render(values)
