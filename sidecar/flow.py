"""Drives a request's coroutine straight from protocol callbacks, without a task.

Theory of operation. A request is one `async def`, because that reads top to bottom. As an asyncio task it
would cost a turn of the event loop at its start and at every wake-up (7 µs in all, a fifth of what a request
may cost here). But all that a request waits for arrives in protocol callbacks, which run on the loop already:
so the callback resumes the coroutine itself. `Signal` is what the coroutine awaits; `Signal.set()` continues
it on the spot. An asyncio future (a dial, a shared cache) may be awaited as well and is resumed by its
callback.

The code inside a flow is not in a task: `asyncio.current_task()` is None there, so timeouts and task groups
of asyncio do not work. Deadlines come from clock.Ticker; work that needs a task gets one and its future is
awaited.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Signal:
    """One wake-up: awaited by one flow, set by one callback. Setting it twice, or early, is harmless."""

    __slots__ = ("_flow", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._flow: Flow | None = None

    def set(self) -> None:
        """Resume the flow that waits, now; or let the next `await` pass."""
        if not self.is_set:
            self.is_set = True
            flow = self._flow
            if flow is not None and flow.waits_for is self:
                flow.resume()

    def __await__(self) -> Generator[Any, None, None]:
        if not self.is_set:
            yield self

    def hold(self, flow: "Flow") -> None:
        """Remember who waits."""
        self._flow = flow
        flow.waits_for = self


async def others_first() -> None:
    """Let the event loop turn once, and so everybody else do what is due, before going on."""
    turn = Signal()
    asyncio.get_running_loop().call_soon(turn.set)
    await turn


async def in_turns(steps: Generator[None, None, T]) -> T:
    """What `steps` returns; between its steps everybody else gets their turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        await others_first()


class Flow:
    """A coroutine in progress. `on_end(error)` is called once, with what it raised or None."""

    __slots__ = ("_coroutine", "_future", "_on_end", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], on_end: Callable[[BaseException | None], None]):
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._on_end = on_end
        self._future: asyncio.Future[Any] | None = None
        self.waits_for: Signal | None = None

    def resume(self, error: BaseException | None = None) -> None:
        """Run the coroutine to its next wait; `error` is raised where it waits."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        self.waits_for = None
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            self._ended(None)
        except BaseException as raised:
            self._ended(raised)
        else:
            if type(waits_for) is Signal:
                waits_for.hold(self)
            else:
                self._wait_for_future(waits_for)

    def cancel(self, error: BaseException) -> None:
        """Raise `error` where the coroutine waits, and cancel the future it waits for."""
        future, self._future = self._future, None
        if future is not None:
            future.remove_done_callback(self._future_done)
            future.cancel()
        self.resume(error)

    def _wait_for_future(self, future: asyncio.Future[Any]) -> None:
        # The flag a task clears to show that the future was reached by a plain `await` (asyncio/tasks.py).
        future._asyncio_future_blocking = False
        self._future = future
        future.add_done_callback(self._future_done)

    def _future_done(self, _: asyncio.Future[Any]) -> None:
        self._future = None
        self.resume()

    def _ended(self, error: BaseException | None) -> None:
        self._coroutine = None
        self._on_end(error)
