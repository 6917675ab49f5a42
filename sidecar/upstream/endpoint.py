"""One endpoint of a provider: its address, what never changes of its request heads, and its live state.

Configuration is frozen, this state is not: a reload that keeps an endpoint's URL keeps the object, with its
open connections, its breaker, its parkings and what is known of its speed.
"""

from sidecar.clock import Ticker
from sidecar.config.model import CircuitBreaker
from sidecar.quantiles import Window
from sidecar.upstream.balancer import Ewma
from sidecar.upstream.breaker import CLOSED, Breaker
from sidecar.upstream.parking import Parking
from sidecar.upstream.pool import Address, Pool
from sidecar.upstream.slowness import Slowness

MAX_MODELS = 1000


class Speed:
    """What is known of one model's speed at one endpoint. The slownesses are None where it is not judged."""

    __slots__ = ("first_token", "late", "late_plain", "whole")

    def __init__(self) -> None:
        self.first_token = Ewma()
        self.whole = Ewma()  # of plain answers
        self.late: Slowness | None = None
        self.late_plain: Slowness | None = None


class Endpoint:
    """A base URL in a region. `in_flight` are attempts in progress, the rest counts since start."""

    def __init__(
        self,
        url: str,
        address: Address,
        authority: str,
        prefix: str,
        region: str,
        zone: str,
        ticker: Ticker,
    ) -> None:
        # Fixed.
        self.url = url
        self.region = region
        self.zone = zone
        self.host_line = b"host: %b" % authority.encode()
        self.prefix = prefix.encode()  # the URL's path, which stands for /v1

        # Health.
        self.pool = Pool(address, ticker)
        self.breaker = Breaker(CircuitBreaker())
        self.parking = Parking()
        self.is_checked_out = False  # by active health checks
        self.last_success_s = 0.0
        self.last_error = ""  # empty: the last attempt was answered

        # Figures.
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.first_token = Window()
        self._speeds: dict[str, Speed] = {}

    @property
    def is_well(self) -> bool:
        """Whether nothing at all is known against it: not broken, not checked out, no model parked."""
        return self.breaker.state is CLOSED and not self.is_checked_out and not self.parking.ends

    def is_usable(self, credential: str, model: str, now_s: float) -> bool:
        """Whether a request may go there now: not broken, not checked out, not parked."""
        breaker = self.breaker
        if self.is_checked_out or not (breaker.state is CLOSED or breaker.allows(now_s)):
            return False
        return not self.parking.ends or self.parking.until(credential, model, now_s) == 0.0

    def speed(self, model: str) -> Speed:
        """What is known of a model's speed here. Bounded: past a thousand names all is forgotten."""
        speed = self._speeds.get(model)
        if speed is None:
            if len(self._speeds) >= MAX_MODELS:
                self._speeds.clear()
            speed = self._speeds[model] = Speed()
        return speed

    def known_speed(self, model: str) -> Speed | None:
        """The same, without beginning to know it."""
        return self._speeds.get(model)

    def observe(self, error: str) -> None:
        """Count one attempt at its end; `error` is empty when the provider answered below 500."""
        if error:
            self.failures += 1
        self.last_error = error
