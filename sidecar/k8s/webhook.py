"""The injector's two aiohttp applications: the webhook, and health with metrics.

The webhook answers from the review alone, so that a slow API server or a lost Secret delays no pod.
"""

import logging
from datetime import UTC, datetime

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from sidecar.k8s.review import BadReview, answer
from sidecar.k8s.settings import Settings
from sidecar.k8s.tls import Serving

# The API server takes objects of at most 3 MiB; the review around one is small.
MAX_BODY_BYTES = 3 * 1024 * 1024 + 64 * 1024

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


def webhook_app(defaults: Settings, metrics: Metrics, health: "Health") -> web.Application:
    """POST /inject."""

    async def inject(request: web.Request) -> web.Response:
        try:
            body = await _body(request)
            answered = answer(body, defaults)
        except ConnectionResetError:
            return web.Response(status=400)  # which nobody reads: the API server has hung up
        except BadReview as error:
            metrics.reviews.labels("unreadable").inc()
            _log.warning("a review could not be read: %s", error)
            return web.Response(status=400, text=f"{error}\n")
        outcome = answered.outcome
        metrics.reviews.labels(outcome.result).inc()
        for warning in outcome.warnings:
            _log.info("%s: %s", outcome.result, warning)
        response = web.Response(body=answered.body, content_type="application/json")
        if health.is_leaving:
            # The API server keeps its connections. It asks another replica from now on, and none of its
            # requests is cut off in the middle when this one closes them.
            response.force_close()
        return response

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.post("/inject", inject)])
    return app


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
