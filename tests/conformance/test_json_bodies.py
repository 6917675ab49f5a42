"""JSON bodies, good, bad and hostile, through a running sidecar.

The vectors' `expect`: a status, or several that will do; `pass` reaches the provider as it came. A `bounded`
one may be refused. They run as they are, with a route that gives them to another model, and with one that
chooses by the conversation: then the model's value changes, and not a byte beside it.

The names in gateway_param_smuggling.txt moved requests, keys or costs in other gateways. Here they are inert.
"""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.large_body import LARGE_BYTES
from tests.support.answers import RawAnswer, read_answers
from tests.support.raw import RawProvider, exchange, post, raw_provider
from tests.support.running import Running, config_for, running
from tests.support.vectors import Vector, ident, load, raw_of

VECTORS = load("json_body_vectors")
SERVED = "served/model"
PLAIN = {"models": {"m": {"provider": "p"}, "cheap": {"provider": "p"}, "gpt-expensive": {"provider": "p"}}}
MODES: dict[str, dict[str, Any]] = {
    "passed through": PLAIN,
    "routed": {
        "models": {SERVED: {"provider": "p"}},
        "routes": {"m": {"split": [{"model": SERVED, "weight": 1}]}},
    },
    "split": {
        "models": {SERVED: {"provider": "p"}, "other": {"provider": "p"}},
        "routes": {"m": {"split": [{"model": SERVED, "weight": 1e9}, {"model": "other", "weight": 1e-9}]}},
    },
}
# What each `expect` allows; 200 stands for the provider's own answer.
ALLOWED = {
    "400": {400},
    "404": {404},
    "400/404": {400, 404},
    "pass": {200},
    "pass-byte-exact": {200},
    "pass-or-400": {200, 400},
    "413/400 or bounded": {200, 400, 413},
    "bounded": {200, 400, 413},
    "cache-distinct": {200},
}
NAMES = [
    line
    for line in (Path(__file__).parent.parent / "vectors" / "gateway_param_smuggling.txt")
    .read_text()
    .split("\n")
    if line and not line.startswith("#")
]


async def send(sidecar: Running, request: bytes) -> RawAnswer:
    answers = read_answers(await exchange(sidecar.port, request))
    assert len(answers) == 1
    assert answers[0].is_whole
    return answers[0]


def parts_of(request: bytes) -> tuple[bytes, bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head, body


# --- every vector -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vector", VECTORS, ids=ident)
async def test_vector(vector: Vector, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    body = raw_of(vector)
    async with raw_provider() as provider, running(config_for(provider.url, **MODES[mode])) as sidecar:
        answer = await send(sidecar, post(body))
    assert answer.status in ALLOWED[vector["expect"]]
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
    if answer.status != 200:
        assert answer.is_own_error
        assert provider.received == []
        return
    assert len(provider.requests) == 1
    # Only the first "model":"m" of each vector that passes is the one on top.
    new = b'"model":"%b"' % SERVED.encode()
    expected = body if mode == "passed through" else _replaced(body, new)
    assert parts_of(provider.requests[0])[1] == expected


def _replaced(body: bytes, new: bytes) -> bytes:
    assert body.count(b'"model":"m"') == 1
    return body.replace(b'"model":"m"', new)


@pytest.mark.parametrize(("name", "param"), [("dup-model-esc", "model"), ("dup-stream", "stream")])
async def test_names_what_stands_twice(name: str, param: str) -> None:
    body = next(raw_of(vector) for vector in VECTORS if vector["id"] == name)
    async with raw_provider() as provider, running(config_for(provider.url, **PLAIN)) as sidecar:
        answer = await send(sidecar, post(body))
    assert answer.status == 400
    assert answer.error["param"] == param


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("depth", [100, 300, 1000])
async def test_a_deep_conversation_passes_in_every_mode(depth: int, mode: str) -> None:
    """orjson reads 1,024 levels and writes 254: what is read must never have to be written."""
    deep = b"[" * depth + b"]" * depth
    body = b'{"model":"m","messages":[{"role":"user","content":%b}]}' % deep
    async with raw_provider() as provider, running(config_for(provider.url, **MODES[mode])) as sidecar:
        answer = await send(sidecar, post(body))
    assert answer.status == 200
    assert len(provider.requests) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_large_body_passes_untouched_but_for_its_model(mode: str) -> None:
    image = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}' % (b"Zm9v" * 2_500_000)
    body = b'{"messages":[{"role":"user","content":[%b,%b]}],"model":"m","x":{"model":"d"}}' % (image, image)
    async with raw_provider() as provider, running(config_for(provider.url, **MODES[mode])) as sidecar:
        answer = await send(sidecar, post(body))
    assert answer.status == 200
    new = b'"model":"%b"' % SERVED.encode()
    assert parts_of(provider.requests[0])[1] == (body if mode == "passed through" else _replaced(body, new))


async def test_structure_is_refused_and_the_next_request_is_served() -> None:
    wide = b'{"model":"m","x":[%b0]}' % (b"[]," * LARGE_BYTES)
    async with raw_provider() as provider, running(config_for(provider.url, **PLAIN)) as sidecar:
        refused = await send(sidecar, post(wide))
        served = await send(sidecar, post(b'{"model":"m"}'))
    assert refused.status == 413
    assert refused.error["code"] == "request_too_complex"
    assert served.status == 200
    assert len(provider.requests) == 1


# --- names that meant something elsewhere ---------------------------------------------------------------


async def captured(provider: RawProvider, sidecar: Running, request: bytes) -> tuple[set[bytes], bytes]:
    """The lines and the body that the provider gets of a request."""
    provider.requests.clear()
    assert (await send(sidecar, request)).status == 200
    assert len(provider.requests) == 1
    head, body = parts_of(provider.requests[0])
    lines = {line for line in head.split(b"\r\n") if not line.lower().startswith(b"x-request-id:")}
    return lines, body


def values_for(url: str) -> list[Any]:
    """What would make an attacker's day if one of the names meant anything."""
    return [
        url,
        {"api_base": url, "api_key": "sk-evil", "model": "other"},
        [{"model": "m", "url": url}],
        7,
        True,
    ]


def without_length(lines: set[bytes]) -> set[bytes]:
    return {line for line in lines if not line.lower().startswith(b"content-length:")}


@pytest.mark.parametrize("mode", ["passed through", "routed"])
async def test_no_name_in_a_body_moves_a_request(mode: str) -> None:
    async with raw_provider() as trap, raw_provider() as provider:
        tree = config_for(provider.url, **MODES[mode])
        async with running(tree) as sidecar:
            usual, _ = await captured(provider, sidecar, post(b'{"model":"m","messages":[]}'))
            for name in NAMES:
                for value in values_for(trap.url):
                    extra = {name: value, "nested": {name: value}, "user_config": {name: value}}
                    body = orjson.dumps({"model": "m", "messages": [], **extra})
                    lines, sent = await captured(provider, sidecar, post(body))
                    assert without_length(lines) == without_length(usual), name
                    model = "m" if mode == "passed through" else SERVED
                    assert sent == body.replace(b'"model":"m"', b'"model":"%b"' % model.encode(), 1), name
        await asyncio.sleep(0)
        assert trap.received == []
    assert b"sk-provider-secret" in b"".join(usual)


async def test_no_name_in_a_header_or_query_moves_a_request() -> None:
    body = b'{"model":"m","messages":[]}'
    path = "/v1/chat/completions"
    async with raw_provider() as trap, raw_provider() as provider:
        async with running(config_for(provider.url, **PLAIN)) as sidecar:
            usual, _ = await captured(provider, sidecar, post(body))
            for name in NAMES:
                value = trap.url
                lines, sent = await captured(provider, sidecar, post(body, headers=f"{name}: {value}\r\n"))
                more = {line.lower() for line in lines ^ usual}
                assert more <= {f"{name}: {value}".lower().encode()}, name
                assert sent == body
                target = f"{path}?{name}={value}"
                lines, sent = await captured(provider, sidecar, post(body, target))
                line = b"POST %b HTTP/1.1"
                assert lines ^ usual == {line % target.encode(), line % path.encode()}, name
                assert sent == body
        assert trap.received == []
