"""Whether an answer whose bytes ended in order is whole in its own terms."""

import pytest

from sidecar.ending import fault_of_plain, fault_of_stream, too_late
from sidecar.events import StreamReader
from sidecar.headers import ResponseHead
from sidecar.openai import Call
from sidecar.resume import Delivered, Joiner, Mode

TEXT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"message":"no"}}\n\n'


def reader_of(*events: bytes, kind: str = "chat") -> StreamReader:
    reader = StreamReader(kind)
    for event in events:
        reader.read(event)
    return reader


@pytest.mark.parametrize(
    ("events", "rest", "has_begun", "code"),
    [
        ((TEXT, STOP), b"", True, ""),
        ((TEXT, STOP), b"data: [DONE]\n", True, ""),
        ((TEXT, DONE), b"", True, ""),
        ((TEXT, FAILED), b"", True, ""),
        ((TEXT,), b"", True, "upstream_cut"),
        ((TEXT,), b"data: [DONE]\n", True, "upstream_cut"),
        ((), b"", False, "upstream_empty"),
        ((DONE,), b"", False, "upstream_empty"),
    ],
)
def test_a_chat_is_whole_with_its_own_end_and_something_before_it(
    events: tuple[bytes, ...], rest: bytes, has_begun: bool, code: str
) -> None:
    fault = fault_of_stream(reader_of(*events), None, rest=rest, has_begun=has_begun)
    assert ("" if fault is None else fault.code) == code


@pytest.mark.parametrize(
    ("rest", "code"), [(b"", ""), (b"\r\n", ""), (b": x", "upstream_cut"), (b'data: {"', "upstream_cut")]
)
def test_a_stream_without_a_known_end_is_whole_between_two_events(rest: bytes, code: str) -> None:
    fault = fault_of_stream(reader_of(TEXT, kind="speech"), None, rest=rest, has_begun=True)
    assert ("" if fault is None else fault.code) == code


@pytest.mark.parametrize("mode", Mode)
def test_a_second_stream_is_whole_only_once_it_was_fitted_to_the_first(mode: Mode) -> None:
    delivered = Delivered("chat", Call({}, "m", True))
    delivered.note({"choices": [{"delta": {"content": "Hi there"}}]})
    joiner = Joiner(delivered, mode)
    fault = fault_of_stream(reader_of(TEXT, STOP), joiner, rest=b"", has_begun=True)
    assert fault is not None
    assert fault.code == "resume_mismatch"
    joiner.is_joined = True
    assert fault_of_stream(reader_of(TEXT, STOP), joiner, rest=b"", has_begun=True) is None
    assert fault_of_stream(reader_of(DONE), joiner, rest=b"", has_begun=True) is None


def head(*lines: bytes) -> ResponseHead:
    return ResponseHead(b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b"")))


JSON = head(b"content-type: application/json; charset=utf-8")


@pytest.mark.parametrize("body", [b"{}", b' {"a":[1]}\n', b"[]\r\n"])
@pytest.mark.parametrize("is_all", [True, False])
def test_whole_json_is_whole(body: bytes, is_all: bool) -> None:
    assert fault_of_plain(JSON, body, is_all=is_all) is None


@pytest.mark.parametrize("body", [b'{"a":{"b":1}', b'{"a":"', b'{"a":1', b"{", b"\xff"])
def test_json_that_breaks_off_with_its_connection_is_cut(body: bytes) -> None:
    fault = fault_of_plain(JSON, body, is_all=True)
    assert fault is not None
    assert (fault.flag, fault.code, fault.status) == ("UC", "upstream_cut", 502)


def test_of_the_end_of_a_long_answer_its_last_byte_is_judged() -> None:
    assert fault_of_plain(JSON, b'x"}}', is_all=False) is None
    fault = fault_of_plain(JSON, b'"tex', is_all=False)
    assert fault is not None
    assert fault.code == "upstream_cut"


@pytest.mark.parametrize(
    "lines",
    [
        (b"content-type: application/json", b"content-length: 7"),
        (b"content-type: application/json", b"transfer-encoding: chunked"),
        (b"content-type: text/plain",),
        (),
    ],
)
def test_what_has_its_length_or_is_no_json_is_left_as_it_is(lines: tuple[bytes, ...]) -> None:
    assert fault_of_plain(head(*lines), b'{"a":1', is_all=True) is None


@pytest.mark.parametrize(
    ("has_head", "awaits_token", "flag", "words"),
    [
        (False, False, "UT", "did not answer in time"),
        (True, False, "UT", "sent nothing more in time"),
        (False, True, "FT", "sent no first token in time"),
        (True, True, "FT", "sent no first token in time"),
    ],
)
def test_silence_is_named_by_what_was_waited_for(
    has_head: bool, awaits_token: bool, flag: str, words: str
) -> None:
    error = too_late(has_head=has_head, awaits_token=awaits_token)
    assert (error.flag, error.status, error.code) == (flag, 504, "upstream_timeout")
    assert words in error.message
