"""Reads the bytes a client got as HTTP/1.1 answers, with no mercy: what is not whole says so."""

from typing import Any

import orjson


class RawAnswer:
    """One answer. `is_whole` is False when its body ended before its framing said so.

    `headers` has lower-case names and the last value of each; `lines` has every field.
    """

    def __init__(self, status: int, lines: list[tuple[str, str]]) -> None:
        self.status = status
        self.lines = lines
        self.headers = dict(lines)
        self.body = b""
        self.is_whole = False

    @property
    def error(self) -> dict[str, Any]:
        """The error object of OpenAI's shape; KeyError where there is none."""
        error: dict[str, Any] = orjson.loads(self.body)["error"]
        return error

    @property
    def is_own_error(self) -> bool:
        """Whether the body is an error in OpenAI's shape."""
        try:
            return set(self.error) == {"message", "type", "param", "code"}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return False


def read_answers(data: bytes, *, to_head: bool = False) -> list[RawAnswer]:
    """Every answer in `data`, which was read up to the end of the connection; interim ones are left out.

    `to_head`: they answer HEAD requests. Raises ValueError where the bytes are no HTTP.
    """
    answers: list[RawAnswer] = []
    while data:
        head, blank, data = data.partition(b"\r\n\r\n")
        if not blank:
            raise ValueError(f"half a head: {head[:200]!r}")
        answer = _read_head(head)
        if answer.status < 200:
            continue
        data = _read_body(answer, data, to_head)
        answers.append(answer)
    return answers


def _read_head(head: bytes) -> RawAnswer:
    first, *fields = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    if version != "HTTP/1.1" or len(status) != 3:
        raise ValueError(f"no status line: {first[:200]!r}")
    lines = []
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip() or "\n" in value or "\r" in value:
            raise ValueError(f"no header line: {field[:200]!r}")
        lines.append((name.lower(), value.strip()))
    return RawAnswer(int(status), lines)


def _read_body(answer: RawAnswer, data: bytes, to_head: bool) -> bytes:
    """Take the body off `data`; returns what is behind it."""
    if to_head or answer.status in (204, 304):
        answer.is_whole = True
        return data
    if answer.headers.get("transfer-encoding") == "chunked":
        return _read_chunks(answer, data)
    if "content-length" in answer.headers:
        length = int(answer.headers["content-length"])
        answer.body = data[:length]
        answer.is_whole = len(answer.body) == length
        return data[length:]
    answer.body = data
    answer.is_whole = True  # as far as a client can tell
    return b""


def _read_chunks(answer: RawAnswer, data: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end:
            break
        length = int(size, 16)
        if length == 0:
            answer.is_whole = rest.startswith(b"\r\n")
            data = rest[2:]
            break
        parts.append(rest[:length])
        if len(rest) < length + 2:
            data = b""
            break
        if rest[length : length + 2] != b"\r\n":
            raise ValueError("a chunk does not end in CRLF")
        data = rest[length + 2 :]
    answer.body = b"".join(parts)
    return data if answer.is_whole else b""
