"""Raw provider answers, good, bad and hostile, as a caller sees them.

The vectors' `expect`: ok is a clean answer; err is an error of the sidecar's or a body that visibly breaks
off, never a clean truncated one; timeout is the same after the provider's silence; either may be both; with
ok+close the answer is good and its connection is never used again.
"""

import asyncio

import pytest

from tests.support.answers import RawAnswer, read_answers
from tests.support.raw import OK, RawProvider, exchange, post, raw_provider
from tests.support.running import config_for, running
from tests.support.vectors import Vector, ident, load, segments_of

VECTORS = load("upstream_response_vectors")
BODY = b'{"ok":1}'
TIMEOUTS = {"answer": "500ms", "idle": "300ms", "first_token": "500ms"}
PASSED = post(b'{"assistant_id":"a"}', "/v1/threads/runs")
CHAT = post(b'{"model":"m","messages":[]}')
STREAMED = post(b'{"model":"m","messages":[],"stream":true}')


class Player:
    """A provider's script: the vector is the answer to the first request, all later ones get a good one.

    `per_connection` counts the requests of each connection.
    """

    def __init__(self, provider: RawProvider, segments: list[bytes], after: str, delay_s: float) -> None:
        self.per_connection: list[int] = []
        self._provider = provider
        self._segments = segments
        self._after = after
        self._delay_s = delay_s

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(self.per_connection)
        self.per_connection.append(0)
        while True:
            await self._provider.read_request(reader)
            self.per_connection[mine] += 1
            if mine or self.per_connection[mine] > 1:
                writer.write(OK)
                continue
            for segment in self._segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(self._delay_s)
            if self._after == "close":
                return


async def ask_twice(
    request: bytes, segments: list[bytes], after: str, delay_s: float = 0.0
) -> tuple[RawAnswer, RawAnswer, list[int]]:
    """The answer to the vector, the answer to the request after it, and the provider's connections."""
    async with raw_provider() as provider:
        player = Player(provider, segments, after, delay_s)
        provider.script = player.play
        async with running(config_for(provider.url, provider={"timeouts": TIMEOUTS})) as sidecar:
            (first,) = read_answers(await exchange(sidecar.port, request, within_s=3.0))
            (second,) = read_answers(await exchange(sidecar.port, PASSED, within_s=3.0))
    return first, second, player.per_connection


def is_good(answer: RawAnswer) -> bool:
    if answer.status == 204:
        return answer.body == b""
    return answer.status == 200 and answer.is_whole and answer.body == BODY


def is_honest_failure(answer: RawAnswer) -> bool:
    return not answer.is_whole or (answer.status in (502, 503, 504) and answer.is_own_error)


def check(vector: Vector, answer: RawAnswer) -> None:
    expect = vector["expect"]
    if expect in ("ok", "ok+close"):
        assert is_good(answer)
    elif expect in ("err", "timeout"):
        assert is_honest_failure(answer)
    else:
        assert answer.status < 500 or is_honest_failure(answer)


@pytest.mark.parametrize("path", ["passed through", "chat", "streamed chat"])
@pytest.mark.parametrize("vector", VECTORS, ids=ident)
async def test_vector(vector: Vector, path: str, caplog: pytest.LogCaptureFixture) -> None:
    request = {"passed through": PASSED, "chat": CHAT, "streamed chat": STREAMED}[path]
    first, second, connections = await ask_twice(
        request, segments_of(vector), vector["after"], vector["delay_s"]
    )
    check(vector, first)
    if path != "passed through" and not is_good(first):
        # So little was sent that all of it could be held back: the caller gets a whole answer that says so.
        assert first.is_whole
        assert first.is_own_error
    assert second.status == 200
    assert second.body == b'{"ok":true}'
    if vector["expect"] in ("err", "timeout", "ok+close"):
        assert connections == [1, 1]
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


@pytest.mark.parametrize("name", ["100x1", "103", "setcookie"])
async def test_a_good_connection_is_used_again(name: str) -> None:
    vector = next(v for v in VECTORS if v["id"] == name)
    _, _, connections = await ask_twice(CHAT, segments_of(vector), vector["after"])
    assert connections == [2]


@pytest.mark.parametrize(
    "vector",
    [
        v
        for v in VECTORS
        if v["expect"] in ("ok", "err") and sum(len(segment) for segment in segments_of(v)) < 120
    ],
    ids=ident,
)
async def test_vector_means_the_same_when_each_byte_comes_alone(vector: Vector) -> None:
    raw = b"".join(segments_of(vector))
    first, second, _ = await ask_twice(CHAT, [raw[i : i + 1] for i in range(len(raw))], vector["after"])
    check(vector, first)
    assert second.body == b'{"ok":true}'


@pytest.mark.parametrize("request_bytes", [PASSED, CHAT], ids=["passed through", "chat"])
async def test_a_204_goes_back_without_a_content_length(request_bytes: bytes) -> None:
    """RFC 9110 section 8.6: not even if the provider sent one."""
    segments = [b"HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\n" + BODY]
    first, _, _ = await ask_twice(request_bytes, segments, "keep-open")
    assert first.status == 204
    assert "content-length" not in first.headers


async def test_the_providers_reason_and_interim_headers_do_not_come_back() -> None:
    segments = [
        b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 Sure\r\nContent-Length: 8\r\n\r\n" + BODY
    ]
    async with raw_provider() as provider:
        provider.script = Player(provider, segments, "keep-open", 0.0).play
        async with running(config_for(provider.url)) as sidecar:
            answer = await exchange(sidecar.port, CHAT)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"link" not in answer.lower()


async def test_a_providers_cookie_reaches_its_caller_and_no_later_request() -> None:
    vector = next(v for v in VECTORS if v["id"] == "setcookie")
    async with raw_provider() as provider:
        provider.script = Player(provider, segments_of(vector), "keep-open", 0.0).play
        async with running(config_for(provider.url)) as sidecar:
            (first,) = read_answers(await exchange(sidecar.port, CHAT))
            await exchange(sidecar.port, CHAT)
    assert first.headers["set-cookie"] == "sess=tenantA; Path=/"
    assert b"cookie" not in provider.requests[1].lower()


async def test_a_body_that_breaks_off_is_not_a_clean_end_for_http_1_0() -> None:
    """Without framing only a reset tells a cut body from a whole one."""
    async with raw_provider() as provider:

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await provider.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf of \r\n")

        provider.script = script
        async with running(config_for(provider.url)) as sidecar:
            reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
            writer.write(b"GET /v1/files HTTP/1.0\r\nHost: localhost\r\n\r\n")
            try:
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(reader.read(-1), 3.0)
            finally:
                writer.close()


async def test_a_slow_reader_of_a_large_answer_leaves_a_usable_connection() -> None:
    """The provider is held back while the caller does not read, to the last byte of the answer."""
    size = 8 * 2**20
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with raw_provider() as provider:
        player = Player(provider, [large], "keep-open", 0.0)
        provider.script = player.play
        tree = config_for(provider.url, provider={"timeouts": {"answer": "2s", "idle": "2s"}})
        async with running(tree) as sidecar:
            # A small limit: asyncio stops reading the socket when that much waits to be taken.
            reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port, limit=4096)
            writer.write(PASSED)
            received = bytearray()
            while piece := await asyncio.wait_for(reader.read(2048), 3.0):
                received += piece
            writer.close()
            (second,) = read_answers(await exchange(sidecar.port, PASSED, within_s=3.0))
    (answer,) = read_answers(bytes(received))
    assert answer.is_whole
    assert len(answer.body) == size
    assert second.body == b'{"ok":true}'
