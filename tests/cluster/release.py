"""The chart installed by helm, and its injector's pods: processes with the arguments of the Deployment."""

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import until
from tests.k8s.support_helm import CHART

NAMESPACE = "ai-sidecar"
NAME = "ai-sidecar"
INJECTOR = f"{NAME}-injector"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
WEBHOOK = f"{WEBHOOKS}/{INJECTOR}.{NAMESPACE}"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/{INJECTOR}-tls"

NOTHING: Mapping[str, str] = {}
MOUNTED = "/var/run/secrets/ai-sidecar-injector"

_numbers = itertools.count(1)
_PORTS = re.compile(r"listening: webhook (\d+), health (\d+)")


class Release:
    """The chart as `ai-sidecar` in the namespace `ai-sidecar`."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.account = plane.folder / "account"

    # --- helm ---

    def helm(self, *arguments: str) -> str:
        """What helm prints; it must succeed."""
        done = subprocess.run(self.helm_command(*arguments), **self._helm_run(), check=False)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return str(done.stdout)

    def helm_command(self, *arguments: str) -> list[str]:
        """helm on this cluster."""
        given = ["--kubeconfig", str(self.plane.kubeconfig), "-n", NAMESPACE]
        return [self.plane.tools.helm, *arguments, *given]

    def install(self, *values: Path, **settings: Any) -> str:
        """Install with these files and `--set-json` settings (`injector_replicas` is `injector.replicas`)."""
        return self.helm("install", NAME, str(CHART), *_given(values, settings))

    def upgrade(self, *values: Path, **settings: Any) -> str:
        """The same for what is installed."""
        return self.helm("upgrade", NAME, str(CHART), *_given(values, settings))

    def uninstall(self) -> None:
        """Remove it."""
        self.helm("uninstall", NAME)

    def objects(self) -> list[Any]:
        """What helm sent to the API server."""
        return [each for each in yaml.safe_load_all(self.helm("get", "manifest", NAME)) if each]

    def _helm_run(self) -> dict[str, Any]:
        folder = self.plane.folder / "helm"
        homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **homes}
        return {"env": environ, "capture_output": True, "text": True, "timeout": 60}

    # --- the injector ---

    @property
    def address(self) -> str:
        """Where the API server finds the injector's Service."""
        service = self.plane.admin.get(f"/api/v1/namespaces/{NAMESPACE}/services/{INJECTOR}")
        return f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def behind(self, *replicas: "Replica") -> None:
        """Have the Service lead to these replicas, and to no others."""
        self.plane.network.services[self.address] = [replica.port for replica in replicas]

    @contextlib.contextmanager
    def replicas(
        self, count: int, environ: Mapping[str, str] = NOTHING, *, is_ready: bool = True
    ) -> Iterator[list["Replica"]]:
        """More replicas, started at once, and ready; `behind` puts them behind the Service."""
        self.write_account()
        command = [sys.executable, "-m", "tests.cluster.replica", str(self.account), *self._arguments()]
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(self._started(command, environ)) for _ in range(count)]
            for replica in made:
                if is_ready:
                    replica.wait_ready()
            yield made

    @contextlib.contextmanager
    def _started(self, command: list[str], environ: Mapping[str, str]) -> Iterator["Replica"]:
        log = self.plane.folder / f"replica-{next(_numbers)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=self._environ(environ), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            yield Replica(process, log)
        finally:
            process.kill()
            process.wait()

    def mounted(self, name: str) -> Path:
        """A file of the Secret that the Deployment mounts, where the certificate is somebody else's."""
        folder = self.plane.folder / "given"
        folder.mkdir(exist_ok=True)
        return folder / name

    def token(self, account: str = INJECTOR, namespace: str = NAMESPACE, **spec: Any) -> str:
        """A token of a ServiceAccount, as the kubelet asks for it; without `audiences` for the API server."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.plane.admin.call("POST", path, request)
        assert answer.status == 201, answer.message
        return str(answer.body["status"]["token"])

    def write_account(self, account: str = INJECTOR) -> None:
        """What the kubelet mounts into the pods of an account, the injector's unless another is named."""
        self.account.mkdir(exist_ok=True)
        (self.account / "token").write_text(self.token(account))
        (self.account / "namespace").write_text(NAMESPACE)
        (self.account / "ca.crt").write_bytes(self.plane.ca_file.read_bytes())

    def _arguments(self) -> list[str]:
        """Those of the Deployment, but for its volume and the ports: all replicas share one machine."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{INJECTOR}"
        (container,) = self.plane.admin.get(path)["spec"]["template"]["spec"]["containers"]
        given = [argument.replace(f"{MOUNTED}/", f"{self.mounted('')}/") for argument in container["args"]]
        return [*given, "--port=0", "--health-port=0"]

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        found = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.plane.port),
        }
        return {"PATH": os.environ["PATH"], **found, **more}


class Replica:
    """One process of the injector. `port` is the webhook's."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log
        self.port = 0
        self._health_port = 0

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of its health listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self._health_port, timeout=5.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def reviews(self, result: str) -> float:
        """How many reviews had this result."""
        series = f'sidecar_injector_reviews_total{{result="{result}"}} '
        _, text = self.get("/metrics")
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(series))

    def terminate(self) -> None:
        """What the kubelet sends first."""
        self.process.send_signal(signal.SIGTERM)

    def wait_ready(self) -> None:
        """Return once its readiness probe would pass."""
        until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the injector ended: {self.log}"
        if (found := _PORTS.search(self.log)) is None:
            return False
        self.port, self._health_port = int(found[1]), int(found[2])
        return self.get("/readyz")[0] == 200


def _given(values: tuple[Path, ...], settings: Mapping[str, Any]) -> list[str]:
    files = [part for path in values for part in ("-f", str(path))]
    return [*files, *(f"--set-json={_dotted(name)}={json.dumps(value)}" for name, value in settings.items())]


def _dotted(name: str) -> str:
    return name.replace("_", ".")
