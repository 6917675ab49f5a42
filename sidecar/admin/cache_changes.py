"""What an operator does to the answer cache: purge, report a false hit, switch a tier on again. No HTTP here.

Each takes what was asked, does it or raises `Refused`, and says in one log line who did what.
"""

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multidict import MultiMapping

from sidecar.admin.cache_views import cache_of
from sidecar.admin.state import State
from sidecar.policy.callers import SHARED_BUCKET

if TYPE_CHECKING:
    from sidecar.caching.tiers import Tiers

_log = logging.getLogger("sidecar")

NO_CACHE = "There is no cache: add `cache` to the configuration."
_TIERS = ("exact", "canonical", "semantic")
_KEY = re.compile(r"[0-9a-fA-F]{32}")
_WHAT = "key=HEX, route=NAME, scope=NAME, of several what has all of them; or all=1"
Query = MultiMapping[str]


class Refused(Exception):
    """A change that is not made: the status of the answer, and a sentence for the operator."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def purge(state: State, query: Query, who: str) -> dict[str, Any]:
    """Drop answers here, and at all sidecars that share them."""
    tiers = _tiers(state)
    _expect(query, ("key", "route", "scope", "all"))
    if not query:
        raise Refused(400, f"Say what to drop: {_WHAT}.")
    if "all" in query and (query["all"] != "1" or len(query) > 1):
        raise Refused(400, "all=1 drops everything, and stands alone.")
    key, route, scope = _key(query.get("key")), query.get("route"), query.get("scope")
    if route is not None and route not in state.snapshot.config.routes:
        raise _unknown("route", route, list(state.snapshot.config.routes))
    if scope is not None:
        _check_scope(state, tiers, scope)
    dropped = tiers.purge(key=key, route=route, scope=scope)
    what = (
        ", ".join(f"{name} {_shown(value)}" for name, value in query.items() if name != "all") or "everything"
    )
    _log.warning("cache: purge of %s, by %s: answers dropped here: %d", what, who, dropped)
    return {"dropped": dropped, "others_told": tiers.shared is not None}


def report_false_hit(state: State, query: Query, who: str) -> dict[str, Any]:
    """Drop a wrong answer, and let its key serve its own words only from now on."""
    tiers = _tiers(state)
    _expect(query, ("key",))
    if (key := _key(query.get("key"))) is None:
        raise Refused(400, "Say which: key=HEX, as the access log has it under cache.")
    was_here = tiers.report_false_hit(key)
    dropped = "the answer is dropped" if was_here else "no answer was here"
    _log.warning("cache: false hit %s, by %s: %s, the key serves its own words only", key.hex(), who, dropped)
    return {"key": key.hex(), "was_here": was_here, "others_told": tiers.shared is not None}


def reset(state: State, query: Query, who: str) -> dict[str, Any]:
    """Switch on the tiers that switched themselves off: those of a route, of one kind, or all."""
    tiers = _tiers(state)
    _expect(query, ("route", "tier"))
    route, tier = query.get("route"), query.get("tier")
    if tier is not None and tier not in _TIERS:
        raise Refused(400, f"tier must be one of {', '.join(_TIERS)}.")
    report = tiers.shadow.report()
    known = {"", *state.snapshot.config.routes, *(one.route for one in report)}
    if route is not None and route not in known:
        raise _unknown("route", route, sorted(known - {""}))
    found = [
        one for one in report if not one.is_on and route in (None, one.route) and tier in (None, one.tier)
    ]
    for one in found:
        tiers.shadow.reset(one.route, one.tier)
    what = ", ".join(f"{one.tier} of route {one.route or '(none)'}" for one in found) or "none was off"
    _log.warning("cache: tiers switched on by %s: %s", who, what)
    return {"reset": [{"route": one.route, "tier": one.tier} for one in found]}


CHANGES: dict[str, Callable[[State, Query, str], dict[str, Any]]] = {
    "/cache/purge": purge,
    "/cache/false_hit": report_false_hit,
    "/cache/reset": reset,
}


def _tiers(state: State) -> "Tiers":
    there = cache_of(state)
    if there is None:
        raise Refused(409, NO_CACHE)
    return there[0]


def _expect(query: Query, names: tuple[str, ...]) -> None:
    """Nothing else, and nothing twice: what is meant by it would be a guess."""
    for name in query:
        if name not in names:
            raise Refused(400, f"{_shown(name)} is not known here: give {', '.join(names)}.")
        if len(query.getall(name)) > 1:
            raise Refused(400, f"{name} is given twice.")


def _key(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not _KEY.fullmatch(text):
        raise Refused(400, "key must be 32 hexadecimal digits, as the access log has it under cache.")
    return bytes.fromhex(text)


def _check_scope(state: State, tiers: "Tiers", scope: str) -> None:
    config = state.snapshot.config
    scopes = tiers.scopes
    if scopes.shared_by == "all":
        raise Refused(
            409, "All callers share the answers (cache.scope: all), so that no scope is to be named."
        )
    if scopes.has(scope):
        return
    if scopes.shared_by == "key":
        raise _unknown("key", scope, [*(key.id for key in config.keys), SHARED_BUCKET])
    own_team = state.snapshot.callers.team
    raise _unknown("team", scope, sorted({own_team, *(key.team for key in config.keys if key.team)}))


def _unknown(what: str, name: str, known: list[str]) -> Refused:
    listed = ", ".join(known) or "none"
    return Refused(404, f"There is no {what} {_shown(name)}; there are {listed}.")


def _shown(name: str) -> str:
    """As a caller of the interface wrote it, on one line."""
    return repr(name[:100])
