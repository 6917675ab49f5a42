"""The chunk reader beside llhttp: the same body whatever the chunks and cuts, no trailers, hard limits."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.downstream.chunked import BadTrailer, ChunkReader, TooLarge

LIMIT = 1000

CHUNKS = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=40),
        st.sampled_from([b"", b";a=b", b";a", b';a="x y"']),
        st.sampled_from([b"%x", b"%X", b"0%x"]),
    ),
    max_size=6,
)
TRAILERS = st.lists(st.sampled_from([b"X: 1", b"Content-Length: 99", b"Host: evil", b"E:"]), max_size=3)
BEHIND = st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"0\r\n\r\n"])


def encode(chunks: list[tuple[bytes, bytes, bytes]], trailers: list[bytes]) -> bytes:
    parts = [(style % len(data)) + extension + b"\r\n" + data + b"\r\n" for data, extension, style in chunks]
    return b"".join([*parts, b"0\r\n", *[line + b"\r\n" for line in trailers], b"\r\n"])


class Parsed:
    """What llhttp makes of a body that came through a ChunkReader in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.body = b""
        self.names: list[bytes] = []
        self.is_whole = False
        self.behind = b""
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = ChunkReader(LIMIT)
        for piece in pieces:
            if self.is_whole:
                self.behind += piece
                continue
            passed, behind = reader.take(piece)
            self.behind += behind
            parser.feed_data(passed)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.names.append(name)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_whole = True


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]


@settings(max_examples=300)
@given(CHUNKS, TRAILERS, BEHIND, st.data())
def test_gives_llhttp_the_body_and_nothing_else(
    chunks: list[tuple[bytes, bytes, bytes]], trailers: list[bytes], behind: bytes, data: st.DataObject
) -> None:
    stream = encode(chunks, trailers) + behind
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parsed = Parsed(pieces_of(stream, cuts))
    assert parsed.is_whole
    assert parsed.body == b"".join(chunk for chunk, _, _ in chunks)
    assert parsed.names == [b"Transfer-Encoding"]
    assert parsed.behind == behind


@settings(max_examples=50)
@given(CHUNKS, TRAILERS)
def test_byte_by_byte_is_the_same(chunks: list[tuple[bytes, bytes, bytes]], trailers: list[bytes]) -> None:
    stream = encode(chunks, trailers)
    parsed = Parsed([stream[i : i + 1] for i in range(len(stream))])
    assert parsed.is_whole
    assert parsed.body == b"".join(chunk for chunk, _, _ in chunks)


@given(st.binary(max_size=60).map(lambda noise: b"5\r\nhello\r\n" + noise))
def test_what_is_no_chunk_is_left_to_llhttp(stream: bytes) -> None:
    """Whatever comes, the reader never makes a good body of what llhttp alone would refuse."""
    try:
        mine = Parsed([stream])
    except (TooLarge, BadTrailer, httptools.HttpParserError):
        return
    alone = Parsed.__new__(Parsed)
    alone.body, alone.names, alone.is_whole, alone.behind = b"", [], False, b""
    parser = httptools.HttpRequestParser(alone)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(stream)
    except httptools.HttpParserError:
        assert alone.is_whole  # it objects to what stands behind the body only
    assert mine.body == alone.body
    assert mine.is_whole == alone.is_whole


@pytest.mark.parametrize("size", [b"3e9", b"00003E9", b"ffffffff", b"100000000", b"f" * 16, b"f" * 500])
def test_a_chunk_that_cannot_fit_is_refused_before_its_data(size: bytes) -> None:
    with pytest.raises(TooLarge):
        ChunkReader(LIMIT).take(size + b"\r\n")


def test_the_limit_is_over_all_chunks() -> None:
    reader = ChunkReader(LIMIT)
    reader.take(b"3e8\r\n" + b"x" * LIMIT + b"\r\n")
    with pytest.raises(TooLarge):
        reader.take(b"1\r\n")


def test_as_much_as_the_limit_is_let_through() -> None:
    parsed = Parsed([b"3e7\r\n" + b"x" * 999 + b"\r\n1\r\nx\r\n0\r\n\r\n"])
    assert parsed.is_whole
    assert len(parsed.body) == LIMIT


@pytest.mark.parametrize("step", [1, 100, 4000])
def test_an_endless_size_line_is_refused(step: int) -> None:
    reader = ChunkReader(LIMIT)
    with pytest.raises(TooLarge):
        for _ in range(0, 4000, step):
            reader.take((b"1;" + b"a" * 4000)[:step])


@pytest.mark.parametrize("step", [1000, 100_000])
def test_endless_trailers_are_refused(step: int) -> None:
    trailers = b"".join(b"X-%d: aaaaaaaaaaaaaaaaaaaa\r\n" % i for i in range(4000))[:100_000]
    reader = ChunkReader(LIMIT)
    reader.take(b"0\r\n")
    with pytest.raises(TooLarge):
        for start in range(0, len(trailers), step):
            reader.take(trailers[start : start + step])


@pytest.mark.parametrize(
    "line", [b"no colon", b": x", b" X: folded", b"X : 1", b"X: a\x00", b"X: a\rb", b"X: \xff", b"X[: 1"]
)
@pytest.mark.parametrize("tail", [b"\r\n\r\n", b"\r\nY: 1\r\n"], ids=["whole", "half"])
def test_trailers_that_are_no_headers_are_refused(line: bytes, tail: bytes) -> None:
    with pytest.raises(BadTrailer):
        ChunkReader(LIMIT).take(b"0\r\n" + line + tail)


def test_bare_line_feeds_do_not_end_trailers() -> None:
    with pytest.raises(BadTrailer):
        ChunkReader(LIMIT).take(b"0\r\nX: 1\n\n")
