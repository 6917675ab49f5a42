"""Runs one sidecar on uvloop until it is told to leave."""

import asyncio
import gc
from collections.abc import Callable

import uvloop

from sidecar.config.load import Loaded
from sidecar.lean import import_aiohttp

import_aiohttp()
from sidecar.server import Sidecar  # noqa: E402  # after aiohttp, which it imports


def run(loaded: Loaded, team: str, reload: Callable[[], Loaded] | None = None) -> int:
    """Serve until a signal; returns the exit code. Raises OSError when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(loaded, team, reload))


async def _serve(loaded: Loaded, team: str, reload: Callable[[], Loaded] | None) -> int:
    sidecar = Sidecar(loaded, team, reload)
    sidecar.handle_signals()  # first: a SIGHUP without a handler would end the process
    await sidecar.start()
    settle_memory()
    await sidecar.wait_stopped()
    return 0


def settle_memory() -> None:
    """Take what was built at start out of the garbage collector's sight.

    Requests leave no cycles behind, so collections find nothing; with the modules frozen and the threshold
    raised they stay under 1 % of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
