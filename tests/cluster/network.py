"""The cluster's network as the API server reaches it: Services by their ClusterIP, and who is behind them.

The API server asks for `CONNECT 10.96.3.7:443` on a Unix socket (its egress selector), and gets a connection
to one of the replicas, in turn; what kube-proxy and a network plugin do elsewhere. So Service, port and
clientConfig stay as the chart has them, and the certificate is checked for the Service's name.
"""

import contextlib
import itertools
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

CONNECT_S = 5.0
_REFUSED = b"HTTP/1.1 503 no endpoints\r\ncontent-length: 0\r\n\r\n"


class Network:
    """`services` maps "IP:port" to the ports of its replicas on loopback; a test changes it at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.services: dict[str, list[int]] = {}
        self._turn = itertools.count()

    def pick(self, address: str) -> int | None:
        """The replica whose turn it is."""
        ports = self.services.get(address)
        return ports[next(self._turn) % len(ports)] if ports else None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve the socket."""
        with _Server(str(self.path), _Tunnel) as server:
            server.network = self
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    network: Network


class _Tunnel(socketserver.BaseRequestHandler):
    """One connection of the API server to one replica."""

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            part = self.request.recv(4096)
            if not part:
                return
            asked += part
        port = self.server.network.pick(asked.split()[1].decode())
        if port is None:
            self.request.sendall(_REFUSED)
            return
        try:
            replica = socket.create_connection(("127.0.0.1", port), CONNECT_S)
        except OSError:
            self.request.sendall(_REFUSED)
            return
        with replica:
            replica.settimeout(None)
            self.request.sendall(b"HTTP/1.1 200 connected\r\n\r\n")
            back = threading.Thread(target=_copy, args=(replica, self.request), daemon=True)
            back.start()
            _copy(self.request, replica)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
