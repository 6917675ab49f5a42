"""Where events end and what their data is, against the WHATWG parser written out plainly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.sse import EDGE_BYTES, LargeEvent, data_of, split

# Bytes that matter to the framing, and a few that only look as if they did.
PIECES = [b"\n", b"\r", b"\r\n", b"\n\n", b"data:", b"data: ", b"data", b":", b" ", b"x", b"event: e", b"{}"]
PIECES += ["\u2028".encode(), "\u0085".encode(), b"\x0b", b"\xff", b"[DONE]"]
STREAM = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join)


def reference(stream: bytes) -> list[bytes]:
    """The data of each dispatched event (HTML standard, 9.2.6), without the byte order mark at the start."""
    stream = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    dispatched = []
    data: list[bytes] = []
    lines = stream.split(b"\n")
    for line in lines[:-1]:  # what is behind the last line end is no line yet
        if not line:
            if data:
                dispatched.append(b"\n".join(data))
            data = []
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
    return dispatched


def read_in_pieces(stream: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    """All events of a stream that comes in pieces, and what is left at its end."""
    events: list[bytes] = []
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found, rest = split(rest + stream[start:end])
        events += found
    return events, rest


def data_in(events: list[bytes]) -> list[bytes]:
    return [data for event in events if (data := data_of(event)) is not None]


@given(STREAM)
def test_events_and_rest_joined_are_the_stream(stream: bytes) -> None:
    events, rest = split(stream)
    assert b"".join(events) + rest == stream
    assert all(events)


@settings(max_examples=500)
@given(STREAM, st.data())
def test_pieces_lose_and_change_nothing(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    events, rest = read_in_pieces(stream, cuts)
    assert b"".join(events) + rest == stream
    assert data_in(events) == data_in(split(stream)[0])


@given(STREAM)
def test_byte_by_byte_is_as_good_as_at_once(stream: bytes) -> None:
    events, rest = read_in_pieces(stream, list(range(1, len(stream))))
    assert b"".join(events) + rest == stream
    assert data_in(events) == data_in(split(stream)[0])


@given(STREAM)
def test_data_is_what_the_standards_parser_dispatches(stream: bytes) -> None:
    assert data_in(split(stream)[0]) == reference(stream)


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_an_event_ends_with_its_blank_line(eol: bytes) -> None:
    first, second = b"event: e" + eol + b"data: 1" + eol + eol, b"data: 2" + eol + eol
    assert split(first + second + b"data: 3") == ([first, second], b"data: 3")
    assert data_of(first) == b"1"


@pytest.mark.parametrize("buffer", [b"", b"d", b"\n", b"data: x", b"data: x\n", b"data: x\r\n"])
def test_half_an_event_is_no_event(buffer: bytes) -> None:
    assert split(buffer) == ([], buffer)


def test_one_line_end_of_two_bytes_is_no_blank_line() -> None:
    assert split(b"data: a\r\ndata: b\r\n") == ([], b"data: a\r\ndata: b\r\n")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b"data: a: b\n\n", b"a: b"),
        (b"data: a \n\n", b"a "),
        (b"data: a\r\r", b"a"),
        ("data: a\u2028b\u0085c\n\n".encode(), "a\u2028b\u0085c".encode()),
        (b"data: a\x0bb\x0cc\n\n", b"a\x0bb\x0cc"),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b" data: a\n\n", None),
        (b"DATA: a\n\n", None),
        (b"database: a\n\n", None),
        (b"\n\n", None),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert data_of(event) == data


@pytest.mark.parametrize("step", [1, 7, 5_000, EDGE_BYTES, 10 * EDGE_BYTES])
def test_of_a_long_event_both_ends_are_kept(step: int) -> None:
    raw = bytes(range(256)) * (3 * EDGE_BYTES // 256)
    event = LargeEvent()
    for start in range(0, len(raw), step):
        event.add(raw[start : start + step])
    assert raw.startswith(event.first)
    assert 0 < len(event.first) <= EDGE_BYTES
    assert event.last == raw[-EDGE_BYTES:]
