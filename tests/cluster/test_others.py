"""The injector among other webhooks and policies: it is asked again after them, and does its part once."""

import copy
from typing import Any

import pytest

from tests.cluster.client import Client
from tests.cluster.others import webhook
from tests.cluster.pods import app, env_of, is_injected, pod, sidecar_of, try_pod
from tests.cluster.release import Replica
from tests.cluster.waiting import until

pytestmark = pytest.mark.usefixtures("replica")


def labelled(tree: Any) -> list[dict[str, Any]]:
    if "seen" in tree["metadata"].get("labels", {}):
        return []
    return [{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]


def with_container(tree: Any) -> list[dict[str, Any]]:
    if any(one["name"] == "late" for one in tree["spec"]["containers"]):
        return []
    return [{"op": "add", "path": "/spec/containers/-", "value": app("late")}]


def without_restart_policy(tree: Any) -> list[dict[str, Any]]:
    """As a webhook that was built before there were native sidecars."""
    made = copy.deepcopy(tree["spec"].get("initContainers", []))
    return [
        {"op": "remove", "path": f"/spec/initContainers/{index}/restartPolicy"}
        for index, one in enumerate(made)
        if one.pop("restartPolicy", None)
    ]


@pytest.mark.parametrize("name", ["a-before", "z-after"])
def test_a_pod_changed_by_another_webhook_has_one_sidecar(admin: Client, namespace: str, name: str) -> None:
    with webhook(admin, name, namespace, labelled) as seen:
        until(lambda: admin.create(pod(namespace), dryRun="All") and seen)
        answer = admin.create(pod(namespace))
        assert is_injected(answer)
        assert answer.body["metadata"]["labels"] == {"seen": "yes"}
        assert env_of(answer.body["spec"]["containers"][0])["OPENAI_API_KEY"] == "sidecar"
        assert answer.warnings == []


def test_it_is_asked_again_after_a_change_and_changes_nothing(
    admin: Client, namespace: str, replica: Replica
) -> None:
    with webhook(admin, "z-after", namespace, labelled) as seen:
        until(lambda: admin.create(pod(namespace), dryRun="All") and seen)
        injected, skipped = replica.reviews("injected"), replica.reviews("skipped")
        assert is_injected(admin.create(pod(namespace)))
        assert replica.reviews("injected") == injected + 1
        assert replica.reviews("skipped") == skipped + 1


def test_a_container_that_comes_later_learns_of_the_sidecar_too(admin: Client, namespace: str) -> None:
    with webhook(admin, "z-after", namespace, with_container) as seen:
        until(lambda: admin.create(pod(namespace), dryRun="All") and seen)
        answer = admin.create(pod(namespace))
        assert is_injected(answer)
        first, late = answer.body["spec"]["containers"]
        assert late["name"] == "late"
        assert env_of(late) == env_of(first)
        assert env_of(late)["OPENAI_BASE_URL"] == "http://127.0.0.1:8080/v1"


def test_an_old_webhook_that_drops_the_restart_policy_is_pointed_out(admin: Client, namespace: str) -> None:
    with webhook(admin, "z-after", namespace, without_restart_policy) as seen:
        until(lambda: admin.create(pod(namespace), dryRun="All") and seen)
        answer = admin.create(pod(namespace), dryRun="All")
        assert any("lacks restartPolicy: Always" in one for one in answer.warnings)
        # An init container that ends may have no probes: the pod is refused, and does not hang.
        assert answer.status == 422
        assert "spec.initContainers[0].startupProbe" in answer.message


def test_a_policy_sees_the_pod_with_its_sidecar(admin: Client, namespace: str, replica: Replica) -> None:
    """What the good practices ask for beside a webhook that fails open: check the outcome."""
    there = "has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == 'ai-sidecar')"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    only_here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policies = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"sidecar-{namespace}"}}
    admin.created(
        {
            **policies,
            "kind": "ValidatingAdmissionPolicy",
            "spec": {
                "matchConstraints": {"resourceRules": rules, "namespaceSelector": only_here},
                "validations": [{"expression": there, "message": "this pod has no sidecar"}],
            },
        }
    )
    admin.created(
        {
            **policies,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": f"sidecar-{namespace}", "validationActions": ["Deny"]},
        }
    )
    out = pod(namespace, labels={"ai-sidecar/inject": "false"})
    until(lambda: admin.create(out, dryRun="All").status != 201)
    assert "this pod has no sidecar" in admin.create(out).message
    assert is_injected(admin.create(pod(namespace)))


def test_both_webhook_entries_are_asked_at_most_once_for_a_pod(admin: Client, replica: Replica) -> None:
    before = replica.reviews("injected") + replica.reviews("skipped")
    assert is_injected(try_pod(admin))
    assert replica.reviews("injected") + replica.reviews("skipped") == before + 1
    assert sidecar_of(try_pod(admin).body)
