"""The proxy a good developer writes with aiohttp in an afternoon: the yardstick for "what does ours save".

`python -m tests.bench.textbook PORT UPSTREAM ACCESS_LOG`. Nothing in it is slow on purpose: uvloop, one
ClientSession without limits, streamed answers, no decompression, the body parsed once.
"""

import json
import logging
import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

_UPSTREAM = web.AppKey("upstream", str)
_SESSION = web.AppKey("session", ClientSession)
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# The client library sets these for the upstream.
_NOT_SENT_ON = _HOP_BY_HOP | {"host", "content-length"}


def _forwarded(headers: CIMultiDictProxy[str], dropped: set[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


async def proxy(request: web.Request) -> web.StreamResponse:
    """Forward one call and stream the answer back."""
    body = await request.read()
    try:
        call = json.loads(body)
        model, is_stream = call["model"], bool(call.get("stream"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return web.json_response(
            {"error": {"message": "not a chat request", "type": "invalid_request_error"}}, status=400
        )
    request["model"], request["stream"] = model, is_stream

    url = request.app[_UPSTREAM] + request.rel_url.raw_path_qs
    headers = _forwarded(request.headers, _NOT_SENT_ON)
    session = request.app[_SESSION]
    async with session.request(
        request.method, url, data=body, headers=headers, allow_redirects=False
    ) as answer:
        response = web.StreamResponse(status=answer.status, headers=_forwarded(answer.headers, _HOP_BY_HOP))
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def ready(_: web.Request) -> web.Response:
    """Readiness."""
    return web.Response(text="ok")


def build(upstream: str) -> web.Application:
    """The application in front of `upstream`."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        timeout = ClientTimeout(total=None, sock_connect=5, sock_read=60)
        async with ClientSession(
            connector=TCPConnector(limit=0), timeout=timeout, auto_decompress=False
        ) as client:
            app[_SESSION] = client
            yield

    app = web.Application(client_max_size=32 * 1024 * 1024)
    app[_UPSTREAM] = upstream
    app.cleanup_ctx.append(session)
    app.router.add_get("/readyz", ready)
    app.router.add_route("*", "/v1/{path:.*}", proxy)
    return app


def main() -> None:
    """Serve until killed."""
    port, upstream, access_log = sys.argv[1:]
    logging.basicConfig(filename=access_log, level=logging.INFO, format="%(message)s")
    web.run_app(
        build(upstream),
        host="127.0.0.1",
        port=int(port),
        loop=uvloop.new_event_loop(),
        print=None,
        access_log_format='%a "%r" %s %b %Tf',
    )


if __name__ == "__main__":
    main()
