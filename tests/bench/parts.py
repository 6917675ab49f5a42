"""ns per call of single functions of the request path: `python -m tests.bench.parts [WORD ...]`.

To add one, write a function that sets up and returns what to time:

    @part("headers: forward a request")
    def _forward() -> Call:
        headers = ...
        return lambda: forward(headers)

Each figure is the best of several repeats: noise only ever adds. It includes the call of the callable itself,
which "empty call" shows.
"""

import json
import sys
import timeit
from collections.abc import Callable

import httptools
import orjson

from sidecar.accounts import Accounts
from sidecar.answer import Answer
from sidecar.attempt import Attempt
from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Reply, Usage
from sidecar.openai import read_call
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.runtime import Runtime
from sidecar.splice import duplicates, is_usual, replace_model
from sidecar.telemetry.metrics import Metrics
from sidecar.usage.ledger import Ledger
from tests.bench import traffic
from tests.routing.support import asking
from tests.support.exchanges import finished
from tests.support.running import ENVIRON, config_for

Call = Callable[[], object]
PARTS: dict[str, Callable[[], Call]] = {}
_REPEATS = 7
_REPEAT_S = 0.1


def part(name: str) -> Callable[[Callable[[], Call]], Callable[[], Call]]:
    """Register a set-up function under `name`."""

    def register(setup: Callable[[], Call]) -> Callable[[], Call]:
        if name in PARTS:
            raise ValueError(f"two parts named {name!r}")
        PARTS[name] = setup
        return setup

    return register


@part("empty call")
def _empty() -> Call:
    return lambda: None


@part("orjson.loads, 400 B request")
def _orjson_loads() -> Call:
    body = traffic.PLAIN_REQUEST
    return lambda: orjson.loads(body)


@part("httptools, request with 18 headers, no callbacks")
def _httptools_request() -> Call:
    request = traffic.http_request(8080, traffic.PLAIN_REQUEST)
    parser = httptools.HttpRequestParser(object())
    return lambda: parser.feed_data(request)


@part("httptools, request with 18 headers, on_header collects")
def _httptools_headers() -> Call:
    class Collector:
        def __init__(self) -> None:
            self.headers: list[tuple[bytes, bytes]] = []

        def on_message_begin(self) -> None:
            self.headers = []

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name, value))

    request = traffic.http_request(8080, traffic.PLAIN_REQUEST)
    parser = httptools.HttpRequestParser(Collector())
    return lambda: parser.feed_data(request)


@part("openai: read_call, 400 B request")
def _read_call() -> Call:
    body = traffic.PLAIN_REQUEST
    return lambda: read_call(body)


@part("openai: read_call, 400 B request with blanks")
def _read_call_with_blanks() -> Call:
    body = json.dumps(orjson.loads(traffic.PLAIN_REQUEST)).encode()
    return lambda: read_call(body)


@part("openai: read_call, 26 MiB of images")
def _read_large_call() -> Call:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "Zm9v" * 1_700_000}}
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": [image] * 4}]})
    return lambda: read_call(body)


@part("splice: is_usual, 400 B request")
def _is_usual() -> Call:
    body = traffic.PLAIN_REQUEST
    document = orjson.loads(body)
    return lambda: is_usual(body, document)


@part("splice: duplicates, 250 KB of decoys")
def _duplicates() -> Call:
    body = b'{"model":"m","x":[%b]}' % b",".join([b'{"model": 1}'] * 19_000)
    document = orjson.loads(body)
    return lambda: duplicates(body, document, ("model",))


@part("splice: replace_model, 400 B request")
def _replace_model() -> Call:
    body = traffic.PLAIN_REQUEST
    document = orjson.loads(body)
    return lambda: replace_model(body, document, "another/model")


@part("accounts: admit, reserve and settle, with limits, a budget and a ledger")
def _accounts() -> Call:
    tree = config_for(
        "http://p.example/v1",
        models={"m": {"provider": "p", "price": {"input": 1.0, "output": 10.0}}},
        tiers={"standard": {"requests_per_minute": 10**9, "tokens_per_minute": 10**15}},
        budgets=[{"name": "b", "usd": 10**9}],
    )
    config = parse(orjson.dumps(tree), ENVIRON).config
    runtime = Runtime(Ticker(), Metrics("0"), "team")
    runtime.apply(config)
    plan = runtime.snapshot.router.plan(*asking("m"))
    call = read_call(traffic.PLAIN_REQUEST)
    if plan is None or isinstance(call, Reply):
        raise ValueError("no such request")
    call.kind = "chat"
    accounts, caller = Accounts(config, Ledger("/nowhere")), Caller("team", "standard", 0, SHARED_BUCKET)
    x = finished(body=traffic.PLAIN_REQUEST, bytes_received=400, started_s=1e12)
    answer = Answer.__new__(Answer)
    answer.status, answer.is_whole = 200, True

    def request() -> None:
        attempt = Attempt()
        x.usage, x.cost_nano_usd = Usage(100, 50), None
        accounts.admit(x, attempt, caller, call, plan, 1.0)
        if attempt.account is not None:
            accounts.reserve(attempt.account, call, plan)
        attempt.answer = attempt.under_way = answer
        accounts.settle(x, attempt, 1e12)

    return request


def nanoseconds(call: Call) -> float:
    """The best ns per call of several repeats, each about `_REPEAT_S` long."""
    timer = timeit.Timer(call)
    calls, took_s = timer.autorange()
    calls = max(1, int(calls * _REPEAT_S / took_s))
    return min(timer.repeat(_REPEATS, calls)) / calls * 1e9


def main() -> None:
    """Time the parts whose name has one of the words given, or all."""
    words = [word.lower() for word in sys.argv[1:]]
    chosen = {
        name: setup
        for name, setup in PARTS.items()
        if not words or any(word in name.lower() for word in words)
    }
    width = max(map(len, chosen), default=0)
    for name, setup in chosen.items():
        print(f"{name:<{width}}  {nanoseconds(setup()):>10,.0f} ns", flush=True)


if __name__ == "__main__":
    main()
