"""Asks the admin listener of a running sidecar, for commands that need one. It blocks while it waits."""

import http.client
import socket
from urllib.parse import urlencode

from sidecar.config.addresses import Address

TIMEOUT_S = 5.0
MAX_BYTES = 16 * 1024 * 1024
_MAX_SHOWN = 300


class AdminError(Exception):
    """No answer, or one that says no. The message is one line: what is wrong and what to do.

    `status` is that of the answer; 0: there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def ask(
    address: Address,
    method: str,
    path: str,
    query: dict[str, str] | None = None,
    sent: bytes | None = None,
) -> bytes:
    """The body of a 200 answer to a request with the body `sent`; AdminError for anything else."""
    connection = _connection(address)
    target = f"{path}?{urlencode(query)}" if query else path
    try:
        # The listener refuses all Host names but those of loopback, wherever it listens.
        headers = {"host": "localhost", "x-sidecar-admin": "1"}
        connection.request(method, target, sent, headers)
        response = connection.getresponse()
        body = response.read(MAX_BYTES + 1)
    except TimeoutError:
        raise AdminError(f"no answer from {address} within {TIMEOUT_S:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or "what answers there does not speak HTTP"
        raise AdminError(
            f"no sidecar answers at {address} ({reason}):"
            " is it running, and is that its listen.control or listen.admin?"
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        said = _first_line(body) or f"{address} answered with status {response.status}"
        raise AdminError(said, response.status)
    if len(body) > MAX_BYTES:
        raise AdminError(f"the answer is more than {MAX_BYTES >> 20} MiB: ask by HTTP")
    return body


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: Address) -> http.client.HTTPConnection:
    if address.path is not None:
        return _UnixConnection(address.path)
    return http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)


def _first_line(body: bytes) -> str:
    """What an answer says, fit for a terminal whoever wrote it."""
    text = body[: 4 * _MAX_SHOWN].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(char for char in text if char.isprintable())[:_MAX_SHOWN]
