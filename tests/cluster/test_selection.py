"""Which pods the API server asks about, by labels of theirs and of their namespace."""

import pytest

from tests.cluster.client import Client
from tests.cluster.conftest import new_namespace
from tests.cluster.pods import ASKS, app, is_injected, pod
from tests.cluster.release import NAMESPACE, Replica

pytestmark = pytest.mark.usefixtures("replica")


def test_a_namespace_that_does_not_ask_is_left_alone(admin: Client, replica: Replica) -> None:
    before = replica.reviews("injected"), replica.reviews("skipped")
    answer = admin.create(pod(new_namespace(admin, {})))
    assert not is_injected(answer)
    assert answer.warnings == []
    assert (replica.reviews("injected"), replica.reviews("skipped")) == before


@pytest.mark.parametrize(
    ("on_namespace", "on_pod", "wanted"),
    [
        ("enabled", "false", False),
        ("enabled", "true", True),
        ("disabled", "true", True),
        ("", "true", True),
        ("disabled", "", False),
        ("", "false", False),
    ],
)
def test_a_pods_own_label_wins_over_its_namespace(
    admin: Client, on_namespace: str, on_pod: str, wanted: bool
) -> None:
    namespace = new_namespace(admin, {"ai-sidecar/injection": on_namespace} if on_namespace else {})
    labels = {"ai-sidecar/inject": on_pod} if on_pod else {}
    assert is_injected(admin.create(pod(namespace, labels=labels))) is wanted


@pytest.mark.parametrize("namespace", [NAMESPACE, "kube-system", "kube-node-lease"])
def test_our_own_and_the_systems_namespaces_are_never_asked_about(
    admin: Client, replica: Replica, namespace: str
) -> None:
    admin.patch(
        f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"ai-sidecar/injection": "enabled"}}}
    )
    before = replica.reviews("injected")
    if namespace != NAMESPACE:
        metadata = {"name": "default", "namespace": namespace}
        admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    assert not is_injected(admin.create(pod(namespace, labels=ASKS), dryRun="All"))
    assert replica.reviews("injected") == before
    admin.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"ai-sidecar/injection": None}}})


def test_mirrors_of_static_pods_never_reach_the_injector(
    admin: Client, namespace: str, replica: Replica
) -> None:
    before = replica.reviews("skipped")
    mirror = pod(namespace, annotations={"kubernetes.io/config.mirror": "x"}, nodeName="node-1")
    assert not is_injected(admin.create(mirror))
    assert replica.reviews("skipped") == before


@pytest.mark.parametrize(("api", "kind"), [("apps/v1", "Deployment"), ("batch/v1", "Job")])
def test_templates_stay_as_they_are_and_their_pods_do_not(
    admin: Client, namespace: str, api: str, kind: str
) -> None:
    is_job = kind == "Job"
    running = {"containers": [app()], "restartPolicy": "Never" if is_job else "Always"}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": running}
    selector = {} if is_job else {"selector": {"matchLabels": {"app": "x"}}}
    metadata = {"name": "x", "namespace": namespace}
    tree = {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {**selector, "template": template}}
    made = admin.created(tree)["spec"]["template"]["spec"]
    assert [one["name"] for one in made["containers"]] == ["app"]
    assert "initContainers" not in made
    assert is_injected(admin.create({**pod(namespace), "spec": made}))


def test_a_jobs_pod_can_complete_beside_a_native_sidecar(admin: Client, namespace: str) -> None:
    answer = admin.create(pod(namespace, restartPolicy="Never"))
    assert is_injected(answer)
    assert answer.body["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    assert answer.warnings == []
