"""Every way a request can fail, as values: who failed, what the caller is told, what the log says.

`ProxyError` is for broken I/O between the sidecar and a provider. Expected refusals (bad body, unknown model)
are `Reply` values made by `refuse`. Both become an answer in OpenAI's error shape, so that an SDK raises the
exception its user already handles. Response flags are Envoy's (its access-log documentation) and four of
ours: FT no first token in time, SD stream died midway, SE error event or garbage inside a stream, DR drained.
"""

import enum

import orjson

from sidecar.exchange import Reply


class Source(enum.Enum):
    """Whose fault it was."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    INTERNAL = "internal"


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
        self.source = Source.UPSTREAM
        self.flag = flag
        self.status = status
        self.code = code
        self.message = message
        self.retry = retry


class Unreachable(ProxyError):
    """No connection could be made: nothing was sent, so another endpoint may be tried at no cost."""

    def __init__(self, message: str, flag: str = "UF") -> None:
        super().__init__(flag, 503, "upstream_unreachable", message)


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


def bad_request(message: str, *, param: str | None = None, close: bool = False) -> Reply:
    """400 for something wrong with the request itself."""
    return refuse(400, "bad_request", message, param=param, flag="DPE" if close else "-", close=close)
