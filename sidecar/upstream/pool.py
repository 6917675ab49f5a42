"""The connections to one endpoint: idle ones are kept last in, first out, new ones are dialled on demand.

LIFO keeps the warm connections busy and lets the surplus age out from the other end; taking and giving back
never look at the other connections. An idle connection is closed well before the provider would: a request
sent into a closing connection is lost, so ours must be the shorter patience (providers' servers keep 60 s and
more; those that say `Keep-Alive: timeout=n` are believed).

A dial goes to the addresses of the name (resolver.py). The next one is begun when one fails, or has not
answered within a quarter of a second; the first that connects wins (RFC 8305 section 5). Giving each address
its share of the time instead would never reach a provider that needs more than the share.
"""

import asyncio
import errno
import socket
import ssl
import time
from typing import Any

from sidecar.clock import Ticker
from sidecar.errors import Exhausted, Unreachable
from sidecar.tasks import spawn
from sidecar.upstream.balancer import Ewma
from sidecar.upstream.connection import CLOSED, IDLE, Connection
from sidecar.upstream.resolver import Resolver
from sidecar.upstream.shortage import SHORTAGE, lack_of
from sidecar.upstream.tls import ClientContext

IDLE_LIMIT_S = 15.0
MAX_IDLE = 256
STAGGER_S = 0.25


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
        self.resolver = Resolver(address.host, address.port)
        self.connect_ewma = Ewma()  # seconds a connection takes, TLS included: how far the endpoint is
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
        self.dialled += 1
        resolver, now_s = self.resolver, self._ticker.now_s
        # Without an answer the name itself is dialled: the loop looks it up and says what is wrong with it.
        hosts = resolver.addresses(now_s) or await resolver.first(now_s) or (self.address.host,)
        outcome = await (self._open(hosts[0]) if len(hosts) == 1 else self._race(hosts))
        if isinstance(outcome, Connection):
            return outcome
        lack = lack_of(outcome)
        if lack is not None:
            SHORTAGE.tell(lack, self._ticker.now_s)
            return Exhausted(errno.errorcode[lack])
        return _translate(outcome, self.address.tls is not None)

    def keep(self, connection: Connection) -> None:
        """Put an unused connection among the idle ones."""
        self._give_back(connection)

    def abandon(self, dial: "asyncio.Task[Any]") -> None:
        """End a dial nobody waits for; a connection made in the same moment is kept."""
        dial.add_done_callback(self._salvage)
        dial.cancel()

    def expire(self, now_s: float) -> None:
        """Close what has been idle too long, and keep the addresses fresh; called once a second."""
        self.resolver.refresh(now_s, is_used=self.open_count > 0)
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

    async def _race(self, hosts: tuple[str, ...]) -> Connection | Exception:
        """The first connection to any of the addresses, or what the best of the failures was."""
        waiting = list(reversed(hosts))
        running: set[asyncio.Task[Connection | Exception]] = set()
        failure: Exception | None = None
        try:
            while waiting or running:
                host = waiting.pop() if waiting else None
                if host is not None:
                    running.add(spawn(self._open(host), f"dial {host}"))
                done, _ = await asyncio.wait(
                    running, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                if host is not None and not done:
                    self.resolver.failed(host, self._ticker.now_s)
                for task in done:
                    running.discard(task)
                    outcome = task.result()
                    if isinstance(outcome, Connection):
                        return outcome
                    # A server that was reached says more than an address that was not, and either more than
                    # what we lack: there may be no IPv6 here, and the server down on IPv4.
                    if failure is None or not (
                        isinstance(failure, (ssl.SSLError, EOFError)) or lack_of(outcome)
                    ):
                        failure = outcome
        finally:
            for task in running:
                self.abandon(task)
        return failure or OSError()

    async def _open(self, host: str) -> Connection | Exception:
        """A connection to one address, TLS included, or why there is none."""
        address = self.address
        kwargs: dict[str, Any] = {}
        if address.tls is not None:
            kwargs = {"ssl": address.tls, "server_hostname": address.host}
        is_counted = False

        def closed(was_idle: bool) -> None:
            if is_counted:  # a dial cancelled in its last step tells of the loss too
                self._closed(was_idle)

        connection = Connection(self._give_back, closed)
        started_s = time.monotonic()
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection, host, address.port, **kwargs
            )
            if connection.state is CLOSED:
                raise ConnectionResetError(errno.ECONNRESET, "closed as soon as it was open")
        except (OSError, ssl.SSLError, EOFError) as error:
            self.resolver.failed(host, self._ticker.now_s)
            return error
        is_counted = True
        self.open_count += 1
        self.connect_ewma.blend(time.monotonic() - started_s, self._ticker.now_s)
        self.resolver.succeeded(host)
        return connection

    def _salvage(self, dial: "asyncio.Task[Any]") -> None:
        if not dial.cancelled() and isinstance(outcome := dial.result(), Connection):
            self.keep(outcome)

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
        self._pool.abandon(self.task)


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
