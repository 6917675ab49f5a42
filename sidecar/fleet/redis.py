"""A connection to Redis that never mixes up answers: one command at a time, and what is cut off closes it.

A command that is cancelled, late or answered with nonsense leaves its answer behind in the connection, where
the next command would take it for its own. So a connection is taken out of its place while it is in use, and
put back only after a whole answer was read.

The URL holds a password: messages say its host and port alone, and repeat nothing that the server says.
"""

import asyncio
import hashlib
import ssl
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection, parse_url

from sidecar.config.addresses import Address
from sidecar.config.secrets import Secret

_PORT = 6379
# What the exceptions of redis-py mean, the first that fits; subclasses stand before their bases. Each goes on
# with a sentence that begins with the server.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "refuses the password in the URL of fleet.redis, or wants one"),
    (exceptions.NoPermissionError, "forbids EVAL, EVALSHA or the keys sidecar:1:*: allow them in its ACL"),
    (exceptions.ReadOnlyError, "is a read-only replica: point fleet.redis to the primary"),
    (exceptions.MasterDownError, "is a replica without its primary: point fleet.redis to the primary"),
    (exceptions.OutOfMemoryError, "is out of memory: raise its maxmemory"),
    (exceptions.BusyLoadingError, "is still loading its data"),
    (exceptions.ResponseError, "refused a command: see its ACL, its log and whether it allows scripts"),
    (ssl.SSLError, "fails at TLS: check its certificate, or use redis:// if it has none"),
)


class LinkError(Exception):
    """Redis did not do what it was asked to; the message says why, in words of ours."""


class Script:
    """A Lua script and the digest that a server knows it by."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """Commands to one Redis. `patience_s` is for a whole command, its connection included."""

    def __init__(self, url: Secret, patience_s: float) -> None:
        self._url = url
        self._place = "it"  # host and port, once the URL is read
        self._patience_s = patience_s
        self._connection: Connection | None = None
        self._is_closed = False

    async def command(self, *parts: str | bytes | int) -> object:
        """Send one command and read its answer; a LinkError closes the connection."""
        return await self._exchange((parts,))

    async def run(self, script: Script, keys: list[str], arguments: list[str | bytes | int]) -> object:
        """Run a script, by its digest; in full where the server does not have it yet."""
        rest = (len(keys), *keys, *arguments)
        return await self._exchange((("EVALSHA", script.digest, *rest), ("EVAL", script.text, *rest)))

    async def close(self) -> None:
        """Close the connection; one that is in use is closed when its command ends."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _exchange(self, ways: tuple[tuple[str | bytes | int, ...], ...]) -> object:
        """The answer to the first way, or to the second where the server does not know the script."""
        connection, self._connection = self._connection, None
        try:
            if connection is None:
                connection = self._open()
            async with asyncio.timeout(self._patience_s):  # noqa: TID251  # once a second, in the background
                answer = await _ask(connection, ways)
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            # Anything at all may be raised by what a server sends that is no Redis.
            if isinstance(error, Exception):
                raise LinkError(self._reason(error)) from None
            raise
        await self._put_back(connection)
        return answer

    async def _put_back(self, connection: Connection) -> None:
        if self._connection is None and not self._is_closed:
            self._connection = connection
        else:
            await connection.disconnect(nowait=True)

    def _open(self) -> Connection:
        options: dict[str, Any] = dict(parse_url(self._url.reveal()))
        self._place = str(Address(options.get("host", "localhost"), options.get("port", _PORT)))
        kind: type[Connection] = options.pop("connection_class", Connection)
        # RESP2 and no names: a new connection costs AUTH and SELECT, where needed, and nothing else.
        return kind(**options, protocol=2, driver_info=None, socket_timeout=None)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"{self._place} did not answer within {self._patience_s:g} s"
        causes = (error, error.__cause__, error.__context__)
        for kind, reason in _REASONS:
            if any(isinstance(cause, kind) for cause in causes):
                return f"{self._place} {reason}"
        return f"{self._place} cannot be reached, closed the connection, or is not Redis"


async def _ask(connection: Connection, ways: tuple[tuple[str | bytes | int, ...], ...]) -> object:
    if not connection.is_connected:
        await connection.connect()  # type: ignore[no-untyped-call]
    for way in ways[:-1]:
        await connection.send_command(*way, check_health=False)
        try:
            return await connection.read_response()
        except exceptions.NoScriptError:
            continue
    await connection.send_command(*ways[-1], check_health=False)
    return await connection.read_response()
