"""/explain on a running sidecar: what it says is what then happens, and asking changes nothing."""

from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from sidecar.demo.provider import DemoProvider
from tests.policy.support import hash_of
from tests.support.demo import demo_provider
from tests.support.running import Running, config_for, running

GUARD = {"x-sidecar-admin": "1"}
ROUTE = {
    "split": [{"model": "plain", "weight": 1}],
    "fallback": ["other"],
    "classify": [{"when": {"importance": "critical"}, "model": "other"}],
}
LIMITED = {"requests_per_minute": 1}


@pytest.fixture
async def near() -> AsyncIterator[DemoProvider]:
    async with demo_provider() as demo:
        yield demo


@pytest.fixture
async def far() -> AsyncIterator[DemoProvider]:
    async with demo_provider("eu-west-1") as demo:
        yield demo


@pytest.fixture
async def sidecar(near: DemoProvider, far: DemoProvider) -> AsyncIterator[Running]:
    tree = config_for(near.url, far.url, models={name: {"provider": "p"} for name in ("plain", "other")})
    for endpoint, region in zip(tree["providers"]["p"]["endpoints"], ("us", "eu"), strict=True):
        endpoint["region"] = region
    tree["providers"]["p"]["circuit_breaker"] = {"consecutive_failures": 2}
    tree["locality"] = {"region": "us"}
    tree["routes"] = {"auto": ROUTE}
    tree["tiers"] = {"standard": {"requests_per_minute": 1000}, "small": LIMITED}
    tree["keys"] = [
        {"id": "abroad", "hash": hash_of("key-abroad"), "regions": ["eu"]},
        {"id": "nowhere", "hash": hash_of("key-nowhere"), "regions": ["mars"]},
        {"id": "small", "tier": "small", "hash": hash_of("key-small")},
        {"id": "narrow", "hash": hash_of("key-narrow"), "models": ["other"]},
    ]
    async with running(tree) as started:
        yield started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Operator:
    """Asks /explain, and sends the same for comparison."""

    def __init__(self, sidecar: Running, session: aiohttp.ClientSession) -> None:
        self.sidecar = sidecar
        self._session = session

    async def explain(self, **query: str) -> dict[str, Any]:
        response = await self._session.get(f"{self.sidecar.admin_url}/explain", params=query)
        assert response.status == 200, await response.text()
        shown: dict[str, Any] = await response.json()
        return shown

    async def explain_body(self, body: bytes, **query: str) -> dict[str, Any]:
        response = await self._session.post(
            f"{self.sidecar.admin_url}/explain", params=query, data=body, headers=GUARD
        )
        assert response.status == 200, await response.text()
        shown: dict[str, Any] = await response.json()
        return shown

    async def send(self, model: str, key: str = "", **headers: str) -> Answer:
        if key:
            headers["authorization"] = f"Bearer key-{key}"
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        url = f"{self.sidecar.url}/chat/completions"
        async with self._session.post(url, json=body, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())


@pytest.fixture
def operator(sidecar: Running, session: aiohttp.ClientSession) -> Operator:
    return Operator(sidecar, session)


def firsts(shown: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["model"], one["region"]) for one in shown["targets"] if one["in"]]


# --- what is said happens ---


@pytest.mark.parametrize(
    ("model", "key", "importance", "model_then", "region_then"),
    [
        ("plain", "", "", "plain", "us"),
        ("plain", "abroad", "", "plain", "eu"),
        ("auto", "", "", "plain", "us"),
        ("auto", "abroad", "critical", "other", "eu"),
    ],
)
async def test_the_request_goes_where_it_was_said_to_go(
    operator: Operator, model: str, key: str, importance: str, model_then: str, region_then: str
) -> None:
    query = {"key": key, "importance": importance}
    shown = await operator.explain(model=model, **{name: text for name, text in query.items() if text})
    assert firsts(shown)[0] == (model_then, region_then)
    headers = {"x-sidecar-importance": importance} if importance else {}
    answer = await operator.send(model, key, **headers)
    assert answer.status == 200
    assert answer.headers["x-sidecar-model"] == model_then
    assert answer.headers["x-sidecar-region"] == region_then


@pytest.mark.parametrize(
    ("model", "key", "spent"),
    [("plian", "", 0), ("plain", "narrow", 0), ("plain", "nowhere", 0), ("plain", "small", 1)],
)
async def test_the_error_is_the_one_that_the_caller_gets(
    operator: Operator, model: str, key: str, spent: int
) -> None:
    for _ in range(spent):
        assert (await operator.send(model, key)).status == 200
    shown = await operator.explain(model=model, **({"key": key} if key else {}))
    answer = await operator.send(model, key)
    code = orjson.loads(answer.body)["error"]["code"]
    assert (shown["error"]["status"], shown["error"]["code"]) == (answer.status, code)


async def test_failures_open_the_breaker_and_that_is_said(operator: Operator, near: DemoProvider) -> None:
    near.scenario.update({"error_ratio": 1.0, "error_status": 503})
    for _ in range(2):
        assert (await operator.send("plain")).status == 503
    shown = await operator.explain(model="plain")
    assert firsts(shown) == [("plain", "eu")]
    (out,) = [one for one in shown["targets"] if not one["in"]]
    assert out["why"].startswith("circuit breaker open for ") and out["why"].endswith(": status 503")
    assert 0 < out["state"]["open_for_s"] <= 30.0
    assert (await operator.send("plain")).headers["x-sidecar-region"] == "eu"


async def test_a_429_parks_one_model_at_one_endpoint(operator: Operator, near: DemoProvider) -> None:
    near.scenario.update({"error_ratio": 1.0, "error_status": 429})
    await operator.send("plain")
    shown = await operator.explain(model="plain")
    assert firsts(shown) == [("plain", "eu")]
    assert "limited by the provider (429)" in shown["targets"][-1]["why"]
    assert firsts(await operator.explain(model="other"))[0] == ("other", "us")


# --- nothing is sent, nothing is counted ---


async def test_a_hundred_explanations_change_no_counter_and_send_nothing(
    operator: Operator, near: DemoProvider, far: DemoProvider
) -> None:
    body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]})
    series = ("sidecar_requests_total", "sidecar_limited_total", "sidecar_tokens_total")
    before = [await operator.sidecar.metric(name) for name in series]
    for _ in range(50):
        shown = await operator.explain(model="plain", key="small")
        await operator.explain_body(body, key="abroad")
    assert shown["limits"]["requests"]["remaining"] == 1
    assert (near.attempts, far.attempts) == (0, 0)
    assert [await operator.sidecar.metric(name) for name in series] == before
    for index in range(2):
        endpoint = operator.sidecar.endpoint(index)
        assert (endpoint.requests, endpoint.in_flight) == (0, 0)
    assert (await operator.send("plain", "small")).status == 200  # its one request is still there


async def test_neither_keys_nor_the_body_come_back(operator: Operator) -> None:
    body = {"model": "plain", "messages": [{"role": "user", "content": "a confidential word"}]}
    text = str(await operator.explain_body(orjson.dumps(body), key="abroad"))
    for secret in ("sk-provider-secret", "key-abroad", hash_of("key-abroad"), "confidential"):
        assert secret not in text


# --- how it is asked ---


@pytest.mark.parametrize("query", [{}, {"model": ""}, {"model": "plain", "key": "no"}, {"models": "plain"}])
async def test_what_is_not_understood_is_a_400_of_one_line(
    operator: Operator, session: aiohttp.ClientSession, query: dict[str, str]
) -> None:
    response = await session.get(f"{operator.sidecar.admin_url}/explain", params=query)
    assert response.status == 400
    assert (await response.text()).count("\n") == 1


@pytest.mark.parametrize("headers", [{}, {**GUARD, "Origin": "https://a.example"}])
async def test_a_web_page_cannot_post_it(
    operator: Operator, session: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    response = await session.post(f"{operator.sidecar.admin_url}/explain", data=b"{}", headers=headers)
    assert response.status == 403


@pytest.mark.parametrize("body", [b"", b"{", b"\x00" * 1000, b"[" * 100_000])
async def test_a_body_of_garbage_is_explained_as_the_400_it_would_be(operator: Operator, body: bytes) -> None:
    shown = await operator.explain_body(body)
    assert (shown["error"]["status"], shown["targets"]) == (400, [])


async def test_a_body_that_is_too_large_is_refused(
    operator: Operator, session: aiohttp.ClientSession
) -> None:
    response = await session.post(
        f"{operator.sidecar.admin_url}/explain", data=BytesIO(b"x" * (2**20 + 1)), headers=GUARD
    )
    assert response.status == 413
