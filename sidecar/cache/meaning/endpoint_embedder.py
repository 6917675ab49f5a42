"""Embeds by asking `/v1/embeddings` of a provider: for models better than the local one, or other languages.

A question then leaves the process twice, and a look-up waits for the first time, `timeout_s` at most. So an
endpoint that fails is soon left alone: after MAX_FAILURES in a row for OPEN_S, then one question probes it.

It is asked with the provider's own key and headers, at the closest endpoint by name, and nowhere else:
there is a next question. `region` is that endpoint's, for callers whose texts must stay in theirs.
"""

import os
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from sidecar.cache.meaning.embedding import MAX_ANSWER_BYTES, EmbedderError, read_vector, required
from sidecar.config.cache import Semantic
from sidecar.config.model import Endpoint, Locality, Provider

if TYPE_CHECKING:
    from sidecar.cache.meaning.embedding import Vector

MAX_FAILURES = 3
OPEN_S = 30.0
MAX_CONNECTIONS = 16
_PIECE_BYTES = 64 * 1024


class Circuit:
    """Whether to ask an endpoint: after MAX_FAILURES in a row not for OPEN_S, then one probe at a time."""

    __slots__ = ("_failures", "_next_s")

    def __init__(self) -> None:
        self._failures = 0
        self._next_s = 0.0  # when the next probe may go, once it is open

    def allows(self, now_s: float) -> bool:
        """Whether to ask now. While the circuit is open, True makes the asker the probe."""
        if self._failures < MAX_FAILURES:
            return True
        if now_s < self._next_s:
            return False
        # A probe that never comes back must not keep it open for ever, nor be one of many.
        self._next_s = now_s + OPEN_S
        return True

    def succeeded(self) -> None:
        """A good answer came: all may ask."""
        self._failures = 0

    def failed(self, now_s: float) -> None:
        """None came, or a bad one."""
        self._failures += 1
        self._next_s = now_s + OPEN_S

    def abandoned(self, now_s: float) -> None:
        """The asker left before an answer, which says nothing: the next may probe."""
        self._next_s = min(self._next_s, now_s)


class EndpointEmbedder:
    """Asks one endpoint of `provider`. `tls` is for its https URL, `clock` in seconds."""

    def __init__(
        self,
        semantic: Semantic,
        provider: Provider,
        locality: Locality,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects to nothing yet. EmbedderError when the extra is not installed."""
        required("numpy")
        self._name = f"{semantic.provider}: {semantic.model}"
        self._model = semantic.model
        self._timeout_s = semantic.timeout_s
        self._tls = tls
        self._clock = clock
        endpoint = closest(provider, locality)
        self.region = endpoint.region
        # The provider's name, not the URL: the regions of one provider serve the same model.
        self.identity = f"endpoint-{semantic.provider}-{semantic.model}"
        self._url = URL(f"{endpoint.url}/embeddings", encoded=True)
        self._headers = _headers(provider)

        # What changes.
        self._session: aiohttp.ClientSession | None = None
        self._dimensions: int | None = None
        self._circuit = Circuit()
        self._is_closed = False

    async def embed(self, text: str) -> "Vector":
        """The unit vector of a text, float32, always of as many dimensions. Call it within a task.

        EmbedderError when there is none: in time, that can be read, or because the endpoint is left alone.
        """
        if self._is_closed:
            raise EmbedderError(f"{self._name} is closed: another configuration is in force")
        if not self._circuit.allows(self._clock()):
            raise EmbedderError(
                f"{self._name} is left alone for {OPEN_S:.0f} s after {MAX_FAILURES} failures"
            )
        try:
            vector = read_vector(await self._ask(text), self._dimensions)
        except EmbedderError as error:
            self._circuit.failed(self._clock())
            raise EmbedderError(f"{self._name}: {error}") from None
        except BaseException:
            self._circuit.abandoned(self._clock())
            raise
        self._circuit.succeeded()
        self._dimensions = len(vector)
        return vector

    async def close(self) -> None:
        """Close the connections. Who asks after that, or is still asking, gets an EmbedderError."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _ask(self, text: str) -> bytes:
        """The body of a 200."""
        body = orjson.dumps({"model": self._model, "input": text, "encoding_format": "float"})
        answer = bytearray()
        try:
            async with self._client().post(
                self._url,
                data=body,
                headers=self._headers,
                allow_redirects=False,  # the key is for this provider alone
            ) as response:
                if response.status != 200:
                    raise EmbedderError(f"answered {response.status} when asked for an embedding")
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    answer += piece
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise EmbedderError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        except TimeoutError:
            raise EmbedderError(f"no embedding within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise EmbedderError(f"not reached for an embedding: {_reason(error)}") from None
        return bytes(answer)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                auto_decompress=False,  # a bound on bytes is none if they may unfold
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def closest(provider: Provider, locality: Locality) -> Endpoint:
    """The endpoint in the same zone, else in the same region, else the first."""
    for name in ("zone", "region"):
        here = getattr(locality, name)
        for endpoint in provider.endpoints if here is not None else ():
            if getattr(endpoint, name) == here:
                return endpoint
    return provider.endpoints[0]


def _reason(error: Exception) -> str:
    # Not its own text, which may be long and quotes what the other side said.
    number = getattr(error, "errno", None)
    return os.strerror(number) if number is not None and number > 0 else type(error).__name__


def _headers(provider: Provider) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "ai-sidecar-embedder",
        }
    )
    headers.update(provider.headers)
    if provider.api_key is not None:
        headers["authorization"] = f"Bearer {provider.api_key.reveal()}"
    return headers
