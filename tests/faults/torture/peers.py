"""Both sides of the sidecar as bare protocols: a provider of numbered words, and callers.

A request names its caller (`user`) and how many words it wants (`max_tokens`); every provider gives the same
caller the same words, so that what was lost, doubled, swapped or mixed up with another stream's shows.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import orjson

from tests.support.raw import post

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n'
_WORD = b'data: {"choices":[{"index":0,"delta":{"content":"%d.%d "},"finish_reason":null}]}\n\n'
_FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_DONE = b"data: [DONE]\n\n"

Request = dict[str, Any]


def events_of(user: int, words: int) -> list[bytes]:
    """The whole stream for a caller."""
    return [_ROLE, *(_WORD % (user, number) for number in range(words)), _FINISH, _DONE]


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def question(user: int, model: str, words: int, *, stream: bool = True) -> bytes:
    """A request as it is sent."""
    messages = [{"role": "user", "content": "Count."}]
    body = {"model": model, "user": str(user), "max_tokens": words, "stream": stream, "messages": messages}
    return post(orjson.dumps(body), close=False)


class Peer(asyncio.Protocol):
    """A connection of the sidecar. What it asks goes to the provider's `answer`."""

    transport: asyncio.Transport

    def __init__(self, provider: "Provider") -> None:
        self._provider = provider
        self._data = b""
        self.users: list[int] = []  # who asked on it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._provider.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (request := self._take()) is not None:
            self.users.append(int(request["user"]))
            self._provider.asked[self.users[-1]] = self
            self._provider.answer(self, request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.open.discard(self)
        for user in self.users:
            self._provider.left_at[user] = time.monotonic()

    def _take(self) -> Request | None:
        head, blank, rest = self._data.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return None
        self._data = rest[length:]
        request: Request = orjson.loads(rest[:length])
        return request


class Provider:
    """Listens on a free port. `asked` and `left_at` have each caller's connection, and when it ended."""

    def __init__(self, answer: Callable[[Peer, Request], None]) -> None:
        self.answer = answer
        self.asked: dict[int, Peer] = {}
        self.left_at: dict[int, float] = {}
        self.open: set[Peer] = set()
        self.url = ""


@contextlib.asynccontextmanager
async def provider_of(answer: Callable[[Peer, Request], None]) -> AsyncIterator[Provider]:
    """A started provider."""
    provider = Provider(answer)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(provider), "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.close()
        for peer in tuple(provider.open):
            peer.transport.abort()


def say_all(peer: Peer, request: Request) -> None:
    """The whole answer at once: numbered events, or one of them as a plain answer."""
    user, words = int(request["user"]), int(request["max_tokens"])
    if request["stream"]:
        pieces = [chunk(event) for event in events_of(user, words)]
        peer.transport.write(b"".join([STREAM_HEAD, *pieces, b"0\r\n\r\n"]))
        return
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%d.0 "}}]}' % user
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    peer.transport.write(head % len(body) + body)


class Caller(asyncio.Protocol):
    """A caller's connection: keeps what came, and when it first did."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.data = bytearray()
        self.first_at = 0.0
        self.ended = asyncio.get_running_loop().create_future()
        self.ended_at = 0.0
        self._wanted = b""
        self._found: asyncio.Future[None] | None = None

    @classmethod
    async def connect(cls, port: int) -> "Caller":
        """A connection to the sidecar."""
        _, caller = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return caller

    async def until(self, wanted: bytes) -> None:
        """Wait until these bytes have come, or the end."""
        self._wanted, self._found = wanted, asyncio.get_running_loop().create_future()
        self._look()
        await self._found

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.data:
            self.first_at = time.monotonic()
        self.data += data
        self._look()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _look(self) -> None:
        found = self._found
        if found is not None and not found.done() and (self._wanted in self.data or self.ended.done()):
            found.set_result(None)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended_at = time.monotonic()
            self.ended.set_result(None)
            self._look()
