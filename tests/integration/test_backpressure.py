"""A side that stops reading stops the other side: nothing piles up in the sidecar, and nothing is lost.

What the kernel may hold between the two is bounded by giving the test's own sockets small buffers; the
sidecar runs as a process of its own, so that its memory is its own.
"""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.support.demo import QUESTION, STREAM
from tests.support.http1 import Client
from tests.support.process import SidecarProcess, sidecar_process, write_config
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import config_for
from tests.support.waiting import settled

MIB = 1 << 20
TOTAL_BYTES = 96 * MIB
# Two hops of kernel buffers (net.ipv4.tcp_wmem and tcp_rmem end at 4 and 6 MiB) and what the sidecar holds.
HELD_BYTES = 24 * MIB
GROWTH_BYTES = 12 * MIB

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 16_300 + b'"}}]}\n\n'
BLOCK = b"0123456789abcdef" * 1024
KINDS = {
    "stream": (post(orjson.dumps(STREAM), close=False), b"text/event-stream", EVENT),
    "plain": (post(orjson.dumps(QUESTION), close=False), b"application/json", BLOCK),
    "unread": (b"GET /v1/files/f/content HTTP/1.1\r\nHost: localhost\r\n\r\n", b"text/plain", BLOCK),
}


class Source:
    """A provider's script: as much of one piece as is asked for, counted and hashed as it is sent."""

    def __init__(self, content_type: bytes, piece: bytes) -> None:
        self.sent = 0
        self.digest = hashlib.sha256()
        self._head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content_type
        )
        self._piece = piece
        self.provider: RawProvider

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.provider.read_request(reader)
        writer.write(self._head)
        while self.sent < TOTAL_BYTES:
            await self._send(writer, self._piece)
        await self._send(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async def _send(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        self.sent += len(piece)
        self.digest.update(piece)


@contextlib.asynccontextmanager
async def slow_client(port: int) -> AsyncIterator[Client]:
    """A client whose socket takes little before it is read from."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    client = Client(*await asyncio.open_connection(sock=sock, limit=65536))
    try:
        yield client
    finally:
        client.abort()


@contextlib.asynccontextmanager
async def process_before(provider: RawProvider, folder: Path) -> AsyncIterator[SidecarProcess]:
    config = config_for(provider.url, provider={"timeouts": {"idle": "1m"}})
    async with sidecar_process(write_config(folder / "config", config)) as process:
        yield process


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_stops_reading_stops_the_provider_and_gets_every_byte_later(
    kind: str, tmp_path: Path
) -> None:
    request, content_type, piece = KINDS[kind]
    source = Source(content_type, piece)
    async with (
        raw_provider(source) as source.provider,
        process_before(source.provider, tmp_path) as process,
        slow_client(process.port) as client,
    ):
        before = process.resident_bytes()
        client.send(request)
        head = await client.head()
        held = await settled(lambda: source.sent)
        grown = process.peak_bytes() - before
        assert piece and len(piece) < held < HELD_BYTES
        assert grown < GROWTH_BYTES, f"grew by {grown} bytes"

        assert head.get("transfer-encoding") == "chunked"
        digest = hashlib.sha256()
        while data := await client.chunk():
            digest.update(data)
        assert source.sent >= TOTAL_BYTES
        assert digest.hexdigest() == source.digest.hexdigest()
        grown = process.peak_bytes() - before
        assert grown < GROWTH_BYTES, f"grew by {grown} bytes on the whole way"


class Sink:
    """A provider's script: reads nothing of an upload until told, then hashes it."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.digest = hashlib.sha256()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await self.may_read.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while left:
            piece = await reader.read(MIB)
            assert piece
            self.digest.update(piece)
            left -= len(piece)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


async def test_a_provider_that_stops_reading_stops_an_upload_and_gets_every_byte_later(
    tmp_path: Path,
) -> None:
    sink = Sink()
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {TOTAL_BYTES}\r\n\r\n"
    )
    async with (
        raw_provider(sink) as provider,
        process_before(provider, tmp_path) as process,
        slow_client(process.port) as client,
    ):
        sent = 0
        before = process.resident_bytes()

        async def upload() -> None:
            nonlocal sent
            client.send(head.encode())
            while sent < TOTAL_BYTES:
                client.send(BLOCK)
                await client.writer.drain()
                sent += len(BLOCK)

        task = asyncio.create_task(upload())
        held = await settled(lambda: sent)
        grown = process.peak_bytes() - before
        assert held < HELD_BYTES
        assert grown < GROWTH_BYTES, f"grew by {grown} bytes"
        sink.may_read.set()
        await task
        assert (await client.answer()).status == 200
    assert sink.digest.hexdigest() == hashlib.sha256(BLOCK * (TOTAL_BYTES // len(BLOCK))).hexdigest()
