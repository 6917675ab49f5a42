"""The caller's side of an upload: its pieces, its pace, and what ends it. Time passes when a test says so."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from sidecar.downstream.connection import REQUEST_S, STEP_BYTES
from sidecar.downstream.upload import TOO_SLOW, BrokenUpload, Upload
from sidecar.errors import bad_request
from tests.support.manual_clock import ManualClock
from tests.support.transport import FakeTransport

MALFORMED = bad_request("malformed", close=True)


class Body:
    """An upload, the stream that feeds it, and who reads it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.connection_made(FakeTransport())
        self.stream = StreamReader(protocol, limit=2**20, loop=loop)
        self.upload = Upload(self.stream, self.clock.ticker)
        self.read: list[bytes] = []
        self.provider_takes = asyncio.Event()
        self.provider_takes.set()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for piece in self.upload.pieces():
            self.read.append(piece)
            await self.provider_takes.wait()

    async def sends(self, data: bytes) -> None:
        self.stream.feed_data(data)
        await self.turns()

    async def turns(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.turns()

    @property
    def turn(self) -> str:
        """Who is waited for."""
        assert not self.reading.done()
        return "caller's" if self.upload.is_awaited else "provider's"

    @property
    def has_broken(self) -> bool:
        return self.reading.done() and isinstance(self.reading.exception(), BrokenUpload)


@pytest.fixture
async def body() -> Body:
    made = Body()
    await made.turns()
    return made


async def test_a_body_comes_whole_as_it_was_sent(body: Body) -> None:
    for piece in (b"one", b"two", b"three"):
        await body.sends(piece)
    body.stream.feed_eof()
    await body.reading
    assert body.read == [b"one", b"two", b"three"]
    assert body.upload.is_whole and body.upload.fault is None
    assert body.clock.ticker._armed == set()


async def test_a_caller_that_falls_silent_ends_it(body: Body) -> None:
    await body.sends(b"begun")
    await body.wait(REQUEST_S - 1)
    assert not body.reading.done()
    await body.wait(1.1)
    assert body.has_broken and body.upload.fault is TOO_SLOW
    assert (body.upload.has_begun, body.upload.is_whole) == (True, False)
    assert body.clock.ticker._armed == set()


async def test_a_drip_does_not_hold_it_open(body: Body) -> None:
    for _ in range(40):
        if not body.reading.done():
            await body.sends(b"x")
        await body.wait(1.0)
    assert body.has_broken and body.upload.fault is TOO_SLOW


async def test_one_that_keeps_its_pace_may_take_for_ever(body: Body) -> None:
    for _ in range(20):
        await body.wait(REQUEST_S - 1)
        await body.sends(bytes(STEP_BYTES))
    assert not body.reading.done()
    body.reading.cancel()


async def test_the_providers_time_is_not_the_callers(body: Body) -> None:
    await body.wait(REQUEST_S - 1)
    body.provider_takes.clear()
    await body.sends(b"held by the provider")
    assert body.turn == "provider's"
    await body.wait(10 * REQUEST_S)
    body.provider_takes.set()
    await body.turns()
    assert body.turn == "caller's"
    await body.wait(1.1)  # what was left of the caller's own time
    assert body.has_broken


@pytest.mark.parametrize("is_providers_turn", [False, True])
async def test_a_malformed_body_ends_it_as_soon_as_it_is_the_callers_turn(
    body: Body, is_providers_turn: bool
) -> None:
    if is_providers_turn:
        body.provider_takes.clear()
    await body.sends(b"begun")
    body.upload.fail(MALFORMED)
    await body.turns()
    assert body.reading.done() != is_providers_turn
    body.provider_takes.set()
    await body.turns()
    assert body.has_broken and body.upload.fault is MALFORMED


async def test_the_first_fault_stays(body: Body) -> None:
    body.upload.fail(MALFORMED)
    body.upload.fail(TOO_SLOW)
    await body.turns()
    assert body.has_broken and body.upload.fault is MALFORMED


async def test_what_comes_behind_a_whole_body_is_no_fault(body: Body) -> None:
    body.stream.feed_eof()
    body.upload.fail(MALFORMED)
    await body.reading
    assert body.upload.is_whole and body.upload.fault is None


async def test_it_is_cancelled_from_outside_like_any_other(body: Body) -> None:
    body.reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await body.reading
    assert body.upload.fault is None
    assert body.clock.ticker._armed == set()
