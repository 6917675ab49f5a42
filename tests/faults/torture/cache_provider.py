"""A provider that knows every question, and says of each answer whom it was made for.

A question is a number, asked in one of two wordings of the same canonical form. Its answer is numbered words
with the question's number in them, so that another question's shows. Beside the text, in
`system_fingerprint`, which the cache repeats, stands the call it came from: its number, the model, the
wording and the caller's id.
"""

import asyncio
import socket
import struct
import time
from random import Random
from typing import Any, NamedTuple

import orjson
from aiohttp import web

Json = dict[str, Any]

WORDINGS = ("How do I boil {} eggs?", "how can I boil {} eggs")
# Some are large: to be stored (0.7 MB), beyond what a flight holds and the cache keeps (1.8 MB), and beyond
# what all buffers on the way hold, too (12 MB).
FAT, HUGE, ENDLESS = 96, 97, 98
_HUGE_WORDS = {HUGE: 60, ENDLESS: 400}
# Some are long to ask: kept, too large to be kept, and read in turns.
LONG_BYTES = {90: 100_000, 91: 300_000, 92: 600_000}
SHORT = range(4)
WORDS = 8

REFUSE_SHARE = 0.15
HANG_UP_SHARE = 0.05
CUT_SHARE = 0.03  # before each word
HEAD_S = 0.03
PACE_S = 0.005
_NO_LINGER = struct.pack("ii", 1, 0)
_USAGE = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
_FAILED = {"error": {"message": "It failed.", "type": "server_error", "param": None, "code": None}}


class Stamp(NamedTuple):
    """The call that an answer came from."""

    number: int
    model: str
    wording: int
    who: str


def words_of(question: int) -> list[str]:
    """The answer to a question."""
    padding = 30_000 if question in _HUGE_WORDS else 700_000 // WORDS if question == FAT else 0
    return [f"q{question}.{number}{'x' * padding} " for number in range(_HUGE_WORDS.get(question, WORDS))]


def document_of(question: int, wording: int, model: str, **more: Any) -> Json:
    """A chat that asks it."""
    about = {"role": "system", "content": "x" * LONG_BYTES.get(question, 10)}
    asked = {"role": "user", "content": WORDINGS[wording].format(question)}
    return {"model": model, "messages": [about, asked], **more}


def read_stamp(fingerprint: str) -> Stamp:
    """What `system_fingerprint` says."""
    number, model, wording, who = fingerprint.split("|")
    return Stamp(int(number), model, int(wording), who)


class Provider:
    """Answers on `url`: with faults, or, while it `is_kind`, slowly and without any."""

    def __init__(self, seed: int) -> None:
        self.url = ""
        self.is_kind = True
        self.asked_at: list[float] = []  # monotonic, by the number of the call
        self.questions: list[int] = []
        self.let_go = 0  # answers that nobody wanted to their end
        self._draw = Random(seed)
        self._runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request, orjson.loads(await request.read()))
        except ConnectionError:
            self.let_go += 1
            return web.Response()

    async def _answer(self, request: web.BaseRequest, document: Json) -> web.StreamResponse:
        wording, question = self._note(document)
        stamp = (len(self.asked_at) - 1, document["model"], wording, request.headers["x-request-id"])
        fingerprint = "|".join(map(str, stamp))
        fate = 1.0 if self.is_kind else self._draw.random()
        await asyncio.sleep(HEAD_S if self.is_kind else HEAD_S * self._draw.random())
        if fate < REFUSE_SHARE:
            return web.json_response(_FAILED, status=500)
        if fate < REFUSE_SHARE + HANG_UP_SHARE:
            return self._hang_up(request)
        if document.get("stream"):
            return await self._stream(request, document, fingerprint, words_of(question))
        message = {"role": "assistant", "content": "".join(words_of(question))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        beside = {"id": "c", "object": "chat.completion", "created": 1, "model": document["model"]}
        answer = {**beside, "system_fingerprint": fingerprint, "choices": [choice], "usage": _USAGE}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _note(self, document: Json) -> tuple[int, int]:
        text: str = document["messages"][1]["content"]
        question = int(text.split()[4])
        self.asked_at.append(time.monotonic())
        self.questions.append(question)
        return WORDINGS.index(text.replace(str(question), "{}")), question

    async def _stream(
        self, request: web.BaseRequest, document: Json, fingerprint: str, words: list[str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": document["model"]}
        head["system_fingerprint"] = fingerprint

        async def say(choices: list[Json], **more: Any) -> None:
            await response.write(b"data: %b\n\n" % orjson.dumps({**head, "choices": choices, **more}))

        pace_s = PACE_S if len(words) == WORDS else 0.0
        for word in ("", *words):
            if not self.is_kind and self._draw.random() < CUT_SHARE:
                self._hang_up(request)
                return response
            delta = {"content": word} if word else {"role": "assistant", "content": ""}
            await say([{"index": 0, "delta": delta, "finish_reason": None}])
            await asyncio.sleep(pace_s if self.is_kind else pace_s * self._draw.random())
        await say([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if document.get("stream_options", {}).get("include_usage") and self._draw.random() < 0.9:
            await say([], usage=_USAGE)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _hang_up(self, request: web.BaseRequest) -> web.Response:
        """With a FIN or a reset."""
        transport = request.transport
        if transport is not None:
            if self._draw.random() < 0.5:
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
        return web.Response()
