"""One connection of the load generator: sends a request, checks the answer byte for byte.

Raw protocol and llhttp for the same reason as the upstream. It knows nothing of rates or rounds: `load.py`
decides when to send and is told when an answer is complete or wrong.
"""

import asyncio
import time
from typing import Protocol, cast

import httptools


class Owner(Protocol):
    """Who sends over a connection."""

    def answered(self, connection: "Connection") -> None:
        """The answer is complete and right; the connection is free."""

    def closing(self, connection: "Connection") -> None:
        """The answer is complete and right, but the proxy announced that it closes the connection."""

    def failed(self, message: str) -> None:
        """An answer was wrong or missing."""


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request in flight."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        # The request in flight.
        self._expected = b""
        self._body: list[bytes] = []
        self._is_waiting = False
        self.first_byte_ns = 0
        self.asked_ns = 0

    def send(self, request: bytes, expected: bytes, asked_ns: int) -> None:
        """Send `request`; the answer must be a 200 with the body `expected`."""
        self._expected = expected
        self._is_waiting = True
        self.first_byte_ns = 0
        self.asked_ns = asked_ns
        self._transport.write(request)

    def close(self) -> None:
        """Close without calling the owner."""
        self._is_waiting = False
        self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._owner.failed(f"unreadable HTTP ({error!r}): {data[:300]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting:
            received = sum(map(len, self._body))
            self._owner.failed(f"connection lost after {received} of {len(self._expected)} bytes ({exc})")

    # httptools

    def on_body(self, body: bytes) -> None:
        if not self.first_byte_ns:
            self.first_byte_ns = time.perf_counter_ns()
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        status = self._parser.get_status_code()
        if not self._is_waiting:
            self._owner.failed(f"an answer nobody asked for: HTTP {status}, {body[:300]!r}")
        elif status != 200 or body != self._expected:
            self._owner.failed(_difference(status, body, self._expected))
        else:
            self._is_waiting = False
            keeps = self._parser.should_keep_alive()
            (self._owner.answered if keeps else self._owner.closing)(self)


def _difference(status: int, body: bytes, expected: bytes) -> str:
    if status != 200:
        return f"HTTP {status}: {body[:300]!r}"
    pairs = enumerate(zip(body, expected, strict=False))
    at = next((i for i, (got, want) in pairs if got != want), min(len(body), len(expected)))
    near = slice(max(0, at - 20), at + 60)
    return f"{len(body)} of {len(expected)} bytes, wrong at {at}: {body[near]!r} for {expected[near]!r}"
