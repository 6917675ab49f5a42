"""`sidecar demo`: three simulated regions and a sidecar before them, in one process, with nothing to set up.

It puts together what exists elsewhere: the providers, a real configuration (so `/config_dump` shows one that
could be copied), the server and the terminal. It decides nothing about a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, TextIO

import uvloop

from sidecar.config.load import Loaded, parse
from sidecar.demo import terminal
from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario
from sidecar.run import settle_memory
from sidecar.server import Sidecar
from sidecar.tasks import spawn
from sidecar.telemetry.metrics import Metrics

_HOST = "127.0.0.1"
_TEAM = "demo"
_MODEL = "deepseek-ai/DeepSeek-V4-Flash"
_KEY_VARIABLE, _KEY = "DEMO_API_KEY", "sk-demo-not-a-secret"
# A provider notes what it received for whoever asks; a demo may run for days, so only the latest.
_KEPT_REQUESTS = 100
_RATE_SPAN_S = 5.0

# What a caller in us-east-1 meets: the way there (head), the wait for a first token, the pace of the rest.
_REGIONS = {
    "us-east-1": Scenario(head_s=0.012, first_token_s=0.13, token_interval_s=0.015, jitter=0.35),
    "eu-west-1": Scenario(head_s=0.085, first_token_s=0.19, token_interval_s=0.018, jitter=0.35),
    "ap-southeast-1": Scenario(head_s=0.22, first_token_s=0.26, token_interval_s=0.024, jitter=0.35),
}

_CONFIG = """\
listen: {{data: "{host}:{data}", admin: "{host}:{admin}", health: "{host}:{health}"}}
locality: {{region: us-east-1, zone: us-east-1a}}
providers:
  global-api:
    api_key: {{env: {variable}}}
    endpoints:
{endpoints}
    capabilities: [stream_usage]
models:
  deepseek-ai/DeepSeek-V4-Flash:
    provider: global-api
    price: {{input: 0.0, output: 0.25}}
    p99_budget: 800ms
    fallback: [Qwen/Qwen3-32B]
  Qwen/Qwen3-32B: {{provider: global-api, price: {{input: 0.0, output: 0.28}}}}
  "Pro/*": {{provider: global-api, price: {{input: 0.0, output: 2.5}}, premium: true, max_output: 8192}}
  "*": {{provider: global-api}}
routes:
  auto:
    split:
      - {{model: deepseek-ai/DeepSeek-V4-Flash, weight: 95}}
      - {{model: Pro/deepseek-ai/DeepSeek-V3.2, weight: 5}}
    fallback: [Qwen/Qwen3-32B]
    classify: [{{when: {{importance: critical}}, model: Pro/deepseek-ai/DeepSeek-R1}}]
    on_stream_cut: resume
tiers:
  standard: {{requests_per_minute: 50}}
budgets:
  - {{name: premium-daily, models: ["Pro/*"], usd: 5, window: day, at_limit: downgrade}}
telemetry:
  access_log: "off"
  baseline: {{name: gpt-4o, price: {{input: 2.5, output: 10.0}}}}
"""


class Ports(NamedTuple):
    """Where everything listens. The defaults are those of a real sidecar, so that what is printed holds."""

    data: int = 8080
    admin: int = 9901
    health: int = 9902
    regions: tuple[int, int, int] = (9101, 9102, 9103)


def demo(ports: Ports = Ports(), out: TextIO | None = None) -> int:  # noqa: B008  # a NamedTuple never changes
    """Run the demo until Ctrl-C; returns the exit code. Raises OSError when a port is taken."""
    out = sys.stdout if out is None else out
    # The terminal is the banner's and the status line's; only what goes wrong is logged over them.
    logging.getLogger("sidecar").setLevel(logging.WARNING)
    _refuse_taken(ports)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(ports, out))
    finally:
        _let_go(out)
    return 0


async def _serve(ports: Ports, out: TextIO) -> None:
    async with contextlib.AsyncExitStack() as stack:
        providers = [
            DemoProvider(region, scenario=scenario, api_keys=[_KEY]) for region, scenario in _REGIONS.items()
        ]
        for provider, port in zip(providers, ports.regions, strict=True):
            provider.requests = deque(maxlen=_KEPT_REQUESTS)
            await provider.start(_HOST, port)
            stack.push_async_callback(provider.stop)
        sidecar = Sidecar(_configuration(ports), team=_TEAM)
        await sidecar.start()
        _leave_on_signals(sidecar)
        settle_memory()
        screen = spawn(_show(sidecar, ports, providers, out), name="screen")
        # It ends by itself only when nobody reads it any more: the terminal was closed.
        screen.add_done_callback(lambda _: sidecar.quit())
        await sidecar.wait_stopped()
        screen.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await screen


def _configuration(ports: Ports) -> Loaded:
    """Read as a file would be, so that the demo cannot have what a user could not write."""
    localities = zip(_REGIONS, ports.regions, strict=True)
    endpoints = "\n".join(
        f'      - {{url: "http://{_HOST}:{port}/v1", region: {region}, zone: {region}a}}'
        for region, port in localities
    )
    text = _CONFIG.format(
        host=_HOST,
        data=ports.data,
        admin=ports.admin,
        health=ports.health,
        variable=_KEY_VARIABLE,
        endpoints=endpoints,
    )
    return parse(text.encode(), {_KEY_VARIABLE: _KEY})


def _leave_on_signals(sidecar: Sidecar) -> None:
    """Leave at once: no pod waits for a demo. SIGHUP counts, so that a closed window frees the ports."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup wants it to stay
            loop.add_signal_handler(number, sidecar.quit)


# What is seen


async def _show(sidecar: Sidecar, ports: Ports, providers: Sequence[DemoProvider], out: TextIO) -> None:
    ansi = terminal.has_ansi(out, os.environ)
    text = terminal.banner(
        data=f"http://{_HOST}:{ports.data}",
        admin=f"http://{_HOST}:{ports.admin}",
        health=f"http://{_HOST}:{ports.health}",
        regions=[terminal.Region(p.region, p.url, p.control_url) for p in providers],
        model=_MODEL,
        program=_program(sys.argv[0]),
        ansi=ansi,
    )
    try:
        print(text, file=out, flush=True)
    except OSError:  # the reader of the pipe has gone
        return
    await terminal.live(_Figures(sidecar.metrics), out, ansi=ansi)


def _program(started_as: str) -> str:
    """The program as a shell in the same folder finds it; a virtualenv's is seldom on the PATH."""
    if os.path.basename(started_as) != "sidecar":
        return f"{shlex.quote(sys.executable)} -m sidecar"
    return "sidecar" if shutil.which("sidecar") == started_as else shlex.quote(started_as)


class _Figures:
    """Reads the status line's figures; the rate is that of the last seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seen = deque([(time.monotonic(), metrics.requests)])

    def __call__(self) -> terminal.Snapshot:
        metrics, now_s = self._metrics, time.monotonic()
        self._seen.append((now_s, metrics.requests))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _RATE_SPAN_S:
            self._seen.popleft()
        then_s, before = self._seen[0]
        p50_s = metrics.recent_first_token.quantiles(0.5)[0]
        return terminal.Snapshot(
            requests=metrics.requests,
            errors=metrics.errors,
            streams_open=metrics.streams_open,
            first_token_p50_ms=None if p50_s is None else p50_s * 1e3,
            # A request in the first moment is no rate of hundreds: divide by a second at least.
            rate=(metrics.requests - before) / max(1.0, now_s - then_s),
        )


# What the system may be in the way of


def _refuse_taken(ports: Ports) -> None:
    """Look at all ports before the first is used, so that one message names all that are taken."""
    own = (ports.data, ports.admin, ports.health)
    wanted = [(socket.AF_INET, _HOST, port) for port in (*own, *ports.regions)]
    wanted += [(socket.AF_INET6, "::1", port) for port in own]
    taken = sorted({port for family, host, port in wanted if _is_taken(family, host, port)})
    if taken:
        names = " and ".join(filter(None, (", ".join(map(str, taken[:-1])), str(taken[-1]))))
        what, it = (f"port {names} is", "it") if len(taken) == 1 else (f"ports {names} are", "them")
        raise OSError(f"{what} in use, perhaps by another sidecar: end what holds {it} and try again")


def _is_taken(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the listeners do: connections of a demo just ended are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _let_go(out: TextIO) -> None:
    """Flush, or if the reader has gone have the interpreter's own flush at exit go nowhere."""
    try:
        out.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
