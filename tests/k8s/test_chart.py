"""The chart over a matrix of values: every object fits the strict schema of every Kubernetes it is for."""

from typing import Any

import pytest
import yaml

from sidecar import __version__
from tests.k8s.support_helm import (
    CHART,
    CLASSIC,
    FOREIGN,
    NEWEST,
    OLDEST,
    VERSIONS,
    Object,
    example,
    faults,
    kinds,
    one,
    render,
    render_script,
)

MONITORED = {
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "annotations": {"grafana_folder": "AI"}},
    }
}
PLACED = {
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "high",
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing but the injector": ("sidecar", {"namespaces": [], "config": ""}),
    "classic": ("sidecar", {"sidecar": {"mode": "classic", "resources": {"limits": {"cpu": "1"}}}}),
    "cert-manager": ("sidecar", {"certificates": {"mode": "certManager"}}),
    "cert-manager's own issuer": (
        "sidecar",
        {"certificates": {"mode": "certManager", "issuerRef": {"kind": "ClusterIssuer", "name": "ours"}}},
    ),
    "given certificate": (
        "sidecar",
        {"certificates": {"mode": "given", "secretName": "tls", "caBundle": "QUJD" * 20}},
    ),
    "one injector": ("sidecar", {"injector": {"replicas": 1, "failurePolicy": "Fail", **PLACED}}),
    "image by digest": (
        "sidecar",
        {"image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]}},
    ),
    "shared limits": ("gateway", {"redis": {"secretKey": "redis-url", "expected": 4}}),
    "gateway of fixed size": ("gateway", {"gateway": {"autoscaling": {"enabled": False}, **PLACED}}),
    "one gateway": ("gateway", {"gateway": {"autoscaling": {"enabled": False}, "replicas": 1}}),
    "open gateway": ("gateway", {"gateway": {"networkPolicy": {"enabled": False, "closeEgress": False}}}),
}


def check(objects: list[Object], version: str) -> None:
    """Every object is one that Kubernetes takes whole."""
    found = [
        f"{each['kind']} {each['metadata']['name']}: {fault}"
        for each in objects
        if not each["apiVersion"].startswith(FOREIGN)
        for fault in faults(each, version)
    ]
    assert not found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_example_is_valid_for_every_kubernetes(mode: str, version: str) -> None:
    check(render({**example(mode), **MONITORED}, version), version)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("case", CASES)
def test_case_is_valid_for_the_oldest_and_the_newest_kubernetes(case: str, version: str) -> None:
    mode, values = CASES[case]
    check(render({**example(mode), **values}, version), version)


def test_field_that_kubernetes_does_not_know_is_found() -> None:
    made = render(example("gateway"))
    for each in made:
        each["spec" if "spec" in each else "metadata"]["restartPolcy"] = "Always"
    for each in made:
        assert "restartPolcy" in str(faults(each, NEWEST))


@pytest.mark.parametrize(
    ("mode", "values"),
    [("sidecar", {"sidecar.mode": "classic"}), ("gateway", {})],
    ids=["classic", "gateway"],
)
def test_kubernetes_without_native_sidecars_takes_what_needs_none(mode: str, values: Object) -> None:
    made = render({**example(mode), **values}, CLASSIC)
    check(made, CLASSIC)
    arguments = one(made, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert mode == "gateway" or "--mode=classic" in arguments


def test_native_sidecars_are_refused_where_kubernetes_has_none() -> None:
    message = (
        r"sidecar\.mode: native needs Kubernetes 1\.29, and this is v1\.28.*: set sidecar\.mode to classic"
    )
    with pytest.raises(render_script.HelmError, match=message):
        render(example("sidecar"), CLASSIC)


def test_kubernetes_without_match_conditions_is_refused() -> None:
    with pytest.raises(render_script.HelmError, match=r">=1\.28\.0-0"):
        render({**example("sidecar"), "sidecar.mode": "classic"}, "1.27")


def test_chart_is_of_the_version_that_it_deploys() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_no_two_objects_have_one_name(mode: str) -> None:
    made = render({**example(mode), **MONITORED})
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in made]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("mode", "other"), [("sidecar", "gateway"), ("gateway", "sidecar")])
def test_a_release_is_of_one_mode(mode: str, other: str) -> None:
    """What makes the other mode is not there."""
    marks = {"sidecar": "MutatingWebhookConfiguration", "gateway": "HorizontalPodAutoscaler"}
    made = kinds(render(example(mode)))
    assert marks[mode] in made
    assert marks[other] not in made


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_every_pod_fits_the_restricted_profile(mode: str) -> None:
    for each in render(example(mode)):
        spec = each["spec"]["template"]["spec"] if each["kind"] == "Deployment" else each.get("spec", {})
        for container in spec.get("containers", ()):
            pod = spec["securityContext"]
            assert pod["runAsNonRoot"] is True
            assert pod["runAsUser"] == 10001
            assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_no_secret_is_made_and_none_goes_through_the_values(mode: str) -> None:
    assert "Secret" not in kinds(render(example(mode)))
