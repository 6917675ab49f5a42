"""The bytes on the wire: what the OpenAI SDK sends and what a provider answers, built once.

Both ends import this module, so that each can check the other byte for byte. Sizes are those of short chat
traffic (400-byte request, 600-byte answer, 250-byte stream event): the smaller the message, the more the cost
of the proxy itself shows.
"""

import functools
from collections.abc import Callable, Iterable

import orjson

REQUEST_BYTES = 400
ANSWER_BYTES = 600
EVENT_BYTES = 250
EVENT_INTERVAL_S = 0.020  # 50 tokens a second, what hosted models deliver
MODEL = "deepseek-ai/DeepSeek-V4-Flash"

_FILLER = (
    "Summarise the incident, name the cause and say what the on-call engineer should look at first. " * 8
)

# As `openai.OpenAI` 2.x sends them, in its order.
_REQUEST_HEAD = """\
POST /v1/chat/completions HTTP/1.1
Host: 127.0.0.1:{port}
Accept-Encoding: gzip, deflate
Connection: keep-alive
Accept: application/json
Content-Type: application/json
User-Agent: OpenAI/Python 2.8.1
X-Stainless-Lang: python
X-Stainless-Package-Version: 2.8.1
X-Stainless-OS: Linux
X-Stainless-Arch: x64
X-Stainless-Runtime: CPython
X-Stainless-Runtime-Version: 3.11.7
OpenAI-Organization: org-Hk2mBq81Tn0vRjYdLwXs
Authorization: Bearer sk-proj-4Qm1zT7vXc9LkWn2RbYh8JdSg5FpAeUo3iKx6MtVqEwZrCyB
X-Stainless-Async: false
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
Content-Length: {length}
"""

_ANSWER_HEADERS = """\
Date: Mon, 06 Jul 2026 09:30:00 GMT
Server: cloudflare
OpenAI-Processing-Ms: 412
OpenAI-Version: 2020-10-01
X-RateLimit-Limit-Requests: 10000
X-RateLimit-Remaining-Requests: 9999
X-RateLimit-Remaining-Tokens: 1999421
X-Request-Id: req_5f0c1e9b7a3d4c62a1b8e07d9f34c6ab
Strict-Transport-Security: max-age=31536000; includeSubDomains; preload
CF-Ray: 8e21f0a9bc3d2a51-IAD
"""


def _pad(build: Callable[[str], bytes], size: int) -> bytes:
    """Fill the text in `build` until the whole has exactly `size` bytes."""
    return build(_FILLER[: size - len(build(""))])


def _head(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n"


def _chat(text: str, **extra: object) -> bytes:
    message = {"role": "user", "content": text}
    return orjson.dumps({"model": MODEL, "messages": [message], "temperature": 0.2, **extra})


def _completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 71, "completion_tokens": 48, "total_tokens": 119}
    shape = {"id": "chatcmpl-9f3a61c07be24d58", "object": "chat.completion", "created": 1783330200}
    return orjson.dumps({**shape, "model": MODEL, "choices": [choice], "usage": usage})


def _event(index: int, last: bool) -> bytes:
    """One event. The first carries text too: a proxy that holds role-only events must not look slow."""

    def build(text: str) -> bytes:
        delta = (
            {"role": "assistant", "content": f"{index} {text}"}
            if index == 0
            else {"content": f"{index} {text}"}
        )
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
        shape = {"id": "chatcmpl-9f3a61c07be24d58", "object": "chat.completion.chunk", "created": 1783330200}
        return b"data: " + orjson.dumps({**shape, "model": MODEL, "choices": [choice]}) + b"\n\n"

    return _pad(build, EVENT_BYTES)


PLAIN_REQUEST = _pad(_chat, REQUEST_BYTES)
PLAIN_ANSWER = _pad(_completion, ANSWER_BYTES)
DONE_EVENT = b"data: [DONE]\n\n"

_JSON_HEADERS = f"Content-Type: application/json\nContent-Length: {len(PLAIN_ANSWER)}\n"
_SSE_HEADERS = "Content-Type: text/event-stream; charset=utf-8\nTransfer-Encoding: chunked\n"
PLAIN_RESPONSE = _head(f"HTTP/1.1 200 OK\n{_JSON_HEADERS}{_ANSWER_HEADERS}") + PLAIN_ANSWER
STREAM_HEAD = _head(f"HTTP/1.1 200 OK\n{_SSE_HEADERS}{_ANSWER_HEADERS}")


@functools.cache
def stream_request(events: int) -> bytes:
    """The body that asks for a stream of `events` events; the upstream reads the number in max_tokens."""
    return _pad(lambda text: _chat(text, stream=True, max_tokens=events), REQUEST_BYTES)


@functools.cache
def stream_events(events: int) -> tuple[bytes, ...]:
    """The events of a stream, without [DONE]."""
    return tuple(_event(index, index == events - 1) for index in range(events))


def stream_answer(events: int) -> bytes:
    """The whole body of a stream as the caller must receive it."""
    return b"".join(stream_events(events)) + DONE_EVENT


def http_request(port: int, body: bytes) -> bytes:
    """Head and body of a request to the proxy on `port`."""
    return _head(_REQUEST_HEAD.format(port=port, length=len(body))) + body


def chunk(*parts: bytes) -> bytes:
    """Each part as a chunk of its own (RFC 9112 section 7.1)."""
    return b"".join(_chunks(parts))


def _chunks(parts: Iterable[bytes]) -> Iterable[bytes]:
    return (b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
