"""etcd and kube-apiserver as processes on loopback, with certificates of their own and RBAC.

There is no kubelet and no controller: nothing runs what is created, and a Deployment makes no pods. The
admission plugins are the default ones, which MutatingAdmissionWebhook, ValidatingAdmissionPolicy and
PodSecurity belong to.
"""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.cluster.client import Client
from tests.cluster.network import Network
from tests.cluster.tools import Tools
from tests.cluster.waiting import until

START_S = 90.0
SERVICES = "10.96.0.0/16"


class ControlPlane:
    """Running while `running` lasts. `admin` may do everything."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.folder = folder
        self.tools = tools
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self.network = Network(folder / "network.sock")
        self.ca_file = folder / "ca.crt"
        self.kubeconfig = folder / "kubeconfig"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        self._write_identities()
        self._write_egress()
        self.admin = self.client(certificate="admin")

    def client(self, token: str = "", certificate: str = "") -> Client:
        """A client that has a token, or a certificate and key of these names in the folder."""
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        if certificate:
            tls.load_cert_chain(self.folder / f"{certificate}.crt", self.folder / f"{certificate}.key")
        return Client(self.port, tls, token)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Both processes, ready to serve."""
        with contextlib.ExitStack() as stack:
            # 64 MB, which pytest would keep for three runs.
            stack.callback(shutil.rmtree, self.folder / "etcd", ignore_errors=True)
            stack.enter_context(self.network.running())
            stack.enter_context(self._process("etcd", self._etcd_command()))
            apiserver = stack.enter_context(self._process("kube-apiserver", self._apiserver_command()))
            until(lambda: self._is_ready(apiserver), within_s=START_S)
            yield

    def log(self, name: str) -> str:
        """The end of what a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def _is_ready(self, apiserver: "subprocess.Popen[bytes]") -> bool:
        assert apiserver.poll() is None, f"kube-apiserver ended: {self.log('kube-apiserver')}"
        try:
            return self.admin.call("GET", "/readyz").status == 200
        except OSError:
            return False

    @contextlib.contextmanager
    def _process(self, name: str, command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
        with (self.folder / f"{name}.log").open("wb") as log:
            # Out of the terminal's reach: Ctrl-C must leave them up until all that needs them has ended.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(10.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _etcd_command(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "error",
        }
        return _command(self.tools.etcd, {**flags, "unsafe-no-fsync": "true"})

    def _apiserver_command(self) -> list[str]:
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            # Its own address is on loopback, which may not stand in Endpoints.
            "endpoint-reconciler-type": "none",
            "secure-port": self.port,
            "tls-cert-file": self.folder / "apiserver.crt",
            "tls-private-key-file": self.folder / "apiserver.key",
            "client-ca-file": self.ca_file,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": self.folder / "accounts.key",
            "service-account-key-file": self.folder / "accounts.key",
            "service-cluster-ip-range": SERVICES,
            "authorization-mode": "RBAC",
            "egress-selector-config-file": self.folder / "egress.json",
        }
        return _command(self.tools.apiserver, flags)

    def _write_identities(self) -> None:
        self._write("apiserver", self._ca.issue_cert("127.0.0.1", "localhost"))
        admin = self._ca.issue_cert("admin.test", common_name="admin", organization_name="system:masters")
        self._write("admin", admin)
        self._write("accounts", self._ca.issue_cert("accounts.test"))
        user = {
            "client-certificate": str(self.folder / "admin.crt"),
            "client-key": str(self.folder / "admin.key"),
        }
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))
        self.kubeconfig.chmod(0o600)

    def _write(self, name: str, leaf: trustme.LeafCert) -> None:
        leaf.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))

    def _write_egress(self) -> None:
        """Calls to Services go through `network`, as they go through konnectivity in a managed cluster."""
        transport = {"uds": {"udsName": str(self.network.path)}}
        connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
        config = {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }
        (self.folder / "egress.json").write_text(json.dumps(config))


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _command(program: Path, flags: dict[str, object]) -> list[str]:
    return [str(program), *(f"--{name}={value}" for name, value in flags.items())]
