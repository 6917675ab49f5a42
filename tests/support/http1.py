"""Reads HTTP/1.1 answers strictly: what a client sees of an answer, and whether it was whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple, Self


class Head(NamedTuple):
    """A status and its header fields, names in lower case."""

    status: int
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """The only value of a field; None without it. Twice is a failure."""
        values = self.all(name)
        assert len(values) < 2, f"{name} stands there {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for key, value in self.fields if key == name]


class Answer(NamedTuple):
    """A whole answer as a client sees it."""

    head: Head
    body: bytes
    is_whole: bool  # False: the connection ended before the framing said so

    @property
    def status(self) -> int:
        return self.head.status


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**26))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Head:
        """The next answer's head."""
        async with asyncio.timeout(10):
            return parse_head(await self.reader.readuntil(b"\r\n\r\n"))

    async def chunk(self) -> bytes:
        """The next chunk's data; empty for the last one. IncompleteReadError where the body was cut."""
        async with asyncio.timeout(10):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
            return data

    async def body(self, head: Head) -> tuple[bytes, bool]:
        """The body, and whether it was whole."""
        pieces: list[bytes] = []
        try:
            if head.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    pieces.append(piece)
            elif (length := head.get("content-length")) is not None:
                async with asyncio.timeout(10):
                    pieces.append(await self.reader.readexactly(int(length)))
            else:
                async with asyncio.timeout(10):
                    pieces.append(await self.reader.read())
        except asyncio.IncompleteReadError as error:
            return b"".join(pieces) + (error.partial if not pieces else b""), False
        except ConnectionError:
            return b"".join(pieces), False
        return b"".join(pieces), True

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer; `bodiless` for the answer to HEAD."""
        head = await self.head()
        if bodiless or head.status in (204, 304):
            return Answer(head, b"", True)
        return Answer(head, *await self.body(head))

    async def has_ended(self) -> bool:
        """Whether the server closes the connection, with nothing more said."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(1) == b""
        return True

    def abort(self) -> None:
        """Leave without a goodbye."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    """A connection that is closed at the end."""
    connected = await Client.connect(port)
    try:
        yield connected
    finally:
        await connected.close()


async def ask(port: int, request: bytes) -> Answer:
    """One request on a connection of its own."""
    async with client(port) as connected:
        connected.send(request)
        return await connected.answer(bodiless=request.startswith(b"HEAD "))


async def ask_midway(port: int, request: bytes, goes_on: asyncio.Event) -> Answer:
    """The same, of a provider that waits in the middle: it goes on once the caller has a first piece."""
    async with client(port) as connected:
        connected.send(request)
        head = await connected.head()
        begun = await connected.chunk()
        goes_on.set()
        rest, is_whole = await connected.body(head)
    return Answer(head, begun + rest, is_whole)


def parse_head(data: bytes) -> Head:
    """A head up to its blank line."""
    first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    pairs = [line.partition(":") for line in lines]
    return Head(int(status), [(name.lower(), value.strip()) for name, _, value in pairs])
