"""aiocache's Redis, as the shared tier needs it.

What is changed: values are bytes and stay so (aiocache's default is JSON, and pickle would run what it
reads); the URL is redis-py's, TLS included; of a value no more than wanted is read, and no answer of endless
length is taken from whatever claims to be Redis; a new connection asks for nothing but AUTH and SELECT.

A command that is cancelled or late closes its connection: redis-py does so wherever it waits, and takes no
connection out of its pool that has something unread. tests/cache/shared/test_redis.py holds it to that.
"""

from typing import Any

from aiocache.backends.redis import RedisCache  # type: ignore[import-untyped]
from aiocache.serializers import NullSerializer  # type: ignore[import-untyped]
from redis import exceptions
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.connection import Connection, ConnectionPool, parse_url

from sidecar.config.addresses import Address
from sidecar.config.secrets import Secret

_PORT = 6379
# Of one whole answer, beside a value: the log of orders, the names that a scan finds.
ANSWER_BYTES = 2 * 1024 * 1024
# For what is done in the background, and for a close.
PATIENCE_S = 1.0

# What the exceptions mean, the first that fits; subclasses stand before their bases. Each goes on with a
# sentence that begins with the server.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "does not answer in time"),
    (exceptions.TimeoutError, "does not answer in time"),
    (exceptions.AuthenticationError, "refuses the password in the URL of cache.redis, or wants one"),
    (exceptions.NoPermissionError, "forbids a command or the keys sidecar:answers:*: allow them in its ACL"),
    (exceptions.ReadOnlyError, "is a read-only replica: point cache.redis to the primary"),
    (exceptions.OutOfMemoryError, "is out of memory: raise its maxmemory, or let it evict"),
    (exceptions.BusyLoadingError, "is still loading its data"),
    (exceptions.ResponseError, "refused a command: see its ACL and its log"),
)


def reason_of(error: Exception) -> str:
    """Why a command failed, to stand behind the server's `place`. In words of ours: what the server says may
    repeat the password."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "cannot be reached, closed the connection, or is not Redis"


def is_late(error: Exception) -> bool:
    """Whether a command was given up because it took too long."""
    return isinstance(error, (TimeoutError, exceptions.TimeoutError))


def is_refusal(error: Exception) -> bool:
    """Whether the server is well, and says no."""
    return isinstance(error, exceptions.ResponseError)


class Redis(RedisCache):  # type: ignore[misc]
    """The values of one Redis, at `place` (host and port). A `get` takes at most `timeout_s`, and reads one
    byte more than `max_value_bytes` of a value that is larger. A ValueError where the URL is none."""

    def __init__(self, url: Secret, *, timeout_s: float, max_value_bytes: int, max_connections: int) -> None:
        try:
            options: dict[str, Any] = dict(parse_url(url.reveal()))
        except ValueError:  # whose message may hold the password
            raise ValueError("cache.redis must be a URL such as redis://:PASSWORD@HOST:6379/0") from None
        self.place = str(Address(options.get("host", "localhost"), options.get("port", _PORT)))
        parser = type("Parser", (_Parser,), {"max_answer_bytes": max_value_bytes + ANSWER_BYTES})

        def pool(**_: Any) -> ConnectionPool:
            # RESP2 and no names: a new connection costs AUTH and SELECT, where needed, and nothing else.
            return ConnectionPool(
                connection_class=options.pop("connection_class", Connection),
                max_connections=max_connections,
                protocol=2,
                driver_info=None,
                parser_class=parser,
                socket_timeout=None,
                socket_connect_timeout=PATIENCE_S,
                **options,
            )

        serializer = NullSerializer(encoding=None)
        super().__init__(serializer=serializer, timeout=timeout_s, connection_pool_class=pool)
        self._max_value_bytes = max_value_bytes

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> bytes | None:
        value = await self.client.getrange(key, 0, self._max_value_bytes)
        if type(value) is not bytes:
            raise exceptions.InvalidResponse("a value is no string")
        return value or None

    async def _close(self, *_: Any, **__: Any) -> None:
        await self.client.aclose()


class _Parser(_AsyncRESP2Parser):
    """Gives up on an answer whose strings together are longer than `max_answer_bytes`."""

    max_answer_bytes = 0

    async def read_response(self, disable_decoding: bool = False) -> Any:
        self._left_bytes = self.max_answer_bytes
        return await super().read_response(disable_decoding)

    async def _read(self, length: int) -> bytes:
        self._left_bytes -= length
        if length < 0 or self._left_bytes < 0:
            raise exceptions.InvalidResponse("an answer is too long")
        return await super()._read(length)
