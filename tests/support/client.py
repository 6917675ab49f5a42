"""A client that keeps its connection: request after request, each answer read by its own framing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.answers import RawAnswer, read_answers


class RawClient:
    """One connection to a sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes, *, within_s: float = 5.0) -> RawAnswer:
        """Send one request, read its answer; one that breaks off is returned as far as it came."""
        self.writer.write(request)
        return await asyncio.wait_for(self.read_answer(), within_s)

    async def read_answer(self) -> RawAnswer:
        """The next answer, interim ones left out."""
        data = bytearray()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            await self._read_into(data)
        return read_answers(bytes(data))[0]

    async def _read_into(self, data: bytearray) -> None:
        head = b"HTTP/1.1 100"
        while head.startswith(b"HTTP/1.1 1"):
            head = await self.reader.readuntil(b"\r\n\r\n")
            data += head
        lines = head.lower().split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        if lengths:
            data += await self._exactly(lengths[0], data)
        elif b"transfer-encoding: chunked" in lines:
            size = 1
            while size:
                line = await self.reader.readuntil(b"\r\n")
                data += line
                size = int(line, 16)
                data += await self._exactly(size + 2, data)
        else:
            data += await self.reader.read(-1)

    async def _exactly(self, count: int, data: bytearray) -> bytes:
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            data += error.partial
            raise


@contextlib.asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
