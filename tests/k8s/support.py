"""Pods, reviews of them, and what the API server does with the answer."""

import copy
from base64 import b64decode
from typing import Any

import msgspec
import orjson

from sidecar.k8s.patch import Outcome, inject
from sidecar.k8s.pod import Pod
from sidecar.k8s.review import Answer, answer
from sidecar.k8s.settings import Settings

IMAGE = "registry.example/ai-sidecar:1.2"
DEFAULTS = Settings(image=IMAGE)
CLASSIC = Settings(image=IMAGE, mode="classic")
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"

Tree = dict[str, Any]


def pod_of(*containers: Tree, annotations: Any = None, labels: Any = None, **spec: Any) -> Tree:
    """A pod; one container `app` unless others are given. Annotations without our prefix get it."""
    metadata: Tree = {"name": "app-1", "namespace": "shop"}
    if annotations is not None:
        metadata["annotations"] = {
            name if "/" in name else f"ai-sidecar/{name}": value for name, value in annotations.items()
        }
    if labels is not None:
        metadata["labels"] = labels
    apps = list(containers) or [{"name": "app", "image": "app"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": apps, **spec}}


def outcome_of(pod: Tree, defaults: Settings = DEFAULTS) -> Outcome:
    """What becomes of a pod."""
    return inject(msgspec.convert(pod, Pod), defaults)


def injected(pod: Tree, defaults: Settings = DEFAULTS) -> Tree:
    """The pod with its patch applied; it must have been injected."""
    outcome = outcome_of(pod, defaults)
    assert outcome.result == "injected", outcome.warnings
    after: Tree = applied(pod, outcome.patch)
    return after


def sidecar_in(pod: Tree) -> Tree:
    """The sidecar's container."""
    spec = pod["spec"]
    found = [
        one
        for one in [*(spec.get("initContainers") or []), *spec["containers"]]
        if one.get("name") == "ai-sidecar"
    ]
    assert len(found) == 1
    container: Tree = found[0]
    return container


def env_of(container: Tree) -> dict[str, Any]:
    """A container's variables; None for those that come from elsewhere."""
    return {variable["name"]: variable.get("value") for variable in container.get("env") or []}


def review_of(pod: Any, **request: Any) -> Tree:
    """The AdmissionReview that a created pod causes."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": "admin"},
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **request,
        },
    }


def response_to(review: Any, defaults: Settings = DEFAULTS) -> Tree:
    """The `response` of the answer."""
    answered: Answer = answer(orjson.dumps(review), defaults)
    return response_in(answered.body)


def response_in(body: bytes) -> Tree:
    """The `response` of an answer, once its frame is what the API server wants."""
    tree = orjson.loads(body)
    assert tree["apiVersion"] == "admission.k8s.io/v1"
    assert tree["kind"] == "AdmissionReview"
    response: Tree = tree["response"]
    assert response["allowed"] is True
    assert ("patch" in response) == ("patchType" in response)
    return response


def patch_in(response: Tree) -> list[Tree]:
    """The decoded JSON Patch."""
    assert response["patchType"] == "JSONPatch"
    operations: list[Tree] = orjson.loads(b64decode(response["patch"], validate=True))
    return operations


def applied(tree: Any, operations: list[Tree]) -> Any:
    """RFC 6902 as far as it is used: `add` and `test`. As strict as the API server: parents must exist."""
    tree = copy.deepcopy(tree)
    for operation in operations:
        assert operation["path"].startswith("/")
        *way, last = (
            token.replace("~1", "/").replace("~0", "~") for token in operation["path"][1:].split("/")
        )
        node = tree
        for token in way:
            node = node[_index(token, len(node) - 1)] if isinstance(node, list) else node[token]
        if operation["op"] == "test":
            assert node[last] == operation["value"]
            continue
        assert operation["op"] == "add"
        value = copy.deepcopy(operation["value"])
        if isinstance(node, list):
            node.insert(len(node) if last == "-" else _index(last, len(node)), value)
        else:
            assert isinstance(node, dict)
            node[last] = value
    return tree


def _index(token: str, most: int) -> int:
    assert token == str(int(token))
    assert 0 <= int(token) <= most, f"index {token} is not there"
    return int(token)
