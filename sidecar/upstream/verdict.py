"""What came of an attempt, and what follows from it: the table of failures as one pure function.

    came of it                                same again   others   against
    a connection refused or reset             yes          yes      endpoint
    a kept-alive connection found closed      yes, free    yes      nothing
    5xx, an HTML or empty 200, a broken one   yes          yes      endpoint
    429                                       after wait   yes      nothing; parks (credential, model)
    silence                                   no           yes      endpoint
    400, context too long                     no           no       nothing; the route's long_context
    400, content filter; any other 4xx; a 403
    of the model or a filter                  no           no       nothing; the caller sees it
    401, 403 for a key of ours                no           yes      nothing; parks the credential
    no place in the provider's queue          no           yes, of other providers; nothing
    nothing left to dial with, here           no           yes      nothing

Only statuses, error codes and messages are read here. Whether another endpoint is left, whether waiting is
worth it and whether the budget allows it is for those who know.
"""

import re
from typing import Any, Literal

import orjson

from sidecar.errors import Exhausted, ProxyError, Retry
from sidecar.upstream.parking import Values, exhausted_for_s, retry_after_s

Kind = Literal[
    "good",
    "retry",
    "limited",
    "credential",
    "context",
    "caller",
    "timeout",
    "stale",
    "reset",
    "full",
    "exhausted",
]

MAX_ERROR_BYTES = 64 * 1024


class Verdict:
    """What follows from an attempt. Shared by all attempts with the same fate, so read only.

    `counts_against_endpoint`: a failure for the breaker. `counts_for_endpoint`: a success, though perhaps
    not for the caller. With neither the attempt says nothing of the endpoint's health. `others`: other
    targets may be tried. `wait_s` is how long a 429 asks to be left alone; None: it does not say.
    """

    __slots__ = (
        "counts_against_endpoint",
        "counts_for_endpoint",
        "kind",
        "others",
        "same_endpoint_again",
        "wait_s",
    )

    def __init__(
        self,
        kind: Kind,
        *,
        against: bool = False,
        for_: bool = False,
        same: bool = False,
        others: bool = False,
        wait_s: float | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.counts_against_endpoint = against
        self.counts_for_endpoint = for_
        self.same_endpoint_again = same
        self.others = others
        self.wait_s = wait_s


GOOD = Verdict("good", for_=True)
SERVER_FAILED = Verdict("retry", against=True, same=True, others=True)
REFUSED = Verdict("reset", against=True, same=True, others=True)
STALE = Verdict("stale", same=True, others=True)
SILENT = Verdict("timeout", against=True, others=True)
LIMITED = Verdict("limited", same=True, others=True)
BAD_CREDENTIAL = Verdict("credential", others=True)
TOO_LONG = Verdict("context", for_=True)
CALLERS = Verdict("caller", for_=True)
FULL = Verdict("full", others=True)
EXHAUSTED = Verdict("exhausted", others=True)
OURS = Verdict("caller")  # the sidecar's own doing: nothing is tried again, nobody is to blame

_NO_RETRY, _REUSED_ONLY = Retry.NO, Retry.REUSED_ONLY

# By the code of what broke the attempt; any other is an answer that began and was no good.
_FATES = {
    "upstream_unreachable": REFUSED,
    "upstream_reset": REFUSED,
    "upstream_timeout": SILENT,
    "connect_timeout": SILENT,
    "overloaded": FULL,
    "draining": OURS,
}


def judge(
    status: int,
    head: Values | None,
    body: bytes,
    *,
    error: ProxyError | None,
    is_own_key: bool,
    wall_s: float,
) -> Verdict:
    """Judge an attempt before its first content went to the caller.

    `status` is 0 and `head` None where no head came; `body` is that of an error answer, as much as was kept;
    `error` is what broke the attempt, if it broke. `is_own_key`: the key is of the configuration, not the
    caller's. `wall_s` is the time of day in Unix seconds.
    """
    if error is None and status < 400:
        return GOOD
    # What the head says of key and limit holds even if the body never came whole.
    if status == 429:
        return _limited(head, wall_s)
    if is_own_key and status in (401, 403) and not (status == 403 and _is_of_request(_read(body))):
        return BAD_CREDENTIAL
    if error is not None:
        return _judge_error(error)
    if status >= 500:
        # Beyond the usual 500, 502, 503, 504 and 529 (overloaded) there are a CDN's own, 520 to 530.
        return SERVER_FAILED
    if status == 400 and _is_too_long(_read(body)):
        return TOO_LONG
    return CALLERS


def _limited(head: Values | None, wall_s: float) -> Verdict:
    if head is None:
        return LIMITED
    wait_s = retry_after_s(head, wall_s)
    if wait_s is None:
        wait_s = exhausted_for_s(head, wall_s)
    return LIMITED if wait_s is None else Verdict("limited", same=True, others=True, wait_s=wait_s)


def _judge_error(error: ProxyError) -> Verdict:
    if error.retry is _REUSED_ONLY:
        return STALE
    if error.retry is _NO_RETRY:
        return OURS
    if isinstance(error, Exhausted):
        return EXHAUSTED
    return _FATES.get(error.code, SERVER_FAILED)


# --- error bodies ------------------------------------------------------------------------------------------

# By `code` or `type`: OpenAI's, llama.cpp's server. Anthropic, Bedrock, vLLM and others say it in words only.
_TOO_LONG_CODES = frozenset(
    ("context_length_exceeded", "context_window_exceeded", "exceed_context_size_error")
)
_TOO_LONG_WORDS = re.compile(
    "maximum context length|context length exceeded|context_length_exceeded|context window of this model"
    "|available context size|(?:prompt|input) is too long",
    re.IGNORECASE,
)
# OpenAI's, of a project that may not use a model: the key is good for others.
_MODEL_CODES = frozenset(("model_not_found",))
# OpenAI's and Azure's, and DashScope's; a provider may say them with 403.
_FILTER_CODES = frozenset(("content_filter", "content_policy_violation", "data_inspection_failed"))


def _read(body: bytes) -> dict[str, Any]:
    """The error object of a body: under `error`, or the body itself (vLLM). Empty where there is none."""
    if len(body) > MAX_ERROR_BYTES:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if type(document) is not dict:
        return {}
    inner = document.get("error", document)
    if type(inner) is dict:
        return inner
    return {"message": inner}


def _is_of_request(error: dict[str, Any]) -> bool:
    """Whether a 403 is about what was asked, not about the key."""
    return _is_filtered(error) or _names_one(error, _MODEL_CODES)


def _is_filtered(error: dict[str, Any]) -> bool:
    return _names_one(error, _FILTER_CODES)


def _is_too_long(error: dict[str, Any]) -> bool:
    if _names_one(error, _TOO_LONG_CODES):
        return True
    message = error.get("message")
    # A filter's message may quote the prompt, and so anything.
    return type(message) is str and not _is_filtered(error) and _TOO_LONG_WORDS.search(message) is not None


def _names_one(error: dict[str, Any], names: frozenset[str]) -> bool:
    code, kind = error.get("code"), error.get("type")
    return (type(code) is str and code in names) or (type(kind) is str and kind in names)
