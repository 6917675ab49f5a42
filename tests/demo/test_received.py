from __future__ import annotations

import asyncio

import pytest

from sidecar.demo.provider import DemoProvider
from sidecar.demo.received import Received
from sidecar.demo.wire import RequestError


def received(headers: list[tuple[str, str]] | None = None, body: bytes = b"") -> Received:
    return Received("POST", "/v1/chat/completions", headers or [], body, at=0.0)


async def test_what_came_is_kept_byte_for_byte_with_headers_in_raw_case(provider: DemoProvider) -> None:
    body = b'{ "model":"m" , "messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}]}\n'
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    head = (
        f"POST /v1/chat/completions?a=%2F HTTP/1.1\r\nHost: x\r\nX-MiXed: 1\r\nx-mixed: 2\r\n"
        f"Connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await reader.read()
    writer.close()
    (kept,) = provider.requests
    assert (kept.method, kept.path, kept.body) == ("POST", "/v1/chat/completions?a=%2F", body)
    assert kept.headers[1:3] == [("X-MiXed", "1"), ("x-mixed", "2")]
    assert kept.header("X-MIXED") == "1" and kept.header("absent") is None


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("Authorization", "Bearer sk-1", "sk-1"),
        ("authorization", "bearer sk-1", "sk-1"),
        ("X-Api-Key", "sk-1", "sk-1"),
        ("Authorization", "Basic sk-1", None),
        ("Authorization", "Bearer ", None),
    ],
)
def test_the_api_key_is_found_where_the_sdks_put_it(name: str, value: str, key: str | None) -> None:
    assert received([(name, value)]).api_key == key


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        received(body=body).json()
    assert refused.value.status == 400
    assert received(body=body).model() is None
