"""The life of the process: build, listen, serve, reload, drain, exit.

Order of start: everything that can fail for the configuration's sake comes before the first listener, the
data listener comes last, so that a port that answers is a sidecar that works. Order of leaving (SIGTERM):
readiness fails, requests are still served but each answer closes its connection, and the process exits once
it has been idle for `drain.min`, at latest after `drain.max`, when open streams get an error event. A second
signal, or Ctrl-C, skips the waiting.
"""

import asyncio
import logging
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar import __version__
from sidecar.accounts import Accounts
from sidecar.admin.app import admin_app, health_app
from sidecar.break_glass import BreakGlass
from sidecar.clock import Ticker
from sidecar.config.addresses import Address
from sidecar.config.load import Loaded
from sidecar.config.model import Config, Listen
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.watch import Watcher
from sidecar.downstream.listener import Listener, open_sites
from sidecar.errors import ProxyError, Retry
from sidecar.lane import Lane
from sidecar.model_list import ModelList
from sidecar.proxy import Proxy
from sidecar.runtime import Runtime, Snapshot
from sidecar.settlement import Settlement
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import Metrics
from sidecar.upstream.shortage import SHORTAGE

if TYPE_CHECKING:
    from sidecar.caching.requests import Caching
    from sidecar.caching.tiers import Tiers
    from sidecar.fleet.leases import Leases
    from sidecar.usage.inquiry import Inquiry
    from sidecar.usage.ledger import Ledger
    from sidecar.usage.store import Spent

_log = logging.getLogger("sidecar")

# How often the configuration's files are looked at. A change is live after two looks.
WATCH_S = 0.5
DRAIN_STEP_S = 0.05
# For the last bytes on the data port: by then all that was in progress has been told to end.
LAST_S = 0.25
# How long the ledger may take to say what was spent: a year of it is read in a few seconds.
LEDGER_S = 30.0


class Sidecar:
    """One running sidecar: `start`, then `wait_stopped` or `stop`. Admin's view of the process, too.

    `reload` reads the configuration anew (ConfigError when it is not good); None: it never changes. `metrics`
    are those of whoever answered before it; None: nobody did.
    """

    def __init__(
        self,
        loaded: Loaded,
        team: str,
        reload: Callable[[], Loaded] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.started_at = time.time()
        self.bound: dict[str, list[str]] = {}
        self.phase = "PRE_INITIALIZING"

        self._team = team
        self._config = loaded.config
        self._reload = reload
        self._watcher = Watcher(loaded.files, interval_s=WATCH_S)
        self._ticker = Ticker()
        self._metrics = Metrics(__version__) if metrics is None else metrics
        self._log = AccessLog(loaded.config.telemetry.access_log)
        self._leases = _leases(loaded.config)
        self.accounts = Accounts(loaded.config, _ledger(loaded.config), leases=self._leases)
        self._settlement = Settlement(self._metrics, self._log, self.accounts)
        self.runtime = Runtime(self._ticker, self._metrics, team)
        self.break_glass = BreakGlass(self._spread_break_glass)
        self._models = ModelList(lambda: self.runtime.snapshot)
        self._proxy = Proxy(
            self.runtime, self._ticker, self._metrics, self.accounts, self._settlement, self._models
        )
        self._lane = Lane(
            lambda: self.runtime.snapshot, self.accounts, self._proxy.settle, self._ticker, self._metrics
        )
        self._listener: Listener
        self._runners: list[web.BaseRunner] = []
        self._is_failed_by_hand = False
        self._must_reload = False
        self._coming: tuple[Loaded, Inquiry, float] | None = None  # and until when the ledger may answer
        self._leave = asyncio.Event()
        self._is_quitting = False

    # --- start ----------------------------------------------------------------------------------------

    async def start(self, make_way: Callable[[], Awaitable[None]] | None = None) -> None:
        """Build and listen. Raises OSError when an address is taken or a file cannot be used, ConfigError as
        `_apply`; then nothing is left running or open.

        `make_way` is awaited before the first listener is opened: whoever has its address lets go of it.
        """
        config = self._config
        try:
            self._apply(config)
            await self.runtime.ready()
            with _naming("telemetry.access_log"):
                self._log.start()
            if self.accounts.ledger is not None:
                self.accounts.restore(config)
                self.accounts.ledger.start()
                self._ticker.every_tick(self.accounts.ledger.flush)
            if self._leases is not None:
                self._leases.start()
            self._ticker.every_second(self._each_second)
            self._ticker.every_tick(self._settlement.flush)
            self._ticker.every_tick(self._watch)
            self._ticker.start()
            self._listener = Listener(self._proxy, self._ticker, self._lane.handle)
            if make_way is not None:
                await make_way()
            for name, runner, address in self._listeners(config.listen):
                await runner.setup()
                self._runners.append(runner)
                with _naming(f"listen.{name}"):
                    self.bound[name] = await open_sites(runner, address)
        except BaseException:
            await self._release()
            raise
        self.phase = "LIVE"
        _log.info("listening: %s", ", ".join(f"{name} {' '.join(at)}" for name, at in self.bound.items()))

    def _listeners(self, listen: Listen) -> Iterator[tuple[str, web.BaseRunner, Address]]:
        """Name, runner and address of each, in the order in which they are opened."""
        yield "health", _runner(health_app(self)), listen.health
        yield "admin", _runner(admin_app(self, changes_at=listen.control)), listen.admin
        if listen.control is not None:
            yield "control", _runner(admin_app(self)), listen.control
        yield "data", web.ServerRunner(self._listener, shutdown_timeout=LAST_S), listen.data

    def handle_signals(self) -> None:
        """SIGTERM drains, SIGINT or a second SIGTERM leaves at once, SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self.quit)
        loop.add_signal_handler(signal.SIGHUP, self.reload_soon)

    # --- leaving --------------------------------------------------------------------------------------

    async def wait_stopped(self) -> None:
        """Serve until a signal, or the admin, says to leave; then leave."""
        await self._leave.wait()
        await self.stop()

    async def stop(self) -> None:
        """Drain, unless told to hurry, and close everything."""
        self.drain()
        await self._drained()
        self._listener.interrupt(_LEAVING)
        self._lane.interrupt(_LEAVING)
        await asyncio.sleep(DRAIN_STEP_S)  # what was written last leaves
        await self._release()
        _log.info("stopped")

    def drain(self) -> None:
        """Fail readiness and have every answer close its connection; requests are still served."""
        if self.phase != "DRAINING":
            self.phase = "DRAINING"
            self._listener.drain()
            _log.info("draining")

    def quit(self) -> None:
        """Leave without waiting for requests in progress."""
        self._is_quitting = True
        self._leave.set()

    def _terminate(self) -> None:
        if self._leave.is_set():
            self._is_quitting = True
        self._leave.set()

    async def _drained(self) -> None:
        """Wait until the listener has been idle for `drain.min`, at most `drain.max`."""
        limits = self.runtime.snapshot.config.drain
        now_s = time.monotonic()
        end_s, idle_since_s = now_s + limits.max_s, now_s
        while now_s < end_s and not self._is_quitting:
            if self._listener.busy_count:
                idle_since_s = now_s
            elif now_s - idle_since_s >= limits.min_s:
                return
            await asyncio.sleep(DRAIN_STEP_S)
            now_s = time.monotonic()

    async def _release(self) -> None:
        for runner in reversed(self._runners):
            await runner.cleanup()
        self._runners.clear()
        await self._lane.close()
        await self._models.close()
        self.runtime.close()
        self._ticker.stop()
        self._settlement.flush()
        if self.tiers is not None:
            await self.tiers.stop()
        if self._leases is not None:
            await self._leases.stop()
        if self.accounts.ledger is not None:
            self.accounts.ledger.close()
        self._log.close()

    # --- reload ---------------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """Read the configuration again at the next tick, changed or not (SIGHUP)."""
        self._must_reload = True

    def _each_second(self, now_s: float) -> None:
        self._log.flush()
        self._metrics.log_lines_dropped = self._log.dropped
        self._metrics.recent_first_token.advance(now_s)
        self._metrics.recent_request.advance(now_s)
        self.break_glass.check()
        SHORTAGE.check(now_s)

    def _watch(self, now_s: float) -> None:
        if self._reload is not None and (self._watcher.changed(now_s) or self._must_reload):
            self._must_reload = False
            self._reload_now(self._reload)
        elif self._coming is not None:
            loaded, inquiry, until_s = self._coming
            if inquiry.is_answered or now_s >= until_s:
                self._reload_now(lambda: loaded, inquiry)

    def _reload_now(self, read: Callable[[], Loaded], inquiry: "Inquiry | None" = None) -> None:
        """Take a new configuration if it is good; otherwise the one in use stays, and that is said.

        One with new budgets waits for the ledger to say what was spent of them, which is an `inquiry`: until
        then those in use hold, so that there is no moment without.
        """
        files: Sequence[str] = ()
        self._coming = None
        try:
            loaded = read()
            files = loaded.files
            _refuse_fixed_changes(self._config, loaded.config)
            asked = self.accounts.inquire(loaded.config) if inquiry is None else None
            if asked is not None:
                self._coming = (loaded, asked, self._ticker.now_s + LEDGER_S)
                self._watcher.watch(files)
                return
            self._apply(loaded.config, None if inquiry is None else inquiry.told())
        except (ConfigError, OSError, ssl.SSLError) as error:
            problems: Sequence[object] = (error,)
            if isinstance(error, ConfigError):
                problems, files = error.problems, error.files or files
            _log.error("reload refused, the last good configuration stays: %s", "; ".join(map(str, problems)))
            if files:
                self._watcher.watch(files)
            self._count_reload("failed")
            return
        self._config = loaded.config
        self._watcher.watch(loaded.files)
        self._count_reload("ok")
        _log.info("configuration reloaded")

    def _apply(self, config: Config, spent: "Sequence[Spent] | None" = None) -> None:
        """Make a configuration the current one; `spent` is for its new budgets. Raises as Runtime.apply, or a
        ConfigError where its cache cannot be had; then nothing has changed."""
        caching = self._proxy.caching or self._caching(config)
        semantic = None if caching is None else caching.tiers.prepare(config)
        self.runtime.apply(config)
        if caching is not None:
            caching.tiers.configure(config, semantic)
            self._proxy.caching = caching
        if self._leases is not None and config.fleet is not None:
            self._leases.configure(config.fleet)
        self.accounts.configure(config, spent)
        self.break_glass.configure(config)
        self._spread_break_glass(self.break_glass.is_on)  # the router is a new one

    def _caching(self, config: Config) -> "Caching | None":
        """A cache, when there first is to be one."""
        if config.cache is None:
            return None
        from sidecar.caching.requests import Caching  # with Tiers two megabytes
        from sidecar.caching.tiers import Tiers

        return Caching(Tiers(self._team, self._ticker), self.accounts)

    def _spread_break_glass(self, is_on: bool) -> None:
        self._metrics.break_glass_is_on = is_on
        self.runtime.snapshot.router.set_break_glass(is_on)

    def _count_reload(self, result: str) -> None:
        self._metrics.reloads[result] += 1
        self._metrics.config_is_good = result == "ok"

    # --- admin's view ---------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        return self.runtime.snapshot

    @property
    def tiers(self) -> "Tiers | None":
        """Of the answer cache; None: there never was one."""
        return None if self._proxy.caching is None else self._proxy.caching.tiers

    @property
    def metrics(self) -> Metrics:
        """The counters, as of now."""
        self._settlement.flush()
        return self._metrics

    @property
    def clock_lag_s(self) -> float:
        return self._ticker.lag_s

    @property
    def is_ready(self) -> bool:
        """Whether new work is welcome."""
        return self.phase == "LIVE" and not self._is_failed_by_hand

    def fail_health(self, failed: bool) -> None:
        self._is_failed_by_hand = failed


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Have an OSError say which setting it is about."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        raise OSError(error.errno, f"{setting}: {place}{error.strerror}") from None


def _runner(app: web.Application) -> web.BaseRunner:
    return web.AppRunner(app, access_log=None, shutdown_timeout=1.0)


def _ledger(config: Config) -> "Ledger | None":
    if config.usage is None:
        return None
    from sidecar.usage.ledger import Ledger  # SQLite is 2 MB

    return Ledger(config.usage.path)


def _leases(config: Config) -> "Leases | None":
    if config.fleet is None:
        return None
    from sidecar.fleet.leases import Leases  # redis-py is 7 MB

    return Leases(config.fleet)


def _refuse_fixed_changes(old: Config, new: Config) -> None:
    """Listeners and the log are opened once; a file that moves them is refused rather than half applied."""
    fixed = (
        ("listen.data", old.listen.data, new.listen.data),
        ("listen.admin", old.listen.admin, new.listen.admin),
        ("listen.control", old.listen.control or "off", new.listen.control or "off"),
        ("listen.health", old.listen.health, new.listen.health),
        ("telemetry.access_log", old.telemetry.access_log, new.telemetry.access_log),
        ("usage.path", old.usage and old.usage.path, new.usage and new.usage.path),
        ("fleet", _on_or_off(old.fleet), _on_or_off(new.fleet)),
    )
    problems = [
        Problem(path, f"cannot change while running (it is {a}, the file says {b}): restart the sidecar")
        for path, a, b in fixed
        if a != b
    ]
    if problems:
        raise ConfigError(problems)


def _on_or_off(section: object) -> str:
    return "off" if section is None else "on"


_LEAVING = ProxyError("DR", 503, "draining", "The sidecar is shutting down; ask again.", Retry.YES)
