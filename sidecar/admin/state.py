"""What the admin and health handlers may see and do; the server is behind it."""

from typing import TYPE_CHECKING, Protocol

from sidecar.accounts import Accounts
from sidecar.break_glass import BreakGlass
from sidecar.runtime import Snapshot
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from sidecar.caching.tiers import Tiers  # two megabytes, for those who have a cache


class State(Protocol):
    """The running process, as its operators see it."""

    started_at: float  # Unix time
    phase: str  # Envoy's words: PRE_INITIALIZING, LIVE or DRAINING
    bound: dict[str, list[str]]  # listener -> addresses it is bound to
    break_glass: BreakGlass
    accounts: Accounts

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def tiers(self) -> "Tiers | None":
        """Of the answer cache; None: there never was one."""

    @property
    def metrics(self) -> Metrics:
        """The counters, as of now."""

    @property
    def is_ready(self) -> bool:
        """Whether new work is welcome."""

    @property
    def clock_lag_s(self) -> float:
        """How late the last tick of the event loop was."""

    def fail_health(self, failed: bool) -> None:
        """Have readiness fail, or stop failing, by hand."""

    def drain(self) -> None:
        """Start leaving, as SIGTERM does, but without exiting."""

    def quit(self) -> None:
        """Leave at once, as Ctrl-C does."""
