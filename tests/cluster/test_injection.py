"""The pod that comes out: what is in it, and how it fits what else the API server does with pods."""

import pytest

from tests.cluster.client import Client, path_of
from tests.cluster.pods import app, env_of, is_injected, pod, sidecar_of
from tests.cluster.waiting import until

pytestmark = pytest.mark.usefixtures("replica")

URLS = {
    "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080",
    "OPENAI_API_KEY": "sidecar",
}


def test_a_pod_in_a_namespace_that_asks_gets_a_native_sidecar_first(admin: Client, namespace: str) -> None:
    made = admin.created(pod(namespace, initContainers=[app("migrate")]))
    kept = admin.get(path_of(made))
    first, second = kept["spec"]["initContainers"]
    assert (first["name"], first["restartPolicy"], second["name"]) == ("ai-sidecar", "Always", "migrate")
    assert first["image"] == "ai-sidecar:0.1.0"
    assert {volume["name"] for volume in kept["spec"]["volumes"]} >= {
        *("ai-sidecar-config", "ai-sidecar-key", "ai-sidecar-data"),
    }


def test_every_container_learns_of_it_and_what_an_app_has_set_stands(admin: Client, namespace: str) -> None:
    own = {"name": "OPENAI_BASE_URL", "value": "https://own.example/v1"}
    made = admin.created(pod(namespace, app(), app("other", env=[own]), initContainers=[app("migrate")]))
    plain, other = made["spec"]["containers"]
    assert env_of(plain) == env_of(made["spec"]["initContainers"][1]) == URLS
    assert env_of(other) == {**URLS, "OPENAI_BASE_URL": "https://own.example/v1"}
    assert other["env"][0] == own


def test_a_dry_run_shows_the_sidecar_and_keeps_nothing(admin: Client, namespace: str) -> None:
    assert is_injected(admin.create(pod(namespace), dryRun="All"))
    assert admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []


def test_what_the_restricted_profile_forbids_is_still_forbidden(admin: Client, namespace: str) -> None:
    careless = {"name": "app", "image": "registry.example/app:1"}
    answer = admin.create(pod(namespace, careless))
    assert answer.status == 403
    assert 'container "app" must set' in answer.message
    assert "ai-sidecar" not in answer.message.replace("ai-sidecar-", "")


def test_all_annotations_are_honoured(admin: Client, namespace: str) -> None:
    given = {
        "image": "registry.example/other:2",
        "config": "own-config",
        "secret": "own-key",
        "port": "9000",
        "health-port": "9001",
        "admin-port": "9002",
        "log-level": "debug",
        "env": "on",
        "token-audience": "providers",
        "cpu-request": "100m",
        "cpu-limit": "1",
        "memory-request": "80Mi",
        "memory-limit": "1Gi",
    }
    answer = admin.create(
        pod(namespace, annotations={f"ai-sidecar/{name}": text for name, text in given.items()})
    )
    assert is_injected(answer)
    assert answer.warnings == []
    spec = answer.body["spec"]
    made = spec["initContainers"][0]
    env = env_of(made)
    assert made["image"] == "registry.example/other:2"
    assert env["SIDECAR_LISTEN_DATA"] == "127.0.0.1:9000"
    assert env["SIDECAR_LISTEN_ADMIN"] == "127.0.0.1:9002"
    assert env["SIDECAR_LISTEN_HEALTH"] == "$(SIDECAR_POD_IP):9001"
    assert env["SIDECAR_LOG_LEVEL"] == "debug"
    assert made["resources"] == {
        "requests": {"cpu": "100m", "memory": "80Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["ai-sidecar-config"]["configMap"]["name"] == "own-config"
    assert volumes["ai-sidecar-key"]["secret"]["secretName"] == "own-key"
    (source,) = volumes["ai-sidecar-token"]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "providers"
    assert env_of(spec["containers"][0])["OPENAI_BASE_URL"] == "http://127.0.0.1:9000/v1"


def test_the_sidecar_does_not_get_the_apps_account(admin: Client, namespace: str) -> None:
    made = admin.created(pod(namespace))
    app_mounts = {mount["mountPath"] for mount in made["spec"]["containers"][0]["volumeMounts"]}
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in app_mounts
    sidecar = sidecar_of(made)
    assert sidecar
    assert all(mount["name"].startswith("ai-sidecar-") for mount in sidecar["volumeMounts"])


def test_a_pod_with_resources_of_its_own_is_let_in(admin: Client, namespace: str) -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    answer = admin.create(pod(namespace, resources=resources))
    assert is_injected(answer)
    sidecar = sidecar_of(answer.body)
    assert sidecar
    assert not sidecar.get("resources")
    assert "shares those of the pod" in answer.warnings[0]


def test_a_port_name_that_an_app_has_too_does_no_harm(admin: Client, namespace: str) -> None:
    named = app(ports=[{"name": "sidecar-health", "containerPort": 9000}])
    assert is_injected(admin.create(pod(namespace, named)))


@pytest.mark.parametrize("kind", ["env", "containers", "annotation"])
def test_a_huge_pod_is_injected(admin: Client, namespace: str, kind: str) -> None:
    """As large as the API server keeps one: a little under 1.5 MiB, or 256 KiB of annotations."""
    if kind == "env":
        huge = pod(namespace, app(env=[{"name": "HUGE", "value": "x" * 1_450_000}]))
    elif kind == "containers":
        huge = pod(namespace, *(app(f"app-{number}") for number in range(500)))
    else:
        huge = pod(namespace, annotations={"example.com/huge": "x" * 250_000})
    answer = admin.create(huge)
    assert is_injected(answer)
    assert env_of(answer.body["spec"]["containers"][-1]).items() >= URLS.items()


def test_a_pod_too_large_to_keep_gets_that_said_and_nothing_of_the_webhook(
    admin: Client, namespace: str
) -> None:
    answer = admin.create(pod(namespace, app(env=[{"name": "HUGE", "value": "x" * 2_000_000}])))
    assert answer.status in (400, 413, 500)
    assert "request is too large" in answer.message
    assert "webhook" not in answer.message


def test_a_pod_has_one_sidecar_when_it_comes_again_as_it_was_made(admin: Client, namespace: str) -> None:
    made = admin.created(pod(namespace))
    again = {**pod(namespace), "spec": made["spec"]}
    answer = admin.create(again)
    assert is_injected(answer)
    assert answer.body["spec"]["initContainers"] == made["spec"]["initContainers"]
    assert answer.warnings == []


def test_a_namespaces_limits_hold_for_the_sidecar_and_an_annotation_fits_it_in(
    admin: Client, namespace: str
) -> None:
    defaults = {"default": {"cpu": "200m", "memory": "64Mi"}, "defaultRequest": {"cpu": "100m"}}
    limits = [{"type": "Container", "max": {"memory": "128Mi"}, **defaults}]
    metadata = {"name": "limits", "namespace": namespace}
    admin.created(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
    )
    until(lambda: admin.create(pod(namespace), dryRun="All").status == 403)
    assert "maximum memory usage per Container is 128Mi" in admin.create(pod(namespace)).message
    answer = admin.create(pod(namespace, annotations={"ai-sidecar/memory-limit": "128Mi"}))
    assert is_injected(answer)
    # What the sidecar does not say, the namespace does.
    sidecar = answer.body["spec"]["initContainers"][0]
    assert sidecar["resources"]["limits"] == {"cpu": "200m", "memory": "128Mi"}


def test_under_a_quota_for_limits_the_sidecar_is_named_and_an_annotation_gives_it_one(
    admin: Client, namespace: str
) -> None:
    hard = {"limits.cpu": "4"}
    metadata = {"name": "quota", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
    path = path_of(admin.created(quota))
    # The part of the controller that counts.
    status = {"status": {"hard": hard, "used": {"limits.cpu": "0"}}}
    assert admin.patch(f"{path}/status", status).status == 200
    limited = app(resources={"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}})
    until(lambda: admin.create(pod(namespace, limited), dryRun="All").status == 403)
    assert "must specify limits.cpu for: ai-sidecar" in admin.create(pod(namespace, limited)).message
    assert is_injected(admin.create(pod(namespace, limited, annotations={"ai-sidecar/cpu-limit": "1"})))


def test_a_guaranteed_pod_stays_so_with_its_sidecar(admin: Client, namespace: str) -> None:
    fixed = app(resources={"limits": {"cpu": "1", "memory": "64Mi"}})
    answer = admin.create(pod(namespace, fixed))
    assert is_injected(answer)
    assert answer.body["status"]["qosClass"] == "Guaranteed"
    assert admin.created(pod(namespace))["status"]["qosClass"] == "Burstable"
