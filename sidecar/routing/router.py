"""Which models may answer a request, in order: the one named, or chosen by its route, then its fallbacks.

A route is a virtual model: its rules look at the request first, then its split draws an arm. A route may bear
the name of a model; the route wins, and as a target the name means the model. A route without fallbacks takes
those of the model it chose.

Providers for break-glass stand in no plan until an operator switches break-glass on. Then they come last in
every plan: those that a `models` entry names under the names the fallbacks list them by, every other under
the name of the plan's first model.

Nothing here chooses a premium model by itself: one is in a plan where the caller named it, a rule chose it, a
split drew it, or a fallback lists it.
"""

import heapq
from collections.abc import Iterator, Mapping

from sidecar.config.model import Config, Model, find_model
from sidecar.config.model import Route as RouteConfig
from sidecar.exchange import Exchange
from sidecar.openai import Call
from sidecar.routing.classify import Classifier
from sidecar.routing.plan import Candidate, Plan
from sidecar.routing.split import Split
from sidecar.upstream.provider import Provider

MAX_REMEMBERED = 1000
MAX_NEAREST = 3
# Comparing two names takes up to 40 µs, and anyone may ask for names that are not there, again and again.
_MAX_COMPARED = 50
_MAX_COMPARED_CHARS = 256


class _Route:
    """A virtual model made ready: what it may choose, and the plan for each choice."""

    __slots__ = ("arms", "classifier", "config", "name", "plans", "rules", "split")

    def __init__(self, name: str, config: RouteConfig) -> None:
        self.name = name
        self.config = config
        self.rules = tuple((rule.model, f"classify[{index}]") for index, rule in enumerate(config.classify))
        self.arms = tuple((arm.model, "split") for arm in config.split)
        self.classifier = Classifier(rule.when for rule in config.classify)
        self.split = Split((arm.model, arm.weight) for arm in config.split)
        self.plans: dict[tuple[str, str], Plan | None] = {}  # by model and reason

    def choose(self, call: Call, x: Exchange) -> tuple[str, str]:
        """The model for a request, and the reason."""
        if self.rules:
            index = self.classifier.choose(call.document, x.fields)
            if index is not None:
                return self.rules[index]
        return self.arms[self.split.draw(call.document)]


class Router:
    """The models and routes of one configuration. Only break-glass changes, and what is remembered."""

    def __init__(self, config: Config, providers: Mapping[str, Provider]) -> None:
        self._models = config.models
        self._providers = providers
        self._routes = {name: _Route(name, route) for name, route in config.routes.items()}
        self._plans: dict[str, Plan | None] = {}  # of models named by callers
        self._nearest: dict[str, list[str]] = {}

        named = {model.provider for model in config.models.values()}
        self._break_glass = frozenset(
            name for name, provider in config.providers.items() if provider.break_glass
        )
        self._unnamed_break_glass = tuple(
            providers[name] for name in config.providers if name in self._break_glass and name not in named
        )
        self._names = tuple(
            dict.fromkeys([*config.routes, *(name for name in config.models if not name.endswith("*"))])
        )
        self.is_break_glass_on = False

    # --- for every request ----------------------------------------------------------------------------

    def plan(self, call: Call, x: Exchange) -> Plan | None:
        """What to try for a request; None where neither model nor route has the name it asks for, or only
        providers for break-glass would serve it and that is off."""
        model = call.model
        route = self._routes.get(model)
        if route is not None:
            choice = route.choose(call, x)
            try:
                return route.plans[choice]
            except KeyError:
                plan = route.plans[choice] = self._build(*choice, route)
                return plan
        try:
            return self._plans[model]
        except KeyError:
            plan = self._build(model, "named", None)
            if len(self._plans) < MAX_REMEMBERED:
                self._plans[model] = plan
            return plan

    # --- for operators and the lost -------------------------------------------------------------------

    def set_break_glass(self, on: bool) -> None:
        """Have providers for break-glass join every plan, or none. Requests under way keep theirs."""
        self.is_break_glass_on = on
        self._plans.clear()
        self._nearest.clear()
        for route in self._routes.values():
            route.plans.clear()

    def explain_plan(self, call: Call, x: Exchange) -> list[tuple[str, str]]:
        """Each model that was considered for a request, in order, and why it is in or out of the plan."""
        route = self._routes.get(call.model)
        model, reason = (call.model, "named") if route is None else route.choose(call, x)
        return [(step.model, step.why) for step in self._steps(model, reason, route)]

    def nearest(self, model: str) -> list[str]:
        """At most three names of models and routes that are spelled like one that has no plan."""
        found = self._nearest.get(model)
        if found is None:
            found = self._find_nearest(model[:_MAX_COMPARED_CHARS])
            if len(self._nearest) < MAX_REMEMBERED:
                self._nearest[model] = found
        return found

    # --- inside ---------------------------------------------------------------------------------------

    def _find_nearest(self, model: str) -> list[str]:
        import difflib  # where nobody may ever mistype a name

        closest = heapq.nsmallest(_MAX_COMPARED, self._names, key=lambda name: abs(len(name) - len(model)))
        served = [
            name for name in closest if name in self._routes or self._build(name, "named", None) is not None
        ]
        by_lower = {name.lower(): name for name in served}
        return [by_lower[name] for name in difflib.get_close_matches(model.lower(), by_lower, n=MAX_NEAREST)]

    def _build(self, model: str, reason: str, route: _Route | None) -> Plan | None:
        steps = self._steps(model, reason, route)
        candidates = tuple(step.candidate for step in steps if step.candidate is not None)
        if not candidates:
            return None
        resumes = candidates[0].resumes
        if route is None:
            return Plan(candidates, reason=reason, resumes=resumes)
        config = route.config
        longer = None if config.long_context is None else self._step(config.long_context, "").candidate
        return Plan(
            candidates,
            reason=reason,
            route=route.name,
            long_context=longer,
            cheaper=tuple(self._cheaper(route)),
            resumes=resumes if config.on_stream_cut is None else config.on_stream_cut == "resume",
        )

    def _cheaper(self, route: _Route) -> Iterator[Candidate]:
        """Every model that the route may choose or fall back on and that is not premium."""
        config = route.config
        names = [*(arm.model for arm in config.split), *(rule.model for rule in config.classify)]
        for name in dict.fromkeys([*names, *config.fallback]):
            step = self._step(name, "")
            if step.candidate is not None and not (step.candidate.is_premium or step.is_break_glass):
                yield step.candidate

    def _steps(self, model: str, reason: str, route: _Route | None) -> "list[_Step]":
        """Every model considered, those for break-glass last."""
        steps = [self._step(model, reason)]
        entry = steps[0].entry
        if entry is None:
            return steps
        fallback = entry.fallback if route is None else route.config.fallback or entry.fallback
        steps += [self._step(name, "fallback") for name in fallback if name != model]
        steps.sort(key=lambda step: step.is_break_glass)
        if self.is_break_glass_on:
            steps += self._unnamed(steps)
        return steps

    def _step(self, model: str, why: str) -> "_Step":
        pattern = find_model(self._models, model)
        if pattern is None:
            return _Step(model, "out: no entry of models has this name")
        entry = self._models[pattern]
        is_break_glass = entry.provider in self._break_glass
        if is_break_glass and not self.is_break_glass_on:
            why = f"out: its provider {entry.provider} is for break-glass, which is off"
            return _Step(model, why, entry, is_break_glass=True)
        candidate = Candidate(model, entry, self._providers[entry.provider])
        return _Step(model, why, entry, candidate, is_break_glass=is_break_glass)

    def _unnamed(self, steps: "list[_Step]") -> "Iterator[_Step]":
        """The providers for break-glass that stand in no entry of `models`: they take the first model."""
        first = steps[0]
        if first.entry is not None:
            for provider in self._unnamed_break_glass:
                yield _Step(
                    first.model, "break-glass", first.entry, Candidate(first.model, first.entry, provider)
                )


class _Step:
    """One model considered: what it comes to, and why; `candidate` is None where it is out."""

    __slots__ = ("candidate", "entry", "is_break_glass", "model", "why")

    def __init__(
        self,
        model: str,
        why: str,
        entry: Model | None = None,
        candidate: Candidate | None = None,
        *,
        is_break_glass: bool = False,
    ) -> None:
        self.model = model
        self.why = why
        self.entry = entry
        self.candidate = candidate
        self.is_break_glass = is_break_glass
