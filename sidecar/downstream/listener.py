"""The data listeners: aiohttp's server, runner and sites around the fast-path connection.

`Listener` is an aiohttp `web.Server` whose factory makes fast-path connections instead of aiohttp's own. A
connection that turns out to carry an upload or a WebSocket is given to a handler of aiohttp (`lane`), by
`transport.set_protocol`, with the bytes read so far; from then on it is aiohttp's.
"""

import asyncio
import socket
from typing import Any

from aiohttp import web

from sidecar.clock import Ticker
from sidecar.config.addresses import Address
from sidecar.downstream.connection import Connection, Gate
from sidecar.downstream.unix_site import UnixSite
from sidecar.downstream.upload import LaneConnection

BACKLOG = 1024
Lane = Any  # an aiohttp low-level handler: async (web.BaseRequest) -> web.StreamResponse


class Listener(web.Server):
    """Makes, counts and ends the client connections of the data port."""

    def __init__(self, gate: Gate, ticker: Ticker, lane: Lane) -> None:
        super().__init__(lane, handler_cancellation=True, access_log=None, auto_decompress=False)
        self._gate = gate
        self._ticker = ticker
        self._fast: set[Connection] = set()
        self._is_draining = False

    def __call__(self) -> Any:
        """The protocol of a new connection."""
        return Connection(self._gate, self._ticker, self._hand_over, self._opened, self._fast.discard)

    def _opened(self, connection: Connection) -> None:
        self._fast.add(connection)
        connection.writer.must_close = self._is_draining

    @property
    def busy_count(self) -> int:
        """Connections with a request in progress, the lane's included."""
        return sum(connection.is_busy for connection in self._fast) + len(self._connections)

    def drain(self) -> None:
        """Have every connection close after its answer; idle ones at once."""
        self._is_draining = True
        for connection in list(self._fast):
            connection.drain()

    def interrupt(self, reason: BaseException) -> None:
        """End what is still in progress: open streams get an error event and are cut."""
        for connection in list(self._fast):
            connection.interrupt(reason)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """aiohttp's call at the runner's end."""
        for connection in list(self._fast):
            connection.transport.abort()
        await super().shutdown(timeout)

    def _hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        connection = LaneConnection(self, loop=self._loop, **self._kwargs)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.take(data)


async def open_sites(runner: web.BaseRunner, address: Address) -> list[str]:
    """Listen on `address`; for 127.0.0.1 on ::1 as well where the host has it. Returns what is bound.

    Port 0 picks a free one. Raises OSError when the address is taken.
    """
    if address.path is not None:
        await UnixSite(runner, address.path, backlog=BACKLOG).start()
        return [f"unix:{address.path}"]
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = [await _listen_tcp(runner, family, address.host, address.port)]
    if address.host == "127.0.0.1" and _has_ipv6_loopback():
        port = int(bound[0].rpartition(":")[2])
        try:
            bound.append(await _listen_tcp(runner, socket.AF_INET6, "::1", port))
        except OSError:
            if address.port:
                raise  # a port that was asked for is had on both, or not at all
    return bound


async def _listen_tcp(runner: web.BaseRunner, family: int, host: str, port: int) -> str:
    # Our own socket, since by name the loop would ask the resolver, and start its four threads for it.
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from None
    name = listening.getsockname()
    return f"[{name[0]}]:{name[1]}" if family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
