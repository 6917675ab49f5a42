"""Raw client requests, good, bad and hostile, on a real socket against a sidecar without a `*` model.

The vectors' `expect`: R is refused with a 4xx and the connection closed, and the provider hears nothing; A is
exactly one request; H leaves the choice, but never a 5xx, a hang, a traceback or an Access-Control header.
"""

import asyncio
import random
import socket

import orjson
import pytest

from tests.support.answers import RawAnswer, read_answers
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.vectors import Vector, ident, load, raw_of

VECTORS = load("http_request_vectors")
BY_ID = {vector["id"]: raw_of(vector) for vector in VECTORS}
SMALL_BYTES = 300

# Sent behind a request on its connection: where the sidecar thinks that this one begins shows how it read
# the one before, and its answer ends the connection, so that nobody has to wait.
NEXT = post(b'{"model":"m"}', headers="X-Probe: next\r\n")


LISTING = b"user-agent: ai-sidecar-model-list"


def configured(provider: RawProvider) -> dict[str, object]:
    return config_for(provider.url, models={"m": {"provider": "p"}}, listen={"max_body": "10MiB"})


async def converse(port: int, pieces: list[bytes], *, within_s: float = 3.0) -> bytes:
    """Write the pieces, each as its own segment, and read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def write() -> None:
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass  # refused before all of it was sent

    writing = asyncio.ensure_future(write())
    answer = bytearray()
    try:
        while piece := await asyncio.wait_for(reader.read(65536), within_s):
            answer += piece
    except ConnectionError:
        pass
    finally:
        writing.cancel()
        writer.close()
    return bytes(answer)


def check_refused(answers: list[RawAnswer], provider: RawProvider) -> None:
    assert len(answers) == 1
    assert 400 <= answers[0].status < 500
    assert answers[0].headers["connection"] == "close"
    assert answers[0].is_own_error
    assert provider.requests == []


def check_one_request(answers: list[RawAnswer], provider: RawProvider) -> None:
    assert [answer.status for answer in answers] == [200, 200]
    *first, second = [request for request in provider.requests if LISTING not in head_of(request)]
    # A list of models is the sidecar's own answer; if it asks the provider for it, then in its own words.
    is_list = orjson.loads(answers[0].body).get("object") == "list"
    assert len(first) == (0 if is_list else 1)
    assert not [request for request in first if b"x-probe: next" in request.lower()]
    assert b"x-probe: next" in second.lower()
    assert b"smuggled" not in b"".join(map(head_of, first))


def head_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[0].lower()


def target_of(request: bytes) -> bytes:
    return request.split(b" ", 2)[1]


async def send(sidecar: Running, vector_id: str, *, follow: bool) -> list[RawAnswer]:
    return read_answers(await converse(sidecar.port, [BY_ID[vector_id] + (NEXT if follow else b"")]))


# --- every vector -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=ident)
async def test_vector(vector: Vector, caplog: pytest.LogCaptureFixture) -> None:
    expect = vector["expect"]
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, vector["id"], follow=expect != "R")
    if expect == "R":
        check_refused(answers, provider)
    elif expect == "A":
        check_one_request(answers, provider)
    assert answers
    assert all(answer.status < 500 and answer.is_whole for answer in answers)
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control-")]
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


async def test_small_vectors_mean_the_same_when_each_byte_is_a_segment() -> None:
    vectors = [v for v in VECTORS if v["expect"] in "RA" and len(BY_ID[v["id"]]) < SMALL_BYTES]
    failed = await failing_when_split(vectors, lambda raw: [raw[i : i + 1] for i in range(len(raw))])
    assert failed == []


async def test_small_vectors_mean_the_same_each_time_they_come() -> None:
    """Heads are remembered: what was found out about one must hold for the next."""
    vectors = [v for v in VECTORS if v["expect"] in "RA" and len(BY_ID[v["id"]]) < SMALL_BYTES]
    assert await failing_when_split(vectors * 3, lambda raw: [raw]) == []


async def test_large_vectors_mean_the_same_when_cut_in_three() -> None:
    dice = random.Random(7)

    def cut(raw: bytes) -> list[bytes]:
        first, second = sorted(dice.sample(range(1, len(raw)), 2))
        return [raw[:first], raw[first:second], raw[second:]]

    vectors = [v for v in VECTORS if v["expect"] in "RA" and len(BY_ID[v["id"]]) >= SMALL_BYTES]
    assert await failing_when_split(vectors, cut) == []


async def failing_when_split(vectors: list[Vector], cut: object) -> list[str]:
    """The ids of the vectors that are not read as they are in one piece."""
    assert callable(cut)
    failed = []
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        for vector in vectors:
            provider.requests.clear()
            is_refused = vector["expect"] == "R"
            pieces = cut(BY_ID[vector["id"]] + (b"" if is_refused else NEXT))
            try:
                answers = read_answers(await converse(sidecar.port, pieces))
                (check_refused if is_refused else check_one_request)(answers, provider)
            except (AssertionError, TimeoutError, ValueError) as error:
                failed.append(f"{vector['id']}: {type(error).__name__} {error}")
    return failed


# --- what single vectors promise beyond -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["origin-evil", "secfetch", "preflight", "host-00", "host-14", "host-15"])
async def test_refuses_web_pages_and_foreign_hosts_with_403(name: str) -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, name, follow=False)
    assert [answer.status for answer in answers] == [403]
    assert provider.received == []


@pytest.mark.parametrize("name", ["host-21", "host-23"])
async def test_serves_loopback_names_in_any_case_and_port(name: str) -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, name, follow=True)
    check_one_request(answers, provider)


async def test_connection_header_cannot_take_the_providers_key_away() -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, "conn-auth", follow=False)
    assert [answer.status for answer in answers] == [200]
    head = head_of(provider.requests[0])
    assert b"authorization: bearer sk-provider-secret" in head
    assert b"bearer x" not in head


async def test_trailers_are_not_forwarded_nor_merged() -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        await send(sidecar, "chunk-trailer-cl", follow=True)
    head, _, body = provider.requests[0].partition(b"\r\n\r\n")
    assert b"evil" not in head
    assert b"Bearer x" not in head
    assert b"content-length: 27" in head.lower()
    assert body == b'{"model":"m","messages":[]}'


async def test_headers_that_speak_for_others_are_not_forwarded() -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        await send(sidecar, "xff", follow=True)
    head = head_of(provider.requests[0])
    assert head.startswith(b"post /v1/chat/completions ")
    for name in (b"x-forwarded", b"forwarded", b"x-original-url", b"x-rewrite-url", b"method-override"):
        assert b"\r\n" + name not in head
    assert b"evil" not in head


@pytest.mark.parametrize("name", ["get-cl-body", "get-te-body"])
async def test_the_body_of_a_get_is_no_second_request(name: str) -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        await send(sidecar, name, follow=True)
    assert [target_of(request) for request in provider.requests] == [b"/v1/models", b"/v1/chat/completions"]


async def test_refuses_a_body_over_the_limit_without_reading_it() -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, "body-11m", follow=False)
    assert [answer.status for answer in answers] == [413]
    assert provider.received == []


async def test_five_thousand_pipelined_requests_are_answered_one_at_a_time() -> None:
    waiting = 0
    most_waiting = 0

    async with raw_provider() as provider, running(configured(provider)) as sidecar:

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting, most_waiting
            while True:
                await provider.read_request(reader)
                waiting += 1
                most_waiting = max(most_waiting, waiting)
                number = b"%d" % len(provider.requests)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(number), number))
                waiting -= 1

        provider.script = script
        one = post(b'{"model":"m"}', close=False)
        answers = read_answers(await converse(sidecar.port, [one * 5000 + NEXT]))
    assert [answer.body for answer in answers] == [b"%d" % n for n in range(1, 5002)]
    assert len(provider.received) == 1
    assert most_waiting == 1


@pytest.mark.parametrize("name", ["upgrade-h2c", "upgrade-ws", "upgrade-ws-body"])
async def test_an_upgrade_carries_no_request_past_the_sidecar(name: str) -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, name, follow=True)
    assert {answer.status for answer in answers} <= {200, 400, 404}
    assert all(b"smuggled" not in request for request in provider.requests)
    assert all(b"\r\nupgrade:" not in head_of(request) for request in provider.requests)


async def test_answers_the_request_behind_an_upgrade_that_was_not_wanted() -> None:
    async with raw_provider() as provider, running(configured(provider)) as sidecar:
        answers = await send(sidecar, "upgrade-ws", follow=True)
    assert [answer.status for answer in answers] == [200, 404, 200]
    assert [target_of(request) for request in provider.requests] == [b"/v1/models", b"/v1/chat/completions"]
