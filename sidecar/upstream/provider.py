"""A provider: its endpoints in order of locality, its key, and how a request to it is written."""

from sidecar.config.model import Timeouts
from sidecar.exchange import Exchange
from sidecar.headers import replace
from sidecar.upstream.endpoint import Endpoint

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
            self._key_lines = [b"authorization: Bearer %b\r\n" % key.encode()]
            # Anthropic's API reads x-api-key; OpenAI-compatible hosts of it read either.
            self._both_key_lines = [*self._key_lines, b"x-api-key: %b\r\n" % key.encode()]
        self._extra = [b"%b: %b\r\n" % (n.encode(), v.encode()) for n, v in headers.items()]
        self._extra_names = frozenset(n.lower().encode() for n in headers)
        self._orders = _orders(endpoints, home)
        self._turn = 0

    def order(self) -> tuple[Endpoint, ...]:
        """The endpoints in the order to try: the closest first, equals taking turns."""
        self._turn = (self._turn + 1) % len(self._orders)
        return self._orders[self._turn]

    def header_lines(self, x: Exchange) -> list[bytes]:
        """The caller's header lines less what ends here, with the provider's own and its key put in."""
        lines = x.forward_lines
        if self._extra:
            lines = [*replace(lines, x.fields, self._extra_names), *self._extra]
        return [*lines, *self._credential_lines(x)]

    def write_request(self, x: Exchange, endpoint: Endpoint, body: bytes) -> bytes:
        """The whole request as bytes: the caller's head, less what ends here, and `body` untouched."""
        target = endpoint.prefix + x.path[3:].encode()
        if x.query:
            target += b"?" + x.query
        parts = [b"%b %b HTTP/1.1\r\n" % (x.method, target), endpoint.host_line, *self.header_lines(x)]
        # An inference answer is read here (usage, stream events), so it must not come compressed.
        encoding = b"identity" if x.kind else x.fields.get(b"accept-encoding")
        if encoding is not None:
            parts.append(b"accept-encoding: %b\r\n" % encoding)
        if body or x.method in _BODY_METHODS:
            parts.append(b"content-length: %d\r\n" % len(body))
        parts.append(b"\r\n")
        parts.append(body)
        return b"".join(parts)

    def _credential_lines(self, x: Exchange) -> list[bytes]:
        if self._key_lines is None:
            names = (b"authorization", b"x-api-key", b"api-key")
            return [b"%b: %b\r\n" % (name, x.fields[name]) for name in names if name in x.fields]
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
