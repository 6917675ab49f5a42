"""What a cluster is made of here: etcd, kube-apiserver, helm, and the operators' CRDs; built with Go, once.

All of it comes through the Go module proxy, checked against Go's checksum database, and is kept in
~/.cache/ai-sidecar under its version. Those of etcd and Kubernetes stand in deploy/k8s/test-cluster/go.mod:
`go install` cannot build Kubernetes, whose own go.mod replaces its modules by folders.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.k8s.support_helm import ROOT, render_script

MODULE = ROOT / "test-cluster"
CACHE = Path.home() / ".cache" / "ai-sidecar"

# The kinds of the chart that Kubernetes itself does not have, with their owners' own schemas.
CRDS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/cert-manager/cert-manager@v1.21.2": (
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ),
}


class Tools(NamedTuple):
    """Paths; `crds` are YAML files."""

    etcd: Path
    apiserver: Path
    helm: str
    crds: list[Path]


def find() -> Tools | None:
    """The tools, if all of them are there."""
    etcd, apiserver = _programs()
    crds = [_crd_path(module, name) for module, names in CRDS.items() for name in names]
    helm = render_script.find_helm()
    if helm is None or not all(path.exists() for path in (etcd, apiserver, *crds)):
        return None
    return Tools(etcd, apiserver, helm, crds)


def has_go() -> bool:
    """Whether they can be built."""
    return shutil.which("go") is not None


def build() -> None:
    """Build what is missing. subprocess.CalledProcessError when Go says no; it has said why on stderr."""
    etcd, apiserver = _programs()
    if not etcd.exists():
        _build("go.etcd.io/etcd/server/v3", etcd)
    if not apiserver.exists():
        # The version is not in the source: without these flags it calls itself v0.0.0, and helm refuses it.
        version = _version("k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".")
        named = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        flags = [f"-X k8s.io/component-base/version.{name}={value}" for name, value in named.items()]
        _build("k8s.io/kubernetes/cmd/kube-apiserver", apiserver, *flags)
    if render_script.find_helm() is None:
        render_script.build_helm()
    for module, names in CRDS.items():
        _fetch(module, names)


def _programs() -> tuple[Path, Path]:
    folder = CACHE / "bin"
    return (
        folder / f"etcd-{_version('go.etcd.io/etcd/server/v3')}",
        folder / f"kube-apiserver-{_version('k8s.io/kubernetes')}",
    )


def _version(module: str) -> str:
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found, f"{MODULE / 'go.mod'} does not require {module}"
    return found[1]


def _build(package: str, path: Path, *flags: str) -> None:
    print(f"building {path.name}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    command = ["nice", "-n", "19", "go", "build", "-C", str(MODULE), "-trimpath", "-buildvcs=false"]
    command += [f"-ldflags=-s -w {' '.join(flags)}", "-o", str(unfinished), package]
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-p=1 -mod=readonly"}
    subprocess.run(command, env=environ, check=True)
    unfinished.rename(path)


def _fetch(module: str, names: tuple[str, ...]) -> None:
    wanted = {name: _crd_path(module, name) for name in names}
    if all(path.exists() for path in wanted.values()):
        return
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=MODULE.parent, stdout=subprocess.PIPE, check=True)
    folder = Path(json.loads(done.stdout)["Dir"])
    for name, path in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, path)


def _crd_path(module: str, name: str) -> Path:
    return CACHE / "crds" / module.rpartition("/")[2] / Path(name).name
