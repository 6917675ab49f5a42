"""Pods that the restricted profile lets in, and what became of them in the API server."""

from typing import Any

from tests.cluster.client import Answer, Client
from tests.k8s.support import Tree, env_of

__all__ = ["ASKS", "app", "env_of", "is_injected", "pod", "sidecar_of", "try_pod"]

ASKS = {"ai-sidecar/inject": "true"}
_SAFE = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def app(name: str = "app", **more: Any) -> Tree:
    """A container."""
    return {"name": name, "image": "registry.example/app:1", "securityContext": _SAFE, **more}


def pod(namespace: str, *containers: Tree, labels: Any = None, annotations: Any = None, **spec: Any) -> Tree:
    """A pod that gets its name from the API server; one container `app` unless others are given."""
    metadata = {"generateName": "app-", "namespace": namespace}
    metadata |= {name: value for name, value in (("labels", labels), ("annotations", annotations)) if value}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [app()], **spec},
    }


def sidecar_of(tree: Tree) -> Tree | None:
    """The sidecar's container, in a pod as the API server has it."""
    spec = tree["spec"]
    found = [
        one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == "ai-sidecar"
    ]
    assert len(found) <= 1, f"{len(found)} sidecars"
    return found[0] if found else None


def is_injected(answer: Answer) -> bool:
    """Whether a pod was let in with a sidecar; it must have been let in."""
    assert answer.status == 201, answer.message
    return sidecar_of(answer.body) is not None


def try_pod(admin: Client, namespace: str = "shop") -> Answer:
    """A pod that asks for the sidecar goes through admission, and is not kept."""
    return admin.create(pod(namespace, labels=ASKS), dryRun="All")
