"""The world of a fault: a sidecar, and three simulated providers that all give the same answer.

    model main    provider primary   A us-east-1 (the sidecar's own region), B eu-west-1
    model backup  provider spare     C us-west-2
    model big     provider spare     C us-west-2
    route auto    main, else backup; big for long contexts; a cut stream is resumed
    route strict  the same, but a cut stream ends in an error

The answer is numbered words, so that a lost, doubled or swapped piece of it shows. Any provider may stand
behind a chaos proxy. The sidecar runs in this process, or as a process of its own where its CPU matters.
"""

import contextlib
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from sidecar.demo.answers import tokenize
from sidecar.demo.provider import DemoProvider
from tests.support.chaos import Chaos
from tests.support.demo import demo_provider
from tests.support.process import sidecar_process, write_config
from tests.support.running import config_for, running

HOME, AWAY, ELSEWHERE = "us-east-1", "eu-west-1", "us-west-2"
TOKENS = 60
KEYS = {"PRIMARY_KEY": "sk-primary-0001", "SPARE_KEY": "sk-spare-0002"}
# Long enough for a busy machine, short enough for a test.
TIMEOUTS = {"connect": "500ms", "first_token": "500ms", "idle": "500ms", "answer": "1s", "total": "20s"}

Tree = dict[str, Any]


def answer_of(tokens: int) -> str:
    """The text every provider answers with, that many tokens long."""
    return " ".join(f"word{number:03d}" for number in range(tokens))


class Sidecar(Protocol):
    """What is needed of a started sidecar, in this process or not."""

    port: int
    health_url: str

    @property
    def url(self) -> str: ...


class World:
    """Everything of one fault. `a`, `b` and `c` are the providers, `chaos` the proxies by letter."""

    def __init__(
        self, providers: Mapping[str, DemoProvider], chaos: Mapping[str, Chaos], answer: str
    ) -> None:
        self.a, self.b, self.c = (providers[letter] for letter in "ABC")
        self.providers = tuple(providers.values())
        self.chaos = chaos
        self.answer = answer
        self.tokens = tokenize(answer)
        self.sidecar: Sidecar
        self.pid: int | None = None  # of the sidecar, where it is a process of its own

    def set_primary(self, **knobs: Any) -> None:
        """Change both regions of the primary provider."""
        for provider in (self.a, self.b):
            provider.scenario.update(knobs)

    @property
    def attempts(self) -> tuple[int, int, int]:
        """Requests that A, B and C have seen."""
        return self.a.attempts, self.b.attempts, self.c.attempts

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of that name with these labels."""
        url = f"{self.sidecar.health_url}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            families = text_string_to_metric_families(await response.text())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def cpu_s(self) -> float | None:
        """CPU time of the sidecar's process so far; None in this process, where it is not its own."""
        if self.pid is None:
            return None
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100  # utime and stime; Linux has 100 ticks a second


def config_of(urls: Mapping[str, str], *, primary: Tree | None = None, spare: Tree | None = None) -> Tree:
    """The configuration, with `primary` and `spare` merged into the providers."""

    def provider(key: str, endpoints: list[Tree], changes: Tree | None) -> Tree:
        tree: Tree = {
            "api_key": {"env": key},
            "endpoints": endpoints,
            "timeouts": TIMEOUTS,
            # One more than the default: both regions, one of them again, and the other model.
            "retry": {"attempts": 4},
            "concurrency": {"max_requests": 2000},
        }
        for name, change in (changes or {}).items():
            tree[name] = {**tree.get(name, {}), **change} if isinstance(change, dict) else change
        return tree

    regions = {"A": HOME, "B": AWAY}
    endpoints = [{"url": urls[letter], "region": regions[letter]} for letter in "AB" if letter in urls]
    route = {"split": [{"model": "main", "weight": 1}], "fallback": ["backup"], "long_context": "big"}
    tree = config_for(
        locality={"region": HOME},
        models={
            "main": {"provider": "primary", "fallback": ["backup"]},
            "backup": {"provider": "spare"},
            "big": {"provider": "spare"},
        },
        routes={"auto": {**route, "on_stream_cut": "resume"}, "strict": {**route, "on_stream_cut": "error"}},
    )
    tree["providers"] = {
        "primary": provider("PRIMARY_KEY", endpoints, primary),
        "spare": provider("SPARE_KEY", [{"url": urls["C"], "region": ELSEWHERE}], spare),
    }
    return tree


@contextlib.asynccontextmanager
async def world(
    *,
    chaos: Sequence[str] = (),
    urls: Mapping[str, str] | None = None,
    host_names: Mapping[str, str] | None = None,
    only: str = "ABC",
    tokens: int = TOKENS,
    interval_s: float = 0.001,
    seed: int = 0,
    as_process: bool = False,
    primary: Tree | None = None,
    spare: Tree | None = None,
    without_fallback: bool = False,
) -> AsyncIterator[World]:
    """Three healthy providers and a sidecar.

    `chaos`: the letters to put behind a proxy; `urls`: other addresses for some letters; `host_names`: names
    for 127.0.0.1; `only`: the letters the sidecar knows; `primary` and `spare`: changes to the providers'
    configuration.
    """
    async with contextlib.AsyncExitStack() as stack:
        knobs = {"answer": answer_of(tokens), "token_interval_s": interval_s}
        providers: dict[str, DemoProvider] = {}
        for letter, region in (("A", HOME), ("B", AWAY), ("C", ELSEWHERE)):
            provider = await stack.enter_async_context(demo_provider(region, knobs=knobs, seed=seed))
            provider.requests = deque()  # all of them
            providers[letter] = provider
        proxies = {letter: Chaos(providers[letter].url, seed=seed) for letter in chaos}
        for proxy in proxies.values():
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        here = World(providers, proxies, answer_of(tokens))
        known = {letter: provider.url for letter, provider in providers.items() if letter in only}
        known |= {letter: proxy.url for letter, proxy in proxies.items()}
        known |= dict(urls or {})
        for letter, name in (host_names or {}).items():
            known[letter] = known[letter].replace("127.0.0.1", name)
        tree = config_of(known, primary=primary, spare=spare)
        if without_fallback:
            del tree["models"]["main"]["fallback"]
            for route in tree["routes"].values():
                del route["fallback"], route["long_context"]
        if as_process:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = write_config(folder / "sidecar.yaml", tree)
            process = await stack.enter_async_context(sidecar_process(config, environ=KEYS))
            here.sidecar, here.pid = process, process.pid
        else:
            here.sidecar = await stack.enter_async_context(running(tree, KEYS))
        yield here
