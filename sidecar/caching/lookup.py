"""A request that the cache had no answer for: what is remembered of it until its own answer is whole."""

from sidecar.cache.answers import Hit
from sidecar.cache.key import Key
from sidecar.cache.meaning.tier import Question
from sidecar.cache.recording import Recording
from sidecar.openai import Call
from sidecar.routing.plan import Candidate


class Lookup:
    """What became of a request that is sent: where its answer may be kept, what it is to be compared with."""

    __slots__ = ("_kind", "_streams", "candidate", "checks", "forwarded", "is_done", "key", "question")

    def __init__(self, key: Key, candidate: Candidate, call: Call, kind: str) -> None:
        self.key = key
        self.candidate = candidate  # the routed model; no other's answer is kept
        self._streams = call.stream
        self._kind = kind
        self.checks: Hit | None = None  # a stored answer that this request finds out about
        self.forwarded = "miss"  # why it is sent, in RFC 9211's words
        self.question: Question | None = None  # for the search by meaning
        self.is_done = False

    def recording(self) -> Recording | None:
        """Takes down the stream of one try."""
        return Recording(self._kind) if self._streams else None
