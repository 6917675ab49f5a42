"""The answer cache in a request's way: looked up before anything is sent, filled when an answer is whole.

    look    memory, the same question under way, the shared tier, by meaning; the first that has it
    replay  give a stored answer
    keep    store a fresh one; compare it with the stored one that it was asked to check

Only what the routed model gave, whole and clean, is kept: not a fallback's answer, not one that was gone on
with from elsewhere. What the cache had to do with a request stands in its `CacheNote`.
"""

import logging
import time
from asyncio import Future

from sidecar.accounts import Accounts
from sidecar.answer import STREAM
from sidecar.attempt import Attempt
from sidecar.cache.answers import AnswerCache, Hit, Miss
from sidecar.cache.checks.agreement import agree
from sidecar.cache.control import (
    SEMANTIC,
    Directives,
    bypass_line,
    directives_of,
    hit_lines,
    miss_line,
    not_cached,
)
from sidecar.cache.eligibility import Bypass
from sidecar.cache.flight import Flight, Name, Seat
from sidecar.cache.key import Key
from sidecar.cache.recording import Record, Unfit, record_of
from sidecar.cache.replay import Answer as StoredAnswer
from sidecar.cache.shared.sealing import Found
from sidecar.cache.store import Entry
from sidecar.caching.lookup import Lookup
from sidecar.caching.tiers import Tiers
from sidecar.errors import ClientGone, ProxyError
from sidecar.exchange import CacheNote, Exchange, Reply
from sidecar.openai import Call, usage_from
from sidecar.policy.callers import Caller
from sidecar.routing.plan import Candidate

_log = logging.getLogger("sidecar")


class Caching:
    """The cache of the process, for requests; `tiers` holds what there is of it."""

    def __init__(self, tiers: Tiers, accounts: Accounts) -> None:
        self.tiers = tiers
        self._accounts = accounts
        self._flights = tiers.flights

    # --- before a request is sent ---------------------------------------------------------------------

    async def look(
        self, x: Exchange, attempt: Attempt, caller: Caller, call: Call, candidate: Candidate
    ) -> Hit | Seat | Reply | None:
        """A stored answer, a seat where the same is being asked, or a refusal. None: it is to be sent, and
        its answer kept if `attempt.lookup` is set then. A fault of the cache never fails a request."""
        try:
            return await self._look(x, attempt, caller, call, candidate)
        except (ClientGone, ProxyError):
            raise
        except Exception as error:
            _log.error("cache: a request could not be looked up: %s: %s", type(error).__name__, error)
            return None

    async def _look(
        self, x: Exchange, attempt: Attempt, caller: Caller, call: Call, candidate: Candidate
    ) -> Hit | Seat | Reply | None:
        answers = self.tiers.answers
        if answers is None:
            return None
        directives = directives_of(x.fields)
        place = self.tiers.scopes.place_of(caller, x.route, candidate)
        found = answers.lookup(x, call, place, directives, time.monotonic())
        if isinstance(found, Bypass):
            x.cache = _bypassed(found.reason)
            return not_cached() if directives.only_if_cached else None
        lookup = Lookup(found.key, candidate, call, x.kind)
        name = self._name(x, caller, call, found.key, directives)
        if isinstance(found, Miss) and found.forwarded == "miss":
            if seat := self._join(name, x, found.key, directives):
                return seat
            found = await self._look_further(answers, x, call, found, lookup, directives)
        if isinstance(found, Hit):
            if not self._is_checked(x.route, found.tier, directives):
                return found
            lookup.checks = found
        if directives.only_if_cached:
            return not_cached()
        is_shareable = isinstance(found, Hit) or found.forwarded == "miss"
        if is_shareable and (seat := self._join(name, x, found.key, directives)):
            return seat
        lookup.forwarded = "request" if isinstance(found, Hit) else found.forwarded
        x.cache, attempt.lookup = _note_of(found, lookup.forwarded), lookup
        if is_shareable:
            self._flights.open(name, x)
        return None

    def _join(self, name: Name, x: Exchange, key: Key, directives: Directives) -> Seat | None:
        """A seat where the same is being asked, unless the caller will not have it asked."""
        if directives.only_if_cached:
            return None
        line = miss_line("miss", collapsed=True)
        return self._flights.join(name, x, CacheNote("collapsed", "", line, key.digest.hex()))

    async def _look_further(
        self,
        answers: AnswerCache,
        x: Exchange,
        call: Call,
        missed: Miss,
        lookup: Lookup,
        directives: Directives,
    ) -> Hit | Miss:
        """Where it takes time: in Redis, and by the question's meaning."""
        key, tiers = missed.key, self.tiers
        looking = tiers.shared.look(key) if tiers.shared is not None else None
        shared = None if looking is None else await looking
        if shared is not None and x.started_s > tiers.purged_s:
            now_s = time.monotonic()
            answers.store.put(key, _entry_of(key, shared, now_s))
            if tiers.semantic is not None and not answers.is_pinned(key.digest):
                tiers.semantic.learn(key)
            found = answers.recall(key, call, directives, now_s)
            if isinstance(found, Hit):
                return found
        semantic = tiers.semantic
        if semantic is None or directives.tier < SEMANTIC or not semantic.serves(key, x.regions):
            return missed
        question = semantic.prepare(key)
        lookup.question = await question if isinstance(question, Future) else question
        if lookup.question is None:
            return missed
        now_s = time.monotonic()
        digest = semantic.find(
            key, lookup.question, directives.threshold, lambda digest: answers.holds(digest, now_s)
        )
        # Where a false hit was reported of either question, only its own words are answered.
        if not digest or answers.is_pinned(key.digest):
            return missed
        return answers.of_same_meaning(key, digest, call, directives, now_s) or missed

    def _is_checked(self, route: str, tier: str, directives: Directives) -> bool:
        """Whether a hit is asked anew and not given."""
        semantic, shadow = self.tiers.semantic, self.tiers.shadow
        if semantic is not None and semantic.is_shadow_only and tier == "semantic":
            return True
        return not shadow.is_on(route, tier) if directives.only_if_cached else shadow.wants(route, tier)

    def _name(self, x: Exchange, caller: Caller, call: Call, key: Key, directives: Directives) -> Name:
        """Who asks what, and in what form the answer is to come. Only a caller's own requests share what is
        fetched: it depends on its limits, budgets and key, as a stored answer does not."""
        answers = self.tiers.answers
        # Where only the same words may be answered, only those who say them share an answer.
        same_words = (
            not directives.tier
            or not self.tiers.shadow.is_on(x.route, "canonical")
            or (answers is not None and answers.is_pinned(key.digest))
        )
        digest = key.digest + key.exact if same_words else key.digest
        return digest, caller.bucket, call.stream, call.asks_for_usage

    # --- a stored answer ------------------------------------------------------------------------------

    async def serve(
        self, x: Exchange, attempt: Attempt, call: Call, candidate: Candidate, found: Hit | Seat | Reply
    ) -> None:
        """Answer a request with what was found for it."""
        if attempt.account is not None and not isinstance(found, Reply):
            self._accounts.release_tokens(attempt.account, time.monotonic())
        if isinstance(found, Hit):
            self._replay(x, call, candidate, found)
        elif isinstance(found, Seat):
            await found.served()
        else:
            x.client.reply(x, found)

    def _replay(self, x: Exchange, call: Call, candidate: Candidate, hit: Hit) -> None:
        """Give a stored answer, in the form that was asked for."""
        answer = hit.answer(x.kind)
        x.status, x.model = 200, candidate.model
        lines = b"\r\n".join(hit_lines(hit.age_s, hit.ttl_s, hit.tier))
        note = x.cache = CacheNote("hit", hit.tier, lines, hit.digest.hex())
        if (usage := usage_from(answer.usage)) is not None:
            self._accounts.spare(x, note, usage)
        taken_s = x.overhead_s = time.monotonic() - x.whole_s
        note.saved_s = max(0.0, hit.took_s - taken_s)
        id_, created_s = answer.new_id(), int(time.time())
        if not call.stream:
            return x.client.respond(x, 200, _JSON, answer.as_json(id_, created_s))
        x.first_token_s = taken_s
        events = b"".join(answer.as_events(id_, created_s, include_usage=call.asks_for_usage))
        x.bytes_sent += len(events)
        x.client.begin(x, 200, _EVENTS, None)
        x.client.write(events)
        x.client.end(x)

    # --- a fresh answer -------------------------------------------------------------------------------

    def keep(self, x: Exchange, attempt: Attempt) -> None:
        """Store the answer of a request that was looked up, if it may be; called when it is at its end."""
        lookup, note, answers = attempt.lookup, x.cache, self.tiers.answers
        if lookup is None or lookup.is_done or note is None or answers is None:
            return
        lookup.is_done = True
        try:
            self._keep(x, attempt, lookup, note, answers)
        except Exception as error:
            _log.error("cache: an answer could not be kept: %s: %s", type(error).__name__, error)

    def _keep(
        self, x: Exchange, attempt: Attempt, lookup: Lookup, note: CacheNote, answers: AnswerCache
    ) -> None:
        # What was asked before a purge may be what was to be purged.
        is_late = x.started_s <= self.tiers.purged_s
        record = Unfit("purged") if is_late else _record_of(x, attempt, lookup)
        if isinstance(record, Unfit):
            note.detail = note.detail or record.reason
            return
        if lookup.checks is not None:
            fresh = StoredAnswer(x.kind, record.content)
            agreed = agree(lookup.checks.answer(x.kind).text, fresh.text)
            self.tiers.shadow.note(x.route, lookup.checks.tier, agreed)
        key, now_s = lookup.key, time.monotonic()
        took_s = now_s - x.started_s
        present = answers.store.peek(key.digest, now_s)
        if present is not None and present.stored_s - present.took_s > x.started_s:
            note.detail = note.detail or "older"  # another was asked for after this one
            return
        if not answers.offer(key, record, now_s, took_s):
            note.detail = note.detail or "size"
            return
        if not note.detail:
            note.detail = "stored"
            note.line = miss_line(lookup.forwarded, stored=True)
        if self.tiers.shared is not None:
            ttl_s = answers.time_to_live_s(key)
            self.tiers.shared.keep(key, record.content, record.has_usage, took_s, ttl_s)
        if self.tiers.semantic is not None and lookup.question and not answers.is_pinned(key.digest):
            self.tiers.semantic.add(key, lookup.question)

    def finish(self, x: Exchange, attempt: Attempt) -> None:
        """The request is over, whatever came of it: keep what is whole, and leave nobody waiting."""
        self.keep(x, attempt)
        if isinstance(x.client, Flight):
            x.client = x.client.close()


def _record_of(x: Exchange, attempt: Attempt, lookup: Lookup) -> Record | Unfit:
    """The record of a whole answer; Unfit says why there is none."""
    answer, target = attempt.answer, attempt.target
    if answer is None or target is None or answer.status != 200:
        return Unfit("failed")
    if not answer.is_whole or answer.error is not None:
        return Unfit("cut")
    if target.candidate is not lookup.candidate:
        return Unfit("fallback")
    if answer.mode is STREAM:
        if answer.recording is None:  # what goes on from another answer has none
            return Unfit("resumed")
        if answer.reader is None or answer.reader.failed:
            return Unfit("failed")
        return answer.recording.end()
    # One that was too large to be held was passed on.
    return Unfit("size") if answer.tail else record_of(x.kind, answer.body)


def _entry_of(key: Key, found: Found, now_s: float) -> Entry:
    """What came out of Redis, for memory: as old as it is, and kept no longer."""
    stored_s = now_s - found.age_s
    entry = Entry(key, found.record, found.has_usage, stored_s, stored_s + found.ttl_s, found.took_s)
    entry.exact = found.exact
    return entry


def _note_of(found: Hit | Miss, forwarded: str) -> CacheNote:
    """Of a request that is sent."""
    if isinstance(found, Hit):
        return CacheNote("shadow", found.tier, miss_line(forwarded), found.digest.hex())
    return CacheNote("miss", "", miss_line(forwarded), found.key.digest.hex())


def _bypassed(reason: str) -> CacheNote:
    """Nothing is ever written to these, so each is made once."""
    note = _BYPASSED.get(reason)
    if note is None:
        note = _BYPASSED[reason] = CacheNote("bypass", reason, bypass_line(reason))
    return note


_BYPASSED: dict[str, CacheNote] = {}  # by the few reasons that eligibility.py has
_JSON = (b"content-type: application/json",)
_EVENTS = (b"content-type: text/event-stream; charset=utf-8", b"cache-control: no-cache")
