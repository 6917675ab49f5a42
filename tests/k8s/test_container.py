"""The container as it goes into the pod: it may run anywhere, and waits for nothing that may be missing."""

import pytest
from msgspec.structs import replace

from sidecar.config.addresses import Address
from sidecar.config.load import listen_from
from sidecar.k8s.container import container, volumes
from sidecar.k8s.settings import Settings
from tests.k8s.support import CLASSIC, DEFAULTS, IMAGE, env_of, injected, pod_of, sidecar_in
from tests.k8s.support_helm import VERSIONS, faults, missing_schemas


def test_it_fits_the_restricted_profile_whatever_the_pod_says() -> None:
    pod = injected(pod_of(securityContext={"runAsUser": 0, "runAsNonRoot": False}))
    context = sidecar_in(pod)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == 10001
    assert context["allowPrivilegeEscalation"] is context["privileged"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_probes_ask_the_health_port_and_name_no_host() -> None:
    made = container(replace(DEFAULTS, health_port=9955))
    assert made["ports"] == [{"name": "sidecar-health", "containerPort": 9955, "protocol": "TCP"}]
    for probe, path in (
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ):
        assert made[probe]["httpGet"] == {"path": path, "port": "sidecar-health", "scheme": "HTTP"}
    assert env_of(made)["SIDECAR_LISTEN_HEALTH"] == "$(SIDECAR_POD_IP):9955"


def test_locality_comes_from_the_pods_labels_and_the_team_is_the_namespace() -> None:
    fields = {
        variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"]
        for variable in container(DEFAULTS)["env"]
        if "valueFrom" in variable
    }
    assert fields == {
        "SIDECAR_TEAM": "metadata.namespace",
        "SIDECAR_REGION": "metadata.labels['topology.kubernetes.io/region']",
        "SIDECAR_ZONE": "metadata.labels['topology.kubernetes.io/zone']",
        "SIDECAR_POD_IP": "status.podIP",
    }


def test_a_variable_stands_before_the_one_that_uses_it() -> None:
    names = list(env_of(container(DEFAULTS)))
    assert names.index("SIDECAR_POD_IP") < names.index("SIDECAR_LISTEN_HEALTH")


def test_no_volume_keeps_a_pod_waiting_or_a_node_from_leaving() -> None:
    found = {volume["name"]: volume for volume in volumes(replace(DEFAULTS, config="c", secret="s"))}
    assert found["ai-sidecar-config"]["configMap"] == {"name": "c", "optional": True}
    assert found["ai-sidecar-key"]["secret"] == {"secretName": "s", "optional": True}
    assert found["ai-sidecar-data"]["emptyDir"]["medium"] == "Memory"
    assert found["ai-sidecar-run"]["emptyDir"]["medium"] == "Memory"
    assert len(found) == 5


def test_each_volume_is_mounted_and_only_the_data_and_the_socket_are_writable() -> None:
    settings = replace(DEFAULTS, token_audience="gateway")
    mounts = {mount["name"]: mount for mount in container(settings)["volumeMounts"]}
    assert list(mounts) == [volume["name"] for volume in volumes(settings)]
    writable = [name for name, mount in mounts.items() if not mount["readOnly"]]
    assert writable == ["ai-sidecar-data", "ai-sidecar-run"]
    assert len({mount["mountPath"] for mount in mounts.values()}) == 6


@pytest.mark.parametrize("defaults", [DEFAULTS, CLASSIC], ids=["native", "classic"])
def test_changes_are_taken_on_a_socket_that_no_other_container_has(defaults: Settings) -> None:
    app = {"name": "app", "image": "app", "volumeMounts": [{"name": "own", "mountPath": "/run"}]}
    first = {"name": "first", "image": "app"}
    pod = injected(pod_of(app, initContainers=[first], volumes=[{"name": "own", "emptyDir": {}}]), defaults)
    sidecar = sidecar_in(pod)
    address = env_of(sidecar)["SIDECAR_LISTEN_CONTROL"]
    folder = address.removeprefix("unix:").rpartition("/")[0]
    (volume,) = (mount["name"] for mount in sidecar["volumeMounts"] if mount["mountPath"] == folder)
    others = [
        one for one in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]] if one is not sidecar
    ]
    assert len(others) == 2
    assert volume not in str(others)
    assert listen_from(env_of(sidecar) | {"SIDECAR_LISTEN_HEALTH": None}).control == Address.parse(address)


def test_the_place_of_the_apps_account_is_taken_by_nothing() -> None:
    """Kubernetes mounts the account's token where nothing is mounted yet."""
    (mount,) = (one for one in container(DEFAULTS)["volumeMounts"] if "kubernetes.io" in one["mountPath"])
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mount["readOnly"]
    (volume,) = (one for one in volumes(DEFAULTS) if one["name"] == mount["name"])
    assert "emptyDir" in volume


def test_a_token_is_bound_to_the_audience_and_only_there_if_asked() -> None:
    (token,) = (
        volume for volume in volumes(replace(DEFAULTS, token_audience="gateway")) if "projected" in volume
    )
    assert token["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "gateway", "expirationSeconds": 3600, "path": "token"}}
    ]


def test_resources_are_those_of_the_settings() -> None:
    assert container(DEFAULTS)["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"memory": "256Mi"},
    }
    assert container(replace(DEFAULTS, cpu_limit="2"))["resources"]["limits"] == {
        "cpu": "2",
        "memory": "256Mi",
    }
    assert container(replace(DEFAULTS, memory_limit=None))["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"}
    }
    nothing = replace(DEFAULTS, cpu_request=None, memory_request=None, memory_limit=None)
    assert "resources" not in container(nothing)
    assert "resources" not in container(DEFAULTS, has_resources=False)


def test_only_a_native_sidecar_has_a_restart_policy() -> None:
    assert container(DEFAULTS)["restartPolicy"] == "Always"
    assert container(DEFAULTS)["image"] == IMAGE
    assert "restartPolicy" not in container(CLASSIC)


@pytest.mark.parametrize("defaults", [DEFAULTS, CLASSIC], ids=["native", "classic"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_injected_pod_is_one_to_the_strict_schema(version: str, defaults: Settings) -> None:
    if missing := missing_schemas(version):
        pytest.skip(missing)
    settings = replace(defaults, token_audience="gateway", cpu_limit="1")
    pod = injected(pod_of(initContainers=[{"name": "i", "image": "i"}]), settings)
    assert faults(pod, version) == []
    sidecar_in(pod)["unheard"] = 1
    assert len(faults(pod, version)) == 1
