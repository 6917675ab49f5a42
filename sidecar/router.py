"""Which models may answer a request, in order: the one named, or chosen by its route, then its fallbacks.

A route is a virtual model. Its split is drawn by the conversation, not by the request: the same first
messages always fall on the same arm, so that a provider's prompt cache stays warm. The draw is weighted
rendezvous hashing (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005): each arm draws a
number from the conversation and its own name, and the smallest, divided by the weight, wins. So a change of
weights moves only the share that has to move.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import orjson

from sidecar.config.model import Config, Model, Route, Timeouts, find_model
from sidecar.upstream.provider import Provider

MAX_REMEMBERED = 1000
# How many of the first messages name a conversation: the system's and the user's first.
NAMING_MESSAGES = 2


class Candidate:
    """A model under the name the provider knows it by, and what holds for it."""

    __slots__ = ("is_judged", "late_plain_s", "late_s", "model", "provider", "resumes", "timeouts")

    def __init__(self, model: str, entry: Model, provider: Provider) -> None:
        self.model = model
        self.provider = provider
        self.timeouts: Timeouts = (
            entry.timeouts.over(provider.timeouts) if entry.timeouts else provider.timeouts
        )
        self.late_s = entry.p99_budget_s  # a first token later than this is late; None: not judged
        self.late_plain_s = entry.p99_budget_plain_s
        self.is_judged = entry.p99_budget_s is not None or entry.p99_budget_plain_s is not None
        self.resumes = entry.on_stream_cut == "resume"


class Plan:
    """What one request may try. `long_context` is asked when the model says the request is too long."""

    __slots__ = ("candidates", "long_context", "resumes", "route")

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        *,
        route: str = "",
        long_context: Candidate | None = None,
        resumes: bool = False,
    ) -> None:
        self.candidates = candidates
        self.route = route
        self.long_context = long_context
        self.resumes = resumes


class Router:
    """The models and routes of one configuration. Immutable but for what it remembers, within bounds."""

    def __init__(self, config: Config, providers: Mapping[str, Provider]) -> None:
        self._models = config.models
        self._routes = config.routes
        self._providers = providers
        self._plans: dict[tuple[str, str], Plan | None] = {}

    def plan(self, model: str, document: Mapping[str, Any]) -> Plan | None:
        """What to try for a request that names `model`; None where neither model nor route has the name."""
        route = self._routes.get(model)
        if route is None:
            return self._recall(model, "")
        arms = route.split
        chosen = arms[0].model if len(arms) == 1 else draw(route, document)
        return self._recall(chosen, model)

    def _recall(self, model: str, route: str) -> Plan | None:
        key = (model, route)
        try:
            return self._plans[key]
        except KeyError:
            plan = self._build(model, route)
            if len(self._plans) < MAX_REMEMBERED:
                self._plans[key] = plan
            return plan

    def _build(self, model: str, route_name: str) -> Plan | None:
        first = self._candidate(model)
        if first is None:
            return None
        key = find_model(self._models, model)
        fallback = self._models[key].fallback if key is not None else ()
        route = self._routes.get(route_name)
        if route is not None:
            fallback = route.fallback or fallback
        candidates = [first]
        for name in fallback:
            candidate = self._candidate(name)
            if candidate is not None and name not in [c.model for c in candidates]:
                candidates.append(candidate)
        if route is None:
            return Plan(tuple(candidates), resumes=first.resumes)
        return Plan(
            tuple(candidates),
            route=route_name,
            long_context=self._candidate(route.long_context) if route.long_context else None,
            resumes=first.resumes if route.on_stream_cut is None else route.on_stream_cut == "resume",
        )

    def _candidate(self, model: str) -> Candidate | None:
        key = find_model(self._models, model)
        if key is None:
            return None
        entry = self._models[key]
        return Candidate(model, entry, self._providers[entry.provider])


def draw(route: Route, document: Mapping[str, Any]) -> str:
    """The arm a conversation falls on."""
    conversation = _name(document)

    def distance(arm: tuple[str, float]) -> float:
        model, weight = arm
        digest = hashlib.blake2b(conversation + model.encode(), digest_size=8).digest()
        share = (int.from_bytes(digest) + 1) / (2**64 + 1)
        return -math.log(share) / weight

    return min(((arm.model, arm.weight) for arm in route.split), key=distance)[0]


def _name(document: Mapping[str, Any]) -> bytes:
    """What stays the same through a conversation: its first messages, or the prompt."""
    messages = document.get("messages")
    if type(messages) is not list:
        messages = [document.get("prompt") or document.get("input") or document.get("instructions")]
    return orjson.dumps(messages[:NAMING_MESSAGES], default=str)
