"""How many requests and tokens a caller gets: one bucket for each, by the figures of its tier.

Tokens are reserved when a request is let in, at the most it may use, and settled when the provider has said
what it did use; a request that is refused takes nothing of either. A request that is never settled stays at
what it reserved.

Memory is bounded. Listed keys and the shared caller have buckets of their own that are never given up. Of
callers told apart by keys only a provider knows, which anyone can make up, there are at most MAX_STRANGERS.
For a new one somebody makes room whose buckets are full again, which loses nothing, if there is such a one
among the first few; or else the least recently seen. So a stranger gains at most one full bucket each time
that MAX_STRANGERS others have called since it last did.

In a fleet a bucket is a lease of one that many sidecars share: it has the same methods, but what it holds may
be less than what is there. `wants` says what has to be asked for before a request can be let in.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from itertools import islice
from typing import NamedTuple, Protocol

from sidecar.config.model import Config, Tier
from sidecar.errors import NO_RETRY_LINE, refuse
from sidecar.exchange import Reply
from sidecar.policy.buckets import Bucket
from sidecar.policy.callers import SHARED_BUCKET, Caller, bucket_of

MAX_STRANGERS = 10_000
LOOKED_AT = 8


class TokenBucket(Protocol):
    """What a limit takes from: see buckets.Bucket."""

    capacity: int

    def take(self, now_s: float, amount: int = 1) -> bool: ...
    def charge(self, now_s: float, amount: int) -> None: ...
    def give_back(self, amount: int) -> None: ...
    def remaining(self, now_s: float) -> int: ...
    def is_full(self, now_s: float) -> bool: ...
    def reset_s(self, now_s: float) -> float: ...
    def wait_s(self, now_s: float, amount: int = 1) -> float: ...
    def configure(self, rate: int, capacity: int, now_s: float) -> None: ...


# Makes a bucket from its name in the fleet, its rate a minute, and its capacity.
BucketFactory = Callable[[str, int, int], TokenBucket]
Want = tuple[TokenBucket, int]  # and how much of it


def _of_our_own(_key: str, rate: int, capacity: int) -> TokenBucket:
    return Bucket(rate, capacity)


class Counts:
    """How many requests of one tier were over its limits."""

    __slots__ = ("limited", "would_limit")

    def __init__(self) -> None:
        self.limited = 0
        self.would_limit = 0  # let in because their tier is a dry run


class _Limits:
    """The figures of a tier, requests and tokens per minute; None is no limit."""

    __slots__ = ("burst", "counts", "is_dry_run", "requests", "tier", "tokens")

    def __init__(self, name: str, tier: Tier, counts: Counts) -> None:
        self.tier = name
        self.requests = tier.requests_per_minute
        self.burst = tier.burst
        self.tokens = tier.tokens_per_minute
        self.is_dry_run = tier.dry_run
        self.counts = counts


class _Buckets:
    """One caller's."""

    __slots__ = ("_factory", "_name", "limits", "requests", "tokens")

    def __init__(self, name: str, factory: BucketFactory, limits: _Limits, now_s: float) -> None:
        self._name = name
        self._factory = factory
        self.requests: TokenBucket | None = None
        self.tokens: TokenBucket | None = None
        self.configure(limits, now_s)

    def configure(self, limits: _Limits, now_s: float) -> None:
        self.limits = limits
        self.requests = self._configured(self.requests, "req", limits.requests, limits.burst, now_s)
        self.tokens = self._configured(self.tokens, "tok", limits.tokens, None, now_s)

    def under(self, limits: _Limits, now_s: float) -> "_Buckets":
        """A copy that goes on with other limits: these stay as they are."""
        other = copy(self)
        other._factory = _of_our_own
        other.requests, other.tokens = _copied(self.requests, now_s), _copied(self.tokens, now_s)
        other.configure(limits, now_s)
        return other

    def are_full(self, now_s: float) -> bool:
        return (self.requests is None or self.requests.is_full(now_s)) and (
            self.tokens is None or self.tokens.is_full(now_s)
        )

    def wants(self, tokens: int, now_s: float) -> list[Want]:
        """All that a request takes, where some of it is not at hand; else nothing."""
        wants = self._for_request(tokens)
        return wants if any(bucket.wait_s(now_s, amount) for bucket, amount in wants) else []

    def suffice(self, tokens: int, now_s: float) -> bool:
        """Whether there is room for a request: in the whole fleet, as far as known, if these are leases."""
        return all(
            not bucket.wait_s(now_s, amount) or 0 < amount <= bucket.remaining(now_s)
            for bucket, amount in self._for_request(tokens)
        )

    def charge(self, tokens: int, now_s: float) -> None:
        for bucket, amount in self._for_request(tokens):
            bucket.charge(now_s, amount)

    def _for_request(self, tokens: int) -> list[Want]:
        both = ((self.requests, 1), (self.tokens, tokens))
        return [(bucket, amount) for bucket, amount in both if bucket is not None]

    def _configured(
        self, bucket: TokenBucket | None, kind: str, rate: int | None, burst: int | None, now_s: float
    ) -> TokenBucket | None:
        if rate is None:
            return None
        if bucket is None:
            return self._factory(f"{kind}:{self._name}", rate, burst or rate)
        bucket.configure(rate, burst or rate, now_s)
        return bucket


def _copied(bucket: TokenBucket | None, now_s: float) -> TokenBucket | None:
    """One that stands as this one does, to look ahead with: a lease itself is there once only."""
    if bucket is None or isinstance(bucket, Bucket):
        return copy(bucket)
    standing = Bucket(bucket.capacity, bucket.capacity)
    standing.charge(now_s, bucket.capacity - bucket.remaining(now_s))
    return standing


class Figures(NamedTuple):
    """What a full bucket holds, what is in it now, and how long until it is full again."""

    limit: int
    remaining: int
    reset_s: float


class Admission:
    """What the limits say to one request.

    `refusal` is the 429 to answer with, None: go on. `is_over`: there was nothing left; with no refusal it
    is let in because its tier is a dry run. `wait_s` is how long until it would be let in, infinite: never.
    """

    __slots__ = ("_buckets", "_reserved", "is_over", "refusal", "tokens", "wait_s")

    def __init__(self, buckets: _Buckets, reserved: TokenBucket | None, tokens: int) -> None:
        self._buckets = buckets
        self._reserved = reserved  # where the tokens were taken from
        self.tokens = tokens
        self.is_over = False
        self.wait_s = 0.0
        self.refusal: Reply | None = None

    def take_another(self, now_s: float) -> bool:
        """Take one request more, for what counts twice; False where none is left."""
        bucket = self._buckets.requests
        if bucket is None or self._buckets.limits.is_dry_run or bucket.take(now_s):
            return True
        if not bucket.remaining(now_s):
            return False
        bucket.charge(now_s, 1)  # the fleet has it, and there is no time to ask for it
        return True

    def settle(self, actual_tokens: int, now_s: float) -> None:
        """The request is over and used so many tokens: what it did not use goes back, more is owed.

        Only the first call counts; of a request that is refused, or over in a dry run, none does.
        """
        bucket = self._reserved
        if bucket is None:
            return
        self._reserved = None
        unused = self.tokens - max(0, actual_tokens)
        if unused > 0:
            bucket.give_back(unused)
        elif unused < 0:
            bucket.charge(now_s, -unused)

    def lines(self, now_s: float) -> list[bytes]:
        """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` as OpenAI's API writes them.

        The limit is what a full bucket holds; the reset is when it is full again.
        """
        lines: list[bytes] = []
        for kind, figures in self.figures(now_s).items():
            name = kind.encode()
            lines += (
                b"x-ratelimit-limit-%b: %d" % (name, figures.limit),
                b"x-ratelimit-remaining-%b: %d" % (name, figures.remaining),
                b"x-ratelimit-reset-%b: %b" % (name, duration(figures.reset_s)),
            )
        return lines

    def figures(self, now_s: float) -> dict[str, Figures]:
        """How the caller's buckets stand, by `requests` and `tokens`; only those that are limited."""
        buckets = (("requests", self._buckets.requests), ("tokens", self._buckets.tokens))
        return {
            kind: Figures(bucket.capacity, bucket.remaining(now_s), bucket.reset_s(now_s))
            for kind, bucket in buckets
            if bucket is not None
        }


class Limiter:
    """All callers' buckets. It outlives reloads: buckets stay as empty as they are."""

    def __init__(self, config: Config, factory: BucketFactory = _of_our_own) -> None:
        self.counts: dict[str, Counts] = {}  # by tier
        self._factory = factory
        self._limits: dict[str, _Limits] = {}
        self._named: dict[str, _Buckets] = {}
        self._strangers: OrderedDict[str, _Buckets] = OrderedDict()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go on with other tiers and keys. Each bucket takes its new figures on when its caller calls."""
        self._limits = {}
        for name, tier in config.tiers.items():
            if tier.requests_per_minute is not None or tier.tokens_per_minute is not None:
                self._limits[name] = _Limits(name, tier, self.counts.setdefault(name, Counts()))
        names = {bucket_of(key.id) for key in config.keys} | {SHARED_BUCKET}
        self._named = {name: buckets for name, buckets in self._named.items() if name in names}

    def admit(self, caller: Caller, tokens: int, now_s: float) -> Admission | None:
        """Take one request and `tokens` (the most it may use) from the caller's buckets, or neither.

        None where its tier has no limits. `now_s` is monotonic.
        """
        limits = self._limits.get(caller.tier)
        if limits is None:
            return None
        name = caller.bucket
        buckets = self._named.get(name)
        if buckets is None:
            buckets = self._strangers.get(name)
            if buckets is None:
                buckets = self._open(caller, limits, now_s)
            else:
                self._strangers.move_to_end(name)
        if buckets.limits is not limits:
            buckets.configure(limits, now_s)
        of_requests, of_tokens = buckets.requests, buckets.tokens
        if of_requests is None or of_requests.take(now_s):
            if of_tokens is None or of_tokens.take(now_s, tokens):
                return Admission(buckets, of_tokens, tokens)
            if of_requests is not None:
                of_requests.give_back(1)
        return self._over(buckets, tokens, now_s)

    def wants(self, caller: Caller, tokens: int, now_s: float) -> list[Want]:
        """The buckets, with the amounts, that `admit` would take from now, if it could not; else none."""
        limits = self._limits.get(caller.tier)
        if limits is None:
            return []
        buckets = self._named.get(caller.bucket) or self._strangers.get(caller.bucket)
        if buckets is None:
            buckets = self._open(caller, limits, now_s)
        elif buckets.limits is not limits:
            buckets.configure(limits, now_s)
        return buckets.wants(tokens, now_s)

    def peek(self, caller: Caller, tokens: int, now_s: float) -> Admission | None:
        """What `admit` would say now: nothing is taken, opened or counted, and there is nothing to settle."""
        limits = self._limits.get(caller.tier)
        if limits is None:
            return None
        buckets = self._named.get(caller.bucket) or self._strangers.get(caller.bucket)
        if buckets is None:
            buckets = _Buckets(caller.bucket, _of_our_own, limits, now_s)
        elif buckets.limits is not limits:
            buckets = buckets.under(limits, now_s)
        if buckets.suffice(tokens, now_s):
            return Admission(buckets, None, tokens)
        return _refused(buckets, tokens, now_s)

    def _open(self, caller: Caller, limits: _Limits, now_s: float) -> _Buckets:
        buckets = _Buckets(caller.bucket, self._factory, limits, now_s)
        if caller.bucket in (SHARED_BUCKET, bucket_of(caller.id)):
            self._named[caller.bucket] = buckets
            return buckets
        strangers = self._strangers
        if len(strangers) >= MAX_STRANGERS:
            oldest = next(iter(strangers))
            looked_at = islice(strangers.items(), LOOKED_AT)
            del strangers[next((name for name, b in looked_at if b.are_full(now_s)), oldest)]
        strangers[caller.bucket] = buckets
        return buckets

    def _over(self, buckets: _Buckets, tokens: int, now_s: float) -> Admission:
        """The refusal, counted; in a dry run only counted."""
        counts = buckets.limits.counts
        if buckets.limits.is_dry_run:
            if buckets.suffice(tokens, now_s):  # a lease is used up, but not what the fleet has
                buckets.charge(tokens, now_s)
                return Admission(buckets, buckets.tokens, tokens)
            counts.would_limit += 1
        else:
            counts.limited += 1
        return _refused(buckets, tokens, now_s)


def _refused(buckets: _Buckets, tokens: int, now_s: float) -> Admission:
    """The refusal, named for the limit that takes longest to have room; none in a dry run."""
    limits = buckets.limits
    admission = Admission(buckets, None, tokens)
    admission.is_over = True
    for_request = 0.0 if buckets.requests is None else buckets.requests.wait_s(now_s)
    for_tokens = 0.0 if buckets.tokens is None else buckets.tokens.wait_s(now_s, tokens)
    admission.wait_s = max(for_request, for_tokens)
    if limits.is_dry_run:
        return admission
    if for_tokens > for_request:
        message = _over_tokens(limits, tokens, for_tokens)
    else:
        message = _over_requests(limits, for_request)
    reply = admission.refusal = refuse(429, "rate_limit_exceeded", message, flag="RL")
    if math.isinf(admission.wait_s):
        reply.lines.append(NO_RETRY_LINE)
    else:
        reply.lines.append(b"retry-after: %d" % math.ceil(admission.wait_s))
        reply.lines.append(b"retry-after-ms: %d" % math.ceil(admission.wait_s * 1e3))
    reply.lines += admission.lines(now_s)
    return admission


def duration(seconds: float) -> bytes:
    """A time as OpenAI's `x-ratelimit-reset-*` has it: `120ms`, `1.5s`, `6m0s`, `1h0m0s`; rounded up."""
    # Less a nanosecond: 1.1 s is 1100.0000000000002 ms, and not 1101.
    ms = max(0, math.ceil(seconds * 1e3 - 1e-6))
    if 0 < ms < 1000:
        return b"%dms" % ms
    minutes, ms = divmod(ms, 60_000)
    if not minutes:
        return b"%gs" % (ms / 1e3)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%gs" % (hours, minutes, ms / 1e3) if hours else b"%dm%gs" % (minutes, ms / 1e3)


def _over_requests(limits: _Limits, wait_s: float) -> str:
    at_once = f", {limits.burst} at once" if limits.burst else ""
    return (
        f"Rate limit reached for requests: tier {limits.tier} allows {limits.requests} per minute{at_once}."
        f" Try again in {duration(wait_s).decode()}, or use a key of a tier with a higher limit."
    )


def _over_tokens(limits: _Limits, tokens: int, wait_s: float) -> str:
    limit = f"tier {limits.tier} allows {limits.tokens} per minute, and this request may use {tokens}"
    instead = "lower max_tokens or shorten the input, or use a key of a tier with a higher limit"
    if math.isinf(wait_s):
        return f"Request too large for the limit of tokens: {limit}, so it never fits; {instead}."
    return f"Rate limit reached for tokens: {limit}. Try again in {duration(wait_s).decode()}, {instead}."
