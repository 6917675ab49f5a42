"""Slow counts as sick: whether a model's first tokens from an endpoint keep within their budget.

Theory of operation. Of a target that keeps a p99 budget one first token in a hundred may be late. It is set
back, behind the next target, when of the last five minutes' first tokens at least 3 and more than 1 % were
late: the share is what the budget promises, the 3 keep a single hiccup of a quiet target from counting.

The way back is harder than the way out, or a target on the edge would change places all the time. It is set
back for `open_for_s` from its last late token, and until three in a row were in time. So that there is
anything to see, a probe is sent to it now and then: every tenth of `open_for_s`, at most once a second. Then
it starts with an empty window: the late tokens that set it back do not do so twice.

One `Slowness` belongs to one (endpoint, model). Times are monotonic seconds. Memory is fixed, a call O(1).
"""

from sidecar.upstream.breaker import Tally

WINDOW_S = 300.0
MIN_LATE = 3
MAX_LATE_SHARE = 0.01
PROBES_TO_RETURN = 3
MIN_PROBE_INTERVAL_S = 1.0


class Slowness:
    """Judges first tokens against `budget_s`; a set-back lasts `open_for_s`."""

    __slots__ = ("_back_until_s", "_budget_s", "_in_time", "_next_probe_s", "_open_for_s", "_tally")

    def __init__(self, budget_s: float, open_for_s: float = 30.0) -> None:
        # Configuration.
        self._budget_s = budget_s
        self._open_for_s = open_for_s

        # Live state.
        self._tally = Tally(WINDOW_S)
        self._back_until_s = 0.0
        self._in_time = PROBES_TO_RETURN  # first tokens in a row since the last late one, while set back
        self._next_probe_s = 0.0

    def configure(self, budget_s: float, open_for_s: float) -> None:
        """Go on with other limits. What was late under another budget is forgotten, a set-back is not."""
        if budget_s != self._budget_s:
            self._tally.clear()
        self._budget_s = budget_s
        self._open_for_s = open_for_s

    def is_set_back(self, now_s: float) -> bool:
        """Whether other targets should come first."""
        return now_s < self._back_until_s or self._in_time < PROBES_TO_RETURN

    def allows_probe(self, now_s: float) -> bool:
        """Whether a request may go to it although it is set back. The one that does calls `take_probe`."""
        return now_s >= self._next_probe_s

    def take_probe(self, now_s: float) -> None:
        """A probe begins. It needs no end: one that brings no first token was no good either."""
        self._next_probe_s = now_s + max(MIN_PROBE_INTERVAL_S, self._open_for_s / 10)

    def observe(self, first_token_s: float, now_s: float) -> None:
        """Judge one first token by the seconds it took; of one that never came, the seconds waited."""
        is_late = first_token_s > self._budget_s
        if self.is_set_back(now_s):
            if is_late:
                self._set_back(now_s)
            else:
                self._in_time += 1
            return
        tally = self._tally
        tally.add(now_s, 1, is_late)
        if is_late and tally.marked >= MIN_LATE and tally.marked > MAX_LATE_SHARE * tally.total:
            self._set_back(now_s)
            self.take_probe(now_s)
            tally.clear()

    def _set_back(self, now_s: float) -> None:
        self._back_until_s = now_s + self._open_for_s
        self._in_time = 0
