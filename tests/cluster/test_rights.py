"""What the injector may do with the API server: all that it needs, and nothing else."""

from typing import Any

import pytest

from tests.cluster.client import Answer, Client
from tests.cluster.release import INJECTOR, NAMESPACE, SECRET, WEBHOOK, WEBHOOKS, Release, Replica

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
# What every ServiceAccount may do in every cluster: ask about itself.
_EVERYBODYS = {"authorization.k8s.io", "authentication.k8s.io"}


@pytest.fixture(scope="module")
def injector(release: Release, replica: Replica) -> Client:
    """With the token of the chart's ServiceAccount; its Secret and caBundle are there."""
    assert replica.port
    return release.plane.client(token=release.token())


def rules_of(client: Client, namespace: str) -> list[Any]:
    """What the API server says that somebody may do in a namespace, and in the cluster."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = client.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    assert answer.status == 201, answer.message
    return [
        rule
        for rule in answer.body["status"]["resourceRules"]
        if not _EVERYBODYS.issuperset(rule["apiGroups"])
    ]


def by_resource(rules: list[Any]) -> list[tuple[Any, ...]]:
    return sorted((rule["resources"], rule.get("resourceNames", []), sorted(rule["verbs"])) for rule in rules)


def test_it_may_do_these_things_in_its_namespace_and_no_others(injector: Client) -> None:
    assert by_resource(rules_of(injector, NAMESPACE)) == [
        (["mutatingwebhookconfigurations"], [f"{INJECTOR}.{NAMESPACE}"], ["get", "patch"]),
        (["secrets"], [], ["create"]),
        (["secrets"], [f"{INJECTOR}-tls"], ["get", "update"]),
    ]


def test_elsewhere_it_may_do_nothing_but_look_after_its_webhook(injector: Client) -> None:
    assert by_resource(rules_of(injector, "shop")) == [
        (["mutatingwebhookconfigurations"], [f"{INJECTOR}.{NAMESPACE}"], ["get", "patch"]),
    ]


def secret(namespace: str, name: str) -> Any:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SECRETS),
        ("GET", f"{SECRETS}/ai-sidecar-key"),
        ("PUT", f"{SECRETS}/ai-sidecar-key"),
        ("DELETE", SECRET),
        ("PATCH", SECRET),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/shop/secrets/ai-sidecar-key"),
        ("POST", "/api/v1/namespaces/shop/secrets"),
        ("GET", WEBHOOKS),
        ("GET", f"{WEBHOOKS}/another"),
        ("PATCH", f"{WEBHOOKS}/another"),
        ("PUT", WEBHOOK),
        ("DELETE", WEBHOOK),
        ("POST", WEBHOOKS),
        ("GET", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"),
        ("GET", "/api/v1/namespaces/shop/pods"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{INJECTOR}/token"),
        ("GET", f"{RBAC}/clusterroles"),
        ("POST", f"{RBAC}/namespaces/{NAMESPACE}/rolebindings"),
    ],
)
def test_anything_else_is_forbidden(injector: Client, method: str, path: str) -> None:
    answer = injector.call(method, path, None if method in ("GET", "DELETE") else secret(NAMESPACE, "x"))
    assert answer.status == 403, answer.message
    assert f'User "system:serviceaccount:{NAMESPACE}:{INJECTOR}" cannot' in answer.message


def test_nobody_without_a_token_may_do_it(release: Release) -> None:
    def read(client: Client) -> Answer:
        return client.call("GET", SECRET)

    assert read(release.plane.client()).status == 403
    assert read(release.plane.client(token="of.no.body")).status == 401
    assert read(release.plane.client(token=release.token("default"))).status == 403
