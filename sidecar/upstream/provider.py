"""A provider: its endpoints in order of locality, its key, and how a request to it is written."""

from sidecar.config.model import Timeouts
from sidecar.exchange import Exchange, RequestHead
from sidecar.headers import CREDENTIALS, without
from sidecar.upstream.endpoint import Endpoint

REMEMBERED_HEADS = 256
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))


class Provider:
    """A provider as the data path sees it.

    `key` None: the caller's own key is forwarded. `wants_usage`: it sends the usage of a stream when asked.
    """

    def __init__(
        self,
        name: str,
        endpoints: list[Endpoint],
        key: str | None,
        headers: dict[str, str],
        timeouts: Timeouts,
        wants_usage: bool,
        home: tuple[str, str],
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        self.timeouts = timeouts
        self.wants_usage = wants_usage
        self._key_lines: list[bytes] | None = None
        if key is not None:
            self._key_lines = [b"authorization: Bearer %b" % key.encode()]
            # Anthropic's API reads x-api-key; OpenAI-compatible hosts of it read either.
            self._both_key_lines = [*self._key_lines, b"x-api-key: %b" % key.encode()]
        self._extra = [b"%b: %b" % (n.encode(), v.encode()) for n, v in headers.items()]
        self._extra_names = frozenset(n.lower().encode() for n in headers)
        self._orders = _orders(endpoints, home)
        self._turn = 0
        self._heads: dict[tuple[RequestHead, Endpoint], bytes] = {}

    def order(self) -> tuple[Endpoint, ...]:
        """The endpoints in the order to try: the closest first, equals taking turns."""
        self._turn = (self._turn + 1) % len(self._orders)
        return self._orders[self._turn]

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


def _orders(endpoints: list[Endpoint], home: tuple[str, str]) -> list[tuple[Endpoint, ...]]:
    """Every rotation of the closest endpoints, each followed by the farther ones.

    Closeness is same zone, same region, elsewhere; without a home all are equal.
    """
    region, zone = home

    def distance(endpoint: Endpoint) -> int:
        if not region or endpoint.region != region:
            return 2
        return 0 if zone and endpoint.zone == zone else 1

    ranked = sorted(endpoints, key=distance)
    closest = [e for e in ranked if distance(e) == distance(ranked[0])]
    rest = ranked[len(closest) :]
    return [(*closest[i:], *closest[:i], *rest) for i in range(len(closest))]
