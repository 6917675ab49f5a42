"""Writes manifests/ from the chart, for those who use plain kubectl.

`python deploy/k8s/render.py` needs helm: the one in PATH, or one that `render.py --build-helm` has built from
the Go module proxy into ~/.cache/ai-sidecar/bin (minutes, once). Rendering itself needs no network.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE / "chart"
HELM_MODULE = "helm.sh/helm/v4/cmd/helm@v4.2.4"
HELM_FOLDER = Path.home() / ".cache" / "ai-sidecar" / "bin"
# trafficDistribution stands in manifests for 1.31 and newer; older clusters take the chart.
KUBERNETES = "1.31"
NAMESPACE = "ai-sidecar"
MODES = ("sidecar", "gateway")

_HELMS_OWN = re.compile(r" *(helm\.sh/chart: .*|app\.kubernetes\.io/managed-by: Helm)\n|# Source: .*\n")
_HEAD = f"""\
# Written by deploy/k8s/render.py from chart/ci/{{mode}}-values.yaml, for Kubernetes {KUBERNETES} or newer.
# Change the values there, or this file: the namespaces, the image and the configuration are examples.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


class HelmError(Exception):
    """helm is not here, or refuses; the message is helm's own."""


def find_helm() -> str | None:
    """The path of helm; None where there is none."""
    return shutil.which("helm") or shutil.which("helm", path=str(HELM_FOLDER))


def build_helm() -> str:
    """Build helm with Go, quietly beside other work; returns its path."""
    environ = {**os.environ, "GOBIN": str(HELM_FOLDER), "CGO_ENABLED": "0", "GOFLAGS": "-p=1"}
    command = ["nice", "-n", "19", "go", "install", "-trimpath", "-ldflags=-s -w", HELM_MODULE]
    subprocess.run(command, env=environ, check=True)
    return str(HELM_FOLDER / "helm")


def template(
    values: Sequence[Path | str], *, kubernetes: str = KUBERNETES, options: Sequence[str] = ()
) -> str:
    """The chart's manifests with these values files, as one text. HelmError says why there are none."""
    helm = find_helm()
    if helm is None:
        raise HelmError("helm is not here: install it, or build it with `make helm`, which needs Go")
    command = [helm, "template", "ai-sidecar", str(CHART), "-n", NAMESPACE, "--kube-version", kubernetes]
    command += [part for path in values for part in ("-f", str(path))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


def manifests() -> dict[str, str]:
    """The text of each file of manifests/, by its name."""
    found = {}
    for mode in MODES:
        text = template([CHART / "ci" / f"{mode}-values.yaml"], options=["--no-hooks"])
        cleaned = re.sub(r"\n{2,}---\n", "\n---\n", _HELMS_OWN.sub("", text))
        found[f"{mode}.yaml"] = _HEAD.format(mode=mode) + cleaned.rstrip() + "\n"
    return found


def main(arguments: list[str]) -> int:
    """Write the files; returns the exit code."""
    if arguments not in ([], ["--build-helm"]):
        print("usage: render.py [--build-helm]", file=sys.stderr)
        return 2
    try:
        if arguments:
            print(find_helm() or build_helm())
            return 0
        for name, text in manifests().items():
            (HERE / "manifests" / name).write_text(text)
    except (HelmError, OSError, subprocess.CalledProcessError) as error:
        print(f"render.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
