"""One endpoint of a provider: its address, what never changes of its request heads, and its live state.

Configuration is frozen, this state is not: a reload that keeps an endpoint's URL keeps the object, with its
open connections, its breaker, its parkings and what is known of its speed.
"""

import math

from sidecar.clock import Ticker
from sidecar.config.model import CircuitBreaker
from sidecar.quantiles import Window
from sidecar.upstream.balancer import Ewma
from sidecar.upstream.breaker import CLOSED, Breaker
from sidecar.upstream.notices import Notices
from sidecar.upstream.parking import Parking
from sidecar.upstream.pool import Address, Pool
from sidecar.upstream.slowness import Slowness

MAX_MODELS = 1000
# How often the log is told of limits: to say them, all that is parked is looked at.
LIMITS_TOLD_S = 1.0


class Speed:
    """What is known of one model's speed at one endpoint. The slownesses are None where it is not judged."""

    __slots__ = ("first_token", "late", "late_plain", "whole")

    def __init__(self) -> None:
        self.first_token = Ewma()
        self.whole = Ewma()  # of plain answers
        self.late: Slowness | None = None
        self.late_plain: Slowness | None = None


class Outage:
    """Why requests do not go to an endpoint, as a sentence. `kind` is refused (the provider's own key),
    checks, breaker or limited (one model, by a 429). `lets_probe`: the next request would go there all the
    same, as the probe."""

    __slots__ = ("kind", "lets_probe", "why")

    def __init__(self, kind: str, why: str, *, lets_probe: bool = False) -> None:
        self.kind = kind
        self.why = why
        self.lets_probe = lets_probe


class Endpoint:
    """A base URL in a region. `in_flight` are attempts in progress, the rest counts since start.

    Whether it is out, and why, is said by `outages` alone: views, explanations and the log ask that.
    """

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
        self._name = url
        self._ticker = ticker

        # Health.
        self.pool = Pool(address, ticker)
        self.breaker = Breaker(CircuitBreaker(), self.notice)
        self.parking = Parking(self.notice)
        self.own_credential = ""  # a name for the provider's key; empty: its callers' own are forwarded
        self.last_success_s = 0.0
        self.last_error = ""  # empty: the last attempt was answered
        self._is_checked_out = False
        self._notices = Notices()
        self._limits_told_s = -math.inf

        # Figures.
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.first_token = Window()
        self._speeds: dict[str, Speed] = {}

    def join(self, provider: str, credential: str) -> None:
        """Serve a provider, with this key of its own. What was said of a key before is forgotten: it may be
        another one, or one that was mended."""
        self._name = f"provider {provider}, endpoint {self.url}" + (
            f" ({self.region})" if self.region else ""
        )
        self.own_credential = credential
        self.parking.forget_refusals()
        self.notice(self._ticker.now_s)

    # --- health ---------------------------------------------------------------------------------------

    @property
    def is_checked_out(self) -> bool:
        """Whether its active health checks fail."""
        return self._is_checked_out

    @is_checked_out.setter
    def is_checked_out(self, is_out: bool) -> None:
        self._is_checked_out = is_out
        self.notice(self._ticker.now_s)

    @property
    def is_well(self) -> bool:
        """Whether nothing at all is known against it: not broken, not checked out, no model parked."""
        return self.breaker.state is CLOSED and not self._is_checked_out and not self.parking.ends

    def is_usable(self, credential: str, model: str, now_s: float) -> bool:
        """Whether a request may go there now: not broken, not checked out, not parked."""
        breaker = self.breaker
        if self._is_checked_out or not (breaker.state is CLOSED or breaker.allows(now_s)):
            return False
        return not self.parking.ends or self.parking.until(credential, model, now_s) == 0.0

    def limit(self, credential: str, model: str, until_s: float, now_s: float) -> None:
        """The provider limits the rate: leave this model alone for this key until then."""
        self.parking.park(credential, model, until_s)
        if credential == self.own_credential and now_s >= self._limits_told_s + LIMITS_TOLD_S:
            self._limits_told_s = now_s
            self.notice(now_s)

    def refuse(self, credential: str, error: str, now_s: float) -> None:
        """The provider refuses its own key. A request that was sent with the one before says nothing."""
        if credential == self.own_credential:
            self.observe(error)
            self.parking.refuse(credential, now_s)
            self.notice(now_s)

    def free(self, credential: str, model: str, now_s: float) -> None:
        """A good answer came to this key for this model: nothing is parked for it any more."""
        if self.parking.free(credential, model):
            self.notice(now_s)

    def outages(self, now_s: float, credential: str, model: str | None = None) -> list[Outage]:
        """All that keeps requests with this key away, what needs a hand first; for this model, if one is
        given. Empty: they go there."""
        found: list[Outage] = []
        last = f": {self.last_error}" if self.last_error else ""
        if self.parking.is_refused(credential):
            why = f"the provider refuses its api_key, until that is replaced or accepted again{last}"
            found.append(Outage("refused", why))
        if self._is_checked_out:
            found.append(Outage("checks", "its health checks fail, until one succeeds"))
        if self.breaker.state is not CLOSED:
            found.append(self._broken(now_s, last))
        if model is not None:
            end_s = self.parking.limited_until(credential, model)
            if end_s > now_s:
                why = f"limited by the provider (429) for {end_s - now_s:.1f} s more"
                found.append(Outage("limited", why))
        return found

    def health(self, now_s: float) -> tuple[bool, str]:
        """Whether requests go there, and what there is to say of it; a limit of one model does not take it
        out for the others."""
        outages = self.outages(now_s, self.own_credential)
        return not outages, outages[0].why if outages else self._limited(now_s) or self.last_error

    def notice(self, now_s: float) -> None:
        """Its health may have changed: have the log say so, if it has."""
        wrong = {one.kind: one.why for one in self.outages(now_s, self.own_credential)}
        if limited := self._limited(now_s):
            wrong["limited"] = limited
        self._notices.tell(self._name, wrong, now_s)

    def _broken(self, now_s: float, last: str) -> Outage:
        breaker = self.breaker
        if breaker.allows(now_s):
            why = f"circuit breaker open, its time over: the next request is the probe{last}"
            return Outage("breaker", why, lets_probe=True)
        if now_s < breaker.open_until_s:
            return Outage(
                "breaker", f"circuit breaker open for {breaker.open_until_s - now_s:.1f} s more{last}"
            )
        return Outage("breaker", f"circuit breaker half open, a probe is under way{last}")

    def _limited(self, now_s: float) -> str:
        """Which models the provider limits for its own key; of callers' keys nothing is said."""
        if not self.own_credential or not self.parking.ends:
            return ""
        limits = self.parking.limits(self.own_credential, now_s)
        if not limits:
            return ""
        model, end_s = limits[0]
        others = f" and {len(limits) - 1} more" if len(limits) > 1 else ""
        # The name may be a caller's: quoted, so that it cannot end the line.
        return f"limited by the provider (429): {model[:100]!r} for {end_s - now_s:.1f} s more{others}"

    # --- figures --------------------------------------------------------------------------------------

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
