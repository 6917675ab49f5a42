"""A client connection without a socket: bytes in, bytes out, and a gate whose answers a test writes."""

import asyncio
from collections.abc import Awaitable, Callable

from sidecar.downstream.connection import Connection
from sidecar.exchange import Exchange, Reply
from sidecar.flow import Signal
from tests.support.answers import RawAnswer, read_answers
from tests.support.manual_clock import ManualClock
from tests.support.transport import FakeTransport

Serve = Callable[[Exchange], Awaitable[None]]


async def echo(x: Exchange) -> None:
    """Answer with method, target and body of the request."""
    x.client.respond(x, 200, [], b"%b %b %b" % (x.method, x.target, x.body))


class FakeGate:
    """Lets every request in; `serve_with` answers it."""

    def __init__(self) -> None:
        self.max_body_bytes = 1000
        self.serve_with: Serve = echo
        self.refusal: Reply | None = None
        self.lane_paths: set[str] = set()
        self.served: list[Exchange] = []
        self.refusals: list[Exchange] = []

    def admit(self, x: Exchange) -> Reply | None:
        return self.refusal

    def wants_lane(self, x: Exchange) -> bool:
        return x.path in self.lane_paths

    async def serve(self, x: Exchange) -> None:
        self.served.append(x)
        await self.serve_with(x)

    def refused(self, x: Exchange) -> None:
        self.refusals.append(x)


class Held:
    """A `serve` that waits until the test answers; `errors` has what was raised in it instead."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Exchange, Signal]] = []
        self.errors: list[BaseException] = []

    async def __call__(self, x: Exchange) -> None:
        signal = Signal()
        self.waiting.append((x, signal))
        try:
            await signal
        except BaseException as error:
            self.errors.append(error)
            return
        await echo(x)

    def answer(self) -> None:
        """Answer the request that has waited longest."""
        self.waiting.pop(0)[1].set()


class Client:
    """One connection and what a client sees of it."""

    def __init__(self) -> None:
        self.gate = FakeGate()
        self.clock = ManualClock()
        self.transport = FakeTransport()
        self.lane = bytearray()  # what the aiohttp lane got
        self.is_handed_over = False
        self.open: list[Connection] = []
        self.connection = Connection(
            self.gate,
            self.clock.ticker,
            self._hand_over,
            self.open.append,
            self.open.remove,
        )
        self.connection.connection_made(self.transport)

    def send(self, data: bytes, *, step: int | None = None) -> None:
        """Have bytes arrive, at most `step` at a time."""
        step = step or len(data)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            if self.is_handed_over:
                self.lane += piece
            else:
                self.connection.data_received(piece)

    def _hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        assert transport is self.transport
        self.is_handed_over = True
        self.lane += data

    def says(self, data: bytes) -> bytes:
        """Send, and return what came back at once."""
        self.send(data)
        return self.transport.take()

    def answers(self) -> list[RawAnswer]:
        """The whole answers written since the last look."""
        return read_answers(self.transport.take())

    def answer(self) -> RawAnswer:
        """The one answer written since the last look."""
        (answer,) = self.answers()
        return answer
