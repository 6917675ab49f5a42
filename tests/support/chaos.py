"""A TCP proxy that spoils a connection on purpose, byte-exact: it stands between the sidecar and a provider.

    sidecar --request--> Chaos --request--> provider
            <--answer--        <--answer--

Requests go on as they come; everything a knob does happens to the answer. Knobs are read live, so a change
also reaches open connections. Bytes of an answer are counted per connection, from 0, keep-alive included.
How new connections fare is a state of its own: `accept`, `refuse`, `black_hole` or `reset_new`.

It knows no HTTP, and what it does to one direction is as fine as the kernel lets a user process see: a black
hole is a listener whose queue is full, so that further SYNs are dropped and retransmitted as on a lost link.
"""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial
from random import Random
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65536
DRIPS_PER_S = 50
_NO_LINGER = struct.pack("ii", 1, 0)  # l_onoff=1, l_linger=0: close() sends RST
_FILLERS_MAX = 64
FULL_AFTER_S = 0.005

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Chaos:
    """A proxy on a port of its own before `target_url`. None, 0 and False switch a knob off."""

    def __init__(self, target_url: str, *, seed: int = 0) -> None:
        # Knobs
        self.latency_s = 0.0  # later by this much; pieces overtake nobody and are not slowed down
        self.jitter_s = 0.0  # and by up to this much more
        self.rate_bytes_per_s: float | None = None
        self.cut_at_byte: int | None = None
        self.cut_by: Literal["close", "reset"] = "reset"
        self.corrupt_at_byte: int | None = None  # this byte is inverted
        self.split_bytes: int | None = None  # a write of its own for every so many
        self.is_half_open = False  # connections stay, nothing goes through them, either way
        # What was seen
        self.connections = 0
        self.open_connections = 0
        self.bytes_to_provider = 0
        self.bytes_to_client = 0
        # The listener
        self.port = 0
        self._target = urlsplit(target_url)
        self._draw = Random(seed)
        self._resets_new = False
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._links: set[_Link] = set()

    @property
    def url(self) -> str:
        """The provider's URL by way of this proxy."""
        return urlunsplit(self._target._replace(netloc=f"127.0.0.1:{self.port}"))

    # Life, and how new connections fare

    async def start(self) -> None:
        """Listen on a free port and pass everything on."""
        self.accept()

    async def stop(self) -> None:
        """Close the listener and break every connection."""
        self._close_listener()
        tasks = [link.task for link in self._links]
        self.reset_all()
        await asyncio.gather(*tasks, return_exceptions=True)

    def accept(self) -> None:
        """Take new connections, again or for the first time."""
        self._resets_new = False
        self._open_listener(1024)
        assert self._listener is not None
        asyncio.get_running_loop().add_reader(self._listener, self._accept_all)

    def refuse(self) -> None:
        """Nobody listens. The port stays bound, so that nothing else gets it."""
        self._close_listener()
        self._listener = self._bind()

    def reset_new(self) -> None:
        """Take new connections, count them and reset each at once."""
        self.accept()
        self._resets_new = True

    def black_hole(self) -> None:
        """Let SYNs go unanswered: the queue of connections is full and nobody empties it."""
        self._open_listener(0)
        for _ in range(_FILLERS_MAX):
            filler = socket.socket()
            filler.setblocking(False)
            self._fillers.append(filler)
            filler.connect_ex(("127.0.0.1", self.port))
            # On loopback a handshake that succeeds has done so by now.
            if not select.select((), (filler,), (), FULL_AFTER_S)[1]:
                return
        raise OSError("this system's listen queue does not fill up")

    def sever(self) -> None:
        """The link is down: open connections fall silent and new ones get no answer."""
        self.is_half_open = True
        self.black_hole()

    def heal(self) -> None:
        """All knobs off, new connections welcome; what was half open is reset."""
        if self.is_half_open:
            self.reset_all()
        self.latency_s = self.jitter_s = 0.0
        self.rate_bytes_per_s = self.cut_at_byte = self.corrupt_at_byte = self.split_bytes = None
        self.is_half_open = False
        self.accept()

    def reset_all(self) -> None:
        """Reset every open connection."""
        for link in tuple(self._links):
            link.end("reset")

    def _bind(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        return listener

    def _open_listener(self, backlog: int) -> None:
        """Have a listener with this queue, and nobody to empty it yet."""
        self._drop_fillers()
        if self._listener is None:
            self._listener = self._bind()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.listen(backlog)

    def _close_listener(self) -> None:
        self._drop_fillers()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _drop_fillers(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _accept_all(self) -> None:
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except OSError:  # no more of them
                return
            self.connections += 1
            if self._resets_new:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                client.close()
                continue
            client.setblocking(False)
            self.open_connections += 1
            link = _Link(self, client)
            self._links.add(link)
            link.task.add_done_callback(partial(self._ended, link))

    def _ended(self, link: "_Link", _: asyncio.Task[None]) -> None:
        self.open_connections -= 1
        self._links.discard(link)

    # For the connections

    async def dial(self) -> Streams:
        assert self._target.hostname is not None
        return await asyncio.open_connection(self._target.hostname, self._target.port)

    def delay_s(self) -> float:
        return self.latency_s + self._draw.uniform(0, self.jitter_s)


class _Link:
    """One connection and its other half at the provider."""

    def __init__(self, chaos: Chaos, client: socket.socket) -> None:
        self._chaos = chaos
        self._answered = 0  # bytes of the answer so far
        self._client = client
        self._writers: list[asyncio.StreamWriter] = []
        self._pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        self.task = asyncio.create_task(self._run())

    def end(self, how: Literal["close", "reset"]) -> None:
        """Break both halves off."""
        with contextlib.suppress(OSError, ValueError):
            if how == "reset":
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        for writer in self._writers:
            if how == "reset":
                writer.transport.abort()
            else:
                writer.close()
        self.task.cancel()

    async def _run(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._client)
        self._client = writer.get_extra_info("socket")
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writers.append(writer)
        try:
            provider_reader, provider_writer = await self._chaos.dial()
        except OSError:
            return self.end("reset")
        self._writers.append(provider_writer)
        pumps = (
            self._ask(reader, provider_writer),
            self._receive(provider_reader),
            self._answer(writer),
        )
        tasks = [asyncio.create_task(pump) for pump in pumps]
        try:
            # The first that ends is the end: HTTP knows no use of half-closed connections.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(task.exception(), ConnectionError) for task in done):
                self.end("reset")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in self._writers:
                each.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if not self._chaos.is_half_open:
                self._chaos.bytes_to_provider += len(data)
                writer.write(data)
                await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(CHUNK_BYTES):
            await self._pending.put((loop.time() + self._chaos.delay_s(), data))
        await self._pending.put((loop.time() + self._chaos.delay_s(), b""))
        await loop.create_future()  # `_answer` ends the link once it has said everything

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await self._pending.get()
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            if self._chaos.is_half_open:
                continue
            if not data:
                return
            for piece in self._spoiled(data):
                if self._chaos.rate_bytes_per_s is not None:
                    await asyncio.sleep(len(piece) / self._chaos.rate_bytes_per_s)
                writer.write(piece)
                self._chaos.bytes_to_client += len(piece)
                await asyncio.sleep(0)  # a turn for the reader, so that pieces stay apart
            await writer.drain()
            if self._chaos.cut_at_byte is not None and self._answered >= self._chaos.cut_at_byte:
                return self.end(self._chaos.cut_by)

    def _spoiled(self, data: bytes) -> list[bytes]:
        """What of a piece goes out, as it is after the faults, in the writes it goes out in."""
        chaos, start = self._chaos, self._answered
        if chaos.cut_at_byte is not None:
            data = data[: max(0, chaos.cut_at_byte - start)]
        at = chaos.corrupt_at_byte
        if at is not None and start <= at < start + len(data):
            changed = bytearray(data)
            changed[at - start] ^= 0xFF
            data = bytes(changed)
        self._answered = start + len(data)
        size = chaos.split_bytes or len(data) or 1
        if chaos.rate_bytes_per_s is not None:
            size = min(size, max(1, round(chaos.rate_bytes_per_s / DRIPS_PER_S)))
        return [data[offset : offset + size] for offset in range(0, len(data), size)]


@contextlib.asynccontextmanager
async def chaos_before(url: str, *, seed: int = 0) -> AsyncIterator[Chaos]:
    """A started proxy before a URL."""
    chaos = Chaos(url, seed=seed)
    await chaos.start()
    try:
        yield chaos
    finally:
        await chaos.stop()
