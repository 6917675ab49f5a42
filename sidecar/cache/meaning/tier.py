"""The semantic tier: an answer to another question, where an embedding finds it close and no guard objects.

Only short plain questions are looked up, only among those whose everything else is the same (the partition of
their keys), and never further than `threshold`, which a caller may raise. Where there is no vector, the
embedder slow or gone, there is no hit: requests go on, and one line says so.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sidecar.cache.key import Key
from sidecar.cache.meaning.embedding import EmbedderError
from sidecar.cache.meaning.endpoint_embedder import EndpointEmbedder
from sidecar.cache.meaning.sameness import Features, features, may_mean
from sidecar.cache.meaning.vectors import Found, Vectors
from sidecar.config.cache import Semantic as SemanticConfig
from sidecar.tasks import spawn

if TYPE_CHECKING:
    from sidecar.cache.meaning.embedding import Vector

# A question whose stored answer is gone by now is met this often at most in one look-up.
_MAX_GONE = 3
_COMPLAIN_S = 60.0
# Up to where similarities are counted together: finest where thresholds are.
SIMILARITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)

_log = logging.getLogger("sidecar")


class LocalEmbedder(Protocol):
    """Embeds in this process."""

    def embed(self, text: str) -> "Vector":
        """The unit vector of a text; EmbedderError where there is none."""


class Question:
    """A user's last words, made ready: what the guards compare, and the vector."""

    __slots__ = ("features", "vector")

    def __init__(self, features: Features, vector: "Vector") -> None:
        self.features = features
        self.vector = vector


class Stats:
    """What the tier did since its start; `refused` by the guard that objected.

    `similarities` counts the nearest questions, given or not, by how near they were: one number for each
    bound of SIMILARITIES, and the last for what is above them all.
    """

    __slots__ = ("failures", "looked_up", "refused", "similarities", "similarity_sum")

    def __init__(self) -> None:
        self.looked_up = 0
        self.failures = 0
        self.refused: dict[str, int] = {}
        self.similarities = [0] * (len(SIMILARITIES) + 1)
        self.similarity_sum = 0.0


class SemanticTier:
    """The questions whose answers are in memory. `embedder` is local, or an endpoint that is waited for."""

    def __init__(
        self,
        config: SemanticConfig,
        embedder: "LocalEmbedder | EndpointEmbedder",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = Stats()
        self._embedder = embedder
        self._vectors = Vectors()
        self._clock = clock
        self._quiet_until_s = float("-inf")
        self.configure(config)

    def configure(self, config: SemanticConfig) -> None:
        """Go on with another threshold."""
        self._threshold = config.threshold
        self.is_shadow_only = config.shadow_only

    @property
    def entries(self) -> int:
        """How many questions may be found."""
        return len(self._vectors)

    def serves(self, key: Key, regions: tuple[str, ...]) -> bool:
        """Whether a question may be looked up by meaning; a caller's residency binds the embedder too."""
        embedder = self._embedder
        if regions and isinstance(embedder, EndpointEmbedder) and embedder.region not in regions:
            return False
        return not key.words_count and may_mean(key.words)

    def prepare(self, key: Key) -> "Question | asyncio.Task[Question | None] | None":
        """The question of a key, or what to wait for; None, or a task that brings None, where there is no
        vector for it."""
        found = features(key.words)
        embedder = self._embedder
        if isinstance(embedder, EndpointEmbedder):
            return spawn(self._ask(embedder, found), "embed a question")
        try:
            return Question(found, embedder.embed(found.asked))
        except EmbedderError as error:
            self._complain(error)
            return None

    async def _ask(self, embedder: EndpointEmbedder, found: Features) -> Question | None:
        try:
            return Question(found, await embedder.embed(found.asked))
        except EmbedderError as error:
            self._complain(error)
            return None

    def find(self, key: Key, question: Question, threshold: float, holds: Callable[[bytes], bool]) -> bytes:
        """The digest of the closest question that no guard tells from this one; empty if there is none.

        `threshold` is the caller's, `holds` says whether there is still an answer under a digest.
        """
        self.stats.looked_up += 1
        least = max(self._threshold, threshold)
        for _ in range(_MAX_GONE):
            found = self._vectors.find(key.partition, question.features, question.vector, least)
            if not found.digest or holds(found.digest):
                self._count(found)
                return found.digest
            self._vectors.drop(found.digest)
        return b""

    def add(self, key: Key, question: Question) -> None:
        """An answer to the question is in memory now."""
        try:
            self._vectors.add(key.partition, key.digest, question.features, question.vector)
        except ValueError as error:  # of another dimension
            self._complain(error)

    def learn(self, key: Key) -> None:
        """Let an answer that another sidecar fetched be found by meaning, where that takes no waiting."""
        if isinstance(self._embedder, EndpointEmbedder) or key.words_count or not may_mean(key.words):
            return
        question = self.prepare(key)
        if isinstance(question, Question):
            self.add(key, question)

    def drop(self, digest: bytes) -> None:
        """What is stored under a digest is not to be found by meaning any more."""
        self._vectors.drop(digest)

    async def close(self) -> None:
        """Close the embedder."""
        if isinstance(self._embedder, EndpointEmbedder):
            await self._embedder.close()

    def _count(self, found: Found) -> None:
        stats = self.stats
        if not found.digest and found.refused:
            stats.refused[found.refused] = stats.refused.get(found.refused, 0) + 1
        if found.nearest != -1.0:
            nearest = max(0.0, found.nearest)  # what points away from it is as far as can be
            stats.similarities[bisect_left(SIMILARITIES, nearest)] += 1
            stats.similarity_sum += nearest

    def _complain(self, error: Exception) -> None:
        self.stats.failures += 1
        now_s = self._clock()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _COMPLAIN_S
            _log.warning("cache: no hits by meaning for now: %s", error)
