"""What the log says of an endpoint's health: one line when something is wrong with it, one when it is back.

Whoever changes an endpoint's health has `tell` called with all that is wrong now, as often as it likes: what
was said already is not said again. An endpoint that comes and goes would fill the log all the same, so after
the first few a warning is said once a minute, and tells how many were not. A warning that was held back and
still holds is said by a later call (a failed probe, a failed check), so a long outage is never missed; the
line that it is back follows every warning that was said, and only those.
"""

import logging
from collections.abc import Mapping

BURST = 3
EVERY_S = 60.0

_log = logging.getLogger("sidecar")


class Notices:
    """What was said of one endpoint. Times are monotonic seconds."""

    __slots__ = ("_allowance", "_allowed_s", "_held_back", "_present", "_said", "_since_s")

    def __init__(self) -> None:
        self._present: set[str] = set()  # what was wrong at the last call
        self._said: set[str] = set()  # in the outage that is running
        self._since_s = 0.0  # when it began
        self._held_back = 0  # warnings, since the last line
        self._allowance = float(BURST)
        self._allowed_s = 0.0  # up to when the allowance has been counted

    def tell(self, name: str, wrong: Mapping[str, str], now_s: float) -> None:
        """Say what changed. `name` is the endpoint's; `wrong` has a sentence for each kind of trouble that it
        is in, and is empty where it is well."""
        before, self._present = self._present, set(wrong)
        if not wrong:
            if self._said:
                _log.info("%s: back after %.0f s", name, now_s - self._since_s)
                self._said.clear()
            return
        if not before:
            self._since_s = now_s
        news = [kind for kind in wrong if kind not in self._said]
        if not news:
            return
        if not self._may_warn(now_s):
            self._held_back += any(kind not in before for kind in news)
            return
        held_back = f" (not logged before: {self._held_back})" if self._held_back else ""
        _log.warning("%s: %s%s", name, "; ".join(wrong[kind] for kind in news), held_back)
        self._said.update(news)
        self._held_back = 0

    def _may_warn(self, now_s: float) -> bool:
        self._allowance = min(float(BURST), self._allowance + max(0.0, now_s - self._allowed_s) / EVERY_S)
        self._allowed_s = max(now_s, self._allowed_s)
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True
