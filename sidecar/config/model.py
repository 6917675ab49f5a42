"""The whole configuration as frozen structs: what the YAML file may say, with its defaults.

Attribute names carry units (`connect_s`, `max_body_bytes`, `limit_usd`), YAML names do not (`connect`).
Only shapes, ranges and defaults are here; what needs two places of the file at once is in `checks`, reading
files and the environment is in `load`. A part that is absent and has no default is None: the feature is off.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, field
from msgspec.structs import asdict, fields, replace

from sidecar.config.addresses import Address, Url
from sidecar.config.auth import Auth, ServiceAccountRule
from sidecar.config.base import Base
from sidecar.config.break_glass import Reason
from sidecar.config.cache import Cache
from sidecar.config.instants import Instant
from sidecar.config.secrets import KeyHash, Secret
from sidecar.config.values import (
    Name,
    Origin,
    Positive,
    Seconds,
    SecondsOrZero,
    Share,
    Size,
    Text,
    UrlPath,
    Usd,
)

OnStreamCut: TypeAlias = Literal["error", "resume"]
Capability: TypeAlias = Literal["stream_usage", "prefill"]
# A cent for each token is above every price list; more is a price that was meant for another unit.
TokenPrice: TypeAlias = Annotated[Usd, Meta(le=10_000)]


class Listen(Base, frozen=True, kw_only=True):
    """The addresses the sidecar serves on, and what a request must look like to be let in.

    With `control`, a Unix socket, nothing is changed but through it: `admin` then only shows.
    """

    data: Address = Address("127.0.0.1", 8080)
    admin: Address = Address("127.0.0.1", 9901)
    control: Address | None = None
    health: Address = Address("127.0.0.1", 9902)
    hosts: tuple[Name, ...] = ()
    origins: tuple[Origin, ...] = ()
    max_body_bytes: Size = field(name="max_body", default=32 * 1024 * 1024)


class Drain(Base, frozen=True, kw_only=True):
    """How long leaving takes: exit once idle for `min_s`, at latest after `max_s`."""

    min_s: SecondsOrZero = field(name="min", default=2.0)
    max_s: SecondsOrZero = field(name="max", default=25.0)


class Locality(Base, frozen=True, kw_only=True):
    """Where this sidecar runs; None where nobody said."""

    region: Name | None = None
    zone: Name | None = None


# --- providers ---


class Endpoint(Base, frozen=True, kw_only=True):
    """One address of a provider; one without a region never matches a residency filter."""

    url: Url
    region: Name | None = None
    zone: Name | None = None


class Timeouts(Base, frozen=True, kw_only=True):
    """Per attempt, save `total_s`, which is over all attempts of a request."""

    connect_s: Seconds = field(name="connect", default=1.0)
    first_token_s: Seconds = field(name="first_token", default=30.0)
    idle_s: Seconds = field(name="idle", default=60.0)
    answer_s: Seconds = field(name="answer", default=300.0)
    total_s: Seconds = field(name="total", default=600.0)


class TimeoutOverrides(Base, frozen=True, kw_only=True):
    """What a model says of timeouts; None leaves the provider's."""

    connect_s: Seconds | None = field(name="connect", default=None)
    first_token_s: Seconds | None = field(name="first_token", default=None)
    idle_s: Seconds | None = field(name="idle", default=None)
    answer_s: Seconds | None = field(name="answer", default=None)
    total_s: Seconds | None = field(name="total", default=None)

    def over(self, timeouts: Timeouts) -> Timeouts:
        """The provider's timeouts with these put over them."""
        return replace(timeouts, **{name: value for name, value in asdict(self).items() if value is not None})


class Retry(Base, frozen=True, kw_only=True):
    """`attempts` counts every try of a request, the first included; `budget` is a share of requests."""

    attempts: Positive = 3
    budget: Share = 0.2
    patience_s: SecondsOrZero = field(name="patience", default=2.0)


class CircuitBreaker(Base, frozen=True, kw_only=True):
    """When an endpoint is taken out, and for how long at first."""

    consecutive_failures: Positive = 5
    failure_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    min_requests: Positive = 10
    window_s: Seconds = field(name="window", default=10.0)
    open_for_s: Seconds = field(name="open_for", default=30.0)


class Concurrency(Base, frozen=True, kw_only=True):
    """How many requests a provider gets at once, and how many may wait for it."""

    max_requests: Positive = 256
    max_queue: Annotated[int, Meta(ge=0)] = 512
    queue_timeout_s: SecondsOrZero = field(name="queue_timeout", default=5.0)


class HealthCheck(Base, frozen=True, kw_only=True):
    """Active health checks; without them health is judged by the traffic alone."""

    path: UrlPath = "/models"
    interval_s: Seconds = field(name="interval", default=10.0)
    timeout_s: Seconds = field(name="timeout", default=2.0)


class Tls(Base, frozen=True, kw_only=True):
    """How a provider proves who it is; None trusts the system's authorities."""

    ca_file: Text | None = None


class Provider(Base, frozen=True, kw_only=True):
    """Endpoints that take the same key; without `api_key` the caller's own key is forwarded."""

    endpoints: Annotated[tuple[Endpoint, ...], Meta(min_length=1)]
    api_key: Secret | None = None
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    concurrency: Concurrency = Concurrency()
    health_check: HealthCheck | None = None
    headers: Mapping[str, str] = {}
    tls: Tls = Tls()
    capabilities: tuple[Capability, ...] = ()
    break_glass: bool = False


# --- models and routes ---


class Price(Base, frozen=True, kw_only=True):
    """USD per million tokens, exact to six decimals.

    `cached` is for the part of the input that came out of the provider's prompt cache, `reasoning` for the
    part of the output that was spent on thinking; absent, they cost what input and output cost.
    """

    input_usd: TokenPrice = field(name="input")
    output_usd: TokenPrice = field(name="output")
    cached_usd: TokenPrice | None = field(name="cached", default=None)
    reasoning_usd: TokenPrice | None = field(name="reasoning", default=None)

    def __post_init__(self) -> None:
        for info in fields(self):
            usd = getattr(self, info.name)
            # As good as whole: 0.28 has no exact float, nor has its product.
            if usd is not None and abs(usd * 1e6 - round(usd * 1e6)) > 1e-3:
                raise ValueError(
                    f"{info.encode_name} has more than 6 decimals: is it USD per million tokens?"
                )


class Model(Base, frozen=True, kw_only=True):
    """Which provider serves a model, or every model of a pattern, and what is known of it."""

    provider: Name
    price: Price | None = None
    p99_budget_s: Seconds | None = field(name="p99_budget", default=None)
    p99_budget_plain_s: Seconds | None = field(name="p99_budget_plain", default=None)
    fallback: tuple[Name, ...] = ()
    max_output: Positive | None = None
    premium: bool = False
    timeouts: TimeoutOverrides | None = None
    on_stream_cut: OnStreamCut | None = None


class SplitTarget(Base, frozen=True, kw_only=True):
    """One share of a route's requests, in proportion to the other weights."""

    model: Name
    weight: Annotated[float, Meta(gt=0)]


class When(Base, frozen=True, kw_only=True):
    """Conditions on a request, all of which must hold. Any one keyword is enough.

    Keywords, lengths (in characters) and `question` look at the last message of the user, `images` at all.
    """

    importance: Literal["normal", "critical"] | None = None
    keywords: tuple[Text, ...] = ()
    min_chars: Positive | None = None
    max_chars: Positive | None = None
    question: bool | None = None
    tools: bool | None = None
    images: bool | None = None

    def __post_init__(self) -> None:
        names = self.__struct_fields__
        if all(getattr(self, name) in (None, ()) for name in names):
            raise ValueError(f"is empty: give {', '.join(names[:-1])} or {names[-1]}")
        if not all(word.strip() for word in self.keywords):
            raise ValueError("has a keyword of spaces alone: every text would match")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError("has more min_chars than max_chars: no text would match")


class ClassifyRule(Base, frozen=True, kw_only=True):
    """The first rule that matches chooses the model, before the split."""

    when: When
    model: Name


class Route(Base, frozen=True, kw_only=True):
    """A virtual model: what the app sends as "model"."""

    split: Annotated[tuple[SplitTarget, ...], Meta(min_length=1)]
    fallback: tuple[Name, ...] = ()
    classify: tuple[ClassifyRule, ...] = ()
    long_context: Name | None = None
    on_stream_cut: OnStreamCut | None = None


# --- callers ---


class Tier(Base, frozen=True, kw_only=True):
    """Limits of a kind of caller; None is no limit. `burst` is of requests, None is a minute's; of tokens
    always a minute's may come at once. `dry_run` limits are counted and hold nobody up.
    """

    key_prefix: Name | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    burst: Positive | None = None
    priority: int = 0
    dry_run: bool = False


class Key(Base, frozen=True, kw_only=True):
    """A caller whose key is verified here, until `expires`, a date's whole day included; UTC.
    `regions` is a hard filter, empty means any.
    """

    id: Name
    hash: KeyHash
    team: Name | None = None
    tier: Name | None = None
    not_before: Instant | None = None
    expires: Instant | None = None
    regions: tuple[Name, ...] = ()
    models: Annotated[tuple[Name, ...], Meta(min_length=1)] = ("*",)


class Budget(Base, frozen=True, kw_only=True):
    """Dollars per window of a team, a key or all; `models` match the names sent to providers, not routes."""

    name: Name
    limit_usd: Annotated[float, Meta(gt=0, le=1e9)] = field(name="usd")
    per: Literal["team", "key", "all"] = "team"
    models: Annotated[tuple[Name, ...], Meta(min_length=1)] = ("*",)
    window: Literal["hour", "day", "month", "never"] = "day"
    soft: Annotated[float, Meta(gt=0, le=1)] = 0.8
    at_limit: Literal["downgrade", "reject"] = "reject"


# --- the rest ---


class Fleet(Base, frozen=True, kw_only=True):
    """Limits shared through Redis; while it is away each sidecar has 1/`expected` of them."""

    redis: Secret
    expected: Positive
    timeout_s: Seconds = field(name="timeout", default=0.05)


class Usage(Base, frozen=True, kw_only=True):
    """Where the ledger of tokens and dollars is kept."""

    path: Text


class BreakGlass(Base, frozen=True, kw_only=True):
    """Until when the direct providers may be asked, and where an operator's word on it is kept; without a
    `path` that is forgotten on exit.
    """

    path: Text | None = None
    until: Instant | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if self.until is not None and self.reason is None:
            raise ValueError("has until but no reason: add reason, so that the audit log can say why")


class Otlp(Base, frozen=True, kw_only=True):
    """Where spans go, and the share of requests that get them."""

    endpoint: Url
    sample: Share = 0.01


class Slo(Base, frozen=True, kw_only=True):
    """What `/slo` measures against."""

    availability: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    p99_s: Seconds = field(name="p99", default=2.0)


class Baseline(Base, frozen=True, kw_only=True):
    """The model that savings are measured against."""

    name: Name
    price: Price


class Telemetry(Base, frozen=True, kw_only=True):
    """`access_log` is `stdout`, `off` or the path of a file."""

    access_log: Text = "stdout"
    otlp: Otlp | None = None
    slo: Slo | None = None
    baseline: Baseline | None = None


class Config(Base, frozen=True, kw_only=True):
    """One configuration file."""

    providers: Annotated[Mapping[str, Provider], Meta(min_length=1)]
    models: Annotated[Mapping[str, Model], Meta(min_length=1)]
    listen: Listen = Listen()
    drain: Drain = Drain()
    locality: Locality = Locality()
    routes: Mapping[str, Route] = {}
    auth: Auth = Auth()
    tiers: Mapping[str, Tier] = {}
    keys: tuple[Key, ...] = ()
    budgets: tuple[Budget, ...] = ()
    cache: Cache | None = None
    fleet: Fleet | None = None
    usage: Usage | None = None
    break_glass: BreakGlass | None = None
    telemetry: Telemetry = Telemetry()


def matches(pattern: str, name: str) -> bool:
    """Whether a model name is the pattern itself, or begins as a pattern that ends in `*` does."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def find_model(models: Mapping[str, Model], name: str) -> str | None:
    """The key of `models` that serves a name: the first that matches."""
    return next((pattern for pattern in models if matches(pattern, name)), None)


def rule_of(rules: Iterable[ServiceAccountRule], namespace: str, name: str) -> ServiceAccountRule | None:
    """The rule that holds for a service account: the first that matches."""
    return next(
        (rule for rule in rules if matches(rule.namespace, namespace) and matches(rule.name, name)), None
    )


def standard_tier(tiers: Mapping[str, Tier]) -> str | None:
    """The tier of callers of whom nothing more is known: `standard`, else the first without a key_prefix."""
    if "standard" in tiers:
        return "standard"
    return next((name for name, tier in tiers.items() if tier.key_prefix is None), None)
