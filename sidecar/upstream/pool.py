"""The connections to one endpoint: idle ones are kept last in, first out, new ones are dialled on demand.

LIFO keeps the warm connections busy and lets the surplus age out from the other end; taking and giving back
never look at the other connections. An idle connection is closed well before the provider would: a request
sent into a closing connection is lost, so ours must be the shorter patience (providers' servers keep 60 s and
more; those that say `Keep-Alive: timeout=n` are believed).
"""

import asyncio
import errno
import socket
import ssl
from typing import Any

from sidecar.clock import Ticker
from sidecar.errors import Unreachable
from sidecar.tasks import spawn
from sidecar.upstream.connection import IDLE, Connection
from sidecar.upstream.tls import ClientContext

IDLE_LIMIT_S = 15.0
MAX_IDLE = 256


class Address:
    """Where an endpoint listens."""

    __slots__ = ("host", "port", "tls")

    def __init__(self, host: str, port: int, tls: ClientContext | None) -> None:
        self.host = host
        self.port = port
        self.tls = tls


class Pool:
    """Connections to one address. `open_count` counts idle and busy ones."""

    def __init__(self, address: Address, ticker: Ticker) -> None:
        self.address = address
        self.connect_s = 1.0
        self.open_count = 0
        self.dialled = 0
        self._ticker = ticker
        self._idle: list[Connection] = []
        self._is_retired = False

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    def take(self) -> Connection | None:
        """The connection given back last, or None when one must be dialled."""
        while self._idle:
            connection = self._idle.pop()
            if connection.state is IDLE and not connection.transport.is_closing():
                return connection
        return None

    async def dial(self) -> Connection:
        """A new connection, TLS included, within `connect_s`. Raises Unreachable."""
        dial = _Dial(self, self._ticker)
        try:
            outcome = await dial.task
        except asyncio.CancelledError:
            raise _timeout(self.connect_s) from None
        except BaseException:
            dial.abandon()  # the caller left; a connection made in the same moment goes to the pool
            raise
        finally:
            dial.stop()
        if isinstance(outcome, Unreachable):
            raise outcome
        return outcome

    async def connect(self) -> Connection | Unreachable:
        """Dial without a limit of time; failures are translated here, once, and returned."""
        address = self.address
        loop = asyncio.get_running_loop()
        kwargs: dict[str, Any] = {}
        if address.tls is not None:
            kwargs = {"ssl": address.tls, "server_hostname": address.host}
        self.dialled += 1
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self._give_back, self._closed), address.host, address.port, **kwargs
            )
        except (OSError, ssl.SSLError, EOFError) as error:
            return _translate(error, address.tls is not None)
        self.open_count += 1
        return connection

    def keep(self, connection: Connection) -> None:
        """Put an unused connection among the idle ones."""
        self._give_back(connection)

    def expire(self, now_s: float) -> None:
        """Close what has been idle too long."""
        expired = [idle for idle in self._idle if now_s - idle.idle_since_s >= _limit_s(idle)]
        if expired:
            self._idle = [idle for idle in self._idle if idle not in expired]
            for connection in expired:
                connection.close()

    def retire(self) -> None:
        """Close all idle connections; busy ones end with their request."""
        self._is_retired = True
        while self._idle:
            self._idle.pop().close()

    def _give_back(self, connection: Connection) -> None:
        if self.address.tls is not None and not connection.is_session_kept:
            connection.is_session_kept = True
            wrapped = connection.transport.get_extra_info("ssl_object")
            self.address.tls.remember(self.address.host, wrapped)
        if self._is_retired or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since_s = self._ticker.now_s
        self._idle.append(connection)

    def _closed(self, was_idle: bool) -> None:
        self.open_count -= 1
        if was_idle:
            self._idle = [idle for idle in self._idle if idle.state is IDLE]


class _Dial:
    """One dial and its deadline on the ticker."""

    def __init__(self, pool: Pool, ticker: Ticker) -> None:
        self._pool = pool
        self._ticker = ticker
        self.task = spawn(pool.connect(), f"dial {pool.address.host}")
        self.deadline_s = ticker.now_s + pool.connect_s
        ticker.arm(self)

    def on_deadline(self) -> None:
        self.task.cancel()

    def stop(self) -> None:
        self._ticker.disarm(self)

    def abandon(self) -> None:
        self.task.add_done_callback(self._salvage)
        self.task.cancel()

    def _salvage(self, task: asyncio.Task[Connection | Unreachable]) -> None:
        if not task.cancelled() and isinstance(outcome := task.result(), Connection):
            self._pool.keep(outcome)


def _limit_s(connection: Connection) -> float:
    told_s = connection.idle_limit_s
    return IDLE_LIMIT_S if told_s is None else min(IDLE_LIMIT_S, max(0.0, told_s - 1.0))


def _timeout(connect_s: float) -> Unreachable:
    return Unreachable(f"The provider did not accept a connection within {connect_s:g} s.")


def _translate(error: Exception, is_tls: bool) -> Unreachable:
    """What a failed dial means to the caller; the system's own words go no further than the kind."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable("The provider shows a certificate that does not verify.")
    hung_up = isinstance(error, ConnectionError) and error.errno is None  # the loop's, not the system's
    if isinstance(error, (ssl.SSLError, EOFError)) or (is_tls and hung_up):
        return Unreachable("The provider failed the TLS handshake.")
    if isinstance(error, socket.gaierror):
        return Unreachable("The provider's name does not resolve.", flag="DF")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("The provider refused the connection.")
    name = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
    return Unreachable(f"The provider could not be reached ({name}).")
