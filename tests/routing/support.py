"""Calls to route, and routers to ask."""

from typing import Any

import orjson

from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.exchange import Exchange
from sidecar.openai import Call
from sidecar.routing.plan import Plan
from sidecar.routing.router import Router
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.support.exchanges import finished
from tests.support.running import ENVIRON, config_for

URL = "http://a.example/v1"
BREAK_GLASS = {"api_key": {"env": "KEY"}, "endpoints": [{"url": "http://b.example/v1"}], "break_glass": True}


def asking(model: str, document: dict[str, Any] | None = None, importance: str = "") -> tuple[Call, Exchange]:
    """What a router is asked with: a call for `model`, and the exchange it came in."""
    x = finished()
    if importance:
        x.fields[b"x-sidecar-importance"] = importance.encode()
    return Call(document or {}, model, stream=False), x


def user(content: Any) -> dict[str, Any]:
    """A chat with one message."""
    return {"messages": [{"role": "user", "content": content}]}


def router_for(*, break_glass: tuple[str, ...] = (), **sections: Any) -> Router:
    """The router of a configuration with provider `p`, and others for break-glass."""
    tree = config_for(URL, **sections)
    tree["providers"] |= dict.fromkeys(break_glass, BREAK_GLASS)
    runtime = Runtime(Ticker(), Metrics("0"), "t")
    runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)
    return runtime.snapshot.router


def targets_of(plan: Plan | None) -> list[tuple[str, str]]:
    """The models of a plan with their providers."""
    assert plan is not None
    return [(candidate.model, candidate.provider.name) for candidate in plan.candidates]


def models_of(plan: Plan | None) -> list[str]:
    return [model for model, _ in targets_of(plan)]
