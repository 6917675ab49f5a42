"""One endpoint of a provider: its address, the parts of a request head that never change, its live counters.

Configuration is frozen, these counters are not: a reload that keeps an endpoint's URL keeps the object, with
its open connections and its history.
"""

from sidecar.clock import Ticker
from sidecar.quantiles import Window
from sidecar.upstream.pool import Address, Pool


class Endpoint:
    """A base URL in a region. `in_flight`, `requests` and `failures` are plain counts since start."""

    def __init__(
        self,
        url: str,
        address: Address,
        authority: str,
        prefix: str,
        region: str,
        zone: str,
        ticker: Ticker,
    ) -> None:
        self.url = url
        self.region = region
        self.zone = zone
        self.host_line = b"host: %b" % authority.encode()
        self.prefix = prefix.encode()  # the URL's path, which stands for /v1
        self.pool = Pool(address, ticker)
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.first_token = Window()
        self.last_error = ""  # empty: the last attempt was answered

    def observe(self, error: str) -> None:
        """Count one attempt at its end; `error` is empty when the provider answered below 500."""
        if error:
            self.failures += 1
        self.last_error = error
