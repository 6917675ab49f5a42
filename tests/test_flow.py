"""A coroutine driven by callbacks: signals, futures, cancelling, and its one report at the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from sidecar.flow import Flow, Signal


class Left(Exception):
    """What a flow is cancelled with."""


class Ends:
    """What flows reported at their end."""

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Flow:
        flow = Flow(coroutine, self.errors.append)
        flow.resume()
        return flow


def test_runs_to_its_end_without_a_loop() -> None:
    async def work() -> None:
        seen.append("ran")

    seen: list[str] = []
    ends = Ends()
    ends.start(work())
    assert seen == ["ran"]
    assert ends.errors == [None]


def test_a_signal_resumes_on_the_spot() -> None:
    async def work() -> None:
        await signal
        seen.append("resumed")

    seen: list[str] = []
    signal, ends = Signal(), Ends()
    ends.start(work())
    assert seen == []
    signal.set()
    assert seen == ["resumed"]
    assert ends.errors == [None]


def test_a_signal_set_early_does_not_wait() -> None:
    async def work() -> None:
        await signal
        await signal

    signal, ends = Signal(), Ends()
    signal.set()
    ends.start(work())
    assert ends.errors == [None]


def test_setting_a_signal_twice_resumes_once() -> None:
    async def work() -> None:
        await first
        seen.append("first")
        await second
        seen.append("second")

    seen: list[str] = []
    first, second, ends = Signal(), Signal(), Ends()
    ends.start(work())
    first.set()
    first.set()
    assert seen == ["first"]
    second.set()
    assert seen == ["first", "second"]


def test_a_stale_signal_does_not_resume_what_waits_for_another() -> None:
    async def work() -> None:
        try:
            await stale
        except Left:
            seen.append("left")
        await fresh
        seen.append("fresh")

    seen: list[str] = []
    stale, fresh, ends = Signal(), Signal(), Ends()
    flow = ends.start(work())
    flow.cancel(Left())
    stale.set()
    assert seen == ["left"]
    fresh.set()
    assert seen == ["left", "fresh"]
    assert ends.errors == [None]


def test_cancelling_raises_where_it_waits_and_is_reported_once() -> None:
    async def work() -> None:
        try:
            await signal
        finally:
            seen.append("cleaned up")

    seen: list[str] = []
    signal, ends, error = Signal(), Ends(), Left()
    flow = ends.start(work())
    flow.cancel(error)
    assert seen == ["cleaned up"]
    assert ends.errors == [error]
    signal.set()
    flow.cancel(Left())
    flow.resume()
    assert ends.errors == [error]


def test_an_error_is_reported_and_not_raised_at_the_caller() -> None:
    async def work() -> None:
        await signal
        raise ValueError("a bug")

    signal, ends = Signal(), Ends()
    ends.start(work())
    signal.set()
    (error,) = ends.errors
    assert isinstance(error, ValueError)


def test_setting_a_signal_from_inside_its_own_flow_is_harmless() -> None:
    async def work() -> None:
        signal.set()
        await signal
        seen.append("passed")

    seen: list[str] = []
    signal, ends = Signal(), Ends()
    ends.start(work())
    assert seen == ["passed"]
    assert ends.errors == [None]


async def test_a_future_is_awaited() -> None:
    async def work() -> None:
        seen.append(await future)

    seen: list[str] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ends = Ends()
    ends.start(work())
    future.set_result("done")
    await asyncio.sleep(0)
    assert seen == ["done"]
    assert ends.errors == [None]


async def test_a_futures_exception_is_raised_inside() -> None:
    async def work() -> None:
        try:
            await future
        except OSError:
            seen.append("caught")

    seen: list[str] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    Ends().start(work())
    future.set_exception(OSError())
    await asyncio.sleep(0)
    assert seen == ["caught"]


async def test_cancelling_cancels_the_future_it_waits_for() -> None:
    async def work() -> None:
        await future

    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ends, error = Ends(), Left()
    flow = ends.start(work())
    flow.cancel(error)
    assert future.cancelled()
    await asyncio.sleep(0)
    assert ends.errors == [error]


async def test_cancelling_after_the_future_came_but_before_it_was_seen() -> None:
    async def work() -> None:
        await future
        seen.append("went on")

    seen: list[str] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ends, error = Ends(), Left()
    flow = ends.start(work())
    future.set_result("done")
    flow.cancel(error)
    await asyncio.sleep(0)
    assert seen == []
    assert ends.errors == [error]


async def test_a_signal_and_then_a_future() -> None:
    async def work() -> None:
        await signal
        seen.append(await future)

    seen: list[str] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    signal, ends = Signal(), Ends()
    ends.start(work())
    future.set_result("done")
    await asyncio.sleep(0)
    assert seen == []
    signal.set()
    assert seen == ["done"]
