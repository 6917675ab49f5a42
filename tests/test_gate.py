"""Who is let in by the head of the request alone."""

import re

import orjson
import pytest

from tests.support.demo import QUESTION
from tests.support.http1 import ask
from tests.support.raw import post, raw_provider
from tests.support.running import config_for, running

HOSTS = ["ai-gateway", "ai-gateway.team.svc.cluster.local"]


async def status_for(host: bytes) -> int:
    """What a request with this Host gets, of a gateway that is called HOSTS."""
    request = post(orjson.dumps(QUESTION)).replace(b"Host: localhost", b"Host: " + host)
    async with (
        raw_provider() as provider,
        running(config_for(provider.url, listen={"hosts": HOSTS})) as sidecar,
    ):
        return (await ask(sidecar.port, request)).status


@pytest.mark.parametrize(
    "host",
    [
        b"ai-gateway",
        b"ai-gateway.",
        b"ai-gateway.team.svc.cluster.local",
        b"ai-gateway.team.svc.cluster.local.",
        b"AI-Gateway.Team.svc.cluster.local.:80",
        b"localhost.",
        b"127.0.0.1:8080",
        b"[::1]:8080",
    ],
)
async def test_a_configured_or_loopback_name_is_let_in_with_the_roots_dot_or_without(host: bytes) -> None:
    assert await status_for(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"ai-gateway..",
        b".ai-gateway",
        b".",
        b"..",
        b"",
        b"ai-gateway.:",
        b"ai-gateway.80",
        b"ai-gateway.:80.",
        b"evil.example.",
        b"ai-gateway.team.svc.cluster.local.evil.example",
    ],
)
async def test_one_dot_is_taken_away_and_nothing_else(host: bytes) -> None:
    assert await status_for(host) in (400, 403)


# --- one path for each inference call ---

BODY = orjson.dumps(QUESTION)


async def asked_with(*requests: bytes) -> tuple[list[int], int]:
    """The statuses of these requests, each on a connection of its own, and how many came through."""
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        statuses = [(await ask(sidecar.port, request)).status for request in requests]
        return statuses, len(provider.requests)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/Chat/Completions",
        "/v1/chat/completionS",
        "/V1/chat/completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/%63ompletions",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions%20",
        "/v1/models/x%2F..%2F..%2Fchat%2Fcompletions",
        "/v1/v1/chat/completions",
        "/v1/beta/chat/completions",
        "/v1/openai/deployments/gpt/chat/completions",
        "/v1/deployments/gpt/chat/completions",
        "/v1/engines/davinci/completions",
        "/v1/Engines/davinci/Embeddings",
        "/v1/anthropic/v1/messages",
        "/v1/RESPONSES",
        "/v1/Messages",
        "/v1/Audio/Speech",
        "/v1/images/Generations",
    ],
)
async def test_an_inference_call_by_another_path_does_not_pass_unread(path: str) -> None:
    by_length = post(BODY, path)
    chunked = post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), path)
    chunked = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", chunked)
    upload = by_length.replace(b"application/json", b"multipart/form-data; boundary=b")
    assert await asked_with(by_length, chunked, upload) == ([404, 404, 404], 0)


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"PATCH", b"DELETE"])
async def test_nor_does_one_by_another_method(method: bytes) -> None:
    request = post(BODY).replace(b"POST", method, 1)
    assert await asked_with(request) == ([404], 0)


async def test_who_misspells_a_path_is_told_the_right_one() -> None:
    async with raw_provider() as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, post(BODY, "/v1/Chat/Completions?x=1"))
    error = orjson.loads(answer.body)["error"]
    assert error["code"] == "unknown_url"
    assert error["message"].endswith("POST /v1/chat/completions.")


async def test_what_only_sounds_alike_is_passed_on() -> None:
    posted = (
        "/v1/chat/completions/chatcmpl-1",
        "/v1/threads/thread_1/messages",
        "/v1/messages/batches",
        "/v1/messages/count_tokens",
        "/v1/fim/completions",
        "/v1/images/embeddings",
        "/v1/responses/resp_1/cancel",
        "/v1/audio/transcriptions",
    )
    listed = post(b"", "/v1/chat/completions").replace(b"POST", b"GET").replace(b"Content-Length: 0\r\n", b"")
    requests = [post(BODY, path) for path in posted]
    assert await asked_with(*requests, listed) == ([200] * (len(posted) + 1), len(posted) + 1)
