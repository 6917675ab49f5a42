"""Every way a request can fail, as values: who failed, what the caller is told, what the log says.

`ProxyError` is for broken I/O between the sidecar and a provider. Expected refusals (bad body, unknown model)
are `Reply` values made by `refuse`. Both become an answer in OpenAI's error shape, so that an SDK raises the
exception its user already handles. Response flags are Envoy's (its access-log documentation) and four of
ours: FT no first token in time, SD stream died midway, SE error event or garbage inside a stream, DR drained.
"""

import enum
import math
from collections.abc import Sequence

import orjson

from sidecar.exchange import Reply


class Retry(enum.Enum):
    """Whether the same request may be sent again."""

    NO = "no"
    YES = "yes"
    REUSED_ONLY = "reused_only"  # safe if the connection was kept alive: the provider closed it while idle


class ClientGone(Exception):
    """The caller closed its connection; raised inside the request's flow. Nobody's failure but its own."""


class ProxyError(Exception):
    """A provider could not be reached, kept silent or broke the protocol.

    `flag` is the response flag of the access log, `status` and `code` what the caller gets, `message` says
    what happened and what to do.
    """

    def __init__(self, flag: str, status: int, code: str, message: str, retry: Retry = Retry.YES) -> None:
        super().__init__(message)
        self.flag = flag
        self.status = status
        self.code = code
        self.message = message
        self.retry = retry
        self.retry_after_s: float | None = None

    def reply(self, *, is_final: bool) -> Reply:
        """What the caller gets. `is_final`: we have tried what there is, so its SDK need not try again."""
        reply = refuse(self.status, self.code, self.message, flag=self.flag)
        wait_s = self.retry_after_s
        if wait_s is None and is_final:
            reply.lines.append(NO_RETRY_LINE)
            wait_s = DEFAULT_RETRY_AFTER_S
        if wait_s is not None:
            wait_s = _told_s(wait_s)
            reply.lines.append(b"retry-after: %d" % math.ceil(wait_s))
            reply.lines.append(b"retry-after-ms: %d" % math.ceil(wait_s * 1e3))
        return reply


def _told_s(wait_s: float) -> float:
    """A wait as a caller may be told it, whatever it was worked out to be: none is endless, or over."""
    return min(max(0.0, wait_s), MAX_RETRY_AFTER_S) if wait_s == wait_s else DEFAULT_RETRY_AFTER_S


class NotSent(ProxyError):
    """Nothing of the request went out, so it may go anywhere, whatever it asks for."""


class Unreachable(NotSent):
    """No connection could be made."""

    def __init__(self, message: str, flag: str = "UF", code: str = "upstream_unreachable") -> None:
        super().__init__(flag, 503, code, message)


class Exhausted(Unreachable):
    """The sidecar itself has nothing left to open a connection with. `lack` says what, as errno names it."""

    def __init__(self, lack: str) -> None:
        message = f"The sidecar cannot open another connection ({lack}; see its log); try again in a moment."
        super().__init__(message, "OM", "overloaded")
        self.retry_after_s = DEFAULT_RETRY_AFTER_S


def overloaded(retry_after_s: float) -> NotSent:
    """The provider's slots are taken and its queue is full, or too long for the time there is."""
    message = "Too many requests are under way to this provider; try again in a moment."
    error = NotSent("UO", 503, "overloaded", message)
    error.retry_after_s = retry_after_s
    return error


def blocked(retry_after_s: float) -> ProxyError:
    """Every target has told us with a 429 to wait; `retry_after_s` is the shortest of these."""
    message = f"All providers of this model limit the rate; try again in {_told_s(retry_after_s):.1f} s."
    error = ProxyError("PK", 429, "rate_limit_exceeded", message, Retry.NO)
    error.retry_after_s = retry_after_s
    return error


def no_healthy_upstream(
    message: str = "No endpoint of this model is healthy; the admin page shows why. Try again in a moment.",
) -> ProxyError:
    """Every target is out."""
    return ProxyError("UH", 503, "no_healthy_upstream", message, Retry.NO)


def key_refused(providers: Sequence[str]) -> ProxyError:
    """Every target is out, some because these providers refuse the sidecar's own key."""
    names = ", ".join(f"`{name}` (providers.{name}.api_key)" for name in providers)
    return no_healthy_upstream(
        f"No endpoint of this model is left, as the api_key is refused by {names}: replace it, or have it "
        "accepted again. The sidecar's log and its admin interface (/clusters) say where and why."
    )


def garbage() -> ProxyError:
    """A stream that is none any more."""
    return ProxyError("SE", 502, "upstream_garbage", "The provider's stream turned to garbage; ask again.")


def mismatch() -> ProxyError:
    """A second stream that does not repeat what the caller has."""
    message = "The provider's stream broke off and could not be continued from another one; ask again."
    return ProxyError("SD", 502, MISMATCH, message)


def cut_short() -> ProxyError:
    """A stream that ended in order, but before its answer did."""
    return ProxyError("SD", 502, "upstream_cut", "The provider ended the stream before its end; ask again.")


def empty(what: str) -> ProxyError:
    """A success without an answer in it."""
    return ProxyError("UPE", 502, "upstream_empty", f"The provider sent {what}. Try again in a moment.")


# The code of a second stream that does not repeat what the caller has.
MISMATCH = "resume_mismatch"
DEFAULT_RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 3600.0
# What the SDKs look for before they try again by themselves.
NO_RETRY_LINE = b"x-should-retry: false"

# OpenAI's `type` for each status (the API's error-code guide); the SDKs choose their exception by status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    417: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}


def error_object(status: int, code: str, message: str, param: str | None = None) -> bytes:
    """The JSON body of an error in OpenAI's shape."""
    kind = _TYPES.get(status, "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def refuse(
    status: int, code: str, message: str, *, param: str | None = None, flag: str = "-", close: bool = False
) -> Reply:
    """An answer of the sidecar's own that says no. `close` ends the connection after it."""
    return Reply(status, error_object(status, code, message, param), flag, code, close)


def model_not_found(model: str, nearest: Sequence[str] = ()) -> Reply:
    """404 for a name that is neither a model nor a route; `nearest` are names that may have been meant."""
    hint = f" Did you mean {', '.join(f'`{name}`' for name in nearest)}?" if nearest else ""
    message = f"The model `{model}` is not configured here.{hint} GET /v1/models lists what is."
    return refuse(404, "model_not_found", message, param="model", flag="NR")


def model_not_allowed(model: str) -> Reply:
    """403 for a model that the caller's key does not list."""
    message = f"The model `{model}` is not among those that this API key may use."
    return refuse(403, "model_not_allowed", message, param="model")


def bad_request(message: str, *, param: str | None = None, close: bool = False) -> Reply:
    """400 for something wrong with the request itself."""
    return refuse(400, "bad_request", message, param=param, flag="DPE" if close else "-", close=close)
