"""Conversations with one provider: which of its bytes are an answer, and whether the connection serves on."""

import pytest

from sidecar.errors import Retry
from tests.support.upstream import Provider, RecordingSink

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
SIZED = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"


@pytest.fixture
def provider() -> Provider:
    return Provider()


def check_refused(provider: Provider, sink: RecordingSink) -> None:
    assert sink.ends == 1
    assert sink.error is not None
    assert sink.error.status == 502
    assert provider.transport.is_aborted
    assert provider.idle == []


# --- whole answers --------------------------------------------------------------------------------------


def test_writes_the_request_as_it_is(provider: Provider) -> None:
    provider.ask()
    assert provider.transport.take() == b"a request"


@pytest.mark.parametrize("raw", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("step", [None, 1, 7])
def test_a_whole_answer_leaves_a_reusable_connection(
    provider: Provider, raw: bytes, step: int | None
) -> None:
    for _ in range(3):
        sink = provider.ask()
        provider.says(raw, step=step)
        assert (sink.status, sink.body, sink.ends, sink.is_whole) == (200, b"hello", 1, True)
        assert sink.lines == b"Content-Type: text/plain"
        assert provider.is_reusable
    assert provider.closed == []


def test_the_body_comes_as_it_arrives(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(SIZED[:-3])
    assert (sink.body, sink.ends) == (b"he", 0)
    assert provider.idle == []
    provider.says(SIZED[-3:])
    assert (sink.body, sink.ends) == (b"hello", 1)


@pytest.mark.parametrize("step", [None, 1])
def test_a_body_without_a_length_ends_with_the_connection(provider: Provider, step: int | None) -> None:
    sink = provider.ask()
    provider.says(OK + b"\r\nhello", step=step)
    assert (sink.body, sink.ends) == (b"hello", 0)
    provider.hangs_up()
    assert (sink.ends, sink.is_whole) == (1, True)
    assert provider.idle == []


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hi\r\nLink: </a>\r\n\r\n"]
)
@pytest.mark.parametrize("step", [None, 1])
def test_interim_answers_are_swallowed(provider: Provider, interim: bytes, step: int | None) -> None:
    sink = provider.ask()
    provider.says(interim * 2 + SIZED, step=step)
    assert (sink.status, sink.body, sink.ends) == (200, b"hello", 1)
    assert b"Link" not in sink.lines
    assert provider.is_reusable


def test_an_interim_answers_length_is_not_the_answers(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(b"HTTP/1.1 103 Hi\r\nContent-Length: 50\r\n\r\n" + OK + b"\r\nhello")
    provider.hangs_up()
    assert (sink.body, sink.is_whole) == (b"hello", True)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body(provider: Provider, status: int) -> None:
    sink = provider.ask()
    provider.says(b"HTTP/1.1 %d X\r\nETag: e\r\n\r\n" % status)
    assert (sink.status, sink.body, sink.is_whole) == (status, b"", True)
    assert provider.is_reusable


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_an_answer_to_head_has_no_body(provider: Provider, framing: bytes) -> None:
    sink = provider.ask(head=True)
    provider.says(OK + framing + b"\r\n")
    assert (sink.status, sink.body, sink.is_whole) == (200, b"", True)
    if provider.is_reusable:  # it need not be; if it is, it must be in step
        second = provider.ask()
        provider.says(SIZED)
        assert second.body == b"hello"


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_connection_the_provider_will_close_is_not_kept(provider: Provider, raw: bytes) -> None:
    sink = provider.ask()
    provider.says(raw)
    assert (sink.body, sink.is_whole) == (b"hello", True)
    assert provider.idle == []
    assert provider.transport.is_closed


def test_trailers_are_dropped(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(CHUNKED[:-2] + b"X-Trailer: 1\r\nETag: railer\r\n\r\n")
    assert (sink.body, sink.is_whole) == (b"hello", True)
    assert b"railer" not in sink.lines
    assert provider.is_reusable
    second = provider.ask()
    provider.says(SIZED)
    assert second.lines == b"Content-Type: text/plain"


@pytest.mark.parametrize("step", [None, 1000])
def test_a_flood_of_trailers_is_refused(provider: Provider, step: int | None) -> None:
    sink = provider.ask()
    provider.says(CHUNKED[:-2], step=step)
    provider.says(b"".join(b"X-%d: aaaa\r\n" % i for i in range(10_000)), step=step)
    assert sink.error is not None
    assert provider.transport.is_aborted


# --- what spoils a connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"x", b"\r\n", b"\0"])
def test_bytes_behind_an_answer_spoil_the_connection(provider: Provider, raw: bytes, extra: bytes) -> None:
    sink = provider.ask()
    provider.says(raw + extra)
    assert (sink.body, sink.ends, sink.is_whole) == (b"hello", 1, True)
    assert provider.idle == [] or extra == b"\r\n"  # llhttp lets blank lines stand before an answer


def test_bytes_nobody_asked_for_close_an_idle_connection(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(SIZED)
    provider.says(SIZED)
    assert provider.transport.is_aborted
    assert (sink.body, sink.ends) == (b"hello", 1)


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_none_may_be_spoils_the_connection(provider: Provider, status: int) -> None:
    sink = provider.ask()
    provider.says(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nhello" % status)
    assert (sink.body, sink.is_whole) == (b"", True)
    assert provider.idle == []


def test_a_connection_held_back_at_the_end_of_an_answer_still_reads(provider: Provider) -> None:
    """The caller's buffer may fill with the very last bytes; who takes the connection next must hear."""

    class Full(RecordingSink):
        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            provider.connection.pause_reading()

    sink = provider.ask(Full())
    provider.says(SIZED)
    assert sink.is_whole
    provider.connection.resume_reading()
    second = provider.ask()
    assert not provider.transport.is_paused
    provider.says(SIZED)
    assert second.body == b"hello"


# --- back-pressure, cancelling --------------------------------------------------------------------------


def test_pauses_and_resumes_while_busy(provider: Provider) -> None:
    provider.ask()
    provider.says(SIZED[:-3])
    provider.connection.pause_reading()
    assert provider.transport.is_paused
    provider.connection.resume_reading()
    assert not provider.transport.is_paused


def test_an_idle_connection_cannot_be_paused(provider: Provider) -> None:
    provider.ask()
    provider.says(SIZED)
    provider.connection.pause_reading()
    assert not provider.transport.is_paused


def test_cancelling_closes_at_once_and_says_nothing_more(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(SIZED[:-3])
    provider.connection.cancel()
    assert provider.transport.is_aborted
    provider.hangs_up()
    assert sink.ends == 0
    assert provider.closed == [False]


# --- lost connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [SIZED[:-1], CHUNKED[:-1], CHUNKED[:-5]])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_an_answer_that_breaks_off_is_an_error(
    provider: Provider, raw: bytes, error: Exception | None
) -> None:
    sink = provider.ask()
    provider.says(raw)
    provider.hangs_up(error)
    assert sink.ends == 1
    assert sink.error is not None
    assert (sink.error.status, sink.error.code) == (502, "upstream_cut")


def test_a_reset_does_not_end_a_body_without_length(provider: Provider) -> None:
    sink = provider.ask()
    provider.says(OK + b"\r\nhello")
    provider.hangs_up(ConnectionResetError())
    assert not sink.is_whole
    assert sink.error is not None


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX"])
def test_a_connection_lost_before_the_answer_is_a_503(provider: Provider, sent: bytes) -> None:
    sink = provider.ask()
    if sent:
        provider.says(sent)
    provider.hangs_up()
    assert sink.error is not None
    assert (sink.error.status, sink.error.code, sink.error.retry) == (503, "upstream_reset", Retry.YES)


@pytest.mark.parametrize("sent", [b"", b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_only_a_reused_connection_that_said_nothing_was_stale(provider: Provider, sent: bytes) -> None:
    provider.ask()
    provider.says(SIZED)
    sink = provider.ask()
    if sent:
        provider.says(sent)
    provider.hangs_up()
    assert sink.error is not None
    assert sink.error.retry is (Retry.YES if sent else Retry.REUSED_ONLY)


def test_tells_the_pool_whether_it_was_idle(provider: Provider) -> None:
    provider.ask()
    provider.says(SIZED)
    provider.hangs_up()
    assert provider.closed == [True]


# --- what is no answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"hello world",
        b"HTTP/1.1 000 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 20 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 600 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 999 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: xchunked\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        OK + b"X: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"X: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"X: a\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"X[: 1\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"X: " + b"a" * 70_000,
        OK + b"X: 1\r\n" * 12_000,
        b"HTTP/1.1 200 " + b"a" * 70_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    ],
    ids=lambda raw: raw[:60].decode().replace("\r\n", " "),
)
@pytest.mark.parametrize("step", [None, 13])
def test_what_is_no_answer_is_an_error(provider: Provider, raw: bytes, step: int | None) -> None:
    sink = provider.ask()
    provider.says(raw, step=step)
    if sink.error is not None and sink.status:
        assert sink.error.status == 502  # the head was good, its body is not
    else:
        check_refused(provider, sink)
