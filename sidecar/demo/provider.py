"""A simulated OpenAI-compatible provider on a real socket, with knobs for everything that can go wrong.

It serves the sidecar's demo and is *the* provider of the test suite: it answers as the real APIs do, keeps
what it received, counts who left, and misbehaves as its `Scenario` says. It generates no real text, keeps
nothing on disk, and is not meant to face a network.

    provider = DemoProvider("us-east-1", scenario=Scenario.instant())
    await provider.start()                  # provider.url is the base_url
    provider.scenario.cut_after_events = 3  # or PATCH /_demo/scenario on the same port
    await provider.stop()
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import Any

import orjson
from aiohttp import web

from . import faults, stream
from .chat import CHAT
from .endpoints import DIALECTS, FAULTS, RECEIVED, Endpoints, unknown_url
from .received import Received, receive
from .scenario import Scenario, ScenarioError
from .wire import Json, RequestError, error_object

DEFAULT_MODELS = (
    "deepseek-ai/DeepSeek-V4-Flash",
    "Qwen/Qwen3-32B",
    "Pro/deepseek-ai/DeepSeek-V3.2",
    "Pro/deepseek-ai/DeepSeek-R1",
    "gpt-4o-mini",
    "text-embedding-3-small",
)
_CONTROL = "/_demo/"
# Far above what a real provider takes, so that a proxy's own limits are met first.
_LINE_BYTES = 65_536
_HEADER_COUNT = 1024
_BODY_BYTES = 1 << 30

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoProvider:
    """One simulated region of a provider. `start` and `stop` may be called again and again."""

    def __init__(
        self,
        region: str = "us-east-1",
        *,
        scenario: Scenario | None = None,
        models: Collection[str] = DEFAULT_MODELS,
        api_keys: Collection[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        seed: int = 0,
        sleep: stream.Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Configuration
        self.region = region
        self.scenario = Scenario() if scenario is None else scenario
        self.models = tuple(models)
        self.api_keys = None if api_keys is None else set(api_keys)
        self._initial = Scenario()
        self._initial.restore(self.scenario)
        self._ssl_context = ssl_context
        # Seeded apart, so that the errors do not depend on how many waits were drawn before.
        self._ids = Random(f"{seed}/{region}/ids")
        self._errors = Random(f"{seed}/{region}/errors")
        self._pace = stream.Pace(self.scenario, sleep, Random(f"{seed}/{region}/waits"))
        self._endpoints = Endpoints(region, self.scenario, self.models, self._pace, self._new_id, clock)
        # What was seen
        self.requests: deque[Received] = deque(maxlen=10_000)
        self.attempts = 0  # requests so far; those on the control endpoint do not count
        self.cancelled = 0  # requests whose client left before the end
        self.connections = 0  # connections accepted so far
        self.open_requests = 0
        # The listener
        self.host = "127.0.0.1"
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[Any], asyncio.BaseProtocol] = {}

    @property
    def url(self) -> str:
        """The base_url for an OpenAI SDK."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what the control endpoint and the Anthropic SDK want."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self._ssl_context is None else 'https'}://{host}:{self.port}"

    @property
    def control_url(self) -> str:
        """Where the scenario is read (GET), changed (PATCH) and put back (DELETE)."""
        return f"{self.origin}{_CONTROL}scenario"

    @property
    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        server = None if self._runner is None else self._runner.server
        return 0 if server is None else len(server.connections)

    def reset(self) -> None:
        """Back to the scenario it was made with, and to empty records. Open connections stay."""
        self.scenario.restore(self._initial)
        self.requests.clear()
        self.attempts = self.cancelled = self.connections = 0

    # Life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Port 0 takes a free one; a port of before serves a restart."""
        if self._runner is not None:
            raise RuntimeError(f"{self.region} is already listening on port {self.port}")
        # A new application each time: aiohttp's cannot be started twice.
        runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADER_COUNT,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        server = runner.server
        if server is None:  # setup() has just made it
            raise RuntimeError("aiohttp made no server")

        def accept() -> asyncio.Protocol:
            self.connections += 1
            return server()

        try:
            self._listener = await asyncio.get_running_loop().create_server(
                accept, host, port, ssl=self._ssl_context, backlog=1024
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.host, self.port = host, self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break off whatever is open, at once: to a client, the provider died."""
        listener, runner = self._listener, self._runner
        self._listener = self._runner = None
        if listener is not None:
            listener.close()
        for task in tuple(self._serving):
            task.cancel()
        if runner is not None:
            await runner.cleanup()

    def close_idle_connections(self) -> None:
        """Close the keep-alive connections nobody is using: what a client meets as a stale connection."""
        if self._runner is not None and self._runner.server is not None:
            busy = set(self._serving.values())
            for connection in self._runner.server.connections:
                if connection not in busy:
                    connection.force_close()

    # The road of every request

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._observe], client_max_size=_BODY_BYTES)
        application.on_response_prepare.append(self._complete_head)
        self._endpoints.add_to(application.router)
        application.router.add_route("*", f"{_CONTROL}{{name}}", self._control)
        application.router.add_route("*", "/{path:.*}", unknown_url)
        return application

    @web.middleware
    async def _observe(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Record and count a request, and see to the faults before its answer."""
        if request.path.startswith(_CONTROL):
            return await handler(request)
        task = asyncio.current_task()
        if task is not None:
            self._serving[task] = request.protocol
        self.attempts += 1
        self.open_requests += 1
        try:
            return await self._serve(request, handler)
        except asyncio.CancelledError:
            if self._runner is not None:
                self.cancelled += 1
            raise
        except ConnectionError:  # met the closed connection before the cancellation did
            self.cancelled += 1
            return web.Response()
        finally:
            self.open_requests -= 1
            if task is not None:
                del self._serving[task]

    async def _serve(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        received = await receive(request, asyncio.get_running_loop().time())
        self.requests.append(received)
        dialect = DIALECTS.get(request.path, CHAT)
        request[RECEIVED] = received
        request[FAULTS] = broken = faults.broken(self.scenario)
        try:
            content_type = stream.EVENT_STREAM if _wants_stream(received) else "application/json"
            response = await faults.before_answer(request, received, broken, content_type)
            if response is not None:
                return response
            if self.api_keys is not None and received.api_key not in self.api_keys:
                raise RequestError(401, "Incorrect API key provided.")
            if faults.should_fail(received, self.scenario, self._errors):
                await self._pace.wait(self.scenario.head_s)
                return faults.error_response(self.scenario, dialect)
            return await handler(request)
        except RequestError as error:
            return faults.json_response(dialect.error(error.status, error.error), error.status)

    async def _complete_head(self, request: web.Request, response: web.StreamResponse) -> None:
        """The headers every answer of a provider carries, and those the scenario adds or takes away."""
        headers, scenario = response.headers, self.scenario
        headers["server"] = "demo"
        if request.path.startswith(_CONTROL):
            return
        limit = scenario.ratelimit_limit_requests
        remaining = scenario.ratelimit_remaining_requests
        tokens = scenario.ratelimit_remaining_tokens
        headers["x-request-id"] = f"req_{self._new_id()}"
        headers["openai-processing-ms"] = str(round((scenario.head_s + scenario.first_token_s) * 1000))
        headers["openai-version"] = "2020-10-01"
        headers["x-demo-region"] = self.region
        headers["x-ratelimit-limit-requests"] = str(limit)
        headers["x-ratelimit-limit-tokens"] = "2000000"
        left = limit - self.open_requests
        headers["x-ratelimit-remaining-requests"] = str(max(0, left if remaining is None else remaining))
        headers["x-ratelimit-remaining-tokens"] = str(1_999_000 if tokens is None else tokens)
        headers["x-ratelimit-reset-requests"] = scenario.ratelimit_reset_requests
        headers["x-ratelimit-reset-tokens"] = "6ms"
        headers.update(scenario.response_headers)
        if scenario.omit_content_type:
            headers.popall("content-type", None)
        if scenario.close_after_response:
            # Both: aiohttp has written the connection header by now, and closes by the flag.
            headers["connection"] = "close"
            response.force_close()

    def _new_id(self) -> str:
        return f"{self._ids.getrandbits(96):024x}"

    # Control

    async def _control(self, request: web.Request) -> web.StreamResponse:
        match request.match_info["name"], request.method:
            case "stats", "GET":
                return faults.json_response(self.stats())
            case "scenario", "PATCH":
                try:
                    changes = orjson.loads(await request.read())
                    if not isinstance(changes, dict):
                        raise ScenarioError("the body must be a JSON object of knobs")
                    self.scenario.update(changes)
                except (orjson.JSONDecodeError, ScenarioError) as error:
                    return faults.json_response({"error": error_object(400, str(error))}, 400)
            case "scenario", "DELETE":
                self.scenario.restore(self._initial)
            case "scenario", "GET":
                pass
            case _:
                return await unknown_url(request)
        return faults.json_response(self.scenario.as_dict())

    def stats(self) -> Json:
        """The counters, as the control endpoint shows them."""
        return {
            "region": self.region,
            "attempts": self.attempts,
            "open_requests": self.open_requests,
            "cancelled": self.cancelled,
            "connections": self.connections,
            "open_connections": self.open_connections,
        }


def _wants_stream(received: Received) -> bool:
    try:
        return received.json().get("stream") is True
    except RequestError:
        return False
