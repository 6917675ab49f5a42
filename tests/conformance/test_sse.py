"""Event streams from the provider's side: what reaches the caller byte for byte, and how the dishonest end.

On a pass-through path nothing is judged; the vectors run there. On the inference path whole events go on as
they came, and a stream that does not come to its own end never looks as if it had.
"""

import asyncio
import struct
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.support.answers import RawAnswer
from tests.support.client import raw_client
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.vectors import Vector, ident, load, raw_of

VECTORS = load("sse_vectors")
SHORT_BYTES = 256
TIMEOUTS = {"first_token": "300ms", "idle": "300ms"}

PASSED = post(b'{"assistant_id":"a","stream":true}', "/v1/threads/runs", close=False)
STREAMED = post(b'{"model":"m","messages":[],"stream":true}', close=False)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class StreamProvider:
    """Answers each request with a stream in these `pieces`, and ends it as `end` says.

    `end` is `clean` (the last chunk), `cut` (the connection closes), `reset` or `silent` (nothing more).
    """

    def __init__(self, provider: RawProvider) -> None:
        self.pieces: list[bytes] = []
        self.end = "clean"
        self._provider = provider
        provider.script = self._play

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._provider.read_request(reader)
            writer.write(HEAD)
            for piece in self.pieces:
                if piece:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                    await turns()
            if self.end == "clean":
                writer.write(b"0\r\n\r\n")
            elif self.end == "cut":
                return
            elif self.end == "reset":
                # SO_LINGER 0: the close is a reset.
                writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return


async def turns() -> None:
    """Let the loop turn, so that the other side has read what was written before more comes."""
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def provider() -> AsyncIterator[RawProvider]:
    async with raw_provider() as provider:
        yield provider


@pytest.fixture
def stream(provider: RawProvider) -> StreamProvider:
    return StreamProvider(provider)


@pytest.fixture
async def sidecar(provider: RawProvider) -> AsyncIterator[Running]:
    async with running(config_for(provider.url, provider={"timeouts": TIMEOUTS})) as sidecar:
        yield sidecar


async def ask(sidecar: Running, request: bytes) -> RawAnswer:
    async with raw_client(sidecar.port) as client:
        return await client.ask(request)


async def splits_that_change(
    sidecar: Running, stream: StreamProvider, request: bytes, raw: bytes, positions: range | list[int]
) -> list[int]:
    """Where a cut of the provider's writes in two changes what the caller gets. One connection for all."""
    changed = []
    async with raw_client(sidecar.port) as client:
        for at in positions:
            stream.pieces = [raw[:at], raw[at:]]
            answer = await client.ask(request)
            if answer.status != 200 or not answer.is_whole or answer.body != raw:
                changed.append(at)
    return changed


# --- framing, on a path where nothing is judged ---------------------------------------------------------


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["end"] == "clean"], ids=ident)
async def test_vector_passes_unchanged_wherever_it_is_split(
    vector: Vector, sidecar: Running, stream: StreamProvider
) -> None:
    raw = raw_of(vector)
    is_short = len(raw) < SHORT_BYTES
    positions = range(len(raw) + 1) if is_short else [0, 1, len(raw) // 2, len(raw) - 1]
    assert await splits_that_change(sidecar, stream, PASSED, raw, positions) == []


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["end"] == "reset"], ids=ident)
async def test_vector_that_breaks_off_does_so_for_the_caller(
    vector: Vector, sidecar: Running, stream: StreamProvider
) -> None:
    raw = raw_of(vector)
    stream.pieces, stream.end = [raw], "reset"
    answer = await ask(sidecar, PASSED)
    assert answer.status == 200 or answer.is_own_error
    assert not answer.is_whole
    assert raw.startswith(answer.body)


async def test_a_long_line_is_passed_on_while_it_grows(sidecar: Running, stream: StreamProvider) -> None:
    """No event has to be whole for its bytes to move on."""
    stream.pieces, stream.end = [b"data: "], "silent"
    async with raw_client(sidecar.port) as client:
        client.writer.write(PASSED)
        assert (await client.reader.readuntil(b"data: \r\n")).endswith(b"\r\n6\r\ndata: \r\n")


# --- good streams of inference calls --------------------------------------------------------------------


def chunk(delta: object = None, finish: str | None = None, **rest: object) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return orjson.dumps({"id": "c", "choices": [choice], **rest})


def events(*data: bytes, eol: bytes = b"\n") -> bytes:
    return b"".join(b"data: " + item + eol * 2 for item in data)


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "Hi"})
STOP = chunk(finish="stop")
DONE = b"[DONE]"
USAGE = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
TOOL = chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]})

GOOD_STREAMS = {
    "plain": events(TEXT, STOP, DONE),
    "role first, usage last": events(ROLE, TEXT, STOP, USAGE, DONE),
    "CRLF": events(TEXT, STOP, DONE, eol=b"\r\n"),
    "CR": events(TEXT, STOP, DONE, eol=b"\r"),
    "mixed line ends": events(TEXT, eol=b"\r\n") + events(STOP) + events(DONE, eol=b"\r"),
    "comments": b": hello\n\n" + events(TEXT) + b":\n\n: OPENROUTER PROCESSING\n\n" + events(STOP, DONE),
    "tool call": events(ROLE, TOOL, chunk(finish="tool_calls"), DONE),
    "unicode": events(chunk({"content": "é😀👨‍👩‍👧\u2028\u0085"}), STOP, DONE),
    "[DONE] in the text": events(chunk({"content": "data: [DONE]\n\n"}), STOP, DONE),
    "names, ids and no space": b"event: x\nid: 7\nretry: 9\ndata:" + TEXT + b"\n\n" + events(STOP, DONE),
    "data in two lines": b'data: {"choices":[\ndata: {"delta":{"content":"x"}}]}\n\n' + events(STOP, DONE),
    "refused": events(chunk({"refusal": "no"}), STOP, DONE),
    "no [DONE]": events(TEXT, STOP),
    "[DONE] and no finish reason": events(TEXT, DONE),
    "no blank line behind [DONE]": events(TEXT, STOP) + b"data: [DONE]\n",
    "blank lines": b"\n\n" + events(TEXT) + b"\n\n\n" + events(STOP, DONE) + b"\n",
    "finish reasons that say nothing": events(
        chunk({"role": "assistant"}, ""), chunk({"content": "Hi"}, "null"), STOP, DONE
    ),
    "nested deeply, with a name": b"event: x\ndata: "
    + chunk({"content": "Hi"}).replace(b"null", b"null," + b'"x":' + b"[" * 300 + b"]" * 300)
    + b"\n\n"
    + events(STOP, DONE),
    "the provider's own error": events(TEXT, b'{"error":{"message":"overloaded"}}'),
}


@pytest.mark.parametrize("name", GOOD_STREAMS)
async def test_stream_passes_unchanged_wherever_it_is_split(
    name: str, sidecar: Running, stream: StreamProvider
) -> None:
    raw = GOOD_STREAMS[name]
    assert await splits_that_change(sidecar, stream, STREAMED, raw, range(len(raw) + 1)) == []


@pytest.mark.parametrize("name", ["plain", "CRLF", "CR", "comments"])
async def test_stream_passes_unchanged_byte_by_byte(
    name: str, sidecar: Running, stream: StreamProvider
) -> None:
    raw = GOOD_STREAMS[name]
    stream.pieces = [raw[i : i + 1] for i in range(len(raw))]
    answer = await ask(sidecar, STREAMED)
    assert answer.is_whole
    assert answer.body == raw


@pytest.mark.parametrize("at", [7, 262_140, 262_200, 300_000, -20, -2, -1], ids=lambda at: f"split at {at}")
async def test_an_event_larger_than_what_is_held_passes_unchanged(
    at: int, sidecar: Running, stream: StreamProvider
) -> None:
    large = events(chunk({"content": "x" * 400_000}))
    stream.pieces = [large[:at], large[at:] + events(STOP, DONE)]
    answer = await ask(sidecar, STREAMED)
    assert answer.is_whole
    assert answer.body == large + events(STOP, DONE)


async def test_events_reach_the_caller_before_the_stream_ends(
    sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces, stream.end = [events(ROLE), events(TEXT)], "silent"
    async with raw_client(sidecar.port) as client:
        client.writer.write(STREAMED)
        await asyncio.wait_for(client.reader.readuntil(events(TEXT)), 2.0)


async def test_answers_in_the_order_asked_over_one_connection(
    sidecar: Running, stream: StreamProvider, provider: RawProvider
) -> None:
    stream.pieces = [events(TEXT, STOP), events(DONE)]
    async with raw_client(sidecar.port) as client:
        client.writer.write(STREAMED * 3)
        answers = [await client.read_answer() for _ in range(3)]
    assert [answer.body for answer in answers] == [events(TEXT, STOP, DONE)] * 3
    assert len(provider.received) == 1


async def test_a_stream_that_said_done_is_finished_though_the_provider_does_not_hang_up(
    sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces, stream.end = [events(TEXT, STOP, DONE)], "silent"
    started_s = asyncio.get_running_loop().time()
    answer = await ask(sidecar, STREAMED)
    assert answer.is_whole
    assert answer.body == events(TEXT, STOP, DONE)
    assert asyncio.get_running_loop().time() - started_s < 2.5


async def test_the_usage_event_is_taken_out_for_a_caller_that_did_not_ask(
    provider: RawProvider, stream: StreamProvider
) -> None:
    raw, wanted = events(ROLE, TEXT, STOP, USAGE, DONE), events(ROLE, TEXT, STOP, DONE)
    tree = config_for(provider.url, provider={"capabilities": ["stream_usage"]})
    changed = []
    async with running(tree) as sidecar, raw_client(sidecar.port) as client:
        for at in range(len(raw) + 1):
            stream.pieces = [raw[:at], raw[at:]]
            answer = await client.ask(STREAMED)
            if not answer.is_whole or answer.body != wanted:
                changed.append(at)
    assert changed == []
    assert b'"stream_options":{"include_usage":true}' in provider.requests[0]


# --- streams that do not come to their end --------------------------------------------------------------


def check_broken_off(answer: RawAnswer, delivered: bytes, code: str) -> None:
    """What was good was delivered, then an error event of the sidecar's, then the connection broke."""
    assert answer.status == 200
    assert not answer.is_whole
    assert answer.body.startswith(delivered + b"data: ")
    last = answer.body[len(delivered) + len(b"data: ") :]
    assert last.endswith(b"\n\n")
    error = orjson.loads(last)["error"]
    assert error["code"] == code
    assert error["type"] == "server_error"


def check_refused(answer: RawAnswer, status: int) -> None:
    assert answer.status == status
    assert answer.is_whole
    assert answer.is_own_error


@pytest.mark.parametrize("end", ["clean", "cut", "reset"])
@pytest.mark.parametrize("tail", [b"", b"data: {", b"data: {}", b"data: {}\n", b"\r\n"])
async def test_a_cut_after_content_ends_in_an_error_event(
    end: str, tail: bytes, sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces, stream.end = [events(ROLE, TEXT) + tail], end
    answer = await ask(sidecar, STREAMED)
    check_broken_off(answer, events(ROLE, TEXT), "upstream_cut")


@pytest.mark.parametrize("end", ["clean", "cut", "reset"])
@pytest.mark.parametrize("sent", [b"", b": hi\n\n", events(ROLE), b"data: {"])
async def test_a_cut_before_content_is_a_plain_error(
    end: str, sent: bytes, sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces, stream.end = [sent], end
    answer = await ask(sidecar, STREAMED)
    check_refused(answer, answer.status)
    assert answer.status in (502, 503)


@pytest.mark.parametrize("garbage", [b"<html>502</html>", b"{", b'{"choices":', b"\xff\xfe", b"[DONE"])
async def test_garbage_after_content_ends_in_an_error_event_and_is_not_passed_on(
    garbage: bytes, sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces = [events(TEXT), events(garbage, STOP, DONE)]
    answer = await ask(sidecar, STREAMED)
    check_broken_off(answer, events(TEXT), "upstream_garbage")


async def test_garbage_before_content_is_a_plain_error(sidecar: Running, stream: StreamProvider) -> None:
    stream.pieces = [events(ROLE, b"<html>", TEXT, STOP, DONE)]
    check_refused(await ask(sidecar, STREAMED), 502)


async def test_silence_after_content_ends_in_an_error_event(sidecar: Running, stream: StreamProvider) -> None:
    stream.pieces, stream.end = [events(ROLE, TEXT)], "silent"
    check_broken_off(await ask(sidecar, STREAMED), events(ROLE, TEXT), "upstream_timeout")


@pytest.mark.parametrize("sent", [b"", b": hi\n\n", events(ROLE), b"data: {"])
async def test_silence_before_content_is_a_timeout(
    sent: bytes, sidecar: Running, stream: StreamProvider
) -> None:
    stream.pieces, stream.end = [sent], "silent"
    check_refused(await ask(sidecar, STREAMED), 504)


async def test_comments_do_not_put_off_the_first_token(sidecar: Running, stream: StreamProvider) -> None:
    stream.pieces, stream.end = [b": hi\n\n"] * 20_000, "silent"
    check_refused(await ask(sidecar, STREAMED), 504)


async def test_the_error_event_after_half_an_event_parses(sidecar: Running, stream: StreamProvider) -> None:
    half = b"data: " + b"x" * 400_000
    stream.pieces, stream.end = [events(TEXT), half], "cut"
    answer = await ask(sidecar, STREAMED)
    delivered, _, _ = answer.body.rpartition(b"\n\ndata: ")
    assert len(delivered) > len(events(TEXT)) + 100_000
    assert (events(TEXT) + half).startswith(delivered)
    check_broken_off(answer, delivered + b"\n\n", "upstream_cut")


@pytest.mark.parametrize("kind", [b"text/html", b"text/html; charset=utf-8", b"TEXT/HTML"])
async def test_a_page_instead_of_a_stream_is_an_error(
    kind: bytes, sidecar: Running, provider: RawProvider
) -> None:
    await check_instead_of_a_stream(
        sidecar, provider, b"Content-Type: %b\r\nContent-Length: 13\r\n\r\n<html></html>" % kind
    )


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
        b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
    ],
)
async def test_an_empty_answer_is_an_error(rest: bytes, sidecar: Running, provider: RawProvider) -> None:
    await check_instead_of_a_stream(sidecar, provider, rest)


async def check_instead_of_a_stream(sidecar: Running, provider: RawProvider, rest: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await provider.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n" + rest)

    provider.script = script
    check_refused(await ask(sidecar, STREAMED), 502)


async def test_a_plain_json_answer_to_a_stream_request_passes_on(
    sidecar: Running, provider: RawProvider
) -> None:
    assert (await ask(sidecar, STREAMED)).body == b'{"ok":true}'


@pytest.mark.parametrize("leave", ["before the head", "amid the stream"])
async def test_a_caller_that_leaves_has_the_provider_connection_closed(
    leave: str, sidecar: Running, provider: RawProvider
) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        if leave == "amid the stream":
            writer.write(HEAD + b"%x\r\n%b\r\n" % (len(events(TEXT)), events(TEXT)))
        arrived.set()
        assert await reader.read() == b""
        gone.set()

    provider.script = script
    async with raw_client(sidecar.port) as client:
        client.writer.write(STREAMED)
        await asyncio.wait_for(arrived.wait(), 2.0)
        if leave == "amid the stream":
            await client.reader.readuntil(events(TEXT))
    await asyncio.wait_for(gone.wait(), 0.2)
