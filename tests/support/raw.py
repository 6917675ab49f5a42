"""Both ends of a connection as plain bytes: a provider that says what a test wants, and a client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'


class RawProvider:
    """A TCP server that records what it gets and plays `script` on each connection.

    `received` has the bytes of each connection in order of connecting; `requests` each request read by
    `read_request`.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or self.answer_ok
        self.received: list[bytearray] = []
        self.requests: list[bytes] = []
        self.closed = 0
        self.url = ""
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.received.append(bytearray())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.script(reader, writer)
        self.closed += 1
        self._tasks.discard(task)
        writer.close()

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """One request, head and Content-Length body, as it came. IncompleteReadError at the end."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        request = head + await reader.readexactly(length)
        self.received[-1] += request
        self.requests.append(request)
        return request

    async def answer_ok(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The default script: 200 to every request, until the connection ends."""
        while True:
            await self.read_request(reader)
            writer.write(OK)


@contextlib.asynccontextmanager
async def raw_provider(script: Script | None = None) -> AsyncIterator[RawProvider]:
    provider = RawProvider(script)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()


async def exchange(port: int, data: bytes, *, within_s: float = 5.0) -> bytes:
    """Send bytes on a new connection and read until it is closed, or nothing comes any more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    answer = bytearray()
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(65536), within_s):
            answer += piece
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return bytes(answer)


def post(body: bytes, path: str = "/v1/chat/completions", *, headers: str = "", close: bool = True) -> bytes:
    """A whole POST request with a JSON body."""
    connection = "Connection: close\r\n" if close else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{connection}{headers}\r\n"
    ).encode() + body
