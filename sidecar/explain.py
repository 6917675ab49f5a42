"""Where a request would go now, and why: its plan, each target in or out, its limits, budgets and price.

It goes the way of proxy.py and asks the same of the same state, but only what changes nothing: no bucket is
taken from, no probe used up, no chance drawn, nothing sent. Where the real way draws, here are the odds:
`share` is how many of such requests begin at a target. The result is plain values, fit for JSON.
"""

import math
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from sidecar.accounts import Accounts
from sidecar.attempt import nothing_to_try
from sidecar.config.model import find_model
from sidecar.errors import model_not_allowed, model_not_found
from sidecar.exchange import NANO_USD, Downstream, Exchange, Reply, RequestHead
from sidecar.openai import KINDS, Call, read_call
from sidecar.policy.balances import Status
from sidecar.policy.by_name import find_caller
from sidecar.policy.callers import Caller
from sidecar.policy.exceeded import refusal
from sidecar.quote import Quote
from sidecar.routing.classify import IMPORTANCE
from sidecar.routing.plan import Candidate, Plan
from sidecar.runtime import Snapshot
from sidecar.standing import Standing, View, standings
from sidecar.tries import Tries

if TYPE_CHECKING:
    from sidecar.caching.tiers import Tiers  # two megabytes, for those who have a cache

CHAT = "/v1/chat/completions"


class Question(NamedTuple):
    """What is asked about: the JSON an app would send, where to, and who it is.

    `key` is the id of a listed key, or `sa:NAMESPACE/NAME` for a service account; `team` takes its first key;
    with neither it is a caller without a listed key. `is_whole`: the body is the app's; else it says the
    model and no more of what rules and splits read.
    """

    body: bytes
    is_whole: bool = True
    path: str = CHAT
    key: str = ""
    team: str = ""
    importance: str = ""


def question_of(query: Mapping[str, str], body: bytes | None = None) -> Question:
    """The question in an operator's words: `key`, `team`, `importance`, `path`, and where there is no body
    `model` and `stream`. ValueError, with a sentence for the operator, where they are not understood."""
    known = {"key", "team", "importance", "path", *(("model", "stream") if body is None else ())}
    if unknown := sorted(set(query) - known):
        raise ValueError(f"{unknown[0]} is not known here: give {', '.join(sorted(known))}")
    if body is None:
        if not query.get("model"):
            raise ValueError("give model=NAME, or POST the JSON that the app would send")
        if query.get("stream", "0") not in ("0", "1"):
            raise ValueError("stream must be 0 or 1")
        document = {"model": query["model"], "stream": query.get("stream") == "1"}
        said, is_whole = orjson.dumps(document), False
    else:
        said, is_whole = body, True
    if query.get("importance", "normal") not in ("normal", "critical"):
        raise ValueError("importance must be normal or critical")
    if (path := query.get("path", CHAT)) not in KINDS:
        raise ValueError(f"path must be one of {', '.join(KINDS)}")
    who = query.get("key", ""), query.get("team", "")
    return Question(said, is_whole, path, *who, query.get("importance", ""))


def explain(
    question: Question,
    snapshot: Snapshot,
    accounts: Accounts,
    now_s: float,
    wall_s: float,
    tiers: "Tiers | None" = None,
) -> dict[str, Any]:
    """The explanation; `now_s` is monotonic, `wall_s` Unix time, `tiers` are those of the answer cache.
    ValueError, with a sentence for whoever asked, where the key or the team is not known."""
    return _Explanation(question, snapshot, accounts, now_s, wall_s).shown(tiers)


class _Explanation:
    """One explanation in the making. `refusal` is the first thing that says no."""

    def __init__(
        self, question: Question, snapshot: Snapshot, accounts: Accounts, now_s: float, wall_s: float
    ) -> None:
        self._question = question
        self._snapshot = snapshot
        self._config = snapshot.config
        self._accounts = accounts
        self._now_s = now_s
        self._wall_s = wall_s

        self._refusal: Reply | None = None
        self._notes: list[str] = []
        self._shown: dict[str, Any] = {
            **dict.fromkeys(("model", "route", "reason", "caller", "limits", "attempts")),
            **{name: [] for name in ("arms", "budgets", "targets", "left_out")},
            "cache": {"class": "unknown" if self._config.cache else "off", "reason": None, "would": None},
        }

    def shown(self, tiers: "Tiers | None") -> dict[str, Any]:
        """All of it."""
        first = self._decide(tiers)
        refusal, shown = self._refusal, self._shown
        shown["notes"] = self._notes
        shown["would"], shown["error"] = first, None
        if refusal is not None:
            message = orjson.loads(refusal.body)["error"]["message"]
            shown["would"] = f"answer {refusal.status} {refusal.code}"
            shown["error"] = {"status": refusal.status, "code": refusal.code, "message": message}
        return shown

    def _refuse(self, refusal: Reply) -> None:
        self._refusal = self._refusal or refusal

    # --- the way of a request -------------------------------------------------------------------------

    def _decide(self, tiers: "Tiers | None") -> str:
        """Go the way as far as it leads; where the request would be sent, as a sentence."""
        caller = self._identify()
        if caller is None:
            return ""
        call = read_call(self._question.body)
        if isinstance(call, Reply):
            self._refuse(call)
            return ""
        call.kind = KINDS[self._question.path]
        x = self._exchange(caller, call)
        self._shown["model"] = call.model
        plan = self._plan(call, x)
        may_use = caller.may_use(call.model)
        self._shown["caller"] = _caller_shown(caller, may_use=may_use)
        if plan is None:
            return ""
        if not may_use:
            self._refuse(model_not_allowed(call.model))
        tokens_in = self._accounts.estimator.estimate(plan.candidates[0].model, len(self._question.body))
        quote = Quote(self._config, self._accounts, caller, call, tokens_in, self._now_s, self._wall_s)
        self._limit(caller, quote, plan)
        given = self._ask_cache(tiers, x, call, caller, plan)
        plan = self._within_budget(quote, plan)
        first = self._walk(caller, x, plan, quote)
        if given:
            self._refusal = None  # what only a request that is sent would meet
        return given or first

    def _identify(self) -> Caller | None:
        """Who calls; None where no more can be said of it."""
        question, callers = self._question, self._snapshot.callers
        found = find_caller(self._config, callers, question.key, question.team, self._wall_s)
        if found.refusal is not None:
            self._refuse(found.refusal)
        if found.note:
            self._notes.append(found.note)
        return found.caller

    def _exchange(self, caller: Caller, call: Call) -> Exchange:
        """A request as the deciders want to see one; nothing is ever sent to its caller."""
        question = self._question
        head = RequestHead(b"POST", question.path.encode())
        if question.importance:
            head.fields[IMPORTANCE] = question.importance.encode(errors="replace")
        x = Exchange(cast(Downstream, None), self._now_s, head)
        x.kind = KINDS[question.path]
        x.model, x.stream = call.model, call.stream
        x.team, x.regions, x.priority = caller.team, caller.regions, caller.priority
        return x

    def _plan(self, call: Call, x: Exchange) -> Plan | None:
        router, config, shown = self._snapshot.router, self._config, self._shown
        plan = router.plan(call, x)
        considered = router.explain_plan(call, x)
        if not router.is_break_glass_on:
            named = {model.provider for model in config.models.values()}
            for name, provider in config.providers.items():
                if provider.break_glass and name not in named and plan is not None:
                    left_out = {"model": considered[0][0], "provider": name, "why": "break-glass is off"}
                    shown["left_out"].append(left_out)
        shown["left_out"][:0] = [
            self._left_out(model, why) for model, why in considered if why.startswith("out: ")
        ]
        if plan is None:
            self._refuse(model_not_found(call.model, router.nearest(call.model)))
            return None
        shown["route"], shown["reason"] = plan.route or None, plan.reason
        if plan.route:
            self._explain_route(call, plan)
        if call.continues:
            self._notes.append("it goes on from a stored answer: only the endpoint that keeps it is asked")
        return plan

    def _left_out(self, model: str, why: str) -> dict[str, Any]:
        pattern = find_model(self._config.models, model)
        provider = None if pattern is None else self._config.models[pattern].provider
        if provider is not None and self._config.providers[provider].break_glass:
            why = "break-glass is off"
        return {"model": model, "provider": provider, "why": why.removeprefix("out: ")}

    def _explain_route(self, call: Call, plan: Plan) -> None:
        route, is_whole = self._config.routes[call.model], self._question.is_whole
        if route.classify and not is_whole:
            self._notes.append("rules that look at messages were asked without any: give the body to know")
        if plan.reason == "split":
            self._shown["arms"] = [{"model": arm.model, "weight": arm.weight} for arm in route.split]
            if len(route.split) > 1 and not is_whole:
                self._notes.append(
                    "the split depends on the conversation: these are the targets of an empty one"
                )

    def _limit(self, caller: Caller, quote: Quote, plan: Plan) -> None:
        admission = quote.admission(plan.candidates[0])
        if admission is None:
            return
        limits: dict[str, Any] = {"requests": None, "tokens": None}
        for kind, (limit, remaining, reset_s) in admission.figures(self._now_s).items():
            limits[kind] = {"limit": limit, "remaining": remaining, "reset_s": round(reset_s, 1)}
        self._shown["limits"] = limits
        if admission.refusal is not None:
            self._refuse(admission.refusal)
        elif admission.is_over:
            self._notes.append(f"tier {caller.tier} is a dry run: it is let in although it is over its limit")

    def _ask_cache(self, tiers: "Tiers | None", x: Exchange, call: Call, caller: Caller, plan: Plan) -> str:
        """What the cache would do; as a sentence where it would answer."""
        if tiers is None or self._config.cache is None:
            return ""
        if self._refusal is not None or not self._question.is_whole:
            self._shown["cache"]["reason"] = "refused before" if self._refusal else "give the body to know"
            return ""
        from sidecar.caching.outlook import outlook  # two megabytes, for those who have a cache

        x.route, x.body = plan.route, self._question.body
        seen = outlook(tiers, x, call, caller, plan.candidates[0], self._now_s)
        self._shown["cache"] = {"class": seen.kind, "reason": seen.reason, "would": seen.would}
        self._notes += seen.notes
        return f"answer from the cache: {seen.would}" if seen.is_hit else ""

    def _within_budget(self, quote: Quote, plan: Plan) -> Plan:
        """The plan to go by: another one where a budget is used up and the route goes down."""
        exceeded = quote.exceeded(plan.candidates[0])
        if exceeded is None:
            return plan
        cheapest = quote.cheapest(plan) if exceeded.status.at_limit == "downgrade" else None
        if cheapest is None:
            self._refuse(refusal(exceeded))
            return plan
        self._notes.append(f"budget {exceeded.status.name} is used up: down to {cheapest.model}")
        plan = plan.instead(cheapest)
        self._shown["reason"] = plan.reason
        return plan

    def _walk(self, caller: Caller, x: Exchange, plan: Plan, quote: Quote) -> str:
        """All targets, in the order of `Tries`; where the first try would go."""
        home = self._config.locality
        who = f"key {caller.id}" if caller.id else "the caller"
        view = View(home.region or "", home.zone or "", self._now_s, who)
        order: list[Standing] = []
        slow: list[Standing] = []
        out: list[Standing] = []
        for candidate in plan.candidates:
            well, set_back, left = standings(candidate, x, view)
            if why := _why_not_paid(quote, plan, candidate):
                for one in (*well, *set_back):
                    one.is_in, one.share, one.why = False, 0.0, why
                well, set_back, left = [], [], [*well, *set_back, *left]
            if order:
                for one in well:
                    one.share = 0.0
            order += well
            slow += set_back
            out += left
            if well:
                order, slow = order + slow, []
        order += slow
        if order and not any(one.share for one in order):
            order[0].share = 1.0
        self._shown["targets"] = [_target_shown(one, quote) for one in (*order, *out)]
        self._shown["attempts"] = plan.candidates[0].provider.retry.attempts
        self._shown["budgets"] = [_budget_shown(status) for status in quote.statuses.values()]
        if not all(candidate.provider.has_own_key for candidate in plan.candidates):
            self._notes.append(
                "the caller's own key is forwarded: what a provider said to it is not known here"
            )
        firsts = [one for one in order if one.share]
        if len(firsts) == 1:
            return f"send to {firsts[0].endpoint.url}"
        if firsts:
            return "send to " + " or ".join(f"{one.endpoint.url} ({one.share:.0%})" for one in firsts)
        return self._last_resort(x, plan)

    def _last_resort(self, x: Exchange, plan: Plan) -> str:
        """Everything is out."""
        now_s = self._now_s
        for candidate in plan.candidates:
            provider = candidate.provider
            endpoint = provider.probed(x, candidate.model, now_s)
            if endpoint is not None and not provider.probe_wait_s(now_s):
                return (
                    f"send to {endpoint.url} as a probe: all are out, and one request a second finds out more"
                )
        tries = Tries(plan, x, Random(0))
        waits = [c.provider.blocked_s(x, c.model, now_s) for c in plan.candidates]
        tries.blocked_s = min((wait_s for wait_s in waits if wait_s is not None), default=None)
        self._refuse(nothing_to_try(x, tries, plan).reply(is_final=True))
        return ""


def _why_not_paid(quote: Quote, plan: Plan, candidate: Candidate) -> str:
    """Why there is no room for a model in its caller's budgets and limits; empty where there is."""
    exceeded = quote.exceeded(candidate)
    if exceeded is not None:
        return f"budget {exceeded.status.name} has no room for it"
    if candidate.provider.is_break_glass and not quote.has_second_request(plan.candidates[0]):
        return "break-glass counts twice, and the limit has no second request left"
    return ""


def _target_shown(one: Standing, quote: Quote) -> dict[str, Any]:
    price, worst = quote.price(one.candidate), quote.worst_case(one.candidate)
    return {
        "model": one.candidate.model,
        "provider": one.candidate.provider.name,
        "endpoint": one.endpoint.url,
        "region": one.endpoint.region,
        "zone": one.endpoint.zone,
        "priority": one.priority,
        "in": one.is_in,
        "share": round(one.share, 4),
        "why": one.why,
        "state": one.state,
        "price": None if price is None else {"input": price.input_usd, "output": price.output_usd},
        "worst_case_usd": None if worst is None else worst / NANO_USD,
    }


def _caller_shown(caller: Caller, *, may_use: bool) -> dict[str, Any]:
    return {
        "team": caller.team,
        "key": caller.id or None,
        "tier": caller.tier or None,
        "regions": list(caller.regions),
        "may_use": may_use,
    }


def _budget_shown(status: Status) -> dict[str, Any]:
    resets_s = status.resets_in_s
    return {
        "name": status.name,
        "per": status.per,
        "whom": status.whom,
        "limit_usd": status.limit_nano_usd / NANO_USD,
        "spent_usd": status.spent_nano_usd / NANO_USD,
        "reserved_usd": status.reserved_nano_usd / NANO_USD,
        "resets_in_s": None if math.isinf(resets_s) else round(resets_s),
    }
