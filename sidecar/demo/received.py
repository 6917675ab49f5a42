"""What a simulated provider received, kept for whoever asks: exact bytes, headers in raw case."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from aiohttp import web

from .wire import Json, RequestError

# An upload larger than this is streamed and hashed, but only its beginning is kept.
UPLOAD_KEPT_BYTES = 1 << 20


class Received(msgspec.Struct):
    """One request. `at` is the event loop's clock, in seconds."""

    method: str
    path: str  # the raw target, query included
    headers: list[tuple[str, str]]
    body: bytes
    at: float

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    @property
    def api_key(self) -> str | None:
        """The key in `authorization: Bearer`, `x-api-key` or `api-key`."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        return self.header("x-api-key") or self.header("api-key")

    def json(self) -> Json:
        """The body as a JSON object; raises the 400 OpenAI answers when it is none."""
        try:
            value: Any = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            message = "We could not parse the JSON body of your request."
            raise RequestError(400, message) from None
        if not isinstance(value, dict):
            raise RequestError(400, "The JSON body of your request must be an object.")
        return value

    def model(self) -> str | None:
        """The model asked for, where the body names one."""
        try:
            model = self.json().get("model")
        except RequestError:
            return None
        return model if isinstance(model, str) else None


async def receive(request: web.Request, at: float) -> Received:
    """Take down a request. The body of an upload or a WebSocket is left for its handler to stream."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    body = b"" if is_streamed(request) else await request.read()
    return Received(request.method, request.raw_path, headers, body, at)


def is_streamed(request: web.Request) -> bool:
    """Whether the body goes past in pieces instead of being read whole."""
    return request.content_type.startswith("multipart/") or "upgrade" in request.headers
