"""Conversations of one client connection: bytes in, bytes out. No socket; time passes when a test says so."""

import asyncio
import logging

import pytest

from sidecar.clock import PERIOD_S
from sidecar.downstream.connection import IDLE_S, LINGER_S, MAX_AHEAD_BYTES, REQUEST_S, State
from sidecar.errors import ClientGone, refuse
from sidecar.exchange import Exchange
from sidecar.flow import Signal
from tests.support.downstream import Client, Held
from tests.support.raw import post

GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
# What an answer says of the sidecar, where no provider was asked.
OWN = b"x-sidecar-attempts: 0\r\nserver-timing: sidecar;dur=0.000, provider;dur=0.000\r\n"
SECOND = GET.replace(b"models", b"second")
THIRD = GET.replace(b"models", b"third")
CHUNKED = (
    b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: trailer\r\n\r\n"
)


@pytest.fixture
def client() -> Client:
    return Client()


async def turn() -> None:
    """One turn of the loop: what was put off to it happens."""
    await asyncio.sleep(0)


# --- whole requests, whole answers ----------------------------------------------------------------------


def test_an_answer_says_its_length_and_keeps_the_connection(client: Client) -> None:
    assert client.says(GET) == b"HTTP/1.1 200 OK\r\n" + OWN + b"content-length: 15\r\n\r\nGET /v1/models "
    assert not client.transport.is_closing()


def test_request_after_request_on_one_connection(client: Client) -> None:
    bodies = []
    for request in (GET, post(b"{}", close=False), CHUNKED, SECOND):
        client.send(request)
        bodies.append(client.answer().body)
    assert bodies == [
        b"GET /v1/models ",
        b"POST /v1/chat/completions {}",
        b"POST /v1/chat abcde",
        b"GET /v1/second ",
    ]
    assert len(client.gate.served) == 4


@pytest.mark.parametrize("step", [1, 2, 3, 7, 40])
def test_segments_make_no_difference(client: Client, step: int) -> None:
    bodies = []
    for request in (b"\r\n" + GET, post(b'{"a":1}', close=False), CHUNKED):
        client.send(request, step=step)
        bodies.append(client.answer().body)
    assert bodies == [b"GET /v1/models ", b'POST /v1/chat/completions {"a":1}', b"POST /v1/chat abcde"]


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 2",
        b"content-length: 2",
        b"Content-length: 2",
        b"CONTENT-LENGTH: 2",
        b"Content-Length:2",
        b"content-length:2",
        b"Content-Length:  2",
        b"Content-Length: 2 ",
        b"Content-Length:\t2",
        b"Content-Length: 02",
    ],
)
def test_a_head_that_comes_again_means_the_same(client: Client, line: bytes) -> None:
    request = b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\n%b\r\nX-Again: 1\r\n\r\n{}" % line
    for _ in range(3):
        client.send(request)
        assert client.answer().body == b"POST /v1/chat {}"


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"-2", b"+2", b"2x", b"2, 2", b"0x2", b"2 2", b"9" * 20, b"9" * 11, b"\xb2", b"2\x00"],
)
def test_a_head_that_comes_again_with_a_bad_length_is_refused(client: Client, value: bytes) -> None:
    good = b"POST /v1/bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    for _ in range(2):
        client.send(good)
        assert client.answer().status == 200
    client.send(good.replace(b"Length: 2", b"Length: " + value))
    assert client.answer().status in (400, 413)
    assert len(client.gate.served) == 2


async def test_heads_that_come_again_keep_requests_apart(client: Client) -> None:
    """Whole, in halves and one behind the other: each gets its own body."""
    requests = [post(b"x" * n, f"/v1/apart{n % 2}", close=False) for n in (0, 1, 20, 300, 0, 7)]
    expected = [b"POST /v1/apart%d %b" % (n % 2, b"x" * n) for n in (0, 1, 20, 300, 0, 7)]
    for _ in range(2):
        for request in requests:
            client.send(request)
        ahead = b"".join(requests)
        for start in range(0, len(ahead), 70):
            client.send(ahead[start : start + 70])
            await turn()
        for _ in requests:
            await turn()
        assert [answer.body for answer in client.answers()] == expected * 2


def test_closes_when_asked_to(client: Client) -> None:
    client.send(post(b"{}", close=True))
    assert client.answer().headers["connection"] == "close"
    assert client.transport.is_closing()


@pytest.mark.parametrize(("keep", "is_kept"), [(b"", False), (b"Connection: keep-alive\r\n", True)])
def test_http_1_0_closes_unless_asked_to_stay(client: Client, keep: bytes, is_kept: bool) -> None:
    client.send(b"GET /v1/models HTTP/1.0\r\n" + keep + b"\r\n")
    assert client.answer().headers["connection"] == ("keep-alive" if is_kept else "close")
    assert client.transport.is_closing() is not is_kept


def test_head_is_answered_without_a_body(client: Client) -> None:
    head = client.says(GET.replace(b"GET", b"HEAD"))
    assert head.endswith(b"content-length: 16\r\n\r\n")
    client.send(GET)
    assert client.answer().status == 200


# --- requests sent ahead --------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET + SECOND + THIRD)
    bodies = []
    for _ in range(3):
        assert len(held.waiting) == 1
        held.answer()
        bodies.append(client.answer().body)
        await turn()
    assert bodies == [b"GET /v1/models ", b"GET /v1/second ", b"GET /v1/third "]


async def test_what_comes_right_after_an_answer_stays_behind_what_was_sent_ahead(client: Client) -> None:
    """The loop may have the next segment ready in the same turn in which the answer was finished."""
    held = Held()
    client.gate.serve_with = held
    client.send(GET + SECOND)
    held.answer()
    client.send(THIRD)
    for _ in range(2):
        await turn()
        if held.waiting:
            held.answer()
    await turn()
    assert [answer.body for answer in client.answers()] == [
        b"GET /v1/models ",
        b"GET /v1/second ",
        b"GET /v1/third ",
    ]


async def test_half_a_request_ahead_waits_for_its_other_half(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET + CHUNKED[:100])
    held.answer()
    await turn()
    assert held.waiting == []
    client.send(CHUNKED[100:])
    held.answer()
    assert [answer.body for answer in client.answers()] == [b"GET /v1/models ", b"POST /v1/chat abcde"]


async def test_a_client_that_sends_far_ahead_is_held_back(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET)
    client.send(SECOND * (MAX_AHEAD_BYTES // len(SECOND) + 1))
    assert not client.transport.is_reading()
    held.answer()
    await turn()
    assert client.transport.is_reading()


async def test_a_thousand_requests_ahead_are_no_deep_stack(client: Client) -> None:
    client.send(GET * 1000)
    for _ in range(1000):
        await turn()
    assert len(client.answers()) == 1000


# --- Expect ---------------------------------------------------------------------------------------------

EXPECTING = post(b"{}", headers="Expect: 100-continue\r\n", close=False)


def test_a_client_that_waits_is_told_to_go_on(client: Client) -> None:
    head, body = EXPECTING[:-2], EXPECTING[-2:]
    assert client.says(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(body)
    assert client.answer().body == b"POST /v1/chat/completions {}"


def test_a_client_that_does_not_wait_is_told_nothing(client: Client) -> None:
    assert client.says(EXPECTING).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_that_is_refused_is_not_asked_for(client: Client) -> None:
    head = EXPECTING.partition(b"\r\n\r\n")[0].replace(b"Length: 2", b"Length: 2000") + b"\r\n\r\n"
    client.send(head)
    assert client.answer().status == 413


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (GET.replace(b"Host", b"H@st"), 400),
        (GET.replace(b"1.1", b"2.0"), 400),
        (GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip\r\n\r\n"), 400),
        (GET.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * 9000 + b"\r\n\r\n"), 431),
        (b"GET /" + b"a" * 70_000, 431),
        (post(b"x" * 1001), 413),
        (CHUNKED.replace(b"3\r\nabc", b"3e9\r\nabc"), 413),
        (CHUNKED.replace(b"X: trailer", b"trailer"), 400),
        (CHUNKED.replace(b"2\r\nde", b"zz\r\nde"), 400),
    ],
)
@pytest.mark.parametrize("step", [None, 11])
def test_a_refusal_is_answered_and_closes(client: Client, data: bytes, status: int, step: int | None) -> None:
    client.send(data, step=step)
    answer = client.answer()
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.is_own_error
    assert client.gate.served == []
    assert len(client.gate.refusals) == 1
    assert client.gate.refusals[0].status == status
    assert client.transport.is_eof_sent or client.transport.is_closed


def test_the_gate_refuses_by_the_head_before_the_body_comes(client: Client) -> None:
    client.gate.refusal = refuse(403, "no", "No.", close=True)
    client.send(EXPECTING[:-2])
    assert client.answer().status == 403
    client.send(EXPECTING[-2:] + GET)
    assert client.transport.take() == b""
    assert client.gate.served == []


def test_what_follows_a_refusal_is_dropped_until_the_client_closes(client: Client) -> None:
    """Closing with bytes unread would reset the connection and take the answer with it."""
    client.send(GET.replace(b"Host", b"H@st") + GET)
    assert client.answer().status == 400
    assert client.transport.is_eof_sent
    assert not client.transport.is_closing()
    client.send(GET * 1000)
    assert client.transport.take() == b""
    client.clock.advance(LINGER_S + PERIOD_S)
    assert client.transport.is_aborted


@pytest.mark.parametrize("step", [None, 50, 1])
def test_the_lane_gets_exactly_the_bytes_that_came(client: Client, step: int | None) -> None:
    client.gate.lane_paths.add("/v1/files")
    client.send(GET)
    assert client.answer().status == 200
    upload = post(b"x" * 500, "/v1/files") + b"more"
    client.send(upload, step=step)
    assert bytes(client.lane) == upload
    assert client.transport.take() == b""
    assert len(client.gate.served) == 1
    assert client.open == []
    client.clock.advance(2 * IDLE_S)
    assert not client.transport.is_closing()


# --- time -----------------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_without_a_word(client: Client) -> None:
    client.send(GET)
    client.transport.take()
    client.clock.advance(IDLE_S - 1.0)
    assert not client.transport.is_closing()
    client.clock.advance(2.0)
    assert client.transport.is_closing()
    assert client.transport.take() == b""


@pytest.mark.parametrize("sent", [GET[:10], post(b"x" * 500)[:-100]], ids=["head", "body"])
def test_a_request_that_does_not_get_on_is_refused(client: Client, sent: bytes) -> None:
    client.send(sent)
    client.clock.advance(REQUEST_S - 1.0)
    assert client.transport.take() == b""
    client.clock.advance(2.0)
    answer = client.answer()
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert client.gate.served == []


def test_a_drip_does_not_put_off_the_end(client: Client) -> None:
    for byte in post(b"x" * 900):
        client.send(bytes([byte]))
        client.clock.advance(0.2)
        if answers := client.answers():
            break
    assert answers[0].status == 408


def test_an_upload_that_gets_on_is_not_cut(client: Client) -> None:
    client.gate.max_body_bytes = 2**20
    body = b"x" * 400_000
    request = post(body)
    for start in range(0, len(request), 100_000):
        client.send(request[start : start + 100_000])
        client.clock.advance(REQUEST_S - 1.0)
    assert client.answer().status == 200


def test_an_answer_may_take_its_time(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET)
    client.clock.advance(3600.0)
    assert not client.transport.is_closing()
    held.answer()
    assert client.answer().status == 200


def test_a_client_that_does_not_take_its_last_answer_is_let_go(client: Client) -> None:
    client.send(post(b"{}", close=True))
    assert not client.transport.is_aborted
    client.clock.advance(LINGER_S + PERIOD_S)
    assert client.transport.is_aborted


# --- answers in pieces ----------------------------------------------------------------------------------


def in_pieces(client: Client, *, length: int | None, end: str = "end", status: int = 200) -> None:
    """Have requests answered with `Hi` and `!!`; `end` or `cut` follows."""

    async def serve(x: Exchange) -> None:
        x.client.begin(x, status, [b"x-a: 1"], length)
        x.client.write(b"Hi")
        x.client.write(b"!!")
        if end == "end":
            x.client.end(x)
        else:
            x.client.cut(x, b"data: {}\n\n")

    client.gate.serve_with = serve


def test_an_answer_of_unknown_length_is_chunked(client: Client) -> None:
    in_pieces(client, length=None)
    assert client.says(GET) == (
        b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"
        + OWN
        + b"transfer-encoding: chunked\r\n\r\n2\r\nHi\r\n2\r\n!!\r\n0\r\n\r\n"
    )
    client.send(GET)
    assert client.answer().body == b"Hi!!"


def test_an_answer_of_known_length_is_not(client: Client) -> None:
    in_pieces(client, length=4)
    assert client.says(GET) == b"HTTP/1.1 200 OK\r\nx-a: 1\r\n" + OWN + b"content-length: 4\r\n\r\nHi!!"
    assert not client.transport.is_closing()


def test_for_http_1_0_the_end_of_the_connection_ends_the_body(client: Client) -> None:
    in_pieces(client, length=None)
    raw = client.says(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert raw == b"HTTP/1.1 200 OK\r\nx-a: 1\r\n" + OWN + b"connection: close\r\n\r\nHi!!"
    assert client.transport.is_closing()


@pytest.mark.parametrize("length", [None, 4])
def test_head_gets_no_pieces(client: Client, length: int | None) -> None:
    in_pieces(client, length=length)
    raw = client.says(GET.replace(b"GET", b"HEAD"))
    assert raw.endswith(b"\r\n\r\n")
    assert b"Hi" not in raw
    assert not client.transport.is_closing()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_gets_no_pieces(client: Client, status: int) -> None:
    in_pieces(client, length=None, status=status)
    raw = client.says(GET)
    assert raw.endswith(b"\r\n\r\n")
    assert b"transfer-encoding" not in raw


def test_a_204_says_no_length(client: Client) -> None:
    in_pieces(client, length=4, status=204)
    assert b"content-length" not in client.says(GET)


def test_a_cut_chunked_answer_lacks_its_end(client: Client) -> None:
    in_pieces(client, length=None, end="cut")
    raw = client.says(GET)
    assert raw.endswith(b"a\r\ndata: {}\n\n\r\n")
    assert client.transport.is_closing()


def test_an_unknown_status_has_a_status_line(client: Client) -> None:
    in_pieces(client, length=4, status=599)
    assert client.says(GET).startswith(b"HTTP/1.1 599 Unknown\r\n")


class Source:
    """Who feeds an answer, and what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_a_full_buffer_holds_the_source_back(client: Client) -> None:
    source = Source()

    async def serve(x: Exchange) -> None:
        x.client.begin(x, 200, [], None)
        x.client.feed_from(source)
        await Signal()

    client.gate.serve_with = serve
    client.send(GET)
    assert source.calls == []
    client.connection.pause_writing()
    client.connection.resume_writing()
    assert source.calls == ["pause", "resume"]


def test_a_source_that_comes_to_a_full_buffer_is_held_back_at_once(client: Client) -> None:
    source = Source()

    async def serve(x: Exchange) -> None:
        client.connection.pause_writing()
        x.client.feed_from(source)
        await Signal()

    client.gate.serve_with = serve
    client.send(GET)
    assert source.calls == ["pause"]


def test_a_source_is_let_alone_when_the_answer_is_over(client: Client) -> None:
    source = Source()

    async def serve(x: Exchange) -> None:
        x.client.begin(x, 200, [], None)
        x.client.feed_from(source)
        x.client.end(x)

    client.gate.serve_with = serve
    client.send(GET)
    client.connection.pause_writing()
    assert source.calls == []


# --- ends -----------------------------------------------------------------------------------------------


def test_a_client_that_leaves_cancels_its_request(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET)
    client.connection.connection_lost(None)
    assert [type(error) for error in held.errors] == [ClientGone]
    assert client.transport.take() == b""
    assert client.open == []
    client.clock.advance(2 * IDLE_S)
    assert not client.transport.is_aborted


def test_a_failure_of_ours_is_a_500_and_one_line(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    async def serve(x: Exchange) -> None:
        raise KeyError("a bug")

    client.gate.serve_with = serve
    client.send(GET)
    assert client.answer().status == 500
    assert client.transport.is_closing() or client.transport.is_eof_sent
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [(logging.ERROR, None)]
    assert client.gate.refusals == []  # who serves it counts it
    assert client.gate.served[0].status == 500


@pytest.mark.parametrize("length", [None, 1000])
def test_a_failure_of_ours_amid_an_answer_breaks_it_off(client: Client, length: int | None) -> None:
    async def serve(x: Exchange) -> None:
        x.client.begin(x, 200, [], length)
        x.client.write(b"Hi")
        raise KeyError("a bug")

    client.gate.serve_with = serve
    raw = client.says(GET)
    assert raw.count(b"HTTP/1.1 ") == 1
    assert not raw.endswith(b"0\r\n\r\n")
    assert client.transport.is_closing() or client.transport.is_eof_sent


def test_a_request_that_is_never_answered_does_not_hang(client: Client) -> None:
    async def serve(x: Exchange) -> None:
        pass

    client.gate.serve_with = serve
    client.send(GET)
    assert client.answer().status == 500


def test_draining_closes_idle_connections_at_once(client: Client) -> None:
    client.connection.drain()
    assert client.transport.is_closing()
    assert client.transport.take() == b""


def test_draining_closes_busy_connections_with_their_answer(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET)
    assert client.connection.is_busy
    client.connection.drain()
    assert not client.transport.is_closing()
    held.answer()
    assert client.answer().headers["connection"] == "close"
    assert client.transport.is_closing()


def test_draining_lets_a_request_that_is_being_read_be_served(client: Client) -> None:
    client.send(GET[:20])
    client.connection.drain()
    assert not client.transport.is_closing()
    client.send(GET[20:])
    answer = client.answer()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


def test_interrupting_raises_the_reason_in_the_request_and_closes(client: Client) -> None:
    held = Held()
    client.gate.serve_with = held
    client.send(GET)
    reason = RuntimeError("leaving")
    client.connection.interrupt(reason)
    assert held.errors == [reason]
    assert client.connection.state is State.CLOSING
