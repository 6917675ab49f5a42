"""One request, top to bottom: the only file that knows the order.

    connection --admit--> refused (400 403 405 413 431), or to the aiohttp lane, or read whole, then
    serve: identify the caller -> read the call -> find its provider -> attempt -> relay -> settle

Decisions are plain calls; the flow waits in two places only, for an endpoint's answer to be known good and
for its end. In between the bytes go from connection to connection without it (answer.py).
"""

import re
import time
from typing import Protocol

from sidecar.answer import PLAIN, STREAM, Answer
from sidecar.clock import Ticker
from sidecar.errors import ClientGone, ProxyError, Retry, Unreachable, refuse
from sidecar.exchange import Exchange, Reply
from sidecar.headers import own_lines
from sidecar.openai import KINDS, Call, ask_for_usage, read_call, usage_of
from sidecar.runtime import Snapshot
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.provider import Provider

METHODS = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"))
_LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]"))
# Plain segments only: no escapes, dots, doubled slashes; a model's name may have an escaped slash in it.
_PATH = re.compile(r"/v1(/(?!\.{1,2}(/|$))[A-Za-z0-9._~:@!$&'()*+,=-]+)+")
_MODEL_PATH = re.compile(
    r"/v1/models/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*(%2[Ff][A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)*"
)
_REPLAYED_METHODS = frozenset((b"GET", b"HEAD"))
_REUSED_ONLY = Retry.REUSED_ONLY
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))


class Live(Protocol):
    """Where the current snapshot is; a reload puts another one in its place."""

    snapshot: Snapshot


class Proxy:
    """The gate of the data listeners and the life of every request."""

    def __init__(self, live: Live, ticker: Ticker, metrics: Metrics, log: AccessLog) -> None:
        self._live = live
        self._ticker = ticker
        self._metrics = metrics
        self._log = log

    @property
    def max_body_bytes(self) -> int:
        return self._live.snapshot.max_body_bytes

    # --- when the head is read ------------------------------------------------------------------------

    def admit(self, x: Exchange) -> Reply | None:
        """Judge a request by its head. The path is compared as it was sent, never decoded or joined."""
        snapshot = self._live.snapshot
        if x.method == b"POST":
            x.kind = KINDS.get(x.path, "")
        if x.head.admitted_by is snapshot:
            return None
        refusal = _judge_head(x, snapshot)
        if refusal is None:
            x.head.admitted_by = snapshot
        return refusal

    def wants_lane(self, x: Exchange) -> bool:
        """Uploads and WebSockets: everything with a body that is no JSON, and every upgrade to one."""
        if x.kind or self._live.snapshot.default is None or not _is_served(x.path):
            return False
        fields = x.fields
        if fields.get(b"upgrade", b"").lower() == b"websocket" and x.method == b"GET":
            return b"upgrade" in fields.get(b"connection", b"").lower()
        content_type = fields.get(b"content-type", b"application/json").lower()
        return x.method in _BODY_METHODS and not content_type.startswith((b"application/json", b"text/plain"))

    def refused(self, x: Exchange) -> None:
        """Count and log a request that never came to be served."""
        self.settle(x)

    # --- when the request is whole --------------------------------------------------------------------

    async def serve(self, x: Exchange) -> None:
        """Answer one request."""
        snapshot = self._live.snapshot
        client = x.client
        answer: Answer | None = None
        self._metrics.in_flight += 1
        try:
            # Identify the caller.
            x.team = snapshot.team

            # Read the body: which model, and is it a stream?
            call: Call | None = None
            if x.kind:
                read = read_call(x.body)
                if isinstance(read, Reply):
                    return client.reply(x, read)
                call = read
                x.model, x.stream = call.model, call.stream

            # Route: the provider of the model; what is not inference goes to the provider of "*".
            if call is not None:
                provider = snapshot.find(call.model)
            else:
                provider = snapshot.lists_models if x.path.startswith("/v1/models") else snapshot.default
            if call is not None and provider is None:
                return client.reply(x, _unknown_model(call.model))
            if provider is None or not (x.kind or _is_served(x.path)):
                return client.reply(x, _UNKNOWN_PATH)
            x.provider = provider.name

            # Attempt: the closest endpoint first, the next one only while nothing was sent.
            body = x.body
            if call is not None and call.stream and provider.wants_usage and not call.asks_for_usage:
                asking = ask_for_usage(body, call) if x.kind in ("chat", "completions") else body
                call.strip_usage = asking is not body
                body = asking
            answer = await self._attempt(x, call, provider, body)
            if answer.error is not None:
                raise answer.error

            # Relay: whole in one write where it is whole already, else by callback to its end.
            lines = [*answer.lines, own_lines(x)]
            if answer.is_whole and answer.mode is PLAIN:
                client.respond(x, answer.status, lines, answer.body)
            else:
                client.begin(x, answer.status, lines, answer.length)
                self._metrics.streams_open += 1
                try:
                    answer.relay()
                    await answer.done
                finally:
                    self._metrics.streams_open -= 1
        except ClientGone:
            x.flag = "DC"
        except ProxyError as error:
            x.flag = error.flag
            if answer is not None and x.status:
                answer.lose(error)  # an answer in progress: its stream ends in an error event
            elif x.is_open:
                client.reply(x, refuse(error.status, error.code, error.message, flag=error.flag))
        finally:
            self._metrics.in_flight -= 1
            if answer is not None:
                answer.cancel()
                _read_usage(x, answer)
            self.settle(x)

    async def _attempt(self, x: Exchange, call: Call | None, provider: Provider, body: bytes) -> Answer:
        """Send the request until an endpoint takes it; returns its answer, good or lost.

        Only a failed dial moves on to the next endpoint: nothing was sent yet. A kept-alive connection that
        turns out closed costs nothing: the same request goes out on a new one.
        """
        started_s = time.monotonic()
        is_replayable = x.method in _REPLAYED_METHODS if call is None else call.is_replayable
        endpoints = iter(provider.order())
        endpoint = next(endpoints)
        connection = endpoint.pool.take()
        while True:
            x.attempts += 1
            x.endpoint, x.region = endpoint.url, endpoint.region
            endpoint.requests += 1
            if connection is None:
                try:
                    connection = await endpoint.pool.dial()
                except Unreachable as error:
                    endpoint.observe(error.message)
                    following = next(endpoints, None)
                    if following is None:
                        raise
                    endpoint, connection = following, following.pool.take()
                    continue
            answer = Answer(x, call, endpoint, connection, self._ticker, provider.timeouts)
            request = provider.write_request(x, endpoint, body)
            connection.send(request, answer, is_head_request=x.method == b"HEAD")
            try:
                await answer.ready
            except BaseException:
                answer.cancel()
                raise
            lost = answer.error
            if lost is not None and lost.retry is _REUSED_ONLY and is_replayable:
                x.attempts -= 1
                connection = None
                continue
            _note_attempt(x, answer, endpoint, started_s, time.monotonic())
            return answer

    # --- the end --------------------------------------------------------------------------------------

    def settle(self, x: Exchange) -> None:
        """Count and log a finished exchange. Its body is let go: the log keeps the exchange for a moment."""
        if x.body:
            x.bytes_received = len(x.body)
            x.body = b""
        seconds = self._metrics.finished(x, time.monotonic())
        self._log.write(x, seconds)


def _note_attempt(x: Exchange, answer: Answer, endpoint: Endpoint, started_s: float, now_s: float) -> None:
    """Take down what an attempt cost and how it went."""
    x.upstream_s = now_s - started_s
    error = answer.error
    if error is not None:
        endpoint.observe(error.message)
        return
    x.status = answer.status
    x.overhead_s = started_s - x.started_s
    if answer.mode is STREAM:
        x.first_token_s = now_s - x.started_s
        endpoint.first_token.observe(x.upstream_s)
    endpoint.observe(f"status {answer.status}" if answer.status >= 500 else "")


def _read_usage(x: Exchange, answer: Answer) -> None:
    if answer.reader is not None:
        x.usage = answer.reader.usage
    elif answer.mode is PLAIN and answer.status == 200 and answer.is_whole:
        x.usage = usage_of(answer.tail or answer.body)


def _judge_head(x: Exchange, snapshot: Snapshot) -> Reply | None:
    fields = x.fields
    if x.method not in METHODS:
        return refuse(405, "method_not_allowed", "This method is not served here.", close=True)
    host = fields.get(b"host")
    if host is not None and not _is_our_host(host, snapshot.hosts):
        message = "This Host is not allowed: use a loopback name or add it to listen.hosts."
        return refuse(403, "host_not_allowed", message, close=True)
    origin = fields.get(b"origin")
    if origin is not None:
        if origin.decode() not in snapshot.origins:
            message = "Browser origins are refused unless they stand in listen.origins."
            return refuse(403, "origin_not_allowed", message, close=True)
    elif fields.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return refuse(403, "origin_not_allowed", "Requests from web pages are refused.", close=True)
    if x.kind and b"content-encoding" in fields:
        return refuse(415, "unsupported_encoding", "Send the JSON body uncompressed.", close=True)
    return None


def _is_served(path: str) -> bool:
    return _PATH.fullmatch(path) is not None or _MODEL_PATH.fullmatch(path) is not None


def _is_our_host(value: bytes, allowed: frozenset[str]) -> bool:
    """Whether a Host names this machine's loopback or a configured name; any port."""
    host = value.decode().lower()
    name, _, port = host.rpartition(":")
    if name and port.isdigit() and len(port) <= 5 and int(port) < 65536:
        host = name
    return host in _LOOPBACK_HOSTS or host in allowed


def _unknown_model(model: str) -> Reply:
    message = f"The model `{model}` is not configured here; GET /v1/models lists what is."
    return refuse(404, "model_not_found", message, param="model", flag="NR")


_UNKNOWN_PATH = refuse(404, "unknown_url", "No such URL here: the API is under /v1.", flag="NR")
