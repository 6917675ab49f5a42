"""Two callers: the real OpenAI SDK, and one of raw bytes for loads, which reads its answers without mercy."""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import openai
import orjson
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.support.answers import RawAnswer, read_answers
from tests.support.raw import post

QUESTION = [{"role": "user", "content": "How do rivers find the sea?"}]
PATIENCE_S = 30.0  # a call that takes longer hangs
_CONTENT = re.compile(rb'"content":"[^"]')


class Heard(NamedTuple):
    """What the SDK's caller got. Without an error the stream ended clean."""

    text: str
    finish: str | None
    model: str  # as the last chunk names it
    usage: Any
    headers: Mapping[str, str]
    seconds: float
    error: openai.OpenAIError | None

    @property
    def attempts(self) -> int:
        """How many tries the sidecar says it took; 0 where it does not say."""
        return int(self.headers.get("x-sidecar-attempts", "0"))

    @property
    def status(self) -> int:
        """The status of the head; 0 without one."""
        return self.error.status_code if isinstance(self.error, openai.APIStatusError) else 200

    @property
    def said(self) -> str:
        """The error in one line, for a check; empty without one."""
        return f"{type(self.error).__name__}: {self.error}" if self.error else ""


async def ask(url: str, model: str = "auto", *, stream: bool = True, **options: Any) -> Heard:
    """One call of the official SDK, its own retries off; errors are part of what was heard."""
    started_s = time.monotonic()
    text, finish, said_model, usage = "", None, "", None
    headers: Mapping[str, str] = {}
    error: openai.OpenAIError | None = None
    http = DefaultAsyncHttpxClient(verify=False, timeout=PATIENCE_S)  # reading authorities takes 80 ms
    async with AsyncOpenAI(base_url=url, api_key="sk-caller", max_retries=0, http_client=http) as client:
        create: Any = client.chat.completions.with_raw_response.create
        try:
            if stream:
                options = {"stream_options": {"include_usage": True}, **options}
            raw = await create(model=model, messages=QUESTION, stream=stream, **options)
            headers = raw.headers
            if stream:
                async for chunk in raw.parse():
                    said_model, usage = chunk.model, chunk.usage or usage
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        finish = choice.finish_reason or finish
            else:
                answer = raw.parse()
                said_model, usage = answer.model, answer.usage
                text, finish = answer.choices[0].message.content or "", answer.choices[0].finish_reason
        except openai.OpenAIError as caught:
            error = caught
            if isinstance(caught, openai.APIStatusError):
                headers = caught.response.headers
        except Exception as caught:  # what the SDK lets through of a broken connection
            error = openai.OpenAIError(f"{type(caught).__name__}: {caught}")
    return Heard(text, finish, said_model, usage, headers, time.monotonic() - started_s, error)


# --- the raw caller ---


class Outcome(NamedTuple):
    """One call of a load. Times are monotonic seconds."""

    is_stream: bool
    started_s: float
    ended_s: float
    first_token_s: float | None  # since the start; of plain answers their first byte
    silence_s: float  # the longest time without a byte, once there was content
    status: int  # 0: no answer that could be read
    headers: Mapping[str, str]
    text: str
    wanted: str
    is_clean: bool  # ended as a whole answer does
    error: str  # the error object's code or message, where there is one

    @property
    def is_right(self) -> bool:
        """The exact text, to a clean end."""
        return self.is_clean and self.status == 200 and self.text == self.wanted

    @property
    def is_lie(self) -> bool:
        """It looks like success and is not: a wrong text with a clean end."""
        return self.is_clean and self.status == 200 and self.text != self.wanted

    @property
    def attempts(self) -> int:
        return int(self.headers.get("x-sidecar-attempts", "0"))

    @property
    def region(self) -> str:
        return self.headers.get("x-sidecar-region", "")

    @property
    def wait_s(self) -> float:
        """Until the first content came, or the end without any."""
        return self.ended_s - self.started_s if self.first_token_s is None else self.first_token_s


class _Wire(asyncio.Protocol):
    """Collects an answer up to the end of its connection, and notes when what came."""

    def __init__(self, request: bytes, is_stream: bool) -> None:
        self.data = bytearray()
        self.content_at: float | None = None
        self.silence_s = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._is_stream = is_stream
        self._last_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.data += data
        if self.content_at is None:
            if not self._is_stream or _CONTENT.search(self.data):
                self.content_at = now
        else:
            self.silence_s = max(self.silence_s, now - self._last_at)
        self._last_at = now

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def call(port: int, model: str, wanted: str, *, stream: bool, max_tokens: int | None = None) -> Outcome:
    """Ask once on a connection of its own. `wanted` is the text it should get."""
    body: dict[str, Any] = {"model": model, "messages": QUESTION, "stream": stream}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    started_s = time.monotonic()
    wire = _Wire(post(orjson.dumps(body)), stream)
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: wire, "127.0.0.1", port)
        try:
            await asyncio.wait_for(wire.ended, PATIENCE_S)
        finally:
            transport.abort()
        answers = read_answers(bytes(wire.data))
        answer = answers[0] if answers else RawAnswer(0, [])
    except (OSError, ValueError, TimeoutError):
        answer = RawAnswer(0, [])
    text, is_clean, error = _read(answer, stream)
    return Outcome(
        stream,
        started_s,
        time.monotonic(),
        None if wire.content_at is None or answer.status != 200 else wire.content_at - started_s,
        wire.silence_s,
        answer.status,
        answer.headers,
        text,
        wanted,
        is_clean,
        error,
    )


def _read(answer: RawAnswer, stream: bool) -> tuple[str, bool, str]:
    """The text, whether it ended clean, and the error."""
    try:
        if answer.status == 200 and stream:
            return _read_events(answer)
        value = orjson.loads(answer.body)
        if "error" in value:
            return "", answer.is_whole, str(value["error"].get("code") or value["error"].get("message"))
        return value["choices"][0]["message"]["content"], answer.is_whole, ""
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return "", False, "unreadable" if answer.body else "no answer"


def _read_events(answer: RawAnswer) -> tuple[str, bool, str]:
    text, error, is_done = [], "", False
    for event in re.split(rb"\r?\n\r?\n", answer.body):
        if not event.startswith(b"data: ") or event == b"data: [DONE]":
            continue
        try:
            value = orjson.loads(event[6:])
        except orjson.JSONDecodeError:
            error = error or "garbage"
            continue
        if "error" in value:
            error = error or str(value["error"].get("code") or value["error"].get("message"))
        for choice in value.get("choices", ()):
            text.append(choice["delta"].get("content") or "")
            is_done = is_done or choice["finish_reason"] is not None
    return "".join(text), answer.is_whole and is_done and not error, error
