"""Active health checks: a GET of a cheap path, now and then, at every endpoint of a provider.

A check never is a completion: it costs nothing and therefore proves little, so it only takes out endpoints
that do not answer at all or answer with an error of their own. 401, 403 and 429 say that somebody is there;
what they mean for a key or a limit, the requests find out themselves.

Each check dials anew. It so covers name, route and TLS, measures the connect time, and cannot be fooled by a
kept-alive connection that the provider is about to close; the connection is then spare for a request.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from sidecar.config.model import HealthCheck
from sidecar.errors import Exhausted, ProxyError
from sidecar.headers import ResponseHead
from sidecar.tasks import spawn
from sidecar.upstream.connection import Connection
from sidecar.upstream.endpoint import Endpoint

FAILURES_TO_TAKE_OUT = 3
JITTER = 0.2
NO_ANSWER = 0
NOT_ASKED = -1  # for want of something of our own: it says nothing of the endpoint
_ALIVE = frozenset((401, 403, 429))

Ask = Callable[[Endpoint], Awaitable[int]]
Report = Callable[[Endpoint, bool], None]


class HealthChecker:
    """Checks endpoints until its `run` is cancelled; `report(endpoint, is_out)` hears every verdict.

    `report` is called after each success and each failure from the third in a row on, not only on a change:
    what an endpoint is taken for outlives a reload, this object does not.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        config: HealthCheck,
        ask: Ask,
        report: Report,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._ask = ask
        self._report = report
        self._sleep = sleep
        self._random = random
        self._failures = dict.fromkeys(endpoints, 0)

    async def run(self) -> None:
        """Check all endpoints at once, wait, and again."""
        while True:
            await self.check()
            # Jitter keeps a fleet that was started at once from asking at once.
            await self._sleep(self._config.interval_s * (1.0 + JITTER * (2.0 * self._random() - 1.0)))

    async def check(self) -> None:
        """Ask every endpoint once; who has not answered in time has failed."""
        checks = {
            endpoint: spawn(self._status(endpoint), f"check {endpoint.url}") for endpoint in self._failures
        }
        try:
            await asyncio.wait(checks.values(), timeout=self._config.timeout_s)
        finally:
            statuses = {e: task.result() if _has_result(task) else NO_ANSWER for e, task in checks.items()}
            for task in checks.values():
                task.cancel()
        for endpoint, status in statuses.items():
            self.judge(endpoint, status)

    def judge(self, endpoint: Endpoint, status: int) -> None:
        """Count one answer; `status` is NO_ANSWER where there was none, and NOT_ASKED counts as nothing."""
        if status == NOT_ASKED:
            return
        if 200 <= status < 300 or status in _ALIVE:
            self._failures[endpoint] = 0
            self._report(endpoint, False)
            return
        self._failures[endpoint] += 1
        if self._failures[endpoint] >= FAILURES_TO_TAKE_OUT:
            self._report(endpoint, True)

    async def _status(self, endpoint: Endpoint) -> int:
        return await self._ask(endpoint)


def _has_result(task: "asyncio.Task[int]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def asker(path: str, key: str | None, headers: Mapping[str, str]) -> Ask:
    """How to ask an endpoint of a provider for `path`: the status of its whole answer, 0 for none."""
    lines = [b"%b: %b" % (name.encode(), value.encode()) for name, value in headers.items()]
    if key is not None:
        lines.append(b"authorization: Bearer " + key.encode())
    lines += [b"accept: application/json", b"user-agent: ai-sidecar-health-check", b"", b""]

    async def ask(endpoint: Endpoint) -> int:
        line = b"GET %b%b HTTP/1.1" % (endpoint.prefix, path.encode())
        return await _exchange(endpoint, b"\r\n".join([line, endpoint.host_line, *lines]))

    return ask


async def _exchange(endpoint: Endpoint, request: bytes) -> int:
    connection = await endpoint.pool.connect()
    if isinstance(connection, Exhausted):
        return NOT_ASKED
    if not isinstance(connection, Connection):
        return NO_ANSWER
    sink = _StatusOnly()
    connection.send(request, sink)
    try:
        return await sink.outcome
    except asyncio.CancelledError:
        connection.cancel()
        raise


class _StatusOnly:
    """Takes an answer and keeps its status, once the answer is whole."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._status = NO_ANSWER

    def on_head(self, status: int, head: ResponseHead, lines: list[bytes]) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        self._settle(self._status)

    def on_error(self, error: ProxyError) -> None:
        self._settle(NO_ANSWER)

    def _settle(self, status: int) -> None:
        if not self.outcome.done():
            self.outcome.set_result(status)
