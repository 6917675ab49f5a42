"""Under what an answer is kept: the digest of everything that decides it.

    partition = who may share it, route, routed model, path and query, header fields that are not known to be
                harmless, the body less the user's last words
    key       = partition, and these words: in their canonical form where they have one, else as they are

A digest is BLAKE2b-128; nobody finds two requests with the same one. The body counts by its parse, with
sorted members, so that blanks and order do not matter. But a member that stands there twice is one in our
parse and may be the other in the provider's: with it, who shares a scope could store the answer to one
question under another. A body in which that may be so is not eligible, nor one with an integer that our parse
does not keep.
"""

import re
from hashlib import blake2b
from typing import Any

import orjson

from sidecar.cache.canonical import VERSION, canonical
from sidecar.cache.eligibility import Bypass, Turn, last_turn
from sidecar.cache.wording import wording_counts
from sidecar.exchange import RequestHead
from sidecar.headers import CREDENTIALS
from sidecar.openai import Call

_DIGEST_BYTES = 16
_EXACT_BYTES = 8


class Place:
    """Where an answer belongs: `scope` of `scope_of`; `model` with its provider, as it was routed.

    `has_own_key`: the provider is asked with a key of the configuration. Without one it gets the caller's
    credentials, whatever they are, and only it knows whether they are good: who presents others, to the last
    byte, shares nothing.
    """

    __slots__ = ("has_own_key", "model", "route", "scope")

    def __init__(self, scope: bytes, route: str, model: str, *, has_own_key: bool = True) -> None:
        self.scope = scope
        self.route = route
        self.model = model
        self.has_own_key = has_own_key


class Key:
    """Where to look, and what else may be of use to do so.

    `exact` tells the very same words from others of the same form. `partition` and `words`, the user's last,
    are for a search by meaning: only within the partition, and not where each word counts.
    """

    __slots__ = ("digest", "exact", "partition", "route", "scope", "words", "words_count")

    def __init__(
        self,
        place: Place,
        partition: bytes,
        digest: bytes,
        exact: bytes,
        words: str,
        words_count: bool = False,
    ) -> None:
        self.words_count = words_count
        self.scope = place.scope
        self.route = place.route
        self.partition = partition
        self.digest = digest
        self.exact = exact
        self.words = words


def scope_of(shared_by: str, credential: str, team: str, regions: tuple[str, ...]) -> bytes:
    """Who shares answers: `shared_by` is key, team or all.

    The team is part of a key's: callers without a key of their own are `shared` in each sidecar, and sidecars
    of several teams may have one Redis. A residency filter is part of all: an answer of another region must
    not reach a caller that has one.
    """
    whom = {"key": [team, credential], "team": team, "all": ""}[shared_by]
    name = orjson.dumps([shared_by, whom, sorted(regions)])
    return blake2b(name, digest_size=_DIGEST_BYTES).digest()


def key_of(
    kind: str,
    target: bytes,
    call: Call,
    body: bytes,
    place: Place,
    *,
    is_canonical: bool,
    any_temperature: bool = False,
) -> Key | Bypass:
    """The key of a request, or why it has none.

    `body` is what `call` was read from, `target` its path and query. `is_canonical`: a chat's last words
    count by their canonical form, unless the request is about words (wording.py). A completion's prompt does
    not: it is a text to go on with, to the last blank.
    """
    turn = last_turn(kind, call, len(body), any_temperature=any_temperature)
    if isinstance(turn, Bypass):
        return turn
    if not _says_each_once(body, call.document):
        return _AMBIGUOUS
    words_count = not is_canonical or kind != "chat" or wording_counts(call.document) != ""
    return _digest(place, target, turn, words_count=words_count)


_AMBIGUOUS = Bypass("ambiguous")


def variant_of(head: RequestHead, *, has_own_key: bool = True) -> bytes:
    """What the header fields say that may change an answer, such as an account; empty for most callers.
    Without `has_own_key` (of a Place) the credentials are part of it."""
    if head.variant is None:
        lines = [line for line in head.forward if not _is_harmless(line.partition(b":")[0].strip().lower())]
        said = b"\n".join(sorted(lines))
        head.variant = blake2b(said, digest_size=_EXACT_BYTES).digest() if said else b""
    if has_own_key:
        return head.variant
    presented = orjson.dumps([head.fields.get(name, b"").decode("latin-1") for name in CREDENTIALS])
    return head.variant + blake2b(presented, digest_size=_DIGEST_BYTES).digest()


def _is_harmless(name: bytes) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_BEGINNINGS)


# Who asks (the scope knows), with what software, how the bytes travel, to which trace the request belongs.
_HARMLESS = frozenset(
    b"""accept accept-charset accept-encoding accept-language api-key authorization b3 baggage cache-control
    connection content-length content-type date dnt expect forwarded host idempotency-key keep-alive origin
    pragma priority referer sentry-trace te traceparent tracestate user-agent via x-api-key
    x-amzn-trace-id x-client-request-id x-cloud-trace-context x-correlation-id x-real-ip
    x-request-id""".split()
)
_HARMLESS_BEGINNINGS = (
    *(b"sec-", b"x-b3-", b"x-datadog-", b"x-envoy-", b"x-forwarded-", b"x-sidecar-", b"x-stainless-"),
)


def _digest(place: Place, target: bytes, turn: Turn, *, words_count: bool) -> Key | Bypass:
    form = None if words_count else canonical(turn.text)
    try:
        decisive = orjson.dumps([place.route, place.model, turn.rest], option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return _AMBIGUOUS  # nested too deeply to be written
    # Fixed length, told length, JSON: no two requests write the same bytes.
    head = b"%b%b %d %b" % (STAMP, place.scope, len(target), target)
    partition = blake2b(head + decisive, digest_size=_DIGEST_BYTES).digest()
    words = turn.text.encode()
    exact = blake2b(words, digest_size=_EXACT_BYTES).digest()
    wanted = b"=" + words if form is None else b"~" + form.encode()
    digest = blake2b(partition + wanted, digest_size=_DIGEST_BYTES).digest()
    return Key(place, partition, digest, exact, turn.text, words_count)


# Changes with the form of a record (recording.py) and with the rules of canonical.py: nothing that was stored
# before is found then.
STAMP = b"answer 1 form " + VERSION

# It may be an integer of more than 64 bits, which is parsed as one of its neighbours.
_LONG_NUMBER = re.compile(rb"\d{19}")
_COLON = re.compile(rb'"\s*:')
_ESCAPED_COLON = re.compile(rb"\\u00(?:3[aA]|20)")


def _says_each_once(body: bytes, document: dict[str, Any]) -> bool:
    """Whether no member stands in the body twice, at whatever depth, and every number is what it says.

    Written again it is mostly the very bytes that came. Otherwise the ends of names are counted, in the body
    and in its parse written again: what the parser dropped is missing there. A text that begins with a colon
    counts in both, unless it is spelled with an escape.
    """
    try:
        again = orjson.dumps(document)
    except orjson.JSONEncodeError:
        return False  # nested too deeply to be written
    if again == body:
        return True
    if _LONG_NUMBER.search(body) is not None:
        return False
    masked = _mask(body)
    if b"\\u00" in masked and _ESCAPED_COLON.search(masked) is not None:
        return False
    return len(_COLON.findall(masked)) == len(_COLON.findall(_mask(again)))


def _mask(body: bytes) -> bytes:
    """Without escaped quotes: every `"` that is left begins or ends a string."""
    if b"\\" not in body:
        return body
    return body.replace(rb"\\", b"__").replace(rb"\"", b"__")
