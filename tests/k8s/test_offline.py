"""Injection into files: which objects, what is said of them, and that kubectl takes what comes out.

For sidecar/k8s/manifests.py; tests of the ready-made manifests have that name here.
"""

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from sidecar.k8s.manifests import KINDS, Injected, injected
from sidecar.k8s.nodes import BadManifest
from tests.k8s.support import DEFAULTS, Tree, pod_of, sidecar_in

TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "app"}]}}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **TEMPLATE}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
REFUSED = {"spec": {**TEMPLATE["spec"], "hostNetwork": True}}


def workload(kind: str, template: Any = TEMPLATE, **metadata: Any) -> Tree:
    """An object that makes pods."""
    version = {"ReplicationController": "v1", "PodTemplate": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}
    spec = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    body = {"template": template} if kind == "PodTemplate" else {"spec": spec}
    return {"apiVersion": version.get(kind, "apps/v1"), "kind": kind, "metadata": metadata, **body}


def run(*documents: Any) -> Injected:
    return injected(yaml.safe_dump_all(documents), DEFAULTS)


def templates_in(done: Injected) -> list[Tree]:
    """The pods of each document, wherever they stand."""
    found = []
    for document in yaml.safe_load_all(done.text):
        for item in document.get("items", [document]):
            spec = item if item["kind"] == "PodTemplate" else item.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            found.append(spec.get("template", item))
    return found


# --- which objects ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_pods_gets_the_sidecar(kind: str) -> None:
    done = run(POD if kind == "Pod" else workload(kind, name="a"))
    assert done.objects == 1
    assert done.warnings == []
    (template,) = templates_in(done)
    assert sidecar_in(template)["name"] == "ai-sidecar"


@pytest.mark.parametrize(
    "other",
    [
        SERVICE,
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"template": TEMPLATE}},
        {**workload("Deployment"), "apiVersion": "example.com/v1"},
        {"apiVersion": "v1", "kind": "Pod"} | {"spec": None, "metadata": None},
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": None}},
        {"apiVersion": "v1", "kind": "List", "items": [TEMPLATE]},
        {"apiVersion": "v1", "kind": "Checklist", "items": "many"},
        ["a", "b"],
        "text",
    ],
)
def test_anything_else_goes_out_as_it_came(other: Any) -> None:
    text = f"# kept\n{yaml.safe_dump(other)}"
    assert injected(text, DEFAULTS).text == text


def test_a_list_in_a_list_is_looked_into_and_one_of_a_kind_needs_to_name_it_once() -> None:
    nameless = {"metadata": {"name": "b"}, **TEMPLATE}
    pods = {"apiVersion": "v1", "kind": "PodList", "items": [nameless, SERVICE]}
    done = run({"apiVersion": "v1", "kind": "List", "items": [POD, SERVICE, pods]})
    assert done.objects == 2
    first, service, inner = yaml.safe_load(done.text)["items"]
    assert sidecar_in(first)
    assert sidecar_in(inner["items"][0])
    assert service == inner["items"][1] == SERVICE


def test_a_text_injected_again_stays_as_it_is() -> None:
    for text in (yaml.safe_dump(POD), json.dumps(POD), f"{json.dumps(POD)}\n{json.dumps(SERVICE)}"):
        once = injected(text, DEFAULTS)
        assert once.text != text
        assert injected(once.text, DEFAULTS) == Injected(once.text, [], once.objects)


# --- what is said ---


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({"name": "web"}, "Job web"),
        ({"name": "web", "namespace": "shop"}, "Job shop/web"),
        ({"generateName": "web-"}, "Job web-*"),
        ({"generateName": "web-", "namespace": "shop"}, "Job shop/web-*"),
        ({"generateName": "lost-", "name": "web"}, "Job web"),
        ({"namespace": "shop"}, "Job without a name"),
        ({}, "Job without a name"),
        ({"name": "a\nb"}, r"Job a\nb"),
    ],
)
def test_warnings_name_their_object(metadata: Any, name: str) -> None:
    done = run(workload("Job", REFUSED, **metadata))
    assert (done.objects, len(done.warnings)) == (1, 1)
    assert done.warnings[0].startswith(f"{name}: ai-sidecar is not injected: the pod has hostNetwork")


def test_labels_and_annotations_that_reach_no_pod_are_pointed_out() -> None:
    ours = {"labels": {"ai-sidecar/inject": "false", "app": "a"}, "annotations": {"ai-sidecar/port": "9000"}}
    done = run(workload("CronJob", name="c", **ours))
    assert done.warnings == [
        "CronJob c: label ai-sidecar/inject means nothing here:"
        " put it into spec.jobTemplate.spec.template.metadata.labels",
        "CronJob c: annotation ai-sidecar/port means nothing here:"
        " put it into spec.jobTemplate.spec.template.metadata.annotations",
    ]
    assert run(pod_of(**ours)).warnings == []


def test_text_without_quotes_where_kubernetes_wants_text_is_pointed_out() -> None:
    done = injected(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {ai-sidecar/inject: false}}\n"
        "spec: {containers: [{name: a}]}\n",
        DEFAULTS,
    )
    assert done.warnings[0].endswith("quote it")
    assert "name: ai-sidecar" not in done.text


def test_a_text_nested_too_deeply_is_refused() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "kind: Pod\na: &a [*a]\n"):
        with pytest.raises(BadManifest, match="nested too deeply"):
            injected(text, DEFAULTS)


# --- what kubectl makes of it ---


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(POD),
        f"{json.dumps(POD)}{json.dumps(POD, indent=4)}",
        f"{json.dumps(POD)}\n---\n{json.dumps(POD)}\n",
        f"# JSON and no JSON\n{json.dumps(POD)}",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, env: }]}}",
        f"--- {json.dumps(SERVICE)}\n--- {json.dumps(POD)}",
        yaml.safe_dump_all([POD, SERVICE]),
    ],
)
def test_kubectl_takes_what_comes_out(text: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    command = ["kubectl", "annotate", "--local", "-f", "-", "x=y", "-o", "json"]
    done = subprocess.run(
        command,
        input=injected(text, DEFAULTS).text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"restartPolicy": "Always"') == text.count("Pod")
