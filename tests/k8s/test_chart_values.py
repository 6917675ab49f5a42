"""The chart's values: documented one by one, and refused by the schema where they make no sense."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.k8s.support_helm import CHART, Object, example, install, kinds, one, render, render_script

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
MONITORED = {f"monitoring.{part}.enabled": True for part in ("podMonitor", "rules", "dashboard")}


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
    (wrong(image={"repository": "reg/b:1.2"}), r"at '/image/repository': 'reg/b:1\.2' does not match"),
    (wrong(image={"repository": "reg//b"}), r"at '/image/repository': 'reg//b' does not match"),
    (wrong(image={"repository": "a___b"}), r"at '/image/repository': 'a___b' does not match"),
    (wrong(sidecar={"configMap": "a..b"}), r"at '/sidecar/configMap': 'a\.\.b' does not match"),
    (wrong(redis={"secretKey": ".."}), r"at '/redis/secretKey': '\.\.' does not match"),
    (
        wrong(sidecar={"resources": {"requests": {"memory": "512Mi"}}}),
        r"sidecar\.resources: requests\.memory 512Mi is more than limits\.memory 256Mi: change one; null",
    ),
    (
        wrong(sidecar={"resources": {"limits": {"cpu": "10m"}}}),
        r"sidecar\.resources: requests\.cpu 50m is more than limits\.cpu 10m: change one",
    ),
    (
        wrong(sidecar={"resources": {"requests": {"memory": "16Mi"}}}),
        r"sidecar\.resources\.requests\.memory: 16Mi is under 32Mi, too little to start: is the unit right\?",
    ),
    (
        wrong(sidecar={"resources": {"requests": {"cpu": "0"}}}),
        r"sidecar\.resources\.requests\.cpu: 0 is no CPU at all: set for example 50m",
    ),
    (
        wrong(sidecar={"resources": {"requests": {"cpu": "0.5m"}}}),
        r"sidecar\.resources\.requests\.cpu: 0\.5m is finer than a thousandth of a CPU: round it",
    ),
    (
        wrong(injector={"resources": {"requests": {"memory": "1Gi"}}}),
        r"injector\.resources: requests\.memory 1Gi is more than limits\.memory 128Mi",
    ),
    (
        wrong(gateway={"resources": {"limits": {"memory": "512m"}}}),
        r"gateway\.resources\.limits\.memory: 512m is under 32Mi",
    ),
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


# --- null, which takes a default away ---


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
@pytest.mark.parametrize("name", ["namespaces", "injector.resources", "gateway.resources.limits.memory"])
def test_value_that_may_be_missing_may_be_null(name: str, mode: str) -> None:
    made = render({**example(mode), name: None})
    spec = one(made, "Deployment")["spec"]["template"]["spec"]
    assert "null" not in json.dumps(spec)
    if name == "namespaces":
        assert {each["metadata"].get("namespace", "ai-sidecar") for each in made} == {"ai-sidecar"}
        assert "Pod" in kinds(made)


def test_schema_wants_each_value_that_the_templates_cannot_do_without() -> None:
    def optional(schema: Object, path: str) -> Iterator[str]:
        for name, part in schema.get("properties", {}).items():
            if name not in schema.get("required", ()):
                yield f"{path}{name}"
            yield from optional(part, f"{path}{name}.")

    free = {name for name in optional(SCHEMA, "") if name.partition(".")[0] in VALUES}
    known = {
        *("namespaces", "image.tag", "image.digest", "image.pullSecrets", "redis.secretKey"),
        *(f"{pod}.resources" for pod in ("sidecar", "injector", "gateway")),
        *(
            f"{pod}.{name}"
            for pod in ("injector", "gateway")
            for name in ("nodeSelector", "tolerations", "priorityClassName")
        ),
        *(f"certificates.{name}" for name in ("issuerRef", "secretName", "caBundle")),
        *(f"certificates.issuerRef.{name}" for name in ("name", "kind", "group")),
        "gateway.service.trafficDistribution",
        *(f"gateway.networkPolicy.{name}" for name in ("closeEgress", "allow")),
        *(f"monitoring.{part}.labels" for part in ("podMonitor", "rules", "dashboard")),
        "monitoring.dashboard.annotations",
    }
    assert free == known
    without = {name: None for name in free if ".issuerRef." not in name}
    for mode in ("sidecar", "gateway"):
        assert render({**example(mode), **MONITORED, **without})


def test_section_that_is_null_is_named() -> None:
    with pytest.raises(render_script.HelmError, match="missing property 'monitoring'"):
        render({**example("gateway"), "monitoring": None})


# --- the release's name ---


@pytest.mark.parametrize("name", ["ai.v1", "1st"])
def test_release_name_that_fits_no_service_is_refused_before_anything_is_made(name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        install({}, name)
    assert f"the release's name, {name}, does not fit a Service: take lower-case" in failed.value.stderr


def test_release_of_any_other_name_is_not() -> None:
    assert "name: shop-ai-sidecar-injector" in install({}, "shop").stdout
