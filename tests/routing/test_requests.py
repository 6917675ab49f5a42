"""Routing as callers meet it: the model that is asked, the help in a 404, break-glass in an outage."""

from typing import Any

import orjson

from tests.support.demo import QUESTION
from tests.support.http1 import Answer, ask
from tests.support.raw import RawProvider, post, raw_provider
from tests.support.running import Running, config_for, running


async def send(sidecar: Running, model: str, text: str = "hello", headers: str = "") -> Answer:
    document = {**QUESTION, "model": model, "messages": [{"role": "user", "content": text}]}
    return await ask(sidecar.port, post(orjson.dumps(document), headers=headers))


def asked(provider: RawProvider) -> str:
    """The model that the last request names."""
    document: dict[str, Any] = orjson.loads(provider.requests[-1].partition(b"\r\n\r\n")[2])
    return str(document["model"])


async def test_rules_choose_the_model_that_is_asked() -> None:
    rules = [
        {"when": {"importance": "critical"}, "model": "best"},
        {"when": {"keywords": ["compare"], "question": True}, "model": "clever"},
    ]
    routes = {"auto": {"split": [{"model": "cheap", "weight": 1}], "classify": rules}}
    async with raw_provider() as provider, running(config_for(provider.url, routes=routes)) as sidecar:
        for text, headers, model in (
            ("Compare these?", "X-Sidecar-Importance:  critical \r\n", "best"),
            ("Compare these?", "X-Sidecar-Importance: normal\r\n", "clever"),
            ("Compare these?", "", "clever"),
            ("Compare these.", "", "cheap"),
        ):
            answer = await send(sidecar, "auto", text, headers)
            assert (answer.head.get("x-sidecar-model"), asked(provider)) == (model, model)
        assert b"importance" not in b"".join(provider.requests).lower()


async def test_a_deprecated_name_is_answered_by_its_successor() -> None:
    routes = {"gpt-4": {"split": [{"model": "new", "weight": 1}]}}
    sections: dict[str, Any] = {"routes": routes, "models": {"new": {"provider": "p"}}}
    async with raw_provider() as provider, running(config_for(provider.url, **sections)) as sidecar:
        assert (await send(sidecar, "gpt-4")).status == 200
        assert asked(provider) == "new"


async def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    models = {"gpt-4o": {"provider": "p"}, "gpt-4o-mini": {"provider": "p"}}
    async with raw_provider() as provider, running(config_for(provider.url, models=models)) as sidecar:
        for model, said in (
            ("gpt4o", "is not configured here. Did you mean `gpt-4o`, `gpt-4o-mini`? GET /v1/models lists"),
            ("claude", "is not configured here. GET /v1/models lists"),
        ):
            answer = await send(sidecar, model)
            assert answer.status == 404
            assert f"`{model}` {said}" in orjson.loads(answer.body)["error"]["message"]
    assert provider.requests == []


async def test_an_outage_of_everything_is_bridged_while_break_glass_is_on() -> None:
    async with raw_provider() as lost, raw_provider() as direct:
        tree = config_for(lost.url, provider={"retry": {"attempts": 3}})
        await lost.stop()
        tree["providers"]["direct"] = {
            "api_key": {"env": "KEY"},
            "endpoints": [{"url": direct.url}],
            "break_glass": True,
        }
        async with running(tree) as sidecar:
            assert (await send(sidecar, "m")).status == 503
            router = sidecar.sidecar.snapshot.router
            router.set_break_glass(True)
            answer = await send(sidecar, "m")
            assert (answer.status, answer.head.get("x-sidecar-provider")) == (200, "direct")
            assert asked(direct) == "m"
            router.set_break_glass(False)
            assert (await send(sidecar, "m")).status == 503
    assert len(direct.requests) == 1
