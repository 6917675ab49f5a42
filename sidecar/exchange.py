"""One request and its answer (`Exchange`), and an answer of the sidecar's own (`Reply`).

An Exchange is made by the downstream connection when a request is whole, passed through proxy.py, and read
at the end by metrics and the access log. It holds facts, no behaviour. Slots and no defaults by dataclass:
it is built for every request (a frozen dataclass costs 2.7 µs, this 0.3).
"""

import math
from collections.abc import Sequence
from typing import Protocol

from sidecar.flow import Flow

# What money is counted in: a sum of whole numbers is never off.
NANO_USD = 1_000_000_000  # in a dollar


class Reply:
    """A whole answer made here: JSON in OpenAI's shape. `flag` is Envoy's response flag for the log."""

    __slots__ = ("body", "close", "code", "flag", "lines", "status")

    def __init__(
        self, status: int, body: bytes, flag: str = "-", code: str = "", close: bool = False
    ) -> None:
        self.status = status
        self.body = body
        self.flag = flag
        self.code = code
        self.close = close
        self.lines: list[bytes] = []  # further header lines


class RequestHead:
    """What a request's head says, less its length; shared by all requests with the same head, so read only.

    `fields` is by lower-case name (the last value), `forward` the lines that go on to a provider, as they
    came and without CRLF; `target` is path and query, `minor` the x of HTTP/1.x. `admitted_by` is whoever
    let a request with this head in.
    """

    __slots__ = (
        "admitted_by",
        "credential",
        "fields",
        "forward",
        "keep_alive",
        "kind",
        "method",
        "minor",
        "path",
        "target",
        "variant",
    )

    def __init__(self, method: bytes = b"", target: bytes = b"", minor: int = 1) -> None:
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0].decode()
        self.minor = minor
        self.fields: dict[bytes, bytes] = {}
        self.forward: list[bytes] = []
        self.keep_alive = True
        self.admitted_by: object = None
        self.kind = ""  # the inference API it calls, known once it is admitted
        self.variant: bytes | None = None  # what it says that may change an answer; made when first asked for
        self.credential: str | None = None  # the caller's key as a name; made when first asked for


class Pausable(Protocol):
    """The side bytes come from; it is held back while the other side does not take them."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Downstream(Protocol):
    """What a request's code may do to the caller's connection."""

    def reply(self, x: "Exchange", reply: Reply) -> None:
        """Send a whole answer of our own and finish the exchange."""

    def respond(self, x: "Exchange", status: int, lines: Sequence[bytes], body: bytes) -> None:
        """Send a provider's whole answer in one write, with our own lines in its head, and finish the
        exchange."""

    def begin(self, x: "Exchange", status: int, lines: Sequence[bytes], length: int | None) -> None:
        """Send a head, with our own lines in it; the body follows. `length` None: chunked, or until close
        for HTTP/1.0."""

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""

    def end(self, x: "Exchange") -> None:
        """The body is whole: finish the exchange."""

    def cut(self, x: "Exchange", last: bytes) -> None:
        """Send `last`, then end the connection so that the caller sees the body was not whole."""

    def feed_from(self, source: Pausable | None) -> None:
        """Name who is paused while the caller does not read."""

    def drop(self) -> None:
        """Break the connection: the caller does not read, and nobody waits for it."""

    def lost(self, x: "Exchange", flow: Flow) -> None:
        """The caller's connection is gone: end the flow that serves it, unless others listen too."""


class CacheNote:
    """What the answer cache had to do with a request.

    `result` is hit, miss, bypass, collapsed (another request's answer, shared as it came) or shadow (a hit
    that was asked anew, to compare); `detail` the tier of a hit, or why it was none. `key` names the stored
    answer for the operator, hexadecimal. `line` is what the caller is told, header lines joined by CRLF.
    """

    __slots__ = ("detail", "key", "line", "result", "saved_nano_usd", "saved_s")

    def __init__(self, result: str, detail: str, line: bytes, key: str = "") -> None:
        self.result = result
        self.detail = detail
        self.line = line
        self.key = key
        self.saved_nano_usd = 0  # what the answer would have cost
        self.saved_s = 0.0  # how much longer the provider took


class Exchange:
    """One request as read, what was decided about it, and what came of it. Times are monotonic seconds."""

    __slots__ = (
        "attempts",
        "body",
        "bytes_received",
        "bytes_sent",
        "cache",
        "client",
        "cost_nano_usd",
        "end_s",
        "endpoint",
        "fields",
        "first_token_s",
        "flag",
        "head",
        "is_open",
        "is_unpriced",
        "keep_alive",
        "kind",
        "method",
        "minor",
        "model",
        "overhead_s",
        "path",
        "pinned",
        "priority",
        "provider",
        "refusal",
        "region",
        "regions",
        "resumes",
        "route",
        "saved_nano_usd",
        "started_s",
        "status",
        "stream",
        "target",
        "team",
        "upstream_s",
        "usage",
        "whole_s",
    )

    def __init__(self, client: Downstream, started_s: float, head: RequestHead) -> None:
        # The request as it was read.
        self.client = client
        self.started_s = started_s
        self.whole_s = started_s  # when its last byte was here, where that was later
        self.head = head
        self.method = head.method
        self.path = head.path
        self.target = head.target
        self.minor = head.minor
        self.fields = head.fields
        self.body = b""
        self.keep_alive = head.keep_alive
        self.refusal: Reply | None = None  # set by the connection: answered with this, never proxied

        # What was decided.
        self.kind = ""  # the API called: chat, completions, ...; "" for all that is passed through unread
        self.model = ""
        self.stream = False
        self.resumes = False  # a stream that breaks off is gone on with from elsewhere
        self.route = ""  # the virtual model the caller named, if it was one
        self.team = ""
        self.priority = 0  # in queues: higher goes first
        self.regions: tuple[str, ...] = ()  # of the caller's residency filter; empty: none
        self.pinned: object = None  # the one endpoint that may answer, where only one can

        # What came of it.
        self.is_open = True
        self.provider = ""
        self.region = ""
        self.endpoint = ""
        self.attempts = 0
        self.status = 0
        self.flag = "-"
        self.bytes_received = 0  # of the body
        self.bytes_sent = 0
        self.end_s = math.inf  # when all attempts are over, on the ticker's clock
        self.upstream_s = 0.0  # waiting for providers until the answer began, all attempts
        self.overhead_s: float | None = None  # from when it was whole until it was sent on, or answered here
        self.first_token_s: float | None = None  # since started_s
        self.usage: Usage | None = None
        self.cost_nano_usd: int | None = None  # of all its parts; None: no price, or no tokens
        self.saved_nano_usd = 0  # against the baseline
        self.is_unpriced = False  # there were tokens, and no price for them
        self.cache: CacheNote | None = None  # None: there is no cache, or not for such requests

    @property
    def has_failed(self) -> bool:
        """Whether it counts as a failure: nobody answered, or not to the end."""
        return self.status >= 500 or (self.flag != "-" and self.flag in _FAILURES)


# Response flags of answers that began well.
_FAILURES = frozenset(("UC", "UPE", "UT", "FT", "SD", "SE"))


class Usage:
    """Tokens of one request as the provider reported them."""

    __slots__ = ("cached", "input", "output", "reasoning")

    def __init__(self, input_: int, output: int, cached: int = 0, reasoning: int = 0) -> None:
        self.input = input_
        self.output = output
        self.cached = cached
        self.reasoning = reasoning
