"""Runs one sidecar on uvloop until it is told to leave.

`run` ends when the sidecar cannot start. `run_waiting` does not (`SIDECAR_WAIT_FOR_CONFIG=true`): it is for
pods that were given a sidecar by somebody else, whose app must start whether or not ConfigMap and Secret are
there and good. While there is no good configuration, or what a good one asks for cannot be had (a folder to
write to, a model, an address), the stand-in of `waiting` says so on the sidecar's addresses. The whole start
is tried again when a file of the configuration changes, on SIGHUP, and every RETRY_S, since a disk that was
full and an address that was taken change no file.

Only the addresses of data and health themselves end it where they cannot be had: nobody could be told there.
Whoever has the data port would get the app's requests, so the app had better not start; and who runs the
sidecar sees it fail, and starts it again.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Mapping

import uvloop

from sidecar import __version__
from sidecar.config.load import Loaded, listen_from, load
from sidecar.config.problems import ConfigError
from sidecar.config.watch import Watcher
from sidecar.lean import import_aiohttp
from sidecar.telemetry.metrics import Metrics

import_aiohttp()
from sidecar.server import Sidecar  # noqa: E402  # after aiohttp, which it imports
from sidecar.waiting import StandIn  # noqa: E402

POLL_S = 0.5
# As often as Kubernetes asks for readiness. A start takes 0.2 s of CPU at most, so 2 % of a core.
RETRY_S = 10.0

_log = logging.getLogger("sidecar")


def run(loaded: Loaded, team: str, reload: Callable[[], Loaded] | None = None) -> int:
    """Serve until a signal; returns the exit code. Raises ConfigError or OSError when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(loaded, team, reload))


def run_waiting(path: str, team: str, environ: Mapping[str, str]) -> int:
    """Serve, as soon as that is possible, until a signal; returns the exit code.

    OSError where the addresses to wait on cannot be had, ConfigError where they are themselves wrong.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve_later(Waiting(path, team, environ)))


async def _serve(loaded: Loaded, team: str, reload: Callable[[], Loaded] | None) -> int:
    sidecar = Sidecar(loaded, team, reload)
    sidecar.handle_signals()  # first: a SIGHUP without a handler would end the process
    await sidecar.start()
    settle_memory()
    await sidecar.wait_stopped()
    return 0


async def _serve_later(waiting: "Waiting") -> int:
    sidecar = await waiting.started()
    if sidecar is not None:
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


class Waiting:
    """Tries to start a sidecar until it does."""

    def __init__(self, path: str, team: str, environ: Mapping[str, str]) -> None:
        self._path = path
        self._team = team
        self._environ = environ
        self._fallback = listen_from(environ)
        self._listen = self._fallback
        self._watcher = Watcher((path,), interval_s=POLL_S)
        self._metrics = Metrics(__version__)
        self._metrics.config_is_good = False
        self._stand_in = StandIn(team, self._metrics)
        self._leave = asyncio.Event()
        self._must_retry = False

    async def started(self) -> Sidecar | None:
        """A sidecar that serves and heeds signals; None when the process is told to leave before."""
        self._handle_signals()
        try:
            while not self._leave.is_set():
                sidecar = await self._try()
                if sidecar is not None:
                    sidecar.handle_signals()
                    if self._leave.is_set():
                        sidecar.quit()
                    return sidecar
                # What is left of a start goes in circles: with a model 50 MB more after eight of them.
                gc.collect()
                await self._something_new()
        except asyncio.CancelledError:
            if not self._leave.is_set():
                raise
        finally:
            await self._stand_in.close()
        return None

    def _handle_signals(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def leave() -> None:
            # Once: what is open is being closed then.
            if not self._leave.is_set() and task is not None:
                self._leave.set()
                task.cancel()

        def retry() -> None:
            self._must_retry = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave)
        loop.add_signal_handler(signal.SIGHUP, retry)

    async def _try(self) -> Sidecar | None:
        """Start; None where that cannot be, and the stand-in says why."""
        self._must_retry = False
        try:
            loaded = self._load()
            self._listen = loaded.config.listen
            self._watcher.watch(loaded.files)
            sidecar = Sidecar(loaded, self._team, self._load, self._metrics)
            await sidecar.start(self._stand_in.let_go)
        except ConfigError as error:
            if error.files:
                self._watcher.watch(error.files)
            problems = tuple(map(str, error.problems))
        except OSError as error:
            problems = (_reason(error),)
        else:
            self._metrics.config_is_good = True
            return sidecar
        is_news = problems != self._stand_in.problems
        self._stand_in.problems = problems
        await self._stand_by()
        if is_news:
            for problem in problems:
                _log.error("waiting, and answering 503: %s", problem)
        return None

    def _load(self) -> Loaded:
        return load(self._path, self._environ)

    async def _stand_by(self) -> None:
        """Have the stand-in listen where the configuration says, as far as it was ever read. Where that
        cannot be had, it is one of the problems: then where the environment says."""
        try:
            await self._stand_in.listen(self._listen)
        except OSError:
            await self._stand_in.listen(self._fallback)

    async def _something_new(self) -> None:
        """Wait until a start is worth another try."""
        now_s = time.monotonic()
        retry_s = now_s + RETRY_S
        while not (self._must_retry or self._watcher.changed(now_s) or now_s >= retry_s):
            if self._leave.is_set():
                return
            await asyncio.sleep(POLL_S / 2)
            now_s = time.monotonic()


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"
