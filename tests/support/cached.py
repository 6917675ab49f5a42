"""Requests to a sidecar with a cache, and what their answers say of it."""

from typing import Any

import aiohttp

from tests.support.running import Running

PROMPT = "How do I boil an egg?"
SAME = "how can I boil an egg"  # in the same form


def body(prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    """A chat of one question."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], **more}


async def post(
    http: aiohttp.ClientSession, to: Running, document: dict[str, Any], **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """The answer, read to its end. Header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(f"{to.url}/chat/completions", json=document, headers=named) as response:
        return response, await response.read()


async def status(http: aiohttp.ClientSession, to: Running, document: dict[str, Any], **headers: str) -> str:
    """The answer's cache-status."""
    response, _ = await post(http, to, document, **headers)
    return response.headers.get("cache-status", "")
