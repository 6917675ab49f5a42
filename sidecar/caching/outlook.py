"""What the cache would do with a request, for whoever asks; by a look that changes nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.cache.answers import Miss
from sidecar.cache.control import directives_of
from sidecar.cache.eligibility import Bypass
from sidecar.cache.outlook import look
from sidecar.cache.wording import wording_counts
from sidecar.caching.tiers import Tiers
from sidecar.exchange import Exchange
from sidecar.openai import Call
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.routing.plan import Candidate


class Outlook(NamedTuple):
    """What the cache would do with a request. `kind` is off, bypass or eligible, `would` hit, shadow (a hit
    that is asked anew), each with its tier, or miss; `reason` is why it is so, where there is one."""

    kind: str
    reason: str | None = None
    would: str | None = None
    notes: Sequence[str] = ()

    @property
    def is_hit(self) -> bool:
        """Whether the request would be answered with what is stored."""
        return self.would is not None and self.would.startswith("hit")


def outlook(
    tiers: Tiers, x: Exchange, call: Call, caller: Caller, candidate: Candidate, now_s: float
) -> Outlook:
    """What would be done with a request now; of the stored answers only those in memory are looked at."""
    answers, has_own_key = tiers.answers, candidate.provider.has_own_key
    if answers is None:
        return Outlook("off")
    place = tiers.scopes.place_of(caller, x.route, candidate)
    found = look(answers, x, call, place, directives_of(x.fields), now_s)
    if isinstance(found, Bypass):
        return Outlook("bypass", found.reason)
    notes = []
    if caller.bucket == SHARED_BUCKET and not has_own_key:
        notes.append("answers are shared by key, and a caller with one of its own finds others")
    if x.kind == "chat" and (reason := wording_counts(call.document)):
        notes.append(f"compared word by word, as this may be about words: {reason}")
    if isinstance(found, Miss):
        if tiers.shared is not None or tiers.semantic is not None:
            notes.append("the cache was looked at in memory: not in Redis, and not by meaning")
        return Outlook("eligible", None, "miss", notes)
    if not tiers.shadow.is_on(x.route, found.tier):
        reason = f"{found.tier} hits are off: too many answers differed"
        return Outlook("eligible", reason, f"shadow {found.tier}", notes)
    if tiers.shadow.share:
        notes.append(f"of the hits {tiers.shadow.share:.2%} are asked anew, to compare")
    return Outlook("eligible", None, f"hit {found.tier}", notes)
