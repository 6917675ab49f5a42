"""A stored response is gone on with where it is kept, and nowhere else."""

import orjson
import pytest

from sidecar.clock import Ticker
from sidecar.pins import MAX_PINS, Pins, response_id
from tests.support.demo import demo_provider
from tests.support.http1 import Answer, ask
from tests.support.raw import post
from tests.support.running import config_for, running
from tests.support.upstream import endpoint_on

PATH = "/v1/responses"


def asking(**facts: object) -> bytes:
    return post(orjson.dumps({"model": "demo", "input": "Hello", **facts}), path=PATH, close=False)


def id_of(answer: Answer) -> str:
    """The id of a plain answer, or of the first event of a streamed one."""
    if answer.body.startswith(b"{"):
        return str(orjson.loads(answer.body)["id"])
    return str(orjson.loads(answer.body.partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"])


def test_only_the_ids_used_last_are_remembered() -> None:
    pins, endpoint = Pins(), endpoint_on(Ticker())
    for number in range(MAX_PINS):
        pins.remember(f"resp_{number}", endpoint)
    assert pins.find("resp_0") is endpoint
    pins.remember("resp_new", endpoint)
    assert len(pins) == MAX_PINS
    assert pins.find("resp_0") is endpoint
    assert pins.find("resp_1") is None


def test_what_is_no_id_is_not_remembered_and_finds_nothing() -> None:
    pins, endpoint = Pins(), endpoint_on(Ticker())
    for nonsense in ("", "resp_" + "x" * 1000):
        pins.remember(nonsense, endpoint)
    assert len(pins) == 0
    for nonsense_too in (None, 7, ["resp_1"], {"id": "resp_1"}, "", True):
        assert pins.find(nonsense_too) is None


def test_the_id_of_an_answer_is_its_own_not_one_in_its_text() -> None:
    body = orjson.dumps({"id": "resp_1", "output": [{"content": '"id":"resp_2"', "id": "resp_3"}]})
    assert response_id(body) == "resp_1"
    assert response_id(b'{"error":{"message":"no"}}') == ""
    assert response_id(b"") == ""
    assert response_id(b'{"id": "resp_' + b"x" * 5000) == ""


@pytest.mark.parametrize("streams", [False, True])
async def test_a_stored_response_is_gone_on_with_where_it_is_kept(streams: bool) -> None:
    async with demo_provider("a") as a, demo_provider("b") as b:
        tree = config_for(a.url, b.url)
        for endpoint, region in zip(tree["providers"]["p"]["endpoints"], "ab", strict=True):
            endpoint["region"] = region
        async with running(tree) as sidecar:
            for _ in range(12):
                first = await ask(sidecar.port, asking(stream=streams))
                assert first.status == 200
                second = await ask(sidecar.port, asking(previous_response_id=id_of(first)))
                assert second.head.get("x-sidecar-region") == first.head.get("x-sidecar-region")


async def test_an_id_nobody_is_known_to_keep_goes_where_any_request_goes() -> None:
    async with demo_provider() as provider, running(config_for(provider.url)) as sidecar:
        answer = await ask(sidecar.port, asking(previous_response_id="resp_elsewhere"))
        assert orjson.loads(answer.body)["error"]["code"] == "previous_response_not_found"
        assert len(provider.requests) == 1


async def test_no_other_endpoint_is_asked_when_the_one_that_keeps_it_fails() -> None:
    async with demo_provider("a") as a, demo_provider("b") as b:
        tree = config_for(a.url, b.url, provider={"retry": {"attempts": 3}})
        async with running(tree) as sidecar:
            first = await ask(sidecar.port, asking())
            keeper, other = (a, b) if a.requests else (b, a)
            keeper.scenario.update({"error_ratio": 1.0})
            before = len(other.requests)
            answer = await ask(sidecar.port, asking(previous_response_id=id_of(first)))
            assert answer.status >= 500
            assert len(other.requests) == before
