"""Background tasks: held until they end, and never failing in silence."""

import asyncio
import gc
import logging

import pytest

from sidecar.tasks import spawn


async def test_a_task_gives_its_result_under_its_name() -> None:
    async def work() -> int:
        return 17

    task = spawn(work(), "the work")
    assert task.get_name() == "the work"
    assert await task == 17


async def test_a_task_nobody_holds_runs_to_its_end() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        # Only the task itself refers to what it waits for, so nothing but `spawn` keeps it alive.
        await asyncio.sleep(0.001)
        ended.set()

    spawn(work(), "alone")
    gc.collect()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_failure_is_logged_with_the_tasks_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no luck")

    task = spawn(fail(), "the work")
    await asyncio.wait({task})
    assert [record.getMessage() for record in caplog.records] == ["task the work failed: ValueError: no luck"]


async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sidecar")
    task = spawn(asyncio.sleep(60), "the work")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert caplog.records == []
