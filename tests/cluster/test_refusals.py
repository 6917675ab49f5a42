"""What speaks against a sidecar: the pod is let in without one, and its author reads why."""

from collections.abc import Iterator

import pytest

from tests.cluster.client import Client
from tests.cluster.conftest import new_namespace
from tests.cluster.pods import app, is_injected, pod, sidecar_of
from tests.k8s.support import Tree

pytestmark = pytest.mark.usefixtures("replica")

NOT = "ai-sidecar is not injected: "

# Values at the edges of what the injector and Kubernetes take for each annotation.
SUSPECTS = {
    "image": (
        *(
            "",
            " ",
            "app",
            "Upper/case",
            "a b",
            "a:b:c",
            "app:1\n",
            "app@sha256:short",
            "a//b",
            "-/a",
            "a__b/c",
        ),
        *("localhost:5000/app:1", "localhost:99999/app", f"app:1@sha256:{'0' * 64}", "x" * 512, "x" * 513),
    ),
    "config": ("", "0", "a.b", "a..b", "-a", "a-", "A", "a_b", "a" * 253, "a" * 254, "ü"),
    "secret": ("", "0", "a.b", ".a", "a/b", "a" * 253, "a" * 254),
    "port": (
        "",
        "0",
        "80",
        "1023",
        "1024",
        "65535",
        "65536",
        "9902",
        "08080",
        "8080 ",
        "-1",
        "8_080",
        "８０８０",
    ),
    "health-port": ("1024", "8080", "http", "99999"),
    "admin-port": ("65535", "9902", "1e4"),
    "log-level": ("debug", "DEBUG", "", "trace"),
    "env": ("off", "no", ""),
    "token-audience": ("a", "", "https://x.example/", "a b", "ü", "\t", "x" * 253, "x" * 254),
    "cpu-request": ("0", "-1", "1", "0.001", "0.0001", "1n", "0.5m", "1e3", "1E", "999999999999", "1 "),
    "cpu-limit": ("50m", "49m", "0.05", "1Ki", "2T", "inf", "nan"),
    "memory-request": (
        "32Mi",
        "33554432",
        "33554431",
        "33554432000m",
        "0.1Gi",
        "64mi",
        "256Mi",
        "257Mi",
        "1",
    ),
    "memory-limit": (
        "64Mi",
        "63Mi",
        "1e9",
        "128m",
        "1.5Gi",
        "12.345Gi",
        "12.3456Gi",
        "999999999999Ti",
        "8Ei",
    ),
    "nonsense": ("x",),
    "Port": ("9000",),
}


def suspects() -> Iterator[tuple[str, str]]:
    for name, values in SUSPECTS.items():
        for value in values:
            yield name, value


def test_no_annotation_makes_a_pod_that_kubernetes_refuses(admin: Client, namespace: str) -> None:
    injected, refused = 0, 0
    for name, value in suspects():
        tree = pod(namespace, annotations={f"ai-sidecar/{name}": value})
        answer = admin.create(tree, dryRun="All")
        assert answer.status == 201, f"{name}: {value!r}: {answer.message}"
        if sidecar_of(answer.body):
            injected += 1
        else:
            refused += 1
            assert any(one.startswith(NOT) for one in answer.warnings), (
                f"{name}: {value!r}: {answer.warnings}"
            )
            assert answer.body["spec"]["containers"][0].get("env") is None
    assert injected > 30
    assert refused > 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotations": {"ai-sidecar/port": "http"}}, "annotation ai-sidecar/port: 'http' is not a port"),
        (
            {"annotations": {"ai-sidecar/port": "9902"}},
            "annotations: health-port and port are both 9902: change one",
        ),
        ({"labels": {"ai-sidecar/inject": "yes"}}, "label ai-sidecar/inject: 'yes' is neither"),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, "the pod is for Windows"),
        (
            {"volumes": [{"name": "ai-sidecar-data", "emptyDir": {}}]},
            "the pod has a volume ai-sidecar-data already",
        ),
    ],
)
def test_what_speaks_against_it_is_a_warning(
    admin: Client, namespace: str, change: Tree, reason: str
) -> None:
    answer = admin.create(pod(namespace, **change))
    assert not is_injected(answer)
    assert answer.warnings[0].startswith(NOT + reason)


def test_a_taken_port_is_a_warning_that_says_the_way_out(admin: Client, namespace: str) -> None:
    taken = app(ports=[{"containerPort": 8080}])
    answer = admin.create(pod(namespace, taken))
    assert not is_injected(answer)
    assert "container 'app' listens on port 8080 itself" in answer.warnings[0]
    assert "annotation ai-sidecar/port" in answer.warnings[0]
    assert is_injected(admin.create(pod(namespace, taken, annotations={"ai-sidecar/port": "8090"})))


def test_a_pod_on_the_nodes_own_network_is_left_alone(admin: Client) -> None:
    labels = {"ai-sidecar/injection": "enabled", "pod-security.kubernetes.io/enforce": "privileged"}
    answer = admin.create(pod(new_namespace(admin, labels), hostNetwork=True))
    assert not is_injected(answer)
    assert any("the pod has hostNetwork" in one for one in answer.warnings)


def test_a_pod_for_windows_is_left_alone(admin: Client, namespace: str) -> None:
    windows = app(securityContext={"runAsNonRoot": True})
    answer = admin.create(pod(namespace, windows, os={"name": "windows"}))
    assert not is_injected(answer)
    assert answer.warnings[0].startswith(f"{NOT}the pod is for Windows")


def test_an_unknown_annotation_is_named_and_does_not_stop_the_injection(
    admin: Client, namespace: str
) -> None:
    answer = admin.create(pod(namespace, annotations={"ai-sidecar/prot": "9000"}))
    assert is_injected(answer)
    assert answer.warnings[0].startswith("annotation ai-sidecar/prot: there is no such setting")


def test_many_long_warnings_reach_the_author_in_part(admin: Client, namespace: str) -> None:
    annotations = {f"ai-sidecar/{number}-{'x' * 40}": "ü\r\n" * 500 for number in range(40)}
    answer = admin.create(pod(namespace, annotations=annotations))
    assert is_injected(answer)
    assert 8 <= len(answer.warnings) <= 16
    assert all(one.isascii() for one in answer.warnings)
