"""What speaks against a sidecar in a pod, and what only looks as if it did."""

from typing import Any

import msgspec
import pytest

from sidecar.k8s.obstacles import obstacles
from sidecar.k8s.pod import Pod
from sidecar.k8s.settings import Settings
from tests.k8s.support import CLASSIC, DEFAULTS, Tree, pod_of


def found(pod: Tree, settings: Settings = DEFAULTS) -> list[str]:
    return list(obstacles(msgspec.convert(pod, Pod), settings))


def app(**parts: Any) -> Tree:
    return {"name": "app", "image": "app", **parts}


def asked(field: str, port: Any, kind: str = "httpGet", **more: Any) -> Tree:
    """A container with one probe or hook."""
    handler = {kind: {"port": port, **more}}
    if field in ("postStart", "preStop"):
        return app(lifecycle={field: handler})
    return app(**{field: handler})


# --- ports ---


@pytest.mark.parametrize(
    ("port", "name"), [(8080, "port"), (9902, "health-port"), (9901, "admin-port")], ids=str
)
def test_a_port_that_an_app_declares_is_taken_and_the_way_out_is_named(port: int, name: str) -> None:
    (reason,) = found(pod_of(app(ports=[{"containerPort": port}])))
    assert reason.startswith(f"container 'app' listens on port {port} itself: ")
    assert reason.endswith(f"annotation ai-sidecar/{name}")


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket", "grpc"])
@pytest.mark.parametrize("field", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_port_that_a_probe_asks_is_taken(field: str, kind: str) -> None:
    (reason,) = found(pod_of(asked(field, 8080, kind)))
    assert reason.startswith(f"container 'app' listens on port 8080 itself, as its {field} says: ")


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
@pytest.mark.parametrize("field", ["postStart", "preStop"])
def test_a_port_that_a_hook_asks_is_taken(field: str, kind: str) -> None:
    (reason,) = found(pod_of(asked(field, 9902, kind)))
    assert f"as its {field} hook says: give the sidecar another" in reason


def test_probes_of_sidecars_among_the_init_containers_count_too() -> None:
    other = {**asked("startupProbe", 8080), "name": "other", "restartPolicy": "Always"}
    for settings in (DEFAULTS, CLASSIC):
        assert len(found(pod_of(initContainers=[other]), settings)) == 1


def test_one_port_of_one_container_is_said_once() -> None:
    busy = app(
        ports=[{"containerPort": 8080}, {"containerPort": 8080, "name": "web"}],
        readinessProbe={"httpGet": {"port": 8080}},
        livenessProbe={"httpGet": {"port": 8080}},
        startupProbe={"tcpSocket": {"port": 9901}},
    )
    assert len(found(pod_of(busy))) == 2


@pytest.mark.parametrize(
    "container",
    [
        app(ports=[{"containerPort": 8080, "protocol": "UDP"}]),
        app(ports=[{"containerPort": 80, "hostPort": 8080}]),
        app(ports=[{"containerPort": 8081}]),
        app(env=[{"name": "PORT", "value": "8080"}]),
        asked("readinessProbe", 8081),
        asked("readinessProbe", "http"),
        asked("readinessProbe", None),
        asked("readinessProbe", 8080, host="status.example"),
        asked("preStop", 8080, host="drain.example"),
        app(livenessProbe={"exec": {"command": ["true"]}}),
        app(lifecycle={"preStop": {"sleep": {"seconds": 8080}}, "postStart": None}),
    ],
)
def test_what_only_looks_like_a_taken_port_is_none(container: Tree) -> None:
    assert found(pod_of(container)) == []


def test_init_containers_have_ended_when_a_classic_sidecar_starts() -> None:
    pod = pod_of(initContainers=[{"name": "i", "ports": [{"containerPort": 8080}]}])
    assert found(pod, CLASSIC) == []
    assert len(found(pod, DEFAULTS)) == 1


# --- Windows ---


def required(*terms: Any) -> Tree:
    nodes = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": nodes}}


def term(*conditions: tuple[str, str, list[str]]) -> Tree:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, "values": values} for key, operator, values in conditions
        ]
    }


OS, OLD_OS = "kubernetes.io/os", "beta.kubernetes.io/os"
WINDOWS = term((OS, "In", ["windows"]))
ZONE = ("topology.kubernetes.io/zone", "In", ["a"])


@pytest.mark.parametrize(
    "spec",
    [
        {"os": {"name": "windows"}},
        {"nodeSelector": {OS: "windows"}},
        {"nodeSelector": {OLD_OS: "windows"}},
        required(WINDOWS),
        required(term((OLD_OS, "In", ["windows"]))),
        required(term((OS, "NotIn", ["linux"]))),
        required(term(ZONE, (OS, "In", ["windows"]))),
        required(WINDOWS, term(ZONE, (OLD_OS, "In", ["windows"]))),
    ],
)
def test_a_pod_that_runs_on_windows_only_is_known_by_any_sign(spec: Tree) -> None:
    assert found(pod_of(**spec)) == ["the pod is for Windows, the sidecar runs on Linux"]


@pytest.mark.parametrize(
    "spec",
    [
        {"os": {"name": "linux"}, "nodeSelector": {OS: "linux"}},
        required(term((OS, "In", ["linux"]))),
        required(term((OS, "In", ["windows", "linux"]))),
        required(term((OS, "NotIn", ["windows"]))),
        required(term((OS, "Exists", []))),
        required(term(("example.com/os", "In", ["windows"]))),
        required(WINDOWS, term(ZONE)),
        required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}),
        required(),
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
        {"affinity": {"podAntiAffinity": {}}},
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}}},
        {"affinity": None},
    ],
)
def test_a_pod_that_may_run_on_linux_is_not_for_windows(spec: Tree) -> None:
    assert found(pod_of(**spec)) == []


# --- the rest ---


def test_the_nodes_network_and_a_volumes_name_are_obstacles() -> None:
    pod = pod_of(hostNetwork=True, volumes=[{"name": "data"}, {"name": "ai-sidecar-config"}])
    network, volume = found(pod)
    assert "hostNetwork" in network
    assert volume == "the pod has a volume ai-sidecar-config already: rename it"
