"""Background tasks that are held until they end and whose failures are logged, never lost.

The event loop keeps only weak references to tasks, so a task nobody holds may vanish in the middle of its
work. Nothing on the request path uses this: a request is not a task (see flow.py).
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()
_log = logging.getLogger("sidecar")


def spawn(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start `coroutine` as a task called `name`; it is held until done."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed: %s: %s", task.get_name(), type(error).__name__, error)
