"""The chart as Kubernetes would get it: rendered by helm, validated against the API's own schemas.

Both are optional, and what is missing is said: helm comes with `make helm`, the schemas with the dev extra.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import yaml

if TYPE_CHECKING:
    from referencing import Registry

ROOT = Path(__file__).parents[2] / "deploy" / "k8s"
CHART = ROOT / "chart"
VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
# It has no native sidecars yet; classic ones and gateways run there.
CLASSIC = "1.28"
# Kinds of Prometheus' and cert-manager's operators, for which Kubernetes has no schemas.
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/")

Object: TypeAlias = dict[str, Any]


def script(name: str) -> ModuleType:
    """A script of deploy/k8s as a module."""
    spec = importlib.util.spec_from_file_location(f"deploy_k8s_{name}", ROOT / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


render_script = script("render")


def require_helm() -> None:
    """Skip the test where there is no helm."""
    if render_script.find_helm() is None:
        pytest.skip("helm is not here: `make helm` builds it, with Go")


def example(mode: str) -> Object:
    """The chart's own example values of a mode."""
    values: Object = yaml.safe_load((CHART / "ci" / f"{mode}-values.yaml").read_text())
    return values


def render(values: Mapping[str, Any], kubernetes: str = NEWEST) -> list[Object]:
    """The objects that these values make. render_script.HelmError when helm refuses them."""
    require_helm()
    text = render_script.template([], kubernetes=kubernetes, options=_given(values))
    return [document for document in yaml.safe_load_all(text) if document]


def notes(values: Mapping[str, Any]) -> str:
    """What helm prints after an install."""
    return install(values).stdout.partition("NOTES:\n")[2]


def install(values: Mapping[str, Any], release: str = "ai-sidecar") -> "subprocess.CompletedProcess[str]":
    """`helm install` that only pretends. subprocess.CalledProcessError when helm refuses."""
    require_helm()
    command = [render_script.find_helm(), "install", release, str(CHART), "-n", "ai-sidecar"]
    return subprocess.run(
        [*command, "--dry-run=client", *_given(values)],
        env={**os.environ, "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )


def _given(values: Mapping[str, Any]) -> list[str]:
    return [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]


def one(objects: Sequence[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind, and of a name if there are several."""
    found = [each for each in objects if each["kind"] == kind and name in (each["metadata"]["name"], "")]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def kinds(objects: Sequence[Object]) -> set[str]:
    """Which kinds there are."""
    return {each["kind"] for each in objects}


# --- schemas ---


def missing_schemas(version: str) -> str:
    """Why nothing can be validated for this version of Kubernetes; empty when it can."""
    if _folder(version).is_dir():
        return ""
    return f"kubernetes-validate has no schemas for Kubernetes {version}: the dev extra has the newest"


def faults(document: Object, version: str) -> list[str]:
    """What the strict schema of that version of Kubernetes finds wrong; unknown fields are.

    Skips the test where there are no schemas for it.
    """
    if missing := missing_schemas(version):
        pytest.skip(missing)
    import jsonschema  # comes with kubernetes-validate

    group, _, api = document["apiVersion"].rpartition("/")
    parts = filter(None, (document["kind"].lower(), group.split(".")[0], api))
    path = _folder(version) / f"{'-'.join(parts)}.json"
    if not path.exists():
        return [f"Kubernetes {version} has no {document['apiVersion']} {document['kind']}"]
    schema = json.loads(path.read_text())
    validator = jsonschema.Draft202012Validator(schema, registry=_definitions(version))
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def _folder(version: str) -> Path:
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        return Path(os.devnull)
    return Path(spec.origin).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"


@functools.cache
def _definitions(version: str) -> "Registry[Any]":
    """Some megabytes a version, so they are read once."""
    from referencing import Registry, Resource

    contents = json.loads((_folder(version) / "_definitions.json").read_text())
    definitions: Resource[Any] = Resource.from_contents(contents)
    registry: Registry[Any] = Registry().with_resource(definitions.id() or "", definitions)
    return registry
