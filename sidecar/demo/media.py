"""The endpoints of a simulated provider that generate no text: embeddings, moderations, images, uploads,
and the echo that stands in for realtime.
"""

from __future__ import annotations

import hashlib
from typing import cast

from aiohttp import MultipartReader, StreamReader, WSMsgType, web

from .answers import as_base64_floats, count_prompt_tokens, embed
from .received import UPLOAD_KEPT_BYTES, Received
from .wire import Json, RequestError, count_of, field_of, model_of, text_of

_DIMENSIONS = 256
_DIMENSIONS_MAX = 4096
# A 1x1 PNG.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def embeddings(body: Json) -> Json:
    """Unit vectors made from the text's hash, as floats or in base64."""
    model = model_of(body)
    texts = _texts(body)
    dimensions = min(count_of(body, "dimensions", _DIMENSIONS) or _DIMENSIONS, _DIMENSIONS_MAX)
    vectors = [embed(text, dimensions) for text in texts]
    as_base64 = field_of(body, "encoding_format", str, "float") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": as_base64_floats(vector) if as_base64 else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(count_prompt_tokens(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def moderations(body: Json) -> Json:
    """Flags a text that contains the word "attack", and no other."""
    categories = ("harassment", "hate", "self-harm", "sexual", "violence")
    results = []
    for text in _texts(body):
        flagged = "attack" in text.lower()
        results.append(
            {
                "flagged": flagged,
                "categories": {name: flagged and name == "violence" for name in categories},
                "category_scores": {
                    name: 0.97 if flagged and name == "violence" else 0.001 for name in categories
                },
                "category_applied_input_types": {name: ["text"] for name in categories},
            }
        )
    return {"id": "modr-demo", "model": body.get("model") or "omni-moderation-latest", "results": results}


def images(body: Json, created: int) -> Json:
    """One grey pixel for every image asked for."""
    prompt = field_of(body, "prompt", str)
    if prompt is None:
        raise RequestError(400, "you must provide a prompt parameter", param="prompt")
    n = min(count_of(body, "n", 1) or 1, 10)
    return {"created": created, "data": [{"b64_json": _PIXEL, "revised_prompt": prompt} for _ in range(n)]}


def _texts(body: Json) -> list[str]:
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return given
        if all(isinstance(item, int) for item in given):  # one text as token ids
            return [repr(given)]
        return [text_of([item]) if isinstance(item, dict) else repr(item) for item in given]
    raise RequestError(400, "'input' must be a text or a list of texts.", param="input")


class _CopyingReader:
    """The part of aiohttp's stream that a multipart reader uses, keeping a copy of how it began."""

    def __init__(self, content: StreamReader) -> None:
        self.copy = bytearray()
        self._content = content
        self._position = 0

    async def read(self, size: int = -1) -> bytes:
        return self._keep(await self._content.read(size))

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        return self._keep(await self._content.readline(max_line_length=max_line_length))

    def at_eof(self) -> bool:
        return self._content.at_eof()

    def unread_data(self, data: bytes) -> None:
        # The multipart reader looks ahead for its boundary and hands back what came after.
        self._position -= len(data)
        del self.copy[self._position :]
        self._content.unread_data(data)

    def _keep(self, data: bytes) -> bytes:
        if self._position == len(self.copy):
            self.copy += data[: UPLOAD_KEPT_BYTES - len(self.copy)]
        self._position += len(data)
        return data


async def upload(request: web.Request, received: Received) -> tuple[int, str, Json]:
    """Stream an upload through: its file's size and SHA-256, and the form's other fields."""
    if not request.content_type.startswith("multipart/"):
        raise RequestError(400, "The request must be multipart/form-data.")
    source = _CopyingReader(request.content)
    digest, size, fields = hashlib.sha256(), 0, Json()
    try:
        reader = MultipartReader(request.headers, cast(StreamReader, source))
        while (part := await reader.next()) is not None:
            if isinstance(part, MultipartReader):
                raise RequestError(400, "Nested multipart is not supported.")
            if part.filename is None:
                fields[part.name or ""] = (await part.read()).decode(errors="replace")
                continue
            fields["filename"] = part.filename
            while chunk := await part.read_chunk(65_536):
                digest.update(chunk)
                size += len(chunk)
        while not source.at_eof():  # what follows the last boundary
            await source.read(65_536)
    except ValueError as error:
        raise RequestError(400, f"The multipart body is malformed: {error}") from None
    finally:
        received.body = bytes(source.copy)
    return size, digest.hexdigest(), fields


async def echo(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that says everything back."""
    socket = web.WebSocketResponse(protocols=("realtime",), max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket
