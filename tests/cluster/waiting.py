"""Waits for a condition, not for a time: a cluster agrees with itself a little later."""

import time
from collections.abc import Callable

STEP_S = 0.02


def until(condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Poll until the condition is true."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"still not so after {within_s:g} s"
        time.sleep(STEP_S)
