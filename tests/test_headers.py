"""What of a request's head goes on to a provider, what of an answer's head goes back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.exchange import Reply, RequestHead
from sidecar.headers import (
    MAX_COUNT,
    MAX_LINE_BYTES,
    MAX_TOTAL_BYTES,
    ResponseHead,
    final_lines,
    read_request_head,
    safe_value,
    without,
)


def head_bytes(*lines: bytes, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: localhost", *lines, b"", b""))


def read(*lines: bytes, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> RequestHead:
    head = read_request_head(head_bytes(*lines, first=first))
    assert not isinstance(head, Reply)
    return head[0]


def length(*lines: bytes) -> int | None:
    head = read_request_head(head_bytes(*lines))
    assert not isinstance(head, Reply)
    return head[1]


def refusal(*lines: bytes, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> Reply:
    reply = read_request_head(head_bytes(*lines, first=first))
    assert isinstance(reply, Reply)
    assert reply.close
    return reply


# --- requests ------------------------------------------------------------------------------------------


def test_reads_the_request_line() -> None:
    head = read(first=b"GET /v1/models?limit=2 HTTP/1.0")
    assert (head.method, head.path, head.target, head.minor) == (
        b"GET",
        "/v1/models",
        b"/v1/models?limit=2",
        0,
    )


def test_lines_go_on_as_they_came() -> None:
    lines = [b"X-Custom:  two  spaces ", b"accept: */*", b"OpenAI-Organization: o", b"x-custom: again", b"E:"]
    head = read(*lines)
    assert head.forward == lines
    assert head.fields[b"x-custom"] == b"again"
    assert head.fields[b"e"] == b""


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Authorization", b"Proxy-Connection", b"TE", b"Trailer"),
        *(b"Upgrade", b"HTTP2-Settings", b"Authorization", b"X-Api-Key", b"Api-Key", b"Cookie", b"Host"),
        *(b"X-Forwarded-For", b"X-Forwarded-Anything", b"Forwarded", b"X-Real-IP", b"X-Original-URL"),
        *(b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-Sidecar-Importance", b"Origin", b"Sec-Fetch-Mode"),
        *(b"Accept-Encoding",),
    ],
)
@pytest.mark.parametrize("case", [bytes.lower, bytes.upper, bytes], ids=["lower", "upper", "mixed"])
def test_ends_here(name: bytes, case: type[bytes]) -> None:
    line = case(name) + b": x"
    head = read_request_head(b"\r\n".join((b"GET / HTTP/1.0", line, b"X-Kept: 1", b"", b"")))
    assert not isinstance(head, Reply)
    assert head[0].forward == [b"X-Kept: 1"]


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: X-One, x-two"],
        [b"connection: keep-alive ,X-ONE,\tX-Two"],
        [b"Connection: X-One", b"Connection: X-Two"],
        [b"Connection: X-One, X-Two", b"Connection: close"],
    ],
)
def test_what_connection_names_ends_here(lines: list[bytes]) -> None:
    assert read(b"X-One: 1", b"X-Three: 3", *lines, b"x-two: 2").forward == [b"X-Three: 3"]


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"Content-Length",
        b"Content-Type",
        b"Host",
        b"Origin",
        b"Transfer-Encoding",
        b"X-Api-Key",
    ],
)
def test_refuses_doubled_single_fields(name: bytes) -> None:
    value = b"chunked" if name.startswith(b"T") else b"5"
    reply = refusal(name + b": " + value, name.lower() + b": " + value)
    assert reply.status == 400
    assert name.lower() in reply.body


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"\xff", b"a\x7f"])
def test_refuses_bytes_outside_ascii(value: bytes) -> None:
    assert refusal(b"X: " + value).status == 400


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v1/models HTTP/2.0",
        b"GET /v1/models HTTP/0.9",
        b"GET * HTTP/1.1",
        b"GET http://localhost/v1/models HTTP/1.1",
        b"GET localhost:80 HTTP/1.1",
        b"GET /v1/models#x HTTP/1.1",
        b"GET ?x HTTP/1.1",
    ],
)
def test_refuses_other_versions_and_targets(first: bytes) -> None:
    assert refusal(first=first).status == 400


@pytest.mark.parametrize(
    "coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"", b"chunked;q=1", b'"chunked"']
)
def test_refuses_other_codings_than_chunked(coding: bytes) -> None:
    assert refusal(b"Transfer-Encoding: " + coding).status == 400


def test_refuses_chunked_in_http_1_0() -> None:
    assert refusal(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0").status == 400


def test_refuses_a_missing_host_in_http_1_1_only() -> None:
    assert isinstance(read_request_head(b"GET / HTTP/1.1\r\nX: 1\r\n\r\n"), Reply)
    assert not isinstance(read_request_head(b"GET / HTTP/1.0\r\nX: 1\r\n\r\n"), Reply)


@pytest.mark.parametrize(
    ("value", "is_served"), [(b"100-continue", True), (b"100-Continue", True), (b"x", False)]
)
def test_expect_is_100_continue_or_refused(value: bytes, is_served: bool) -> None:
    if is_served:
        assert read(b"Expect: " + value).fields[b"expect"] == value
    else:
        assert refusal(b"Expect: " + value).status == 417


def test_limits_of_a_head() -> None:
    most = [b"X-%d: 1" % i for i in range(MAX_COUNT - 1)]
    assert len(read(*most).forward) == MAX_COUNT - 1
    assert refusal(*most, b"X-More: 1").status == 431
    longest = b"X: " + b"a" * (MAX_LINE_BYTES - 3)
    assert read(longest).forward == [longest]
    assert refusal(longest + b"a").status == 431
    assert refusal(*[b"X-%d: " % i + b"a" * 8000 for i in range(MAX_TOTAL_BYTES // 8000 + 1)]).status == 431
    assert refusal(first=b"GET /%b HTTP/1.1" % (b"a" * MAX_LINE_BYTES)).status == 431


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Content-Length: 27", 27),
        (b"content-length: 27", 27),
        (b"CONTENT-LENGTH:27", 27),
        (b"Content-Length:  27 ", 27),
        (b"Content-Length: 0", 0),
        (b"Transfer-Encoding: Chunked", None),
        (b"X: 1", 0),
    ],
)
def test_the_length_of_the_body(line: bytes, expected: int | None) -> None:
    for _ in range(2):  # a head seen before is remembered
        assert length(b"X-Length-Test: 1", line) == expected


def test_heads_that_differ_in_their_length_only() -> None:
    assert [length(b"Content-Length: %d" % n, b"X-Same: 1") for n in (1, 20, 300, 1)] == [1, 20, 300, 1]


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [b"X-A", b"x-a", b"X-B", b"Content-Length", b"Connection", b"Authorization", b"Cookie"]
        ),
        st.sampled_from([b"1", b"22", b"333"]),
    ),
    max_size=4,
)


@given(st.lists(LINES, max_size=6))
def test_what_was_remembered_of_other_heads_changes_nothing(heads: list[list[tuple[bytes, bytes]]]) -> None:
    for lines in heads:
        names = [name.lower() for name, _ in lines]
        got = read_request_head(head_bytes(*[name + b": " + value for name, value in lines]))
        if max(names.count(b"content-length"), names.count(b"authorization")) > 1:
            assert isinstance(got, Reply)
            continue
        assert not isinstance(got, Reply)
        head, size = got
        assert head.forward == [n + b": " + v for n, v in lines if n.lower() in (b"x-a", b"x-b")]
        values = dict(zip(names, [value for _, value in lines], strict=True))
        assert size == int(values.pop(b"content-length", b"0"))
        assert {name: head.fields[name] for name in values} == values


def test_without_leaves_out_by_name_in_any_case() -> None:
    assert without([b"X-A: 1", b"x-ab: 2", b"X-a:3"], {b"x-a"}) == [b"x-ab: 2"]


# --- answers --------------------------------------------------------------------------------------------


def answer(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b""))


def returned(*lines: bytes) -> list[bytes]:
    raw = answer(*lines)
    block = b"\r\n".join(ResponseHead(raw).returned_lines(raw))
    return block.split(b"\r\n") if block else []


def test_answer_lines_go_back_as_they_came() -> None:
    lines = [b"Content-Type: text/Plain", b"x-request-id: r", b"X-RateLimit-Remaining-Requests: 5"]
    lines += [b"Set-Cookie: a=1", b"set-cookie: b=2", b"X:", b"X-Latin: caf\xe9", b"X-Connection: close"]
    assert returned(*lines) == lines
    assert returned() == []


@pytest.mark.parametrize(
    "line",
    [
        *(b"Connection: close", b"Keep-Alive: timeout=5", b"Transfer-Encoding: chunked", b"Upgrade: h2c"),
        *(b"Trailer: X", b"Proxy-Authenticate: Basic", b"Content-Length: 5", b"Alt-Svc: h3", b"TE:"),
        *(b"X-Sidecar-Model: spoofed", b"Access-Control-Allow-Origin: *", b"ACCESS-CONTROL-MAX-AGE: 5"),
    ],
)
def test_answer_lines_that_end_here(line: bytes) -> None:
    assert returned(b"A: 1", line, b"B: 2") == [b"A: 1", b"B: 2"]
    assert returned(line, line, b"B: 2", line) == [b"B: 2"]
    assert returned(line) == []


def test_what_an_answers_connection_field_names_ends_here() -> None:
    assert returned(b"X-Hop: 1", b"Connection: close, x-hop", b"X-Kept: 1") == [b"X-Kept: 1"]


def test_what_the_proxy_must_know_of_an_answer() -> None:
    head = ResponseHead(
        answer(
            b"CONTENT-TYPE: Text/Event-Stream; charset=utf-8",
            b"Content-Length:  7 ",
            b"Keep-Alive: timeout=5",
        )
    )
    assert head.content_type == b"text/event-stream; charset=utf-8"
    assert head.length == 7
    assert head.coding == b""
    assert head.idle_limit_s == 5.0
    assert ResponseHead(answer(b"Transfer-Encoding: Chunked")).coding == b"chunked"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([], []),
        ([b"a: 1\r\nb: 2"], [b"a: 1", b"b: 2"]),
        ([b"a: 1\r\nx-should-retry: true\r\nb: 2"], [b"a: 1", b"b: 2"]),
        ([b"X-Should-Retry:true", b"a: 1", b"x-should-retry: no"], [b"a: 1"]),
        ([b"x-should-retry: false"], []),
        ([b"x-should-retry-not: true"], [b"x-should-retry-not: true"]),
    ],
)
def test_the_last_word_on_trying_again_is_said_once(lines: list[bytes], kept: list[bytes]) -> None:
    assert final_lines(lines) == [*kept, b"x-should-retry: false"]


@pytest.mark.parametrize(
    ("value", "is_media"),
    [
        (b"audio/mpeg", True),
        (b"Audio/WAV; rate=24000", True),
        (b"image/png", True),
        (b"application/octet-stream", True),
        (b"application/json", False),
        (b"text/html", False),
        (b"text/event-stream", False),
        (b"", False),
    ],
)
def test_what_is_sound_or_a_picture(value: bytes, is_media: bool) -> None:
    assert ResponseHead(answer(b"Content-Type: " + value)).is_media is is_media


def test_an_answer_that_says_nothing_of_its_body() -> None:
    head = ResponseHead(answer(b"X-Content-Length: 5", b"X: content-type: a"))
    assert (head.content_type, head.length, head.coding, head.idle_limit_s) == (b"", None, b"", None)


@pytest.mark.parametrize(
    ("value", "limit_s"),
    [(b"timeout=5, max=100", 5.0), (b"max=9,Timeout=60", 60.0), (b"max=9", None), (b"timeout=x", None)],
)
def test_keep_alive_limits(value: bytes, limit_s: float | None) -> None:
    assert ResponseHead(answer(b"Keep-Alive: " + value)).idle_limit_s == limit_s


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Qwen/Qwen3-32B", b"Qwen/Qwen3-32B"),
        ("a b", b"a b"),
        ("a\r\nb: c", b"a%0D%0Ab:%20c"),
        ("模", b"%E6%A8%A1"),
        ("", b""),
    ],
)
def test_safe_value(text: str, value: bytes) -> None:
    assert safe_value(text) == value


@given(st.text())
def test_a_safe_value_cannot_leave_its_line(text: str) -> None:
    try:
        value = safe_value(text)
    except UnicodeEncodeError:
        assert any("\ud800" <= c <= "\udfff" for c in text)
        return
    assert all(0x20 <= byte < 0x7F for byte in value)
