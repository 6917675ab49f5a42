"""What a caller tells the cache (Cache-Control, RFC 9111 section 5.2.1), and what it is told (RFC 9211, Age).

A POST is cached here because the operator said so; the caller may narrow that for one request:

    no-store        neither looked up nor kept
    no-cache        asked anew, and the stored answer replaced
    max-age=N       no answer older than N seconds; also allows what a temperature would forbid
    only-if-cached  504 rather than a question to the provider

    x-sidecar-cache: exact | canonical | semantic     no tier further than this one
    x-sidecar-cache-threshold: 0.97                   closer than configured; never further

max-stale and min-fresh are ignored, as a cache may: nothing stale is ever given, and no answer changes at the
moment it expires. A max-age that cannot be read counts as 0, a tier as exact, a threshold as 1: the caller
wanted a limit.
"""

from collections.abc import Mapping

from sidecar.errors import NO_RETRY_LINE, refuse
from sidecar.exchange import Reply

# RFC 9111, section 1.2.2: what is larger is taken for this.
_MAX_AGE_S = 2**31
_MAX_CHARS = 1024


# The tiers of the cache, the narrowest first.
TIERS = (b"exact", b"canonical", b"semantic")
SEMANTIC = TIERS.index(b"semantic")


class Directives:
    """The directives of one request; `max_age_s` None where the caller sets no limit.

    `tier` is the place in TIERS of the furthest that may answer, `threshold` the least cosine.
    """

    __slots__ = ("max_age_s", "no_cache", "no_store", "only_if_cached", "threshold", "tier")

    def __init__(self) -> None:
        self.no_store = False
        self.no_cache = False
        self.only_if_cached = False
        self.max_age_s: int | None = None
        self.tier = SEMANTIC
        self.threshold = 0.0


NONE = Directives()  # nearly every request; read only


def directives_of(fields: Mapping[bytes, bytes]) -> Directives:
    """Read the header fields that speak to the cache."""
    control, tier = fields.get(b"cache-control"), fields.get(b"x-sidecar-cache")
    threshold = fields.get(b"x-sidecar-cache-threshold")
    if control is None and tier is None and threshold is None:
        return NONE
    found = Directives()
    if control is not None:
        _read_control(control, found)
    if tier is not None:
        tier = tier.strip().lower()
        found.tier = TIERS.index(tier) if tier in TIERS else 0
    if threshold is not None:
        found.threshold = _cosine(threshold)
    return found


def _read_control(value: bytes, found: Directives) -> None:
    if len(value) > _MAX_CHARS:
        found.no_store = True  # who says so much must be heard to the end, or kept out
        return
    for part in value.split(b","):
        name, _, argument = part.partition(b"=")
        name = name.strip().lower()
        if name == b"no-store":
            found.no_store = True
        elif name == b"no-cache":
            found.no_cache = True
        elif name == b"only-if-cached":
            found.only_if_cached = True
        elif name == b"max-age":
            age_s = _seconds(argument.strip())
            found.max_age_s = age_s if found.max_age_s is None else min(age_s, found.max_age_s)


def _cosine(value: bytes) -> float:
    try:
        cosine = float(value)
    except ValueError:
        return 1.0
    return cosine if 0 <= cosine <= 1 else 1.0


def _seconds(argument: bytes) -> int:
    # Both forms are to be accepted (section 5.2): a token and a quoted string.
    digits = argument[1:-1] if argument[:1] == argument[-1:] == b'"' else argument
    if not digits.isdigit():
        return 0
    return min(int(digits), _MAX_AGE_S) if len(digits) < 20 else _MAX_AGE_S


# --- what the caller is told ------------------------------------------------------------------------------

_HIT = b"cache-status: sidecar; hit; ttl=%d; detail=%b"
_FORWARDED = b"cache-status: sidecar; fwd=%b"
_BYPASSED = b"cache-status: sidecar; fwd=bypass; detail=%b"
_NOT_FORWARDED = b"cache-status: sidecar; detail=only-if-cached"


def hit_lines(age_s: float, ttl_s: float, tier: str) -> list[bytes]:
    """The header lines of an answer out of the cache."""
    return [_HIT % (max(0, int(ttl_s)), tier.encode()), b"age: %d" % max(0, int(age_s))]


def miss_line(forwarded: str, *, stored: bool = False, collapsed: bool = False) -> bytes:
    """The header line of an answer that was fetched.

    `forwarded` is miss, or request where the caller's directives forbade what there was. `stored`: it is kept
    now, which is known of a plain answer only; a stream's head goes out before its end. `collapsed`: it was
    fetched for another request.
    """
    line = _FORWARDED % forwarded.encode()
    if stored:
        line += b"; stored"
    return line + b"; collapsed" if collapsed else line


def bypass_line(reason: str) -> bytes:
    """The header line of an answer that has nothing to do with the cache."""
    return _BYPASSED % reason.encode()


def not_cached() -> Reply:
    """The answer to only-if-cached where nothing is stored (RFC 9111, section 5.2.1.7)."""
    message = "No stored answer fits this request; send it without `only-if-cached` to have one made."
    reply = refuse(504, "not_cached", message)
    reply.lines += (_NOT_FORWARDED, NO_RETRY_LINE)
    return reply
