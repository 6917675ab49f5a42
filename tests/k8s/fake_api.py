"""A small API server over real HTTP: Secrets and webhook configurations with resourceVersion, and refusals.

What it does is what the real one does: POST of what is there is a 409, PUT with an old resourceVersion is a
409, a failed `test` in a JSON Patch is a 422, a wrong token a 401, a missing right a 403.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from sidecar.k8s.api import Api
from sidecar.k8s.keeper import Names
from tests.k8s.support import applied

TOKEN = "the-token"
NAMES = Names(namespace="system", secret="tls", service="injector", webhook="ai-sidecar")
SECRETS = "/api/v1/namespaces/system/secrets"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/ai-sidecar"


class FakeApi:
    """`objects` by path; `calls` as (method, path). `broken` answers the next calls instead."""

    def __init__(self, token_file: Path) -> None:
        self.objects: dict[str, Any] = {}
        self.calls: list[tuple[str, str]] = []
        self.broken: list[tuple[int, bytes]] = []
        self.is_held: asyncio.Event | None = None
        self.token_file = token_file
        token_file.write_text(f"{TOKEN}\n")
        self._version = 0
        self._port = 0
        self._apis: list[Api] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def client(self) -> Api:
        """A client of its own, as each replica has."""
        api = Api(self.url, self.token_file)
        self._apis.append(api)
        return api

    def put(self, path: str, tree: Any) -> None:
        """Write an object, as somebody with all rights does."""
        self._version += 1
        stored = copy.deepcopy(tree)
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = stored

    def add_webhook(self, entries: int = 2, **config: Any) -> None:
        webhooks = [
            {"name": f"{index}.ai-sidecar", "clientConfig": {"service": {"name": "injector"}, **config}}
            for index in range(entries)
        ]
        self.put(WEBHOOK, {"metadata": {"name": "ai-sidecar"}, "webhooks": webhooks})

    @property
    def bundles(self) -> set[str | None]:
        """The caBundles of all entries."""
        return {entry["clientConfig"].get("caBundle") for entry in self.objects[WEBHOOK]["webhooks"]}

    @property
    def secret(self) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[f"{SECRETS}/tls"]
        return found

    def count(self, method: str) -> int:
        return sum(call[0] == method for call in self.calls)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        body = await request.read()
        if self.is_held is not None:
            await self.is_held.wait()
        if self.broken:
            status, content = self.broken.pop(0)
            return web.Response(status=status, body=content)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        tree = orjson.loads(body) if body else None
        return getattr(self, f"_{request.method.lower()}")(request.path, tree)  # type: ignore[no-any-return]

    def _get(self, path: str, _: Any) -> web.Response:
        if path not in self.objects:
            return _status(404, "not found")
        return web.json_response(self.objects[path])

    def _post(self, path: str, tree: Any) -> web.Response:
        path = f"{path}/{tree['metadata']['name']}"
        if path in self.objects:
            return _status(409, "already exists")
        self.put(path, tree)
        return web.json_response(self.objects[path], status=201)

    def _put(self, path: str, tree: Any) -> web.Response:
        if path not in self.objects:
            return _status(404, "not found")
        if tree["metadata"].get("resourceVersion") != self.objects[path]["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        self.put(path, tree)
        return web.json_response(self.objects[path])

    def _patch(self, path: str, operations: Any) -> web.Response:
        if path not in self.objects:
            return _status(404, "not found")
        try:
            self.put(path, applied(self.objects[path], operations))
        except AssertionError:
            return _status(422, "testing path failed")
        return web.json_response(self.objects[path])


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@asynccontextmanager
async def fake_api(folder: Path) -> AsyncIterator[FakeApi]:
    """A running one; its clients are closed at the end."""
    fake = FakeApi(folder / "token")
    server = web.Server(fake._handle)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake._port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        for api in fake._apis:
            await api.close()
        await runner.cleanup()
