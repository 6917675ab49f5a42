from __future__ import annotations

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from sidecar.demo.provider import DemoProvider
from tests.demo.support import talk

BEFORE = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
]
AFTER = [
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


async def test_a_stream_has_the_real_event_sequence(sdk: AsyncOpenAI) -> None:
    plain = await sdk.responses.create(model="demo", input="hello")
    events = [event async for event in await sdk.responses.create(model="demo", input="hello", stream=True)]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [event.type for event in events] == [
        *BEFORE,
        *["response.output_text.delta"] * len(deltas),
        *AFTER,
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(deltas) == plain.output_text
    last = events[-1]
    assert last.type == "response.completed" and last.response.usage == plain.usage
    assert plain.usage is not None and plain.usage.output_tokens == len(deltas)


async def test_every_event_has_its_name_on_a_line(provider: DemoProvider) -> None:
    seen = await talk(provider, {"model": "m", "input": "hi", "stream": True}, "/v1/responses")
    for event in seen.events:
        name, data = event.split(b"\n")
        assert name == b"event: " + orjson.loads(data.removeprefix(b"data: "))["type"].encode()


async def test_the_limit_makes_it_incomplete(sdk: AsyncOpenAI) -> None:
    plain = await sdk.responses.create(model="demo", input="hello", max_output_tokens=3)
    assert plain.status == "incomplete"
    assert plain.incomplete_details is not None and plain.incomplete_details.reason == "max_output_tokens"


async def test_a_tool_call_streams_its_arguments(provider: DemoProvider, sdk: AsyncOpenAI) -> None:
    provider.scenario.tool_call = True
    events = [event async for event in await sdk.responses.create(model="demo", input="hello", stream=True)]
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    last = events[-1]
    assert last.type == "response.completed" and last.response.output[0].type == "function_call"
    assert "".join(deltas) == last.response.output[0].arguments


async def test_a_previous_response_is_known_only_where_it_was_made(sdk: AsyncOpenAI) -> None:
    first = await sdk.responses.create(model="demo", input="hello")
    await sdk.responses.create(model="demo", input="and then?", previous_response_id=first.id)
    assert (await sdk.responses.retrieve(first.id)).output_text == first.output_text
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.responses.create(model="demo", input="and?", previous_response_id="resp_elsewhere")
    assert refused.value.code == "previous_response_not_found"
    unstored = await sdk.responses.create(model="demo", input="hello", store=False)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(unstored.id)
