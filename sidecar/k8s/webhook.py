"""The injector's two aiohttp applications: the webhook, and health with metrics.

The webhook answers from the review alone, so that a slow API server or a lost Secret delays no pod.
"""

import logging
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from sidecar.k8s.review import MAX_WARNINGS, Answer, BadReview, answer, fit
from sidecar.k8s.settings import Settings
from sidecar.k8s.tls import Serving
from sidecar.log_limit import LogLimit

# The API server takes objects of at most 3 MiB; the review around one is small.
MAX_BODY_BYTES = 3 * 1024 * 1024 + 64 * 1024
MAX_LINE_CHARS = 1000

_log = logging.getLogger("sidecar.injector")


class Metrics:
    """What the injector counts."""

    def __init__(self, serving: Serving) -> None:
        self.registry = CollectorRegistry()
        self.reviews = Counter(
            "sidecar_injector_reviews",
            "Admission reviews by what became of them: injected, skipped, refused, unreadable.",
            ["result"],
            registry=self.registry,
        )
        for result in ("injected", "skipped", "refused", "unreadable"):
            self.reviews.labels(result)
        expires = Gauge(
            "sidecar_injector_certificate_expires_seconds",
            "Seconds until the certificate in use ends; 0 when there is none.",
            registry=self.registry,
        )
        expires.set_function(lambda: _left_s(serving))


def _left_s(serving: Serving) -> float:
    return (serving.expires - datetime.now(UTC)).total_seconds() if serving.expires else 0.0


def webhook_app(
    defaults: Settings, metrics: Metrics, health: "Health", clock: Callable[[], float] = time.monotonic
) -> web.Application:
    """POST /inject."""
    limit = LogLimit()

    async def inject(request: web.Request) -> web.Response:
        try:
            body = await _body(request)
            answered = answer(body, defaults)
        except ConnectionResetError:
            return web.Response(status=400)  # which nobody reads: the API server has hung up
        except BadReview as error:
            metrics.reviews.labels("unreadable").inc()
            # One key for all: what is wrong with it may differ each time, and anybody may send it.
            _say(limit, clock(), "unreadable", logging.WARNING, f"a review could not be read: {error}")
            return web.Response(status=400, text=f"{error}\n")
        metrics.reviews.labels(answered.outcome.result).inc()
        _tell(answered, limit, clock())
        response = web.Response(body=answered.body, content_type="application/json")
        if health.is_leaving:
            # The API server keeps its connections. It asks another replica from now on, and none of its
            # requests is cut off in the middle when this one closes them.
            response.force_close()
        return response

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.post("/inject", inject)])
    return app


def _tell(answered: Answer, limit: LogLimit, now_s: float) -> None:
    """Log what was to be said of a pod, and whose it is: the answer's warnings reach who has asked for it,
    which is for most pods a controller that shows them to nobody."""
    outcome, subject = answered.outcome, answered.subject
    if subject is None:
        return
    said = fit("; ".join(outcome.warnings[:MAX_WARNINGS]), MAX_LINE_CHARS)
    level = logging.INFO if outcome.result == "injected" else logging.WARNING
    _say(limit, now_s, (subject.origin, said), level, f"{outcome.result}: {subject}: {said}")


def _say(limit: LogLimit, now_s: float, key: Hashable, level: int, line: str) -> None:
    held = limit.held(key, now_s)
    if held is not None:
        _log.log(level, "%s%s", line, f" (and {held} more like it since it was last logged)" if held else "")


async def _body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send an AdmissionReview as application/json.\n")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        text = f"The review is larger than {MAX_BODY_BYTES} bytes; Kubernetes takes no such pod.\n"
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, text=text) from None


class Health:
    """/livez /readyz /metrics. Ready is who has a certificate and is not leaving."""

    def __init__(self, serving: Serving, metrics: Metrics) -> None:
        self._serving = serving
        self._metrics = metrics
        self.is_leaving = False

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._export),
            ]
        )
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.is_leaving:
            return web.Response(status=503, text="leaving\n")
        if not self._serving.is_ready:
            return web.Response(status=503, text="no certificate yet\n")
        return web.Response(text="ready\n")

    async def _export(self, _: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(self._metrics.registry), headers=headers)
