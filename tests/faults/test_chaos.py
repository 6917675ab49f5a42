"""The chaos proxy does to the bytes what its knobs say, and counts what went through."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.chaos import Chaos, chaos_before
from tests.support.raw import OK, RawProvider, exchange, post, raw_provider
from tests.support.waiting import until

ASK = post(b"{}")


@pytest.fixture
async def provider() -> AsyncIterator[RawProvider]:
    """Answers each request and closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await started.read_request(reader)
        writer.write(OK)

    async with raw_provider(script) as started:
        yield started


@pytest.fixture
async def chaos(provider: RawProvider) -> AsyncIterator[Chaos]:
    async with chaos_before(provider.url, seed=1) as started:
        yield started


async def talk(chaos: Chaos) -> tuple[bytes, str]:
    """Ask once; what came back, and how the connection ended."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", chaos.port)
    except ConnectionResetError:
        return b"", "reset"
    writer.write(ASK)
    heard, end = b"", "open"
    try:
        while end == "open":
            piece = await asyncio.wait_for(reader.read(65536), 0.3)
            heard += piece
            end = end if piece else "closed"
    except ConnectionResetError:
        end = "reset"
    except TimeoutError:
        pass
    writer.close()
    return heard, end


async def test_passes_everything_on_and_counts_it(chaos: Chaos, provider: RawProvider) -> None:
    assert await exchange(chaos.port, ASK) == OK
    assert provider.requests == [ASK]
    assert (chaos.connections, chaos.bytes_to_provider, chaos.bytes_to_client) == (1, len(ASK), len(OK))
    await until(lambda: chaos.open_connections == 0)


async def test_its_url_is_the_provider_s_on_another_port(chaos: Chaos) -> None:
    assert chaos.url == f"http://127.0.0.1:{chaos.port}/v1"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("at", [0, 1, 17, len(OK) - 1])
async def test_cuts_at_the_byte(chaos: Chaos, how: str, at: int) -> None:
    chaos.cut_at_byte = at
    chaos.cut_by = "close" if how == "close" else "reset"
    assert await talk(chaos) == (OK[:at], "closed" if how == "close" else "reset")


async def test_corrupts_one_byte(chaos: Chaos) -> None:
    chaos.corrupt_at_byte = 20
    heard, _ = await talk(chaos)
    assert [i for i, (one, other) in enumerate(zip(heard, OK, strict=True)) if one != other] == [20]


async def test_splits_into_writes_of_their_own(chaos: Chaos) -> None:
    chaos.split_bytes = 7
    reader, writer = await asyncio.open_connection("127.0.0.1", chaos.port)
    writer.write(ASK)
    pieces = []
    while piece := await reader.read(65536):
        pieces.append(piece)
    writer.close()
    assert b"".join(pieces) == OK
    assert len(pieces) > 3


async def test_latency_comes_before_the_first_byte(chaos: Chaos) -> None:
    chaos.latency_s, chaos.jitter_s = 0.05, 0.02
    started = time.monotonic()
    assert (await talk(chaos))[0] == OK
    assert time.monotonic() - started >= 0.05


async def test_the_rate_bounds_the_bytes_a_second(chaos: Chaos) -> None:
    chaos.rate_bytes_per_s = len(OK) / 0.1
    started = time.monotonic()
    assert (await talk(chaos))[0] == OK
    assert time.monotonic() - started >= 0.09


async def test_half_open_is_silence_on_an_open_connection(chaos: Chaos, provider: RawProvider) -> None:
    chaos.is_half_open = True
    assert await talk(chaos) == (b"", "open")
    assert provider.requests == []
    await until(lambda: chaos.open_connections == 0)  # it does see that the client has left


async def test_refuses_and_takes_connections_again_on_the_same_port(chaos: Chaos) -> None:
    port = chaos.port
    chaos.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    chaos.heal()
    assert chaos.port == port
    assert (await talk(chaos))[0] == OK


async def test_a_black_hole_answers_no_connection(chaos: Chaos) -> None:
    chaos.black_hole()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", chaos.port), 0.3)
    chaos.heal()
    assert (await talk(chaos))[0] == OK


async def test_resets_new_connections_and_counts_them(chaos: Chaos) -> None:
    chaos.reset_new()
    for _ in range(3):
        assert await talk(chaos) == (b"", "reset")
    assert chaos.connections == 3
    chaos.heal()
    assert (await talk(chaos))[0] == OK


async def test_severing_silences_open_connections_until_it_heals(chaos: Chaos) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", chaos.port)
    await until(lambda: chaos.open_connections == 1)
    chaos.sever()
    writer.write(ASK)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    chaos.heal()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert (await talk(chaos))[0] == OK


async def test_a_provider_that_is_gone_resets_the_client(chaos: Chaos, provider: RawProvider) -> None:
    await provider.stop()
    assert await talk(chaos) == (b"", "reset")
