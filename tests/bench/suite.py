"""The run: starts everything, measures round by round, ends everything."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import orjson

from tests.bench.load import Job, Outcome
from tests.bench.processes import Child, Cpus, NotStarted, free_ports
from tests.bench.proxies import BUILDERS, Proxy, Unavailable
from tests.bench.results import Results
from tests.bench.traffic import EVENT_INTERVAL_S

MB = 1e6
CONNECTIONS = 32
STREAMS = 100
OPEN_RATE = 300.0  # requests a second; leaves the slowest proxy here nine tenths of its core
OPEN_EVENTS = 5  # of each stream: 24 are open at once, with 1,500 events a second beside the first ones


class RunFailed(Exception):
    """The run is worthless: an answer was wrong, or a process of the bench itself failed."""


@dataclass(frozen=True)
class Plan:
    """How long to measure what."""

    plain_rounds: int = 5
    plain_s: float = 4.0
    sse_rounds: int = 5
    sse_events: int = 100
    latency_rounds: int = 3
    latency_s: float = 2.5
    start_rounds: int = 5
    idle_s: float = 3.0


QUICK = Plan(
    plain_rounds=2,
    plain_s=1.5,
    sse_rounds=2,
    sse_events=50,
    latency_rounds=1,
    latency_s=1.0,
    start_rounds=3,
    idle_s=1.0,
)


@dataclass
class Server:
    """A proxy that runs."""

    proxy: Proxy
    child: Child
    idle_share: float = 0.0  # of a core, while nothing is asked of it


class Suite:
    """One run over some proxies; a context manager that leaves no process and no file behind."""

    def __init__(self, names: list[str], plan: Plan, cpus: Cpus, say: Callable[[str], None]) -> None:
        self._names = names
        self._plan = plan
        self._cpus = cpus
        self._say = say
        self._cleanup = ExitStack()
        self._folder: Path
        self._loader: Child
        self._upstream_port = 0
        self.servers: dict[str, Server] = {}
        self.results = Results()

    def __enter__(self) -> "Suite":
        with ExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix="sidecar-bench-"))
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._start_own(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._cleanup.close()

    # Start

    def _start_own(self, stack: ExitStack) -> None:
        """The upstream and the load generator."""
        (self._upstream_port,) = free_ports(1)
        python = [sys.executable, "-m"]
        upstream = Child(
            [*python, "tests.bench.upstream", str(self._upstream_port)],
            self._cpus.rest,
            self._log("upstream"),
            is_worker=True,
        )
        stack.callback(upstream.end)
        self._loader = Child(
            [*python, "tests.bench.load"], self._cpus.rest, self._log("load"), is_worker=True
        )
        stack.callback(self._loader.end)
        for _ in range(100):
            try:
                self._load("direct", self._upstream_port, _plain_job(0.05))
                return
            except RunFailed as error:
                failure = error
                time.sleep(0.05)
        raise failure

    def start(self) -> None:
        """Start every proxy and see that it answers; one that is missing or does not start is left out."""
        for name in self._names:
            try:
                server = self._start(BUILDERS[name](self._folder, self._upstream_port), self._cleanup)
            except (Unavailable, NotStarted) as error:
                self._say(f"{name}: skipped, {error}")
                continue
            self.servers[name] = server
            self._say(f"{name}: {server.proxy.version}")

    def _start(self, proxy: Proxy, stack: ExitStack) -> Server:
        child = Child(proxy.command, self._cpus.proxy, self._log(proxy.name))
        stack.callback(child.end)
        child.wait_ready(proxy.ready_port, proxy.ready_path)
        return Server(proxy, child)

    # Measure

    def idle(self) -> None:
        """What each proxy takes when nothing is asked of it: memory and CPU. Before any other measurement."""
        time.sleep(1.0)  # start-up work that goes on after readiness
        before = {name: server.child.cpu_s() for name, server in self.servers.items()}
        for name, server in self.servers.items():
            self.results.add("rss_idle_mb", name, server.child.rss_bytes() / MB)
        time.sleep(self._plan.idle_s)
        for name, server in self.servers.items():
            server.idle_share = (server.child.cpu_s() - before[name]) / self._plan.idle_s
            self.results.add("idle_cpu_percent", name, server.idle_share * 100)

    def warm_up(self) -> None:
        """Fill pools and caches, and see that every proxy passes plain answers and streams unchanged."""
        for name, server in self.servers.items():
            self._load(name, server.proxy.port, Job("streams", 0, 4, 0.2, events=5))
            self._load(name, server.proxy.port, _plain_job(0.5))

    def plain(self) -> None:
        """CPU per plain request, closed loop."""
        for name in self._rounds("plain requests", self._plan.plain_rounds, with_direct=True):
            outcome, cpu_s = self._loaded(name, _plain_job(self._plan.plain_s))
            self.results.add("plain_per_s", name, outcome.requests / outcome.seconds)
            if name in self.servers:
                self.results.add("plain_cpu_us", name, cpu_s / outcome.requests * 1e6)
                self.results.add("plain_core_percent", name, cpu_s / outcome.seconds * 100)

    def sse(self) -> None:
        """CPU per paced event; each stream's request and head are part of it, a hundredth each."""
        job = Job(
            "streams", 0, STREAMS, EVENT_INTERVAL_S * self._plan.sse_events, events=self._plan.sse_events
        )
        for name in self._rounds("paced streams", self._plan.sse_rounds):
            outcome, cpu_s = self._loaded(name, job)
            self.results.add("sse_cpu_us", name, cpu_s / outcome.events * 1e6)
            self.results.add("sse_core_percent", name, cpu_s / outcome.seconds * 100)

    def latency(self) -> None:
        """Added latency at a moderate fixed rate, of plain answers and of first events."""
        seconds = self._plan.latency_s
        jobs = {
            "plain": Job("open", 0, 64, seconds, rate=OPEN_RATE),
            "first_event": Job("open", 0, 64, seconds, events=OPEN_EVENTS, rate=OPEN_RATE),
        }
        for name in self._rounds("latency", self._plan.latency_rounds, with_direct=True):
            for kind, job in jobs.items():
                outcome, _ = self._loaded(name, job)
                self.results.add(f"{kind}_p50_ms", name, outcome.p50_ms)
                self.results.add(f"{kind}_p99_ms", name, outcome.p99_ms)
        for kind in jobs:
            self._add_added(f"{kind}_p50")
            self._add_added(f"{kind}_p99")

    def rss_after_load(self) -> None:
        """Memory after everything that was asked of it."""
        for name, server in self.servers.items():
            self.results.add("rss_loaded_mb", name, server.child.rss_bytes() / MB)

    def start_up(self) -> None:
        """Exec to the first 200 on readiness. Last: files are cached and nothing else runs."""
        self._stop_servers()
        for name in self._rounds("starts", self._plan.start_rounds):
            proxy = BUILDERS[name](self._folder, self._upstream_port)
            child = Child(proxy.command, self._cpus.proxy, self._log(name))
            try:
                self.results.add("start_s", name, child.wait_ready(proxy.ready_port, proxy.ready_path))
            except NotStarted as error:
                raise RunFailed(f"{name} started before but not again: {error}") from error
            finally:
                child.end()

    # Steps

    def _rounds(self, title: str, count: int, with_direct: bool = False) -> Iterator[str]:
        """Every proxy once per round; the order rotates, so that none always follows the same one."""
        names = ["direct"] * with_direct + list(self.servers)
        for turn in range(count):
            shift = turn % max(1, len(names))
            for name in names[shift:] + names[:shift]:
                self._say(f"\r{title}: round {turn + 1} of {count}, {name}")
                yield name

    def _loaded(self, name: str, job: Job) -> tuple[Outcome, float]:
        """Load a proxy; return what came back and the CPU seconds it took beyond idling."""
        server = self.servers.get(name)
        if server is None:
            return self._load(name, self._upstream_port, job), 0.0
        before_s, began_s = server.child.cpu_s(), time.perf_counter()
        outcome = self._load(name, server.proxy.port, job)
        cpu_s, took_s = server.child.cpu_s() - before_s, time.perf_counter() - began_s
        return outcome, cpu_s - server.idle_share * took_s

    def _load(self, name: str, port: int, job: Job) -> Outcome:
        job.port = port
        pipes = self._loader.process
        assert pipes.stdin is not None and pipes.stdout is not None
        try:
            pipes.stdin.write(orjson.dumps(job) + b"\n")
            line = pipes.stdout.readline()
        except OSError:
            line = b""
        if not line:
            raise RunFailed(f"the load generator died: {self._loader.last_words()}")
        outcome = Outcome(**orjson.loads(line))
        if outcome.error:
            words = (
                f"; its last words: {self.servers[name].child.last_words()}" if name in self.servers else ""
            )
            raise RunFailed(f"{name}: wrong or missing answer: {outcome.error}{words}")
        return outcome

    def _add_added(self, key: str) -> None:
        direct = self.results.rounds(f"{key}_ms", "direct")
        for name in self.servers:
            for own, base in zip(self.results.rounds(f"{key}_ms", name), direct, strict=True):
                self.results.add(f"{key}_added_ms", name, own - base)

    def _stop_servers(self) -> None:
        for server in self.servers.values():
            server.child.end()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def _plain_job(seconds: float) -> Job:
    return Job("closed", 0, CONNECTIONS, seconds)
