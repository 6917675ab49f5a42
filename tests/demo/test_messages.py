from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import orjson
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from sidecar.demo.provider import DemoProvider
from tests.demo.support import QUESTION, talk

MESSAGES: list[MessageParam] = [{"role": "user", "content": "How do rivers find the sea?"}]


@pytest.fixture
async def client(provider: DemoProvider) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=provider.origin, api_key="sk-test", max_retries=0) as sdk:
        yield sdk


async def test_a_stream_has_the_real_event_sequence(provider: DemoProvider) -> None:
    body = {**QUESTION, "max_tokens": 3, "stream": True}
    seen = await talk(provider, body, "/v1/messages")
    events = [orjson.loads(event.split(b"data: ")[1]) for event in seen.events]
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert seen.events[0].startswith(b"event: message_start\n")
    assert events[-2]["usage"] == {"output_tokens": 3}
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


async def test_the_sdk_reads_the_same_message_plain_and_streamed(client: AsyncAnthropic) -> None:
    plain = await client.messages.create(model="demo", max_tokens=500, messages=MESSAGES)
    async with client.messages.stream(model="demo", max_tokens=500, messages=MESSAGES) as stream:
        streamed = await stream.get_final_message()
    assert plain.content[0].type == streamed.content[0].type == "text"
    assert plain.content[0].text == streamed.content[0].text
    assert plain.usage.output_tokens == streamed.usage.output_tokens
    assert plain.stop_reason == streamed.stop_reason == "end_turn"


async def test_thinking_and_a_tool_call_come_as_blocks(
    provider: DemoProvider, client: AsyncAnthropic
) -> None:
    provider.scenario.update({"reasoning": True, "tool_call": True})
    async with client.messages.stream(model="demo", max_tokens=500, messages=MESSAGES) as stream:
        streamed = await stream.get_final_message()
    plain = await client.messages.create(model="demo", max_tokens=500, messages=MESSAGES)
    assert [block.type for block in plain.content] == ["thinking", "tool_use"]
    for block, same in zip(plain.content, streamed.content, strict=True):
        assert block.type == same.type
    tool = streamed.content[1]
    assert tool.type == "tool_use" and tool.input == {"city": "Zürich", "unit": "celsius"}
    assert streamed.stop_reason == "tool_use"


async def test_errors_have_anthropics_shape(provider: DemoProvider, client: AsyncAnthropic) -> None:
    provider.scenario.update({"fail_next": 1, "error_status": 529})
    with pytest.raises(anthropic.APIStatusError) as refused:
        await client.messages.create(model="demo", max_tokens=5, messages=MESSAGES)
    assert refused.value.status_code == 529
    error = {"type": "overloaded_error", "message": "Overloaded."}
    assert refused.value.body == {"type": "error", "error": error}


async def test_max_tokens_is_required(provider: DemoProvider) -> None:
    seen = await talk(provider, QUESTION, "/v1/messages")
    assert seen.head.startswith(b"HTTP/1.1 400")
    assert orjson.loads(seen.body)["error"]["message"] == "max_tokens: Field required"


async def test_an_error_event_is_named_error(provider: DemoProvider) -> None:
    provider.scenario.error_at_event = 3
    seen = await talk(provider, {**QUESTION, "max_tokens": 9, "stream": True}, "/v1/messages")
    assert len(seen.events) == 4
    assert seen.events[-1].startswith(b'event: error\ndata: {"type":"error"')
