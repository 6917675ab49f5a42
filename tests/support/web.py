"""A server of one handler, as a test's provider behind aiohttp."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web


@contextlib.asynccontextmanager
async def serving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Have every request to a free port answered by `handle`, and give the base URL, with /v1. Over TLS the
    host is localhost, as it stands in certificates."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        origin = "http://127.0.0.1" if tls is None else "https://localhost"
        yield f"{origin}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
