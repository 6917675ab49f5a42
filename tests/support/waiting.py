"""Waits for a condition, not for a time: a test goes on as soon as it holds, and fails if it never does."""

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.002


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> float:
    """Poll until the condition is true; returns the seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"still not so after {within_s:g} s"
        await asyncio.sleep(STEP_S)
    return time.monotonic() - started


async def settled(value: Callable[[], int], *, for_s: float = 0.3, within_s: float = 10.0) -> int:
    """The value once it has stayed the same for `for_s`."""
    started = since = time.monotonic()
    last = value()
    while time.monotonic() - since < for_s:
        assert time.monotonic() - started < within_s, f"still changing after {within_s:g} s"
        await asyncio.sleep(STEP_S)
        if (now := value()) != last:
            last, since = now, time.monotonic()
    return last
