"""The sidecar's container and its volumes, as Kubernetes takes them.

It fits the restricted profile of the Pod Security Standards, and hangs on nothing that may be missing: the
ConfigMap and the Secret are optional, and without them the sidecar starts and says what it lacks.
"""

from typing import Any

from sidecar.k8s.settings import Settings

NAME = "ai-sidecar"
CONFIG_FOLDER = "/etc/sidecar"
KEY_FOLDER = "/var/run/secrets/ai-sidecar"
TOKEN_FOLDER = "/var/run/secrets/ai-sidecar-token"  # noqa: S105  # a folder
DATA_FOLDER = "/var/lib/sidecar"
RUN_FOLDER = "/run/sidecar"
# Where Kubernetes mounts the token of the pod's ServiceAccount into each container that has nothing there.
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
LISTEN_DATA = "SIDECAR_LISTEN_DATA"
# The image's own user. It is named here because a pod's securityContext could make it root's.
USER_ID = 10001
TOKEN_LIFE_S = 3600
HEALTH = "sidecar-health"


def container(settings: Settings, *, has_resources: bool = True) -> dict[str, Any]:
    """The container. Without `has_resources` it lives on what the whole pod has."""
    made: dict[str, Any] = {
        "name": NAME,
        "image": settings.image,
        "args": ["run", "--config", f"{CONFIG_FOLDER}/sidecar.yaml"],
        "env": _environment(settings),
        "ports": [{"name": HEALTH, "containerPort": settings.health_port, "protocol": "TCP"}],
        # The next container starts once this one is ready to serve: two minutes for a node that is starved.
        "startupProbe": {**_probe("/readyz"), "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 10},
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": volume["name"], "mountPath": folder, "readOnly": folder not in (DATA_FOLDER, RUN_FOLDER)}
            for folder, volume in _volumes_by_folder(settings).items()
        ],
    }
    if settings.mode == "native":
        made["restartPolicy"] = "Always"
    if has_resources and (resources := _resources(settings)):
        made["resources"] = resources
    return made


def volumes(settings: Settings) -> list[dict[str, Any]]:
    """The volumes that the container mounts."""
    return list(_volumes_by_folder(settings).values())


def _volumes_by_folder(settings: Settings) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        CONFIG_FOLDER: {
            "name": f"{NAME}-config",
            "configMap": {"name": settings.config, "optional": True},
        },
        KEY_FOLDER: {
            "name": f"{NAME}-key",
            "secret": {"secretName": settings.secret, "optional": True},
        },
        # In memory, since a volume on the node's disk keeps the cluster's autoscaler from removing the node.
        DATA_FOLDER: {"name": f"{NAME}-data", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        # Of this container alone: the app shares the loopback, and must not reach what changes the sidecar.
        RUN_FOLDER: {"name": f"{NAME}-run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        # Empty, and in the way of that token: it is the app's, and the sidecar asks nothing of Kubernetes.
        ACCOUNT_FOLDER: {
            "name": f"{NAME}-no-account",
            "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"},
        },
    }
    if settings.token_audience is not None:
        token = {"audience": settings.token_audience, "expirationSeconds": TOKEN_LIFE_S, "path": "token"}
        found[TOKEN_FOLDER] = {
            "name": f"{NAME}-token",
            "projected": {"sources": [{"serviceAccountToken": token}]},
        }
    return found


def _environment(settings: Settings) -> list[dict[str, Any]]:
    # A label that a pod does not have is an empty variable, never an error. Kubernetes 1.35 and newer copies
    # the node's topology labels to the pod when it is bound; elsewhere the pod's author may set them.
    return [
        _field("SIDECAR_TEAM", "metadata.namespace"),
        _field("SIDECAR_REGION", "metadata.labels['topology.kubernetes.io/region']"),
        _field("SIDECAR_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        _field("SIDECAR_POD_IP", "status.podIP"),
        {"name": LISTEN_DATA, "value": settings.data_address},
        {"name": "SIDECAR_LISTEN_ADMIN", "value": f"127.0.0.1:{settings.admin_port}"},
        {"name": "SIDECAR_LISTEN_CONTROL", "value": f"unix:{RUN_FOLDER}/control.sock"},
        {"name": "SIDECAR_LISTEN_HEALTH", "value": f"$(SIDECAR_POD_IP):{settings.health_port}"},
        {"name": "SIDECAR_LOG_LEVEL", "value": settings.log_level},
        {"name": "SIDECAR_WAIT_FOR_CONFIG", "value": "true"},
    ]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HEALTH, "scheme": "HTTP"}, "timeoutSeconds": 2}


def _resources(settings: Settings) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for kind, cpu, memory in (
        ("requests", settings.cpu_request, settings.memory_request),
        ("limits", settings.cpu_limit, settings.memory_limit),
    ):
        amounts = {"cpu": cpu, "memory": memory}
        if given := {name: amount for name, amount in amounts.items() if amount is not None}:
            found[kind] = given
    return found
