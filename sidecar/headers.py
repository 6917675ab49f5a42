"""Header facts: which fields end here, which go on, and how both heads are written.

Hop-by-hop fields and everything the Connection field names end at the proxy (RFC 9110 section 7.6.1). Fields
by which a caller could speak for somebody else (x-forwarded-*, x-sidecar-*, x-original-url) never reach a
provider. Cookies do not either: on a loopback address a browser or an SDK would send one provider's cookies
to another.
"""

from collections.abc import Iterable
from urllib.parse import quote

from sidecar.errors import bad_request
from sidecar.exchange import Header, Reply

MAX_COUNT = 256
MAX_LINE_BYTES = 8190
MAX_TOTAL_BYTES = 65536

# RFC 9110 section 7.6.1 and the old Proxy-* family.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
# Where a caller's key may stand. They are taken out here and the right one is put in per provider.
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_NOT_FORWARDED = (
    HOP_BY_HOP
    | CREDENTIALS
    | {
        b"accept-encoding",  # identity for inference, the caller's own for the rest: see upstream_head
        b"content-length",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"origin",
        b"x-http-method-override",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
_NOT_FORWARDED_PREFIXES = (b"x-sidecar-", b"x-forwarded-", b"sec-fetch-")
_NOT_RETURNED = HOP_BY_HOP | {b"content-length", b"alt-svc"}
_NOT_RETURNED_PREFIXES = (b"x-sidecar-", b"access-control-")
# Twice one of these and two readers of the message could disagree on what it is.
_SINGLE = frozenset(
    (
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"transfer-encoding",
        b"x-api-key",
    )
)


def read_fields(headers: list[Header]) -> tuple[dict[bytes, bytes], list[bytes]] | Reply:
    """The request's fields by lower-case name, and the lines that go on to a provider; or a 400.

    httptools has refused malformed names, line folding and control characters before this.
    """
    fields: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower in fields and lower in _SINGLE:
            return bad_request(f"The header {lower.decode()} was sent twice; send it once.", close=True)
        fields[lower] = value
        if lower not in _NOT_FORWARDED and not lower.startswith(_NOT_FORWARDED_PREFIXES):
            lines.append(b"%b: %b\r\n" % (name, value))
    every_value = b"".join([value for _, value in headers])
    if not every_value.isascii() or b"\x7f" in every_value:
        return bad_request("A header value has bytes outside printable ASCII.", close=True)
    named = fields.get(b"connection")
    if named is not None and named not in _PLAIN_CONNECTION:
        lines = _without(lines, {name.strip().lower() for name in named.split(b",")})
    return fields, lines


_PLAIN_CONNECTION = frozenset((b"keep-alive", b"close", b"Keep-Alive", b"Close"))


def _without(lines: list[bytes], names: set[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in names]


def over_limit(headers: list[Header], target: bytes) -> bool:
    """Whether a request head is larger than the limits of this module."""
    if len(headers) > MAX_COUNT or len(target) + 16 > MAX_LINE_BYTES:
        return True
    total = 0
    for name, value in headers:
        size = len(name) + len(value) + 4
        if size > MAX_LINE_BYTES:
            return True
        total += size
    return total > MAX_TOTAL_BYTES


def replace(lines: list[bytes], fields: dict[bytes, bytes], names: frozenset[bytes]) -> list[bytes]:
    """`lines` without those named in `names`: a provider's configured headers win over the caller's."""
    return lines if names.isdisjoint(fields) else _without(lines, set(names))


def response_lines(headers: Iterable[Header]) -> list[bytes]:
    """The provider's response fields that go back to the caller, as lines."""
    lines: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower not in _NOT_RETURNED and not lower.startswith(_NOT_RETURNED_PREFIXES):
            lines.append(b"%b: %b\r\n" % (name, value))
    return lines


def find(headers: Iterable[Header], wanted: bytes) -> bytes:
    """The first value of the field `wanted` (lower case), or empty."""
    for name, value in headers:
        if len(name) == len(wanted) and name.lower() == wanted:
            return value
    return b""


def safe_value(text: str) -> str:
    """`text` as it may stand in a header: percent-encoded where it is not plain ASCII."""
    return text if text.isascii() and text.isprintable() else quote(text, safe="/:@.-_")
