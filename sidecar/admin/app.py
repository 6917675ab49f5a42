"""The admin and health listeners: two small aiohttp applications.

Admin listens on loopback (or a Unix socket) and has Envoy's paths. A web page the operator looks at must not
be able to use it: Host names other than loopback are refused against DNS rebinding, and what changes anything
is a POST with the header `x-sidecar-admin: 1`, which no page can send without being asked first. Where other
processes share the loopback, as in a pod, changes have a Unix socket of their own (`listen.control`), and the
admin listener has no route for them.

Health serves /livez, /readyz and /metrics and nothing else, since the kubelet and Prometheus reach it from
outside the pod. Readiness never depends on providers: their outage must not take the app out of service.
"""

import logging
import re
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidecar.admin import cache_changes, cache_views, views
from sidecar.admin.state import State
from sidecar.config.addresses import Address
from sidecar.config.break_glass import parse_period, parse_reason
from sidecar.config.dump import redacted

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
_LEVELS = {"debug", "info", "warning", "error"}
_READING = frozenset(("GET", "HEAD"))
_EXPLAIN = "/explain"  # a POST that changes nothing: a question may be too long for a URL
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def health_app(state: State) -> web.Application:
    """/livez, /readyz, /metrics."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def readyz(_: web.Request) -> web.Response:
        return _ready(state)

    async def metrics(_: web.Request) -> web.Response:
        return _prometheus(state)

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


def admin_app(state: State, *, changes_at: Address | None = None) -> web.Application:
    """Envoy's admin paths and the live page; with `changes_at` only those that change nothing."""
    admin = _Admin(state)
    if changes_at is not None:
        app = web.Application(middlewares=[_refuse_pages, _refuse_changes(changes_at), _want_header])
        app.add_routes(_reads(admin))
        return app
    app = web.Application(middlewares=[_refuse_pages, _want_header])
    app.add_routes(_reads(admin) + _changes(admin))
    return app


def _reads(admin: "_Admin") -> list[web.RouteDef]:
    return [
        web.get("/", admin.page),
        web.get("/ready", admin.ready),
        web.get("/stats", admin.stats),
        web.get("/stats/prometheus", admin.prometheus),
        web.get("/clusters", admin.clusters),
        web.get("/config_dump", admin.config_dump),
        web.get("/server_info", admin.server_info),
        web.get("/break_glass", admin.break_glass),
        web.get("/cache", admin.cache),
        web.get(_EXPLAIN, admin.explain),
        web.post(_EXPLAIN, admin.explain),
    ]


def _changes(admin: "_Admin") -> list[web.RouteDef]:
    return [
        web.post("/break_glass", admin.change_break_glass),
        *(web.post(path, admin.change_cache) for path in cache_changes.CHANGES),
        web.post("/healthcheck/fail", admin.healthcheck_fail),
        web.post("/healthcheck/ok", admin.healthcheck_ok),
        web.post("/drain_listeners", admin.drain_listeners),
        web.post("/logging", admin.logging),
        web.post("/quitquitquit", admin.quitquitquit),
    ]


@web.middleware
async def _refuse_pages(request: web.Request, handler: _Handler) -> web.StreamResponse:
    if request.transport is not None and request.transport.get_extra_info("peername"):
        host = request.headers.get(hdrs.HOST, "").lower()
        name, _, port = host.rpartition(":")
        if (name if name and port.isdigit() else host) not in _LOOPBACK:
            return web.Response(status=403, text="Use a loopback host name for the admin interface.\n")
    if hdrs.ORIGIN in request.headers or request.headers.get("sec-fetch-site", "none") not in (
        "none",
        "same-origin",
    ):
        return web.Response(status=403, text="Requests from other web pages are refused.\n")
    return await handler(request)


def _refuse_changes(changes_at: Address) -> Middleware:
    """The routes are not there anyway; this says where they are."""

    @web.middleware
    async def refuse(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.method not in _READING and request.path != _EXPLAIN:
            return web.Response(
                status=403, text=f"Nothing is changed here: changes are taken on {changes_at}.\n"
            )
        return await handler(request)

    return refuse


@web.middleware
async def _want_header(request: web.Request, handler: _Handler) -> web.StreamResponse:
    if request.method not in _READING and request.headers.get("x-sidecar-admin") != "1":
        return web.Response(status=403, text="Add the header `x-sidecar-admin: 1`.\n")
    return await handler(request)


class _Admin:
    """The handlers. GETs read, POSTs change; a question of /explain may come by either."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._page = Path(__file__).with_name("page.html").read_bytes()
        self._headers = _page_headers(self._page)

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._headers)

    async def ready(self, _: web.Request) -> web.Response:
        return _ready(self._state)

    async def stats(self, request: web.Request) -> web.Response:
        wanted = request.query.get("format", "text")
        if wanted == "prometheus":
            return _prometheus(self._state)
        values = views.stats(self._state)
        if wanted == "json":
            return _json(values)
        return web.Response(text="".join(f"{name}: {value}\n" for name, value in values.items()))

    async def prometheus(self, _: web.Request) -> web.Response:
        return _prometheus(self._state)

    async def clusters(self, request: web.Request) -> web.Response:
        if request.query.get("format") == "json":
            return _json(views.clusters(self._state))
        return web.Response(text=views.clusters_text(self._state))

    async def config_dump(self, _: web.Request) -> web.Response:
        return _json(redacted(self._state.snapshot.config))

    async def server_info(self, _: web.Request) -> web.Response:
        return _json(views.server_info(self._state))

    async def break_glass(self, _: web.Request) -> web.Response:
        return _json(views.break_glass(self._state))

    async def change_break_glass(self, request: web.Request) -> web.Response:
        query, glass = request.query, self._state.break_glass
        if set(query) == {"off"}:
            glass.turn_off(_who(request))
            return _json(views.break_glass(self._state))
        if set(query) != {"for", "reason"}:
            return web.Response(status=400, text="Send ?for=30m&reason=..., or ?off.\n")
        if not glass.providers:
            text = "No provider has break_glass: true, so there is nobody to ask: add it to one first.\n"
            return web.Response(status=409, text=text)
        try:
            period_s, reason = parse_period(query["for"]), parse_reason(query["reason"])
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        glass.turn_on(period_s, reason, _who(request))
        return _json(views.break_glass(self._state))

    async def cache(self, _: web.Request) -> web.Response:
        shown = cache_views.cache(self._state)
        if shown is None:
            return web.Response(status=404, text=f"{cache_changes.NO_CACHE}\n")
        return _json(shown)

    async def change_cache(self, request: web.Request) -> web.Response:
        change = cache_changes.CHANGES[request.path]
        try:
            return _json(change(self._state, request.query, _who(request)))
        except cache_changes.Refused as refused:
            return web.Response(status=refused.status, text=f"{refused}\n")

    async def explain(self, request: web.Request) -> web.Response:
        from sidecar.explain import explain, question_of  # rarely asked

        state = self._state
        body = await request.read() if request.method == "POST" else None
        try:
            question = question_of(dict(request.query), body)
            shown = explain(
                question, state.snapshot, state.accounts, time.monotonic(), time.time(), state.tiers
            )
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        return _json(shown)

    async def healthcheck_fail(self, _: web.Request) -> web.Response:
        self._state.fail_health(True)
        return web.Response(text="OK\n")

    async def healthcheck_ok(self, _: web.Request) -> web.Response:
        self._state.fail_health(False)
        return web.Response(text="OK\n")

    async def drain_listeners(self, _: web.Request) -> web.Response:
        self._state.drain()
        return web.Response(text="OK\n")

    async def logging(self, request: web.Request) -> web.Response:
        level = request.query.get("level", "")
        if level not in _LEVELS:
            return web.Response(status=400, text=f"level must be one of {', '.join(sorted(_LEVELS))}\n")
        logging.getLogger("sidecar").setLevel(level.upper())
        return web.Response(text="OK\n")

    async def quitquitquit(self, _: web.Request) -> web.Response:
        self._state.quit()
        return web.Response(text="OK\n")


def _who(request: web.Request) -> str:
    """Whoever is at the other end, for the audit line."""
    assert request.transport is not None  # noqa: S101  # it is being answered
    return f"admin {request.remote or 'unix:' + request.transport.get_extra_info('sockname')}"


def _page_headers(page: bytes) -> dict[str, str]:
    """A policy under which the page's own script and style run, and nothing else (CSP 3, hash sources)."""

    def allowed(tag: bytes) -> str:
        pieces = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(piece).digest()).decode()}'" for piece in pieces)

    policy = (
        f"default-src 'none'; script-src {allowed(b'script')}; style-src {allowed(b'style')}; "
        "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


def _ready(state: State) -> web.Response:
    return web.Response(status=200 if state.is_ready else 503, text=f"{state.phase}\n")


def _prometheus(state: State) -> web.Response:
    from sidecar.admin.scrape import scrape  # 1 MB of modules, where nobody may ever ask
    from sidecar.telemetry.exposition import CONTENT_TYPE

    return web.Response(body=scrape(state), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _json(value: object) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, content_type="application/json")
