from __future__ import annotations

import aiohttp
import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from sidecar.demo.provider import DemoProvider
from tests.demo.support import QUESTION, STREAM, Seen, deltas, talk

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "How do rivers find the sea?"}]


def payloads(seen: Seen) -> list[dict[str, object]]:
    return [orjson.loads(event.removeprefix(b"data: ")) for event in seen.events[:-1]]


async def stream(sdk: AsyncOpenAI) -> list[ChatCompletionChunk]:
    chunks = await sdk.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
    return [chunk async for chunk in chunks]


async def test_a_stream_says_the_plain_answer_one_token_at_a_time(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="demo", messages=MESSAGES)
    tokens = [chunk.choices[0].delta.content for chunk in await stream(sdk)]
    tokens = [token for token in tokens if token]
    assert "".join(token or "" for token in tokens) == answer.choices[0].message.content
    assert answer.usage is not None and answer.usage.completion_tokens == len(tokens)


async def test_the_usage_chunk_comes_last_and_only_when_asked(provider: DemoProvider) -> None:
    seen = await talk(provider, {**STREAM, "stream_options": {"include_usage": True}})
    *others, last = payloads(seen)
    assert seen.events[-1] == b"data: [DONE]"
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": len(deltas(seen)),
        "total_tokens": 7 + len(deltas(seen)),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert all(chunk["usage"] is None for chunk in others)
    assert all("usage" not in chunk for chunk in payloads(await talk(provider, STREAM)))


@pytest.mark.parametrize(("knob", "asked", "says_null"), [(True, False, True), (False, True, False)])
async def test_usage_null_overrules_what_openai_does(
    provider: DemoProvider, knob: bool, asked: bool, says_null: bool
) -> None:
    provider.scenario.usage_null = knob
    seen = await talk(provider, {**STREAM, "stream_options": {"include_usage": asked}})
    assert ("usage" in payloads(seen)[0]) is says_null


async def test_omit_usage_leaves_it_out_everywhere(provider: DemoProvider, sdk: AsyncOpenAI) -> None:
    provider.scenario.omit_usage = True
    assert (await sdk.chat.completions.create(model="demo", messages=MESSAGES)).usage is None
    seen = await talk(provider, {**STREAM, "stream_options": {"include_usage": True}})
    assert all("usage" not in chunk for chunk in payloads(seen))


async def test_a_chunk_has_the_fields_of_openai(provider: DemoProvider) -> None:
    first, second, *_ = payloads(await talk(provider, STREAM))
    assert list(first) == ["id", "object", "created", "model", "system_fingerprint", "choices"]
    assert (first["object"], first["created"], first["model"]) == (
        "chat.completion.chunk",
        1_800_000_000,
        "demo",
    )
    opening = {"role": "assistant", "content": "", "refusal": None}
    assert first["choices"] == [{"index": 0, "delta": opening, "logprobs": None, "finish_reason": None}]
    assert second["id"] == first["id"]


async def test_without_role_first_the_role_comes_with_the_first_token(provider: DemoProvider) -> None:
    provider.scenario.update({"role_first": False, "answer": "one two"})
    choices = [chunk["choices"][0]["delta"] for chunk in payloads(await talk(provider, STREAM))]  # type: ignore[index]
    assert choices == [{"role": "assistant", "content": "one"}, {"content": " two"}, {}]


async def test_n_gives_that_many_answers_plain_and_streamed(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="demo", messages=MESSAGES, n=3)
    chunks = await sdk.chat.completions.create(model="demo", messages=MESSAGES, n=3, stream=True)
    texts = ["", "", ""]
    finished = set()
    async for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finished.add(choice.index)
    assert texts == [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3 and finished == {0, 1, 2}


async def test_max_tokens_ends_the_answer_with_length(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 4


async def test_finish_reason_can_be_set(provider: DemoProvider, sdk: AsyncOpenAI) -> None:
    provider.scenario.finish_reason = "content_filter"
    assert (await stream(sdk))[-1].choices[0].finish_reason == "content_filter"


async def test_tool_call_names_the_offered_tool_and_streams_its_arguments(
    provider: DemoProvider, sdk: AsyncOpenAI
) -> None:
    provider.scenario.tool_call = True
    async with sdk.chat.completions.stream(
        model="demo",
        messages=MESSAGES,
        tools=[{"type": "function", "function": {"name": "look_up", "parameters": {}}}],
    ) as events:
        choice = (await events.get_final_completion()).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    function = choice.message.tool_calls[0].function
    assert function.name == "look_up"
    assert orjson.loads(function.arguments) == {"city": "Zürich", "unit": "celsius"}
    plain = await sdk.chat.completions.create(model="demo", messages=MESSAGES)
    assert plain.choices[0].message.content is None
    assert plain.choices[0].message.tool_calls is not None


async def test_reasoning_comes_before_the_answer_and_is_counted(
    provider: DemoProvider, sdk: AsyncOpenAI
) -> None:
    provider.scenario.reasoning = True
    found = [chunk.choices[0].delta.model_dump() for chunk in await stream(sdk)]
    kinds = ["reasoning" if "reasoning_content" in delta else "text" for delta in found[1:-1]]
    assert kinds == sorted(kinds) and kinds.count("reasoning") == 10
    plain = await sdk.chat.completions.create(model="demo", messages=MESSAGES)
    assert plain.usage is not None and plain.usage.completion_tokens == len(kinds)
    details = plain.usage.completion_tokens_details
    assert details is not None and details.reasoning_tokens == 10


async def test_done_in_content_is_text_and_not_the_end(provider: DemoProvider, sdk: AsyncOpenAI) -> None:
    provider.scenario.done_in_content = True
    texts = [chunk.choices[0].delta.content or "" for chunk in await stream(sdk)]
    assert " data: [DONE]\n\n" in texts
    assert "".join(texts).endswith("eu-west-1.")


async def test_completions_stream_their_plain_answer(sdk: AsyncOpenAI) -> None:
    plain = await sdk.completions.create(model="demo", prompt="Once upon a time")
    chunks = await sdk.completions.create(
        model="demo", prompt="Once upon a time", stream=True, stream_options={"include_usage": True}
    )
    found = [chunk async for chunk in chunks]
    assert "".join(chunk.choices[0].text for chunk in found if chunk.choices) == plain.choices[0].text
    assert found[-1].usage == plain.usage and found[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"n": 0}, "n"),
        ({"max_tokens": True}, "max_tokens"),
    ],
)
async def test_a_malformed_request_is_a_400_naming_the_field(
    http: aiohttp.ClientSession, change: dict[str, object], param: str
) -> None:
    async with http.post("/v1/chat/completions", json={**QUESTION, **change}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
