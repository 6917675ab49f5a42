"""manifests/ is what the chart renders, and stands by itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.k8s.support_helm import (
    NEWEST,
    ROOT,
    VERSIONS,
    Object,
    faults,
    kinds,
    one,
    render_script,
    require_helm,
)

MODES = ("sidecar", "gateway")
OLDEST = VERSIONS.index(render_script.KUBERNETES)


def objects(mode: str) -> list[Object]:
    return list(yaml.safe_load_all((ROOT / "manifests" / f"{mode}.yaml").read_text()))


def test_manifests_are_those_of_the_chart() -> None:
    require_helm()
    made = render_script.manifests()
    found = {path.name: path.read_text() for path in (ROOT / "manifests").iterdir()}
    assert found == made, "run `make manifests`"


@pytest.mark.parametrize("version", VERSIONS[OLDEST:])
@pytest.mark.parametrize("mode", MODES)
def test_manifests_are_valid_for_every_kubernetes_they_are_for(mode: str, version: str) -> None:
    found = [fault for each in objects(mode) for fault in faults(each, version)]
    assert not found


@pytest.mark.parametrize("mode", MODES)
def test_manifests_need_no_helm_and_make_their_namespace_first(mode: str) -> None:
    made = objects(mode)
    assert made[0]["kind"] == "Namespace"
    assert all("helm.sh/" not in str(each) and "Helm" not in str(each) for each in made)
    assert "Pod" not in kinds(made)
    known = {made[0]["metadata"]["name"], "shop", "search"}
    assert {each["metadata"].get("namespace", "shop") for each in made} <= known


@pytest.mark.parametrize("mode", MODES)
def test_no_line_ends_in_a_space(mode: str) -> None:
    text = (ROOT / "manifests" / f"{mode}.yaml").read_text()
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_missing_helm_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(render_script, "HELM_FOLDER", tmp_path)
    assert render_script.find_helm() is None
    with pytest.raises(render_script.HelmError, match="helm is not here: install it, or build it"):
        render_script.manifests()


def test_unknown_argument_is_refused() -> None:
    command = [sys.executable, str(ROOT / "render.py"), "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: render.py [--build-helm]\n")


# --- the pod by hand ---


def test_pod_by_hand_is_valid() -> None:
    made = list(yaml.safe_load_all((ROOT / "pod.yaml").read_text()))
    assert [fault for each in made for fault in faults(each, NEWEST)] == []
    (sidecar,) = one(made, "Pod")["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"


def test_only_the_sidecar_of_the_pod_by_hand_has_the_control_socket() -> None:
    pod = one(list(yaml.safe_load_all((ROOT / "pod.yaml").read_text())), "Pod")["spec"]
    (sidecar,), (app,) = pod["initContainers"], pod["containers"]
    assert {"name": "SIDECAR_LISTEN_CONTROL", "value": "unix:/run/sidecar/control.sock"} in sidecar["env"]
    assert {"name": "ai-sidecar-run", "mountPath": "/run/sidecar"} in sidecar["volumeMounts"]
    assert "ai-sidecar-run" not in str(app)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["ai-sidecar-run"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}


def test_what_the_pod_by_hand_mounts_is_there() -> None:
    pod = one(list(yaml.safe_load_all((ROOT / "pod.yaml").read_text())), "Pod")["spec"]
    mounts = [mount["name"] for mount in pod["initContainers"][0]["volumeMounts"]]
    assert sorted(mounts) == sorted(volume["name"] for volume in pod["volumes"])
    assert len(set(mounts)) == len(mounts)
