from __future__ import annotations

import asyncio

import aiohttp
import openai
import orjson
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from tests.demo.support import QUESTION, STREAM, request_bytes, talk, until


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 502, 503, 504, 529])
async def test_error_ratio_one_fails_every_request_in_openais_shape(
    provider: DemoProvider, status: int
) -> None:
    provider.scenario.update({"error_ratio": 1, "error_status": status})
    seen = await talk(provider, STREAM)
    assert seen.head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/json" in seen.head.lower()
    assert set(orjson.loads(seen.body)["error"]) == {"message", "type", "param", "code"}


async def test_error_ratio_is_a_share_and_the_same_for_the_same_seed() -> None:
    async def statuses() -> list[bool]:
        demo = DemoProvider(seed=3)
        demo.scenario.update({"error_ratio": 0.3, "first_token_s": 0, "token_interval_s": 0})
        await demo.start()
        failed = [b" 500 " in (await talk(demo, QUESTION)).head for _ in range(40)]
        await demo.stop()
        return failed

    first = await statuses()
    assert first == await statuses()
    assert 4 <= sum(first) <= 20


async def test_fail_next_fails_that_many_and_then_heals(provider: DemoProvider) -> None:
    provider.scenario.fail_next = 2
    heads = [(await talk(provider, QUESTION)).head[9:12] for _ in range(3)]
    assert heads == [b"500", b"500", b"200"]
    assert provider.scenario.fail_next == 0


async def test_type_code_and_message_can_be_set(provider: DemoProvider, sdk: AsyncOpenAI) -> None:
    provider.scenario.update(
        {
            "fail_next": 1,
            "error_status": 400,
            "error_code": "content_filter",
            "error_type": "policy",
            "error_message": "No.",
        }
    )
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert (refused.value.code, refused.value.type) == ("content_filter", "policy")
    assert "No." in refused.value.message


@pytest.mark.parametrize("value", ["2", "0.5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
async def test_retry_after_is_sent_as_it_was_given(provider: DemoProvider, value: str) -> None:
    provider.scenario.update({"fail_next": 1, "error_status": 429, "retry_after": value})
    assert f"retry-after: {value}".encode() in (await talk(provider, QUESTION)).head.split(b"\r\n")


async def test_error_html_is_a_page_with_the_status(provider: DemoProvider) -> None:
    provider.scenario.update({"error_ratio": 1, "error_status": 502, "error_html": True})
    seen = await talk(provider, QUESTION)
    assert seen.head.startswith(b"HTTP/1.1 502 ")
    assert b"text/html" in seen.head and b"<h1>502 Bad Gateway</h1>" in seen.body


async def test_errors_can_be_kept_to_some_models(provider: DemoProvider) -> None:
    provider.scenario.update({"error_ratio": 1, "error_models": ["sick"]})
    assert b" 500 " in (await talk(provider, {**QUESTION, "model": "sick"})).head
    assert b" 200 " in (await talk(provider, {**QUESTION, "model": "well"})).head


async def test_errors_can_be_kept_to_some_keys(provider: DemoProvider, http: aiohttp.ClientSession) -> None:
    provider.scenario.update({"error_ratio": 1, "error_keys": ["limited"]})
    statuses = []
    for key in ("limited", "other"):
        headers = {"authorization": f"Bearer {key}"}
        async with http.post("/v1/chat/completions", json=QUESTION, headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [500, 200]


@pytest.mark.parametrize(("errors_on_get", "status"), [(False, 200), (True, 500)])
async def test_the_model_list_fails_only_when_told_to(
    provider: DemoProvider, http: aiohttp.ClientSession, errors_on_get: bool, status: int
) -> None:
    provider.scenario.update({"error_ratio": 1, "errors_on_get": errors_on_get})
    async with http.get("/v1/models") as answer:
        assert answer.status == status


async def test_html_200_is_a_page_where_json_was_due(provider: DemoProvider) -> None:
    provider.scenario.html_200 = True
    seen = await talk(provider, STREAM)
    assert seen.head.startswith(b"HTTP/1.1 200 ")
    assert b"text/html" in seen.head and seen.body.startswith(b"<html>")


async def test_empty_200_has_the_right_type_and_no_body(provider: DemoProvider) -> None:
    provider.scenario.empty_200 = True
    seen = await talk(provider, STREAM)
    assert seen.head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in seen.head
    assert seen.body == b""


async def test_hang_accept_sends_no_byte_and_notices_that_the_client_left(provider: DemoProvider) -> None:
    provider.scenario.hang = "accept"
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(request_bytes(STREAM))
    await until(lambda: provider.open_requests == 1)
    received = asyncio.ensure_future(reader.read(1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not received.done()
    writer.close()
    await until(lambda: provider.cancelled == 1)
    assert provider.open_requests == 0
    await received


async def test_hang_headers_sends_the_head_and_nothing_more(provider: DemoProvider) -> None:
    provider.scenario.hang = "headers"
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(request_bytes(STREAM))
    assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
    await provider.stop()
    assert await reader.read() == b""
    assert provider.cancelled == 0  # it was the provider that left
    writer.close()


@pytest.mark.parametrize(("when", "has_head"), [("accept", False), ("head", True)])
async def test_reset_is_a_tcp_reset(provider: DemoProvider, when: str, has_head: bool) -> None:
    provider.scenario.update({"reset": when})
    seen = await talk(provider, STREAM)
    assert seen.was_reset
    assert seen.body == b"" and seen.head.startswith(b"HTTP/1.1 200 ") is has_head
    assert provider.cancelled == 0


async def test_break_next_breaks_that_many_and_then_heals(provider: DemoProvider) -> None:
    provider.scenario.update({"reset": "accept", "break_next": 1})
    assert [(await talk(provider, QUESTION)).was_reset for _ in range(2)] == [True, False]
