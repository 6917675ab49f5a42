"""Shadow checks: a share of the hits is asked anyway, and the stored answer is compared with the fresh one.

Theory of operation. Hits are drawn by the multiples of the golden ratio, modulo 1, that fall under the share
(a Weyl sequence): evenly spread, the same in every run, and of no period that traffic could fall in with, as
"every tenth" has where two routes take turns. Each tier has its own sequence.

A tier of a route is judged by its last WINDOW checks, by the 95 % interval of Wilson (1927) around their
share of disagreement, which holds for small numbers and for shares near 0:

- it goes *off* when, of at least MIN_CHECKS, the lower bound is above the limit;
- then every hit of it is asked anyway, as a miss would be, so that all of them are checks;
- it comes *on* again when the upper bound is under the limit: with a limit of 0.1, after 35 that all agree.

At a switch it starts with an empty window, so nothing counts twice; between the bounds it stays as it is.
Simulated with a limit of 10 %: at 6 % of disagreement it goes off once in some 30,000 checks, at 20 % after
20, mostly within 90. A limit of 0 is never undercut: what went off stays off until it is reset.

An exact tier that goes off says that the model itself varies its answers: no fault of the cache, and no
reason to give one of them for ever. A check that brought no fresh answer is none, and not to be noted.
"""

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

WINDOW = 200
MIN_CHECKS = 10
# Routes that are told apart; callers may make up names where "*" passes every model through.
MAX_ROUTES = 100
OTHER = "other"

_GOLDEN = (sqrt(5) - 1) / 2
_Z = 1.96  # 95 %
_ALL = (1 << WINDOW) - 1

# route, tier, whether it is on now, the share of disagreement that decided it, of how many checks.
OnSwitch = Callable[[str, str, bool, float, int], None]


class Standing(NamedTuple):
    """A tier of a route. `checks` and `disagreed` count from the start of the process."""

    route: str
    tier: str
    checks: int
    disagreed: int
    is_on: bool


class _State:
    __slots__ = ("checks", "disagreed", "is_on", "recent", "window")

    def __init__(self) -> None:
        self.checks = self.disagreed = 0
        self.is_on = True
        self.forget()

    def forget(self) -> None:
        self.recent = 0  # a bit for each of the last checks, set where the answers disagreed
        self.window = 0  # how many checks that are

    def note(self, agreed: bool) -> None:
        self.checks += 1
        self.disagreed += not agreed
        self.recent = (self.recent << 1 | (not agreed)) & _ALL
        self.window = min(self.window + 1, WINDOW)


class Shadow:
    """Checks a `share` of the hits; of a tier, more than `max_disagreement` may not differ. One per cache."""

    def __init__(self, share: float, max_disagreement: float, on_switch: OnSwitch) -> None:
        # Configuration.
        self.share = share
        self._max_disagreement = max_disagreement
        self._on_switch = on_switch

        # Live state.
        self._drawn: dict[str, float] = {}  # by tier
        self._states: dict[tuple[str, str], _State] = {}
        self._routes: set[str] = set()

    def configure(self, share: float, max_disagreement: float) -> None:
        """Go on with another configuration. Under other figures every tier is on, and judged anew."""
        if (share, max_disagreement) == (self.share, self._max_disagreement):
            return
        self.share, self._max_disagreement = share, max_disagreement
        for route, tier in self._states:
            self.reset(route, tier)

    def wants(self, route: str, tier: str) -> bool:
        """Whether this hit is to be asked anyway: it was drawn, or its tier is off. Once for each hit."""
        if not self.is_on(route, tier):
            return True
        if not self.share:
            return False
        drawn = (self._drawn.get(tier, 0.0) + _GOLDEN) % 1.0
        self._drawn[tier] = drawn
        return drawn < self.share

    def is_on(self, route: str, tier: str) -> bool:
        """Whether a stored answer of this tier may be given at all."""
        state = self._states.get((self._known(route), tier))
        return state is None or state.is_on

    def note(self, route: str, tier: str, agreed: bool) -> None:
        """Count what came of a check, also of one that was begun before a switch."""
        route = self._known(route)
        self._routes.add(route)
        state = self._states.setdefault((route, tier), _State())
        state.note(agreed)
        low, high = wilson(state.recent.bit_count(), state.window)
        is_bad = low > self._max_disagreement and state.window >= MIN_CHECKS
        if is_bad if state.is_on else high < self._max_disagreement:
            self._switch(route, tier, state)

    def reset(self, route: str, tier: str) -> None:
        """Switch a tier on if it is off, and judge it by new checks only."""
        route = self._known(route)
        state = self._states.get((route, tier))
        if state is not None and state.is_on:
            state.forget()
        elif state is not None:
            self._switch(route, tier, state)

    def report(self) -> list[Standing]:
        """Every tier of a route that was checked, by name."""
        return [
            Standing(route, tier, state.checks, state.disagreed, state.is_on)
            for (route, tier), state in sorted(self._states.items())
        ]

    def _known(self, route: str) -> str:
        return route if route in self._routes or len(self._routes) < MAX_ROUTES else OTHER

    def _switch(self, route: str, tier: str, state: _State) -> None:
        checks = state.window
        share = state.recent.bit_count() / checks if checks else 0.0
        state.is_on = not state.is_on
        state.forget()
        self._on_switch(route, tier, state.is_on, share, checks)


def wilson(marked: int, total: int) -> tuple[float, float]:
    """The bounds of the 95 % interval of a share, `marked` of `total`, which is not 0."""
    share, squared = marked / total, _Z * _Z
    middle = share + squared / (2 * total)
    reach = _Z * sqrt(share * (1 - share) / total + squared / (4 * total * total))
    scale = 1 + squared / total
    # Rounding must not move the ends: 0 of 11 is not more than a limit of 0.
    return (middle - reach) / scale if marked else 0.0, (middle + reach) / scale if marked < total else 1.0
