"""Stands between a sidecar and a real Redis, and holds answers back or loses connections when told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Between:
    """A proxy on a free port. While `passes` is not set no answer goes through: all come later, in order."""

    def __init__(self, port: int) -> None:
        self.passes = asyncio.Event()
        self.passes.set()
        self.connections = 0  # since the start
        self.open = 0
        self._upstream_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.lose()
        self.passes.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def lose(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        with contextlib.suppress(OSError):
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            self._writers |= {writer, ours}
            await asyncio.gather(self._pass(reader, ours, is_held=False), self._pass(theirs, writer))
            self._writers -= {writer, ours}
        self.open -= 1
        writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_held: bool = True
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if is_held:
                    await self.passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def between(port: int) -> AsyncIterator[Between]:
    """A started proxy to the Redis on that port."""
    proxy = Between(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
