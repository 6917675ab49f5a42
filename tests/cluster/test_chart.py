"""Every object of the chart and of manifests/ is one that the API server takes; helm installs it."""

import copy
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.client import Client, path_of
from tests.cluster.conftest import GATEWAY, SIDECAR
from tests.cluster.control_plane import ControlPlane
from tests.cluster.pods import app, is_injected, pod, try_pod
from tests.cluster.release import INJECTOR, NAMESPACE, SECRET, WEBHOOK, WEBHOOKS, Release
from tests.cluster.waiting import until
from tests.k8s.support_helm import ROOT, Object, example, render

MONITORING = {
    "monitoring.podMonitor.enabled": True,
    "monitoring.rules.enabled": True,
    "monitoring.dashboard.enabled": True,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sidecar": ("sidecar", MONITORING),
    "classic sidecar": ("sidecar", {"sidecar.mode": "classic", "injector.replicas": 1}),
    "sidecar, cert-manager": ("sidecar", {"certificates.mode": "certManager"}),
    "sidecar, another issuer": (
        "sidecar",
        {
            "certificates.mode": "certManager",
            "certificates.issuerRef": {"kind": "ClusterIssuer", "name": "own"},
        },
    ),
    "sidecar, certificate given": (
        "sidecar",
        {
            "certificates.mode": "given",
            "certificates.secretName": "own-tls",
            "certificates.caBundle": "filled in",
        },
    ),
    "sidecar, placed": (
        "sidecar",
        {
            "injector.nodeSelector": {"pool": "system"},
            "injector.tolerations": [{"key": "pool", "operator": "Exists", "effect": "NoSchedule"}],
            "injector.priorityClassName": "system-cluster-critical",
            "image.pullSecrets": ["registry"],
            "image.digest": f"sha256:{'0' * 64}",
        },
    ),
    "gateway": ("gateway", MONITORING),
    "gateway, one replica": (
        "gateway",
        {"gateway.autoscaling.enabled": False, "gateway.replicas": 1, "gateway.service.port": 8080},
    ),
    "gateway, with Redis": ("gateway", {"redis.secretKey": "redis-url"}),
}
# In manifests/, which are for 1.31 too: the newer name of the same is not known there.
OLD_NAME = 'Service ai-sidecar: spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def faults(admin: Client, trees: list[Object]) -> list[str]:
    """What the API server has against these objects, warnings included; none of them is kept."""
    found = []
    for tree in trees:
        answer = admin.apply(tree, dryRun="All")
        where = f"{tree['kind']} {tree['metadata']['name']}"
        found += [f"{where}: {warning}" for warning in answer.warnings]
        if answer.status not in (200, 201):
            found.append(f"{where}: {answer.status} {answer.message}")
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_the_api_server_has_nothing_against_the_chart(plane: ControlPlane, name: str) -> None:
    mode, changes = VARIANTS[name]
    values = {**example(mode), **changes}
    if "certificates.caBundle" in values:
        values["certificates.caBundle"] = b64encode(plane.ca_file.read_bytes()).decode()
    trees = render(values, "1.36")
    assert len(trees) > 5
    assert faults(plane.admin, trees) == []


@pytest.mark.parametrize("mode", ["sidecar", "gateway"])
def test_the_api_server_has_nothing_against_the_plain_manifests(admin: Client, mode: str) -> None:
    trees = list(yaml.safe_load_all((ROOT / "manifests" / f"{mode}.yaml").read_text()))
    assert [fault for fault in faults(admin, trees) if fault != OLD_NAME] == []


def test_the_api_server_has_nothing_against_the_pod_by_hand(admin: Client) -> None:
    trees = list(yaml.safe_load_all((ROOT / "pod.yaml").read_text()))
    for tree in trees:
        tree["metadata"]["namespace"] = "shop"
    # The app in it is a stand-in, and says nothing of its safety.
    trees[-1]["spec"]["containers"][0] |= {"securityContext": app()["securityContext"]}
    assert faults(admin, trees) == []


def test_a_field_that_there_is_not_would_be_found(admin: Client) -> None:
    trees = render(example("sidecar"), "1.36")
    wrong = copy.deepcopy(next(tree for tree in trees if tree["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    (fault,) = faults(admin, [wrong])
    assert "readinessprobe" in fault


# --- helm ---


@pytest.fixture
def own(plane: ControlPlane) -> Iterator[Release]:
    """A release that the test itself installs."""
    made = Release(plane)
    yield made
    if made.helm("list", "-q").strip():
        made.uninstall()
    plane.admin.call("DELETE", SECRET)


@pytest.mark.parametrize("values", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
def test_what_helm_installs_is_there_and_what_it_removes_is_gone(
    admin: Client, own: Release, values: Any
) -> None:
    printed = own.install(values)
    assert "STATUS: deployed" in printed
    paths = [path_of(tree) for tree in own.objects()]
    assert len(paths) > 5
    assert [path for path in paths if admin.call("GET", path).status != 200] == []
    own.upgrade(values)
    own.uninstall()
    assert [path for path in paths if admin.call("GET", path).status != 404] == []


def test_a_release_changes_from_sidecars_to_a_gateway_and_back(admin: Client, own: Release) -> None:
    own.install(SIDECAR, injector_failurePolicy="Fail")
    until(lambda: try_pod(admin).status != 201)
    own.upgrade(GATEWAY)
    assert admin.call("GET", WEBHOOK).status == 404
    until(lambda: try_pod(admin).status == 201)
    own.upgrade(SIDECAR)
    assert admin.call("GET", WEBHOOK).status == 200
    assert len(admin.get(WEBHOOKS)["items"]) == 1


@pytest.mark.parametrize(
    ("values", "name"), [(SIDECAR, INJECTOR), (GATEWAY, "ai-sidecar")], ids=["sidecar", "gateway"]
)
def test_the_pods_of_the_deployment_are_let_into_a_restricted_namespace(
    admin: Client, own: Release, values: Any, name: str
) -> None:
    own.install(values)
    template = admin.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")["spec"]["template"]
    answer = admin.create({**pod(NAMESPACE, labels=template["metadata"]["labels"]), "spec": template["spec"]})
    assert answer.status == 201, answer.message
    assert answer.warnings == []
    mounts = [mount["mountPath"] for mount in answer.body["spec"]["containers"][0]["volumeMounts"]]
    needs_account = values == SIDECAR
    assert ("/var/run/secrets/kubernetes.io/serviceaccount" in mounts) is needs_account


def test_helm_test_starts_an_injected_pod_and_reads_its_end(admin: Client, own: Release) -> None:
    own.install(SIDECAR)
    with own.replicas(1) as (replica,):
        own.behind(replica)
        until(lambda: is_injected(try_pod(admin)))
        path = "/api/v1/namespaces/shop/pods/ai-sidecar-test"
        command = own.helm_command("test", "ai-sidecar")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            until(lambda: admin.call("GET", path).status == 200)
            made = admin.get(path)
            # The part of the kubelet, which would have run it.
            assert admin.patch(f"{path}/status", {"status": {"phase": "Succeeded"}}).status == 200
            printed = running.communicate(timeout=30.0)[0].decode()
        assert running.returncode == 0, printed
        assert made["spec"]["initContainers"][0]["name"] == "ai-sidecar"
        assert made["spec"]["restartPolicy"] == "Never"
        assert "Succeeded" in printed
        assert admin.call("GET", path).status == 404


def test_helm_test_of_a_gateway_starts_a_pod(admin: Client, own: Release) -> None:
    own.install(GATEWAY)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/ai-sidecar-test"
    command = own.helm_command("test", "ai-sidecar")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        until(lambda: admin.call("GET", path).status == 200)
        assert admin.patch(f"{path}/status", {"status": {"phase": "Failed"}}).status == 200
        printed = running.communicate(timeout=30.0)[0].decode()
    assert running.returncode != 0, printed
