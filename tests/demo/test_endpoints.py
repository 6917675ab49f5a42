from __future__ import annotations

import asyncio

import aiohttp
import openai
import pytest
from openai import OpenAI

from sidecar.demo.provider import DEFAULT_MODELS, DemoProvider
from tests.demo.support import QUESTION, talk


async def test_models_are_listed_and_found_by_name(provider: DemoProvider) -> None:
    def ask() -> tuple[list[str], str]:
        with OpenAI(base_url=provider.url, api_key="sk-test") as sdk:
            return [model.id for model in sdk.models.list()], sdk.models.retrieve("Qwen/Qwen3-32B").id

    listed, found = await asyncio.to_thread(ask)
    assert listed == list(DEFAULT_MODELS)
    assert found == "Qwen/Qwen3-32B"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_model_not_found_is_a_404_for_that_model(provider: DemoProvider, path: str) -> None:
    provider.scenario.model_not_found = ["gone"]
    for model, status in (("gone", b" 404 "), ("here", b" 200 ")):
        seen = await talk(provider, {**QUESTION, "input": "x", "model": model}, path)
        assert status in seen.head
        assert (b'"code":"model_not_found"' in seen.body) is (model == "gone")


async def test_a_lost_model_is_not_listed(provider: DemoProvider, http: aiohttp.ClientSession) -> None:
    provider.scenario.model_not_found = ["gpt-4o-mini"]
    async with http.get("/v1/models") as answer:
        assert "gpt-4o-mini" not in [model["id"] for model in (await answer.json())["data"]]
    async with http.get("/v1/models/gpt-4o-mini") as answer:
        assert answer.status == 404


async def test_a_prompt_beyond_the_context_is_refused(provider: DemoProvider) -> None:
    provider.scenario.context_tokens = 7
    assert b" 200 " in (await talk(provider, QUESTION)).head
    longer = {**QUESTION, "messages": [{"role": "user", "content": "x" * 29}]}
    seen = await talk(provider, longer)
    assert b" 400 " in seen.head and b'"code":"context_length_exceeded"' in seen.body


async def test_prefill_is_continued_or_refused(provider: DemoProvider) -> None:
    provider.scenario.answer = "one two three"
    body = {**QUESTION, "messages": [*QUESTION["messages"], {"role": "assistant", "content": "one t"}]}
    assert b'"content":"wo three"' in (await talk(provider, body)).body
    provider.scenario.refuse_prefill = True
    assert b" 400 " in (await talk(provider, body)).head
    assert b" 200 " in (await talk(provider, QUESTION)).head


async def test_an_unknown_url_is_a_404_in_openais_shape(http: aiohttp.ClientSession) -> None:
    for method, path in (("GET", "/v1/chat/completions"), ("POST", "/v1/nothing"), ("GET", "/")):
        async with http.request(method, path) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["message"] == f"Invalid URL ({method} {path})"


async def test_the_sdk_raises_for_an_unknown_stored_response(provider: DemoProvider) -> None:
    def ask() -> None:
        with OpenAI(base_url=provider.url, api_key="sk-test") as sdk:
            sdk.responses.retrieve("resp_unknown")

    with pytest.raises(openai.NotFoundError):
        await asyncio.to_thread(ask)
