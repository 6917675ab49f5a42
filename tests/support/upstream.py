"""A provider connection without a socket, and a sink that remembers what it was told."""

from sidecar.clock import Ticker
from sidecar.errors import ProxyError
from sidecar.headers import ResponseHead
from sidecar.upstream.connection import Connection
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Address
from tests.support.transport import FakeTransport


def endpoint_on(ticker: Ticker) -> Endpoint:
    """An endpoint that is never dialled."""
    return Endpoint("http://provider/v1", Address("provider", 80, None), "provider", "/v1", "", "", ticker)


class RecordingSink:
    """Takes an answer. `ends` counts the last calls: it must come to one."""

    def __init__(self) -> None:
        self.status = 0
        self.lines = b""
        self.body = b""
        self.ends = 0
        self.is_whole = False
        self.error: ProxyError | None = None

    def on_head(self, status: int, head: ResponseHead, lines: list[bytes]) -> None:
        assert self.status == 0
        assert self.ends == 0
        self.status = status
        self.lines = b"\r\n".join(lines)

    def on_data(self, data: bytes) -> None:
        assert self.status
        assert self.ends == 0
        assert data
        self.body += data

    def on_end(self) -> None:
        assert self.status
        self.ends += 1
        self.is_whole = True

    def on_error(self, error: ProxyError) -> None:
        self.ends += 1
        self.error = error


class Provider:
    """One connection to a provider: what is sent there, and what a test lets it say."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.idle: list[Connection] = []
        self.closed: list[bool] = []
        self.connection = Connection(self.idle.append, self.closed.append)
        self.connection.connection_made(self.transport)

    def ask(self, sink: RecordingSink | None = None, *, head: bool = False) -> RecordingSink:
        """Send a request; what comes goes to the sink that is returned."""
        sink = sink or RecordingSink()
        self.idle.clear()
        self.connection.send(b"a request", sink, is_head_request=head)
        return sink

    def says(self, data: bytes, *, step: int | None = None) -> None:
        """Have bytes arrive, at most `step` at a time, as long as the connection is open."""
        step = step or len(data)
        for start in range(0, len(data), step):
            if not self.transport.is_closed:
                self.connection.data_received(data[start : start + step])

    def hangs_up(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)

    @property
    def is_reusable(self) -> bool:
        return self.idle == [self.connection] and not self.transport.is_closed
