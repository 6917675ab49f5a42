"""A provider: its endpoints, its key, how a request to it is written, which of its endpoints may be asked."""

import hashlib
import math
from collections.abc import Iterable
from random import Random

from sidecar.clock import Ticker
from sidecar.config.model import Provider as ProviderConfig
from sidecar.exchange import Exchange, RequestHead
from sidecar.headers import CREDENTIALS, without
from sidecar.upstream.balancer import NOISE_S, Ewma, default_of
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.locality import Localities, Panic, order
from sidecar.upstream.locality import allowed as is_allowed
from sidecar.upstream.queue import Slots
from sidecar.upstream.retry import RetryBudget

REMEMBERED_HEADS = 256
# How long the last resort leaves an endpoint that refused the key to the others: as a breaker's usual time.
REFUSED_S = 30.0
_RANDOM = Random()
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))


class ProviderState:
    """What a provider keeps through a reload: its slots, its retry budget, its last-resort probes."""

    def __init__(self, config: ProviderConfig, ticker: Ticker) -> None:
        limits = config.concurrency
        self.slots = Slots(limits.max_requests, limits.max_queue, limits.queue_timeout_s, ticker)
        self.budget = RetryBudget(config.retry.budget)
        self.panic = Panic()

    def configure(self, config: ProviderConfig) -> None:
        """Go on with other limits."""
        limits = config.concurrency
        self.slots.configure(limits.max_requests, limits.max_queue, limits.queue_timeout_s)
        self.budget.configure(config.retry.budget)


class Order:
    """The endpoints a request may be sent to: `well` in their order, then `slow` ones that are set back.

    `blocked_s`: nothing is left because of 429s, the first of which is over in so many seconds.
    """

    __slots__ = ("blocked_s", "slow", "well")

    def __init__(self, well: Iterable[Endpoint], slow: list[Endpoint], blocked_s: float | None) -> None:
        self.well = well
        self.slow = slow
        self.blocked_s = blocked_s


class Provider:
    """A provider as the data path sees it. Without an `api_key` the caller's own key is forwarded."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        endpoints: list[Endpoint],
        home: tuple[str, str],
        state: ProviderState,
    ) -> None:
        self.name = name
        # What its answers depend on besides the request, as a name: where it is, and what is said to it.
        told = repr((name, sorted(str(one.url) for one in config.endpoints), sorted(config.headers.items())))
        self.identity = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        self.endpoints = endpoints
        self.only = endpoints[0] if len(endpoints) == 1 else None
        self.timeouts = config.timeouts
        self.retry = config.retry
        self.open_for_s = config.circuit_breaker.open_for_s
        self.wants_usage = "stream_usage" in config.capabilities
        self.continues_text = "prefill" in config.capabilities
        self.is_break_glass = config.break_glass
        self.slots = state.slots
        self.budget = state.budget
        self.localities = Localities(endpoints, *home)
        self._panic = state.panic
        self._key_lines: list[bytes] | None = None
        self._credential = ""
        if config.api_key is not None:
            key = config.api_key.reveal().encode()
            self._credential = hashlib.blake2b(key, digest_size=8).hexdigest()
            self._key_lines = [b"authorization: Bearer %b" % key]
            # Anthropic's API reads x-api-key; OpenAI-compatible hosts of it read either.
            self._both_key_lines = [*self._key_lines, b"x-api-key: %b" % key]
        for endpoint in endpoints:
            endpoint.join(name, self._credential)
        self._extra = [b"%b: %b" % (n.encode(), v.encode()) for n, v in config.headers.items()]
        self._extra_names = frozenset(n.lower().encode() for n in config.headers)
        self._heads: dict[tuple[RequestHead, Endpoint], bytes] = {}

    # --- which endpoint -------------------------------------------------------------------------------

    @property
    def has_own_key(self) -> bool:
        """Whether the key is of the configuration, not the caller's."""
        return self._key_lines is not None

    def credential(self, x: Exchange) -> str:
        """Which key a request is sent with, as a name that does not give it away."""
        if self._key_lines is not None:
            return self._credential
        head = x.head
        if head.credential is None:
            given = b"".join([x.fields.get(name, b"") for name in CREDENTIALS])
            head.credential = hashlib.blake2b(given, digest_size=8).hexdigest() if given else ""
        return head.credential

    def allowed(self, x: Exchange) -> list[Endpoint]:
        """The endpoints a request may go to at all: those in the caller's regions, or the one it needs."""
        if x.pinned is not None:
            return [e for e in self.endpoints if e is x.pinned]
        if x.regions:
            return [e for e in self.endpoints if is_allowed(e.region, x.regions)]
        return self.endpoints

    def order(
        self, model: str, x: Exchange, now_s: float, random: Random, *, sets_back: bool = False
    ) -> Order:
        """The endpoints to try for one request. `sets_back`: slow ones come last."""
        credential = self.credential(x)
        endpoints = self.allowed(x)
        if not sets_back and len(endpoints) == 1:
            if endpoints[0].is_usable(credential, model, now_s):
                return Order(endpoints, [], None)
            return Order((), [], _blocked_s(endpoints, credential, model, now_s))
        slow: list[Endpoint] = []
        if sets_back:
            slow = [e for e in endpoints if self._is_set_back(e, model, now_s)]
            slow = [e for e in slow if e.is_usable(credential, model, now_s)]

        def average(endpoint: Endpoint) -> Ewma:
            speed = endpoint.speed(model)
            return speed.first_token if x.stream else speed.whole

        default_s = default_of(map(average, endpoints))

        def is_well(endpoint: Endpoint) -> bool:
            return endpoint not in slow and endpoint.is_usable(credential, model, now_s)

        def cost(endpoint: Endpoint) -> float:
            return (endpoint.in_flight + 1) * (NOISE_S + average(endpoint).value(now_s, default_s))

        levels = [endpoints] if x.pinned is not None else self.localities.within(x.regions)
        well = order(levels, is_well, cost, random.random)
        first = next(well, None)
        if first is None:
            return Order((), slow, None if slow else _blocked_s(endpoints, credential, model, now_s))
        return Order(_chain(first, well), slow, None)

    def closest(self, x: Exchange, now_s: float) -> Endpoint | None:
        """One endpoint for what is never tried twice: the best that is not out, or else the first; None where
        the caller's regions leave none."""
        well = self.order("", x, now_s, _RANDOM).well
        return next(iter(well), None) or next(iter(self.allowed(x)), None)

    def last_resort(self, x: Exchange, model: str, now_s: float) -> Endpoint | None:
        """Every endpoint is out: once a second, the one whose time is over first."""
        probed = self.probed(x, model, now_s)
        return probed if probed is not None and self._panic.allows(now_s) else None

    def probed(self, x: Exchange, model: str, now_s: float) -> Endpoint | None:
        """Whom the last resort would ask; None where 429s or the caller's regions leave nobody."""
        credential = self.credential(x)

        def turn(endpoint: Endpoint) -> tuple[bool, float]:
            # One that refuses the key has no end: after each refusal it is another one's turn.
            refused_until_s = endpoint.parking.refused_s(credential) + REFUSED_S
            return endpoint.is_checked_out, max(endpoint.breaker.open_until_s, refused_until_s)

        asked = [e for e in self.allowed(x) if e.parking.limited_until(credential, model) <= now_s]
        return min(asked, key=turn, default=None)

    def probe_wait_s(self, now_s: float) -> float:
        """Seconds until the last resort lets a request through."""
        return self._panic.wait_s(now_s)

    def blocked_s(self, x: Exchange, model: str, now_s: float) -> float | None:
        """When the first 429 is over, if nothing but 429s keeps the endpoints away."""
        return _blocked_s(self.allowed(x), self.credential(x), model, now_s)

    def refuses_key(self, x: Exchange) -> bool:
        """Whether an endpoint that a request may go to refuses the provider's own key."""
        credential = self.credential(x)
        return any(endpoint.parking.is_refused(credential) for endpoint in self.allowed(x))

    def has_other(self, endpoint: Endpoint, now_s: float) -> bool:
        """Whether another endpoint is left that is not out."""
        return any(e is not endpoint and self._is_left(e, now_s) for e in self.endpoints)

    def _is_left(self, endpoint: Endpoint, now_s: float) -> bool:
        is_refused = endpoint.parking.is_refused(self._credential)
        return endpoint.breaker.allows(now_s) and not (endpoint.is_checked_out or is_refused)

    def _is_set_back(self, endpoint: Endpoint, model: str, now_s: float) -> bool:
        speed = endpoint.speed(model)
        for late in (speed.late, speed.late_plain):
            if late is None or not late.is_set_back(now_s):
                continue
            if not late.allows_probe(now_s):
                return True
            late.take_probe(now_s)
        return False

    # --- what is sent ---------------------------------------------------------------------------------

    def header_lines(self, x: Exchange) -> list[bytes]:
        """The caller's header lines less what ends here, with the provider's own and its key put in."""
        lines = x.head.forward
        if self._extra:
            if not self._extra_names.isdisjoint(x.fields):
                lines = without(lines, self._extra_names)
            lines = lines + self._extra
        return lines + self._credential_lines(x)

    def write_request(self, x: Exchange, endpoint: Endpoint, body: bytes) -> bytes:
        """The whole request as bytes: the caller's head, less what ends here, and `body` untouched."""
        key = (x.head, endpoint)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= REMEMBERED_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._write_head(x, endpoint)
        if body or x.method in _BODY_METHODS:
            return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        return head + b"\r\n"

    def _write_head(self, x: Exchange, endpoint: Endpoint) -> bytes:
        """The head up to the body's length; the same for all requests with the same head."""
        request_line = b"%b %b%b HTTP/1.1" % (x.method, endpoint.prefix, x.target[3:])
        parts = [request_line, endpoint.host_line, *self.header_lines(x)]
        if x.kind:
            # An inference answer is read here (usage, stream events), so it must not come compressed.
            parts.append(b"accept-encoding: identity")
        elif (encoding := x.fields.get(b"accept-encoding")) is not None:
            parts.append(b"accept-encoding: %b" % encoding)
        parts.append(b"")
        return b"\r\n".join(parts)

    def _credential_lines(self, x: Exchange) -> list[bytes]:
        if self._key_lines is None:
            return [b"%b: %b" % (name, x.fields[name]) for name in CREDENTIALS if name in x.fields]
        return self._both_key_lines if x.kind == "messages" else self._key_lines


def _chain(first: Endpoint, rest: Iterable[Endpoint]) -> Iterable[Endpoint]:
    yield first
    yield from rest


def _blocked_s(endpoints: list[Endpoint], credential: str, model: str, now_s: float) -> float | None:
    """When the first 429 is over, if nothing but parkings keeps the endpoints away."""
    ends = [e.parking.until(credential, model, now_s) for e in endpoints if e.breaker.allows(now_s)]
    first_s = min(ends, default=0.0)
    # Refused keys alone have no end: that is no 429 to pass on.
    return first_s - now_s if 0.0 < first_s < math.inf else None
