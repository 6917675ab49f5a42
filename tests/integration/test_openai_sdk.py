"""The official SDKs work through the sidecar as they do against the provider itself.

Nothing of the SDKs is replaced: real clients, real sockets, a simulated provider behind. What the client gets
through the sidecar is compared with what the provider says when it is asked directly.
"""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import orjson
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from sidecar.demo.provider import DemoProvider
from tests.support.demo import QUESTION, STREAM
from tests.support.process import sidecar_process, write_config
from tests.support.running import Running, config_for

MIB = 1 << 20
PROMPT = "How do rivers find the sea — 河流?"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
async def through(sidecar: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=sidecar.url, api_key="sk-caller", max_retries=0) as client:
        yield client


@pytest.fixture
async def direct(provider: DemoProvider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.url, api_key="sk-caller", max_retries=0) as client:
        yield client


async def ask_chat(client: AsyncOpenAI) -> str:
    answer = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}]
    )
    return answer.choices[0].message.content or ""


async def test_chat_has_the_text_usage_and_model_the_provider_gives(
    through: AsyncOpenAI, direct: AsyncOpenAI
) -> None:
    here, there = [
        await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}], temperature=0.5, n=2
        )
        for client in (through, direct)
    ]
    assert [c.message.content for c in here.choices] == [c.message.content for c in there.choices]
    assert len(here.choices) == 2
    assert (here.usage, here.model) == (there.usage, there.model)


async def test_streamed_chat_joins_to_the_plain_text(through: AsyncOpenAI, direct: AsyncOpenAI) -> None:
    stream = await through.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == await ask_chat(direct)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_stream_that_asks_for_usage_ends_with_it(through: AsyncOpenAI) -> None:
    stream = await through.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    tokens = sum(bool(c.choices and c.choices[0].delta.content) for c in chunks)
    assert chunks[-1].usage.completion_tokens == tokens


async def test_the_blocking_client_works_from_a_thread(sidecar: Running, direct: AsyncOpenAI) -> None:
    def talk() -> tuple[str, str]:
        with OpenAI(base_url=sidecar.url, api_key="sk-caller", max_retries=0) as client:
            plain = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}]
            )
            stream = client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}], stream=True
            )
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return plain.choices[0].message.content or "", streamed

    expected = await ask_chat(direct)
    assert await asyncio.to_thread(talk) == (expected, expected)


async def test_completions_plain_and_streamed_agree(through: AsyncOpenAI) -> None:
    plain = await through.completions.create(model="gpt-4o-mini", prompt=PROMPT)
    stream = await through.completions.create(model="gpt-4o-mini", prompt=PROMPT, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == plain.choices[0].text != ""


async def test_embeddings_come_as_the_sdk_asks_by_default_in_base64(
    through: AsyncOpenAI, direct: AsyncOpenAI, provider: DemoProvider
) -> None:
    here, there = [
        await client.embeddings.create(model="text-embedding-3-small", input=[PROMPT, "b"])
        for client in (through, direct)
    ]
    assert [e.embedding for e in here.data] == [e.embedding for e in there.data]
    assert orjson.loads(provider.requests[0].body)["encoding_format"] == "base64"


async def test_responses_plain_streamed_and_continued(through: AsyncOpenAI) -> None:
    plain = await through.responses.create(model="gpt-4o-mini", input=PROMPT)
    stream = await through.responses.create(model="gpt-4o-mini", input=PROMPT, stream=True)
    events = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == plain.output_text != ""
    assert events[-1].type == "response.completed"
    assert (await through.responses.retrieve(plain.id)).output_text == plain.output_text
    again = await through.responses.create(model="gpt-4o-mini", input="more", previous_response_id=plain.id)
    assert again.output_text


async def test_moderations_and_images(through: AsyncOpenAI) -> None:
    judged = await through.moderations.create(model="omni-moderation-latest", input="an attack")
    drawn = await through.images.generate(model="gpt-image-1", prompt="a river", n=2)
    assert judged.results[0].flagged
    assert drawn.data is not None
    assert [bool(image.b64_json) for image in drawn.data] == [True, True]


async def test_models_are_listed_and_one_with_a_slash_is_found(through: AsyncOpenAI) -> None:
    names = [model.id async for model in through.models.list()]
    assert "Qwen/Qwen3-32B" in names
    assert (await through.models.retrieve("Qwen/Qwen3-32B")).id == "Qwen/Qwen3-32B"


async def test_an_audio_upload_is_transcribed(through: AsyncOpenAI) -> None:
    heard = await through.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF" * 1000))
    assert heard.text == "A recording of 4000 bytes, heard in us-east-1."


async def test_a_file_over_max_body_is_streamed_through_in_bounded_memory(
    provider: DemoProvider, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (48 * MIB // 256)
    config = write_config(tmp_path / "config", config_for(provider.url, listen={"max_body": "1MiB"}))
    async with (
        sidecar_process(config) as process,
        AsyncOpenAI(base_url=process.url, api_key="sk-caller", max_retries=0) as client,
    ):
        before = process.resident_bytes()
        kept = await client.files.create(file=("big.jsonl", content), purpose="batch")
        grown = process.peak_bytes() - before
    assert (kept.model_extra or {})["sha256"] == hashlib.sha256(content).hexdigest()
    assert kept.bytes == len(content)
    assert grown < 16 * MIB, f"grew by {grown} bytes"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_error_raises_its_class_with_the_providers_own_words(
    through: AsyncOpenAI,
    provider: DemoProvider,
    status: int,
    expected: type[openai.APIStatusError],
    stream: bool,
) -> None:
    provider.scenario.update(
        {
            "error_ratio": 1.0,
            "error_status": status,
            "error_message": "the provider's own words",
            "error_code": "a_code",
            "response_headers": {"x-request-id": "req_of_the_provider"},
        }
    )
    with pytest.raises(openai.APIStatusError) as raised:
        await through.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}], stream=stream
        )
    error = raised.value
    assert type(error) is expected
    assert (error.status_code, error.request_id) == (status, "req_of_the_provider")
    assert (error.code, "the provider's own words" in error.message) == ("a_code", True)


async def test_a_refusal_of_the_sidecar_raises_the_class_of_its_status(sidecar: Running) -> None:
    async with AsyncOpenAI(base_url=sidecar.url, api_key="sk", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="", messages=[{"role": "user", "content": PROMPT}])
    assert (raised.value.param, raised.value.type) == ("model", "invalid_request_error")


async def test_anthropic_messages_plain_and_streamed(sidecar: Running, provider: DemoProvider) -> None:
    base_url = sidecar.url.removesuffix("/v1")
    async with AsyncAnthropic(base_url=base_url, api_key="sk-caller", max_retries=0) as client:
        plain = await client.messages.create(
            model="claude", max_tokens=500, messages=[{"role": "user", "content": PROMPT}]
        )
        async with client.messages.stream(
            model="claude", max_tokens=500, messages=[{"role": "user", "content": PROMPT}]
        ) as stream:
            streamed = await stream.get_final_message()
    (said,), (said_again,) = plain.content, streamed.content
    assert said.type == said_again.type == "text"
    assert said.text == said_again.text != ""
    assert streamed.usage.output_tokens == plain.usage.output_tokens
    assert {request.header("x-api-key") for request in provider.requests} == {"sk-provider-secret"}


async def curl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec("curl", "-sS", *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


@needs_curl
async def test_curl_gets_a_plain_answer(sidecar: Running) -> None:
    out = await curl(f"{sidecar.url}/chat/completions", "--json", orjson.dumps(QUESTION).decode())
    assert orjson.loads(out)["choices"][0]["message"]["content"].startswith("About “How do rivers")


@needs_curl
async def test_curl_gets_a_stream_whole(sidecar: Running) -> None:
    out = await curl("-N", f"{sidecar.url}/chat/completions", "--json", orjson.dumps(STREAM).decode())
    events = out.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert len(events) > 20
