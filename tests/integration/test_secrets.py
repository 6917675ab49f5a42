"""A canary: neither the provider's key nor the caller's is ever seen anywhere but in the provider's request.

Everything that can go wrong is made to, with logging at DEBUG, and then all that was written, shown or
answered is searched for the keys in every spelling.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import aiohttp
import orjson
import pytest

from sidecar.config.problems import ConfigError
from tests.support.demo import QUESTION, STREAM, demo_provider
from tests.support.process import finished, write_config
from tests.support.raw import exchange, post, raw_provider
from tests.support.running import Running, config_for, running

PROVIDER_KEY = "Zq7+Xw/2K=provider%canary~91"
CALLER_KEY = "Vb4+Jt/8M=caller%canary~57"
ENVIRON = {"KEY": PROVIDER_KEY}
CREDENTIALS = f"Authorization: Bearer {CALLER_KEY}\r\n"
BODY = orjson.dumps(QUESTION)
PAGES = (
    "/stats",
    "/stats?format=json",
    "/stats/prometheus",
    "/clusters",
    "/config_dump",
    "/server_info",
    "/",
)


def spellings(key: str) -> Iterator[str]:
    raw = key.encode()
    yield from (key, key[:8], quote(key), quote(key, safe=""), quote_plus(key), raw.hex(), raw.hex().upper())
    for shift in range(3):
        # The characters that do not depend on what stands before and behind the key.
        encoded = base64.b64encode(b"x" * shift + raw).decode().rstrip("=")
        yield encoded[4 if shift else 0 : -2]


def assert_clean(where: str, text: str) -> None:
    for key in (PROVIDER_KEY, CALLER_KEY):
        for spelling in spellings(key):
            assert spelling not in text, f"{where} has a key in it"


def test_the_canary_sees_a_key_in_any_spelling() -> None:
    for leak in (
        PROVIDER_KEY,
        f"Basic {base64.b64encode(f'user:{CALLER_KEY}'.encode()).decode()}",
        quote(CALLER_KEY),
        PROVIDER_KEY.encode().hex(),
        CALLER_KEY[:8] + "...",
    ):
        with pytest.raises(AssertionError):
            assert_clean("here", f"some {leak} text")


REQUESTS = {
    "good": post(BODY, headers=CREDENTIALS),
    "stream": post(orjson.dumps(STREAM), headers=CREDENTIALS),
    "anthropic": post(BODY, "/v1/messages", headers=f"x-api-key: {CALLER_KEY}\r\n"),
    "azure": post(BODY, headers=f"api-key: {CALLER_KEY}\r\n"),
    "no JSON": post(CALLER_KEY.encode(), headers=CREDENTIALS),
    "bad JSON": post(b'{"model": "' + CALLER_KEY.encode() + b"", headers=CREDENTIALS),
    "twice": post(BODY, headers=CREDENTIALS + CREDENTIALS),
    "broken header": post(BODY, headers=f"Authorization Bearer {CALLER_KEY}\r\n"),
    "folded": post(BODY, headers=f"Authorization: Bearer\r\n {CALLER_KEY}\r\n"),
    "not ASCII": post(BODY, headers=CREDENTIALS).replace(b"canary", b"can\xffary"),
    "foreign host": post(BODY, headers=CREDENTIALS).replace(b"localhost", b"evil.example"),
    "large head": post(BODY, headers=CREDENTIALS + "x-a: " + "a" * 9000 + "\r\n"),
    "bad length": post(BODY, headers=CREDENTIALS).replace(b"Content-Length: ", b"Content-Length: -"),
    "unknown path": post(BODY, "/v2/chat", headers=CREDENTIALS),
    "query": f"GET /v1/files?key={CALLER_KEY} HTTP/1.0\r\n\r\n".encode(),
    "cookie": post(BODY, headers=f"Cookie: key={CALLER_KEY}\r\n"),
    "upload": post(BODY, "/v1/files", headers=CREDENTIALS).replace(b"application/json", b"text/csv"),
    "socket": (
        "GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\n{CREDENTIALS}\r\n"
    ).encode(),
}


class Evidence:
    """All that can be seen of a sidecar from outside the provider."""

    def __init__(self, caplog: pytest.LogCaptureFixture, log_path: Path) -> None:
        self._caplog = caplog
        self._log_path = log_path
        self.answers: dict[str, str] = {}

    async def ask_everything(self, sidecar: Running) -> None:
        for name, request in REQUESTS.items():
            self.answers[name] = (await exchange(sidecar.port, request, within_s=1.0)).decode("latin-1")

    async def assert_clean(self, sidecar: Running) -> None:
        for name, answer in self.answers.items():
            assert_clean(f"the answer to {name}", answer)
        async with aiohttp.ClientSession() as session:
            for url in [sidecar.admin_url + page for page in PAGES] + [f"{sidecar.health_url}/metrics"]:
                assert_clean(url, await (await session.get(url)).text())
        # The log is written once a second.
        async with asyncio.timeout(5):
            while not self._log_path.stat().st_size:
                await asyncio.sleep(0.01)
        assert_clean("the access log", self._log_path.read_text())
        assert_clean("the log", "\n".join(record.getMessage() for record in self._caplog.records))
        assert_clean("the log's details", self._caplog.text)


@pytest.fixture
async def evidence(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> AsyncIterator[Evidence]:
    caplog.set_level(logging.DEBUG)
    yield Evidence(caplog, tmp_path / "access.log")


@pytest.mark.parametrize("forwards", [False, True], ids=["own-key", "callers-key"])
@pytest.mark.parametrize(
    "knobs", [{}, {"error_ratio": 1.0}, {"reset": "accept"}], ids=["good", "errors", "resets"]
)
async def test_no_key_is_seen_whatever_a_provider_does(
    evidence: Evidence, tmp_path: Path, forwards: bool, knobs: dict[str, object]
) -> None:
    async with demo_provider(knobs=knobs) as provider:
        tree = config_for(
            provider.url,
            provider={"api_key": None} if forwards else {"headers": {"x-extra-key": PROVIDER_KEY}},
            telemetry={"access_log": str(tmp_path / "access.log")},
        )
        async with running(tree, ENVIRON) as sidecar:
            await evidence.ask_everything(sidecar)
            await evidence.assert_clean(sidecar)
    key = CALLER_KEY if forwards else PROVIDER_KEY
    assert key in {request.api_key for request in provider.requests}  # the requests did carry it


async def test_no_key_is_seen_when_no_provider_can_be_reached(evidence: Evidence, tmp_path: Path) -> None:
    async with raw_provider() as provider:
        url = provider.url
    tree = config_for(url, telemetry={"access_log": str(tmp_path / "access.log")})
    async with running(tree, ENVIRON) as sidecar:
        await evidence.ask_everything(sidecar)
        await evidence.assert_clean(sidecar)


async def test_a_configuration_that_is_wrong_is_explained_without_its_keys(tmp_path: Path) -> None:
    tree = config_for("http://127.0.0.1:1/v1", provider={"api_key": PROVIDER_KEY})
    code, out, errors = await finished("check", str(write_config(tmp_path / "config", tree)))
    assert (code, "api_key" in errors) == (2, True)
    assert_clean("check", out + errors)


async def test_a_key_that_cannot_be_sent_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        async with running(config_for("http://127.0.0.1:1/v1"), {"KEY": PROVIDER_KEY + "\n\x01"}):
            pass
    assert_clean("the error", str(raised.value))
