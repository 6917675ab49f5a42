"""What the tests of the simulated provider share: a sleep that only notes, and a client of raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from sidecar.demo.provider import DemoProvider

QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "How do rivers find the sea?"}]}
STREAM = {**QUESTION, "stream": True}


class Sleeps:
    """Takes no time and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)

    def positive(self) -> list[float]:
        return [seconds for seconds in self.asked if seconds > 0]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; the sockets are real, so it takes some turns."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class Seen(NamedTuple):
    """All that came over a connection, and how it ended."""

    head: bytes
    body: bytes
    was_reset: bool

    @property
    def events(self) -> list[bytes]:
        """The complete events, with the chunk framing taken away."""
        return b"".join(chunks(self.body)[0]).split(b"\n\n")[:-1]

    @property
    def has_terminator(self) -> bool:
        """Whether the last chunk said that this was the end."""
        return chunks(self.body)[1]


def chunks(body: bytes) -> tuple[list[bytes], bool]:
    """The payloads of a chunked body, and whether the last-chunk was there."""
    found: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return found, True
        found.append(rest[:length])
        body = rest[length + 2 :]
    return found, False


def request_bytes(body: Any, path: str = "/v1/chat/completions") -> bytes:
    """A POST that asks for the connection to be closed after the answer."""
    payload = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: demo\r\ncontent-length: {len(payload)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + payload


async def talk(provider: DemoProvider, body: Any, path: str = "/v1/chat/completions") -> Seen:
    """Send one request over a connection of its own and read to the end, however it comes."""
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(request_bytes(body, path))
    data, was_reset = bytearray(), False
    try:
        while piece := await reader.read(65_536):
            data += piece
    except ConnectionResetError:
        was_reset = True
    writer.close()
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    return Seen(head, rest, was_reset)


def deltas(seen: Seen) -> list[str]:
    """The content tokens of a chat stream."""
    found = []
    for event in seen.events:
        payload = event.removeprefix(b"data: ")
        if payload == b"[DONE]" or event.startswith(b":"):
            continue
        contents = [choice["delta"].get("content") for choice in orjson.loads(payload)["choices"]]
        found += [content for content in contents if content]
    return found
