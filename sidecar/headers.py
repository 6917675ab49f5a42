"""Header facts: which fields end here, which go on, and how heads are read.

Hop-by-hop fields and everything the Connection field names end at the proxy (RFC 9110 section 7.6.1). Fields
by which a caller could speak for somebody else (x-forwarded-*, x-sidecar-*, x-original-url) never reach a
provider. Cookies do not either: on a loopback address a browser or an SDK would send one provider's cookies
to another.

Heads are read from their bytes after llhttp has judged them: it has refused folded lines, bare line ends,
control characters and malformed names, so that splitting at CRLF gives just the fields it saw. That is 5 µs
cheaper than a Python call per field, and what goes on is the sender's own line. A client sends nearly the
same lines with every request, so what was found out about a line is remembered.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote

from sidecar.errors import NO_RETRY_LINE, bad_request, refuse
from sidecar.exchange import Exchange, Reply, RequestHead

MAX_COUNT = 256
MAX_LINE_BYTES = 8190
MAX_TOTAL_BYTES = 65536

# RFC 9110 section 7.6.1, the old Proxy-* family, and HTTP/2's.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Where a caller's key may stand. They are taken out here and the right one is put in per provider.
CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
_NOT_FORWARDED = _HOP_BY_HOP.union(
    CREDENTIALS,
    (
        b"accept-encoding",  # identity for inference, the caller's own for the rest: see Provider
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
    ),
)
_NOT_FORWARDED_PREFIXES = (b"x-sidecar-", b"x-forwarded-", b"sec-fetch-")
_NOT_RETURNED = _HOP_BY_HOP.union((b"content-length", b"alt-svc"))
_NOT_RETURNED_PREFIXES = (b"x-sidecar-", b"access-control-")
# Twice one of these and two readers of the message could disagree on what it is.
_SINGLE = (
    b"authorization",
    b"content-length",
    b"content-type",
    b"expect",
    b"host",
    b"origin",
    b"transfer-encoding",
    b"x-api-key",
)
_PLAIN_CONNECTION = frozenset((b"keep-alive", b"close"))

# What was found out about heads, lines and names seen before; all bounded.
_REMEMBERED = 1024
_REMEMBERED_BYTES = 256
_REMEMBERED_HEADS = 128
_REMEMBERED_HEAD_BYTES = 4096
_heads: dict[tuple[bytes, bytes], RequestHead] = {}
_request_lines: dict[bytes, tuple[bytes, bytes, bool]] = {}


# --- requests ------------------------------------------------------------------------------------------


def recall_request_head(data: bytes, end: int) -> tuple[RequestHead, int] | None:
    """The head, `data` up to `end`, whose bytes but for the digits of its length llhttp has accepted before;
    and the length.

    An app's requests mostly differ in nothing else. Such a head needs no second judgement: 8 µs saved.
    """
    key, digits = _without_length(data, end)
    known = _heads.get(key)
    if known is None or not (digits.isdigit() and len(digits) < 12):
        return None
    return known, int(digits)


def remember_request_head(raw: bytes, head: RequestHead) -> None:
    """Keep a head for recall, if the length in its one usual spelling is all that frames its body."""
    if len(raw) > _REMEMBERED_HEAD_BYTES or not _UNUSUAL.isdisjoint(head.fields):
        return
    key, digits = _without_length(raw, len(raw))
    if digits != head.fields.get(b"content-length", b"0"):
        return
    if len(_heads) >= _REMEMBERED_HEADS:
        _heads.clear()
    _heads[key] = head


_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade"))


def _without_length(data: bytes, end: int) -> tuple[tuple[bytes, bytes], bytes]:
    """The head around the digits of Content-Length, and these; `0` where there is no such line."""
    start = data.find(b"\r\nContent-Length: ", 0, end) + 18
    if start == 17:
        start = data.find(b"\r\ncontent-length: ", 0, end) + 18
        if start == 17:
            # Written in another way, or not there: then the digits, if any, are part of the key.
            return (data[:end], b""), b"0"
    stop = data.index(b"\r\n", start)
    return (data[:start], data[stop:end]), data[start:stop]


def read_request_head(raw: bytes) -> tuple[RequestHead, int | None] | Reply:
    """A head, blank line included, that llhttp has accepted: what it says and the body's length (None:
    chunked); or a refusal for what llhttp lets pass and a proxy must not.
    """
    head = _read_request_head(raw)
    if isinstance(head, Reply):
        return head
    if b"transfer-encoding" in head.fields:
        return head, None
    return head, int(head.fields.get(b"content-length", b"0"))


def _read_request_head(raw: bytes) -> RequestHead | Reply:
    lines = raw.strip(b"\r\n").split(b"\r\n")
    if len(raw) > MAX_LINE_BYTES and (len(raw) > MAX_TOTAL_BYTES or max(map(len, lines)) > MAX_LINE_BYTES):
        return LARGE_HEAD
    if len(lines) > MAX_COUNT + 1:
        return LARGE_HEAD
    if not raw.isascii() or b"\x7f" in raw:
        return bad_request("The request head has bytes outside printable ASCII.", close=True)
    method, target, version = lines[0].split(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return bad_request("Only HTTP/1.1 and HTTP/1.0 are served here.", close=True)
    if not target.startswith(b"/") or b"#" in target:
        return bad_request("The request target must be a path such as /v1/models.", close=True)
    head = RequestHead(method, target, 0 if version == b"HTTP/1.0" else 1)
    del lines[0]
    fields, forward = head.fields, head.forward
    for line in lines:
        name, value, goes_on = _request_lines.get(line) or _read_line(line)
        fields[name] = value
        if goes_on:
            forward.append(line)
    if len(fields) != len(lines):
        names = [_split(line)[0] for line in lines]
        for name in _SINGLE:
            if names.count(name) > 1:
                return bad_request(f"The header {name.decode()} was sent twice; send it once.", close=True)
    named = fields.get(b"connection")
    if named is not None and len(fields) != len(lines):
        named = b",".join(value for name, value in map(_split, lines) if name == b"connection")
    if named and named not in _PLAIN_CONNECTION:
        head.forward = without(forward, _names(named))
    return _refuse_framing(head) or head


def _refuse_framing(head: RequestHead) -> Reply | None:
    coding = head.fields.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or head.minor == 0):
        return bad_request("The only Transfer-Encoding understood is `chunked`, in HTTP/1.1.", close=True)
    if head.minor == 1 and b"host" not in head.fields:
        return bad_request("HTTP/1.1 needs a Host header.", close=True)
    expect = head.fields.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return refuse(417, "expectation_failed", "The only Expect understood is 100-continue.", close=True)
    return None


def _read_line(line: bytes) -> tuple[bytes, bytes, bool]:
    """Name in lower case, value, and whether the line goes on to a provider."""
    name, value = _split(line)
    known = (name, value, name not in _NOT_FORWARDED and not name.startswith(_NOT_FORWARDED_PREFIXES))
    if len(line) <= _REMEMBERED_BYTES:
        if len(_request_lines) >= _REMEMBERED:
            _request_lines.clear()
        _request_lines[line] = known
    return known


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def without(lines: list[bytes], names: set[bytes] | frozenset[bytes]) -> list[bytes]:
    """`lines` less those of the fields in `names` (lower case)."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def final_lines(lines: Sequence[bytes]) -> list[bytes]:
    """The lines of an answer after which nobody need try again, and the word for it, as the only one: where a
    provider's own stands beside it, an SDK heeds neither. A line may be several with CRLF between them.
    """
    apart = b"\r\n".join(lines).split(b"\r\n") if lines else []
    return [*without(apart, _NO_RETRY), NO_RETRY_LINE]


_NO_RETRY = frozenset((NO_RETRY_LINE.partition(b":")[0],))

LARGE_HEAD = refuse(
    431,
    "headers_too_large",
    f"The request head is over {MAX_COUNT} headers, {MAX_LINE_BYTES} bytes a line or 64 KiB.",
    close=True,
)


# --- answers -------------------------------------------------------------------------------------------


_DROPPED = re.compile(
    rb"\r\n(?:%b|%b):[^\r]*"
    % (
        b"|".join(sorted(_NOT_RETURNED)),
        b"|".join(prefix + b"[^:]*" for prefix in _NOT_RETURNED_PREFIXES),
    ),
    re.IGNORECASE,
)


_MEDIA = (b"audio/", b"image/", b"video/", b"application/octet-stream")
_AT_LIMIT = re.compile(rb"\r\nx-ratelimit-remaining-(?:requests|tokens):[ \t]*0+[ \t]*\r")


class ResponseHead:
    """A provider's answer head that llhttp has accepted, status line to blank line.

    One regular expression takes out what ends here (1.6 µs; a look at each field costs 4).
    """

    __slots__ = ("_lower", "coding", "content_type")

    def __init__(self, raw: bytes) -> None:
        self._lower = raw.lower()
        self.content_type = self._value(b"\r\ncontent-type:")
        self.coding = self._value(b"\r\ntransfer-encoding:")

    def returned_lines(self, raw: bytes) -> list[bytes]:
        """The lines that go back to the caller, CRLF between them. `raw` is the head as it came."""
        kept = _DROPPED.sub(b"", raw[raw.index(b"\r") : -4])
        if b"\r\nconnection:" in self._lower:
            named = _CONNECTION.findall(self._lower)
            if not _PLAIN_CONNECTION.issuperset(named):
                return without(kept[2:].split(b"\r\n"), _names(b",".join(named)))
        return [kept[2:]] if kept else []

    def value(self, name: bytes) -> bytes:
        """A field's value in lower case; empty where it is missing."""
        return self._value(b"\r\n%b:" % name)

    @property
    def is_at_limit(self) -> bool:
        """Whether it says that no request or no token is left."""
        lower = self._lower
        return (b": 0\r" in lower or b":0\r" in lower) and _AT_LIMIT.search(lower) is not None

    @property
    def is_media(self) -> bool:
        """Whether sound, pictures or mere bytes follow: of use from the first one on."""
        return self.content_type.startswith(_MEDIA)

    @property
    def length(self) -> int | None:
        """The Content-Length, where there is one."""
        value = self._value(b"\r\ncontent-length:")
        return int(value) if value.isdigit() else None

    @property
    def idle_limit_s(self) -> float | None:
        """What `Keep-Alive: timeout` says."""
        return _keep_alive_timeout(self._value(b"\r\nkeep-alive:"))

    def _value(self, begin: bytes) -> bytes:
        """The value, in lower case, of the line that begins so; empty where there is none."""
        start = self._lower.find(begin)
        if start < 0:
            return b""
        start += len(begin)
        return self._lower[start : self._lower.index(b"\r", start)].strip(b" \t")


def _names(listed: bytes) -> set[bytes]:
    return {name.strip().lower() for name in listed.split(b",")}


_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*([^\r]*)")


def _keep_alive_timeout(value: bytes) -> float | None:
    """Seconds of `Keep-Alive: timeout=5, max=100`."""
    for part in value.split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.lower() == b"timeout" and number.isdigit():
            return float(number)
    return None


# --- our own -------------------------------------------------------------------------------------------

_named_lines: dict[tuple[str, str, str], bytes] = {}


def own_lines(x: Exchange) -> bytes:
    """The header lines the sidecar adds to an answer, CRLF between them."""
    key = (x.model, x.provider, x.region)
    named = _named_lines.get(key)
    if named is None:
        if len(_named_lines) >= _REMEMBERED:
            _named_lines.clear()
        pairs = zip((b"model", b"provider", b"region"), key, strict=True)
        named = b"".join(
            b"x-sidecar-%b: %b\r\n" % (name, safe_value(value)) for name, value in pairs if value
        )
        _named_lines[key] = named
    lines = b"%bx-sidecar-attempts: %d\r\nserver-timing: sidecar;dur=%.3f, provider;dur=%.3f" % (
        named,
        x.attempts,
        (x.overhead_s or 0.0) * 1e3,
        x.upstream_s * 1e3,
    )
    return lines if x.cache is None else b"%b\r\n%b" % (lines, x.cache.line)


def safe_value(text: str) -> bytes:
    """`text` as it may stand in a header: percent-encoded where it is not plain ASCII."""
    return (text if text.isascii() and text.isprintable() else quote(text, safe="/:@.-_")).encode()
