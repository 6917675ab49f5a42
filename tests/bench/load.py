"""The load generator: reads one job a line from standard input, writes one outcome a line.

Three patterns:
- `closed`: N connections, each sends the next request as soon as its answer is complete;
- `streams`: N concurrent paced streams, one request each;
- `open`: requests at a fixed rate, whether or not earlier ones were answered. An arrival that finds no free
  connection waits for one, and that wait counts, so a stalled proxy cannot hide its stall (coordinated
  omission).

Latency counts from the moment the generator is awake to send. uvloop's timers have a resolution of 1 ms; to
count from the planned instant would add that to every figure, and the generator never waits for a proxy.
"""

import asyncio
import gc
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import uvloop

from tests.bench import traffic
from tests.bench.client import Connection

# Streams start 2.2 ms apart: with events every 20 ms this spreads them over the interval, not in one burst.
_STREAM_STAGGER_S = 0.0022
# After the last request is sent. Past it an answer is missing, not slow.
_PATIENCE_S = 10.0


@dataclass
class Job:
    """What to send, in JSON on one line."""

    pattern: str
    port: int
    connections: int
    seconds: float
    events: int = 0  # of each stream; 0 asks for plain answers
    rate: float = 0.0  # requests a second of the open pattern


@dataclass
class Outcome:
    """What came back; with `error` set the rest means nothing."""

    requests: int = 0
    events: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0  # to the first body byte for streams, to the last for plain answers
    p99_ms: float = 0.0
    error: str = ""


class Load:
    """One job in progress; owns its connections."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self._job = job
        self._loop = loop
        self._done: asyncio.Future[None] = loop.create_future()
        body = traffic.stream_request(job.events) if job.events else traffic.PLAIN_REQUEST
        self._request = traffic.http_request(job.port, body)
        self._expected = traffic.stream_answer(job.events) if job.events else traffic.PLAIN_ANSWER
        # Live state.
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._waiting: deque[int] = deque()
        self._in_flight = 0
        self._is_sending = True
        self._deadline_ns = 0
        self._latencies_ns: list[int] = []
        # What happens when a connection becomes free.
        self._when_free: Callable[[Connection], None] = self._free.append

    async def run(self) -> Outcome:
        """Send it all, check it all."""
        patterns = {"closed": self._closed, "streams": self._streams, "open": self._open}
        await asyncio.gather(*(self._connect() for _ in range(self._job.connections)))
        started_ns = time.perf_counter_ns()
        self._deadline_ns = started_ns + int(self._job.seconds * 1e9)
        try:
            sending = asyncio.ensure_future(patterns[self._job.pattern]())
            await asyncio.wait_for(self._settled(sending), self._job.seconds + _PATIENCE_S)
        finally:
            sending.cancel()
            for connection in self._all:
                connection.close()
        seconds = (time.perf_counter_ns() - started_ns) / 1e9
        answers = len(self._latencies_ns)
        events = answers * (self._job.events + 1) if self._job.events else 0  # [DONE] is one too
        p50_ms, p99_ms = (_quantile_ms(self._latencies_ns, share) for share in (0.50, 0.99))
        return Outcome(answers, events, seconds, p50_ms, p99_ms)

    # Owner of the connections

    def answered(self, connection: Connection) -> None:
        self._count(connection)
        self._when_free(connection)

    def closing(self, connection: Connection) -> None:
        self._count(connection)
        self._all.discard(connection)
        connection.close()
        task = self._loop.create_task(self._reconnect())
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)

    def failed(self, message: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(message))

    # Patterns

    async def _closed(self) -> None:
        self._when_free = self._send_until_deadline
        for connection in self._take_free():
            self._send(connection, time.perf_counter_ns())
        await asyncio.sleep(self._job.seconds)

    async def _streams(self) -> None:
        for connection in self._take_free():
            self._send(connection, time.perf_counter_ns())
            await asyncio.sleep(_STREAM_STAGGER_S)

    async def _open(self) -> None:
        self._when_free = self._send_waiting
        started_s = time.perf_counter()
        for arrival in range(int(self._job.rate * self._job.seconds)):
            delay_s = started_s + arrival / self._job.rate - time.perf_counter()
            await asyncio.sleep(max(0.0, delay_s))
            self._waiting.append(time.perf_counter_ns())
            if self._free:
                self._send_waiting(self._free.pop())

    # Steps

    async def _connect(self) -> Connection:
        _, connection = await self._loop.create_connection(
            lambda: Connection(self), "127.0.0.1", self._job.port
        )
        self._all.add(connection)
        self._free.append(connection)
        return connection

    async def _reconnect(self) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            self.failed(f"cannot reconnect: {error}")
            return
        self._free.remove(connection)
        self._when_free(connection)

    async def _settled(self, sending: "asyncio.Future[None]") -> None:
        """Wait until everything is sent and answered, or an answer is wrong."""
        await asyncio.wait((sending, self._done), return_when=asyncio.FIRST_COMPLETED)
        self._is_sending = False
        self._finish_if_idle()
        await self._done
        await sending

    def _take_free(self) -> list[Connection]:
        taken = self._free.copy()
        self._free.clear()
        return taken

    def _send(self, connection: Connection, asked_ns: int) -> None:
        self._in_flight += 1
        connection.send(self._request, self._expected, asked_ns)

    def _send_until_deadline(self, connection: Connection) -> None:
        now_ns = time.perf_counter_ns()
        if now_ns < self._deadline_ns:
            self._send(connection, now_ns)

    def _send_waiting(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _count(self, connection: Connection) -> None:
        until_ns = connection.first_byte_ns if self._job.events else time.perf_counter_ns()
        self._latencies_ns.append(until_ns - connection.asked_ns)
        self._in_flight -= 1
        if not self._is_sending:
            # Not at once: in the open pattern this connection may still send a waiting arrival.
            self._loop.call_soon(self._finish_if_idle)

    def _finish_if_idle(self) -> None:
        if not self._in_flight and not self._waiting and not self._done.done():
            self._done.set_result(None)


def _quantile_ms(values_ns: list[int], share: float) -> float:
    ordered = sorted(values_ns)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6 if ordered else 0.0


async def _run(job: Job) -> Outcome:
    try:
        return await Load(job, asyncio.get_running_loop()).run()
    except TimeoutError:
        return Outcome(error=f"answers still missing {_PATIENCE_S:.0f} s after the last request")
    except (RuntimeError, OSError) as error:
        return Outcome(error=str(error))


def main() -> None:
    """Run jobs until standard input closes."""
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            outcome = runner.run(_run(Job(**orjson.loads(line))))
            print(orjson.dumps(outcome).decode(), flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
