"""The table of failures, row by row."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Exhausted, ProxyError, Retry, Unreachable, overloaded
from sidecar.upstream.verdict import MAX_ERROR_BYTES, Verdict, judge

WALL_S = 1_700_000_000.0


class Head:
    """Header values by name."""

    def __init__(self, fields: dict[str, str] | None = None) -> None:
        self._fields = {name.encode(): value.encode() for name, value in (fields or {}).items()}

    def value(self, name: bytes) -> bytes:
        return self._fields.get(name, b"")


def answered(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, is_own_key: bool = True
) -> Verdict:
    return judge(status, Head(headers), body, error=None, is_own_key=is_own_key, wall_s=WALL_S)


def broke(error: ProxyError, status: int = 0, headers: dict[str, str] | None = None) -> Verdict:
    head = Head(headers) if status else None
    return judge(status, head, b"", error=error, is_own_key=True, wall_s=WALL_S)


def error_body(message: str = "no", **fields: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, **fields}})


def facts(verdict: Verdict) -> tuple[str, bool, bool, bool, bool]:
    """Kind; the same endpoint again; others; against the endpoint; for it."""
    return (
        verdict.kind,
        verdict.same_endpoint_again,
        verdict.others,
        verdict.counts_against_endpoint,
        verdict.counts_for_endpoint,
    )


GOOD = ("good", False, False, False, True)
RESET = ("reset", True, True, True, False)
STALE = ("stale", True, True, False, False)
FAILED = ("retry", True, True, True, False)
LIMITED = ("limited", True, True, False, False)
SILENT = ("timeout", False, True, True, False)
CONTEXT = ("context", False, False, False, True)
CALLER = ("caller", False, False, False, True)
CREDENTIAL = ("credential", False, True, False, False)
NOTHING = ("caller", False, False, False, False)
FULL = ("full", False, True, False, False)
EXHAUSTED = ("exhausted", False, True, False, False)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 304])
def test_an_answer_is_good(status: int) -> None:
    assert facts(answered(status)) == GOOD


# --- refused, reset before any byte --------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("The provider refused the connection."),
        Unreachable("The provider's name does not resolve.", flag="DF"),
        ProxyError("UC", 503, "upstream_reset", "closed before it answered"),
    ],
    ids=["refused", "no-name", "reset"],
)
def test_a_refused_or_reset_connection_moves_on_and_counts(error: ProxyError) -> None:
    assert facts(broke(error)) == RESET


def test_a_stale_connection_costs_nobody_anything() -> None:
    error = ProxyError("UC", 503, "upstream_reset", "closed before it answered", Retry.REUSED_ONLY)
    assert facts(broke(error)) == STALE


def test_what_was_not_sent_for_want_of_a_place_here_goes_elsewhere_and_counts_against_nobody() -> None:
    assert facts(broke(overloaded(2.0))) == FULL
    assert facts(broke(Exhausted("EMFILE"))) == EXHAUSTED


# --- 500 502 503 504 529, an HTML or empty 200 ---------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 520, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", error_body("maximum context length")])
def test_a_failing_server_moves_on_and_counts(status: int, body: bytes) -> None:
    assert facts(answered(status, body)) == FAILED


@pytest.mark.parametrize(
    "error",
    [
        ProxyError("UPE", 502, "upstream_empty", "an HTML page instead of an answer"),
        ProxyError("UPE", 502, "upstream_empty", "an empty answer"),
        ProxyError("UPE", 502, "upstream_protocol_error", "broke HTTP"),
        ProxyError("UC", 502, "upstream_cut", "closed in the middle"),
        ProxyError("SD", 502, "upstream_cut", "ended the stream before its end"),
        ProxyError("SE", 502, "upstream_garbage", "garbage"),
    ],
    ids=lambda error: str(error.message).replace(" ", "-"),
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_broken_answer_is_a_failing_server(error: ProxyError, status: int) -> None:
    assert facts(broke(error, status)) == FAILED


# --- 429 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "garbage"}, None),
        ({"retry-after": "86400"}, 120.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 20.0),
        ({"x-ratelimit-remaining-tokens": "0"}, 1.0),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "20s"}, None),
        (
            {
                "retry-after": "2",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            2.0,
        ),
    ],
)
@pytest.mark.parametrize("is_own_key", [True, False])
def test_a_limit_parks_and_moves_on(headers: dict[str, str], wait_s: float | None, is_own_key: bool) -> None:
    verdict = answered(429, error_body(), headers, is_own_key=is_own_key)
    assert facts(verdict) == LIMITED
    assert verdict.wait_s == wait_s


def test_a_limit_holds_even_if_its_body_was_cut() -> None:
    verdict = broke(ProxyError("UC", 502, "upstream_cut", "cut"), 429, {"retry-after": "3"})
    assert facts(verdict) == LIMITED
    assert verdict.wait_s == 3.0


def test_a_limit_without_a_head_says_nothing_of_time() -> None:
    verdict = judge(429, None, b"", error=None, is_own_key=True, wall_s=WALL_S)
    assert (facts(verdict), verdict.wait_s) == (LIMITED, None)


# --- no head, no first token, no answer in time --------------------------------------------------------


@pytest.mark.parametrize("status", [0, 200])
@pytest.mark.parametrize("code", ["upstream_timeout", "connect_timeout"])
def test_silence_moves_on_and_is_not_waited_for_twice(code: str, status: int) -> None:
    assert facts(broke(ProxyError("UT", 504, code, "silent"), status)) == SILENT


# --- 400 context_length_exceeded -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        error_body("no", code="context_length_exceeded"),
        error_body("no", type="context_length_exceeded", code=None),
        error_body("no", type="exceed_context_size_error", code=400),
        error_body("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."),
        error_body("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error"),
        error_body("Input is too long for requested model."),
        error_body("Your input exceeds the context window of this model. Please adjust your input."),
        orjson.dumps({"object": "error", "message": "maximum context length is 4096 tokens", "code": 400}),
        orjson.dumps({"type": "error", "error": {"message": "prompt is too long: 2 tokens > 1 maximum"}}),
        orjson.dumps({"error": "This model's maximum context length is 4096 tokens"}),
    ],
)
@pytest.mark.parametrize("is_own_key", [True, False])
def test_a_prompt_too_long_is_for_the_long_context_model(body: bytes, is_own_key: bool) -> None:
    assert facts(answered(400, body, is_own_key=is_own_key)) == CONTEXT


# --- 400 content filter, other 4xx ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        error_body("The response was filtered", code="content_filter"),
        error_body("rejected by our safety system", type="content_policy_violation"),
        error_body("filtered: 'what is the maximum context length?'", code="content_filter"),
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_a_content_filter_never_moves_on(body: bytes, status: int) -> None:
    assert facts(answered(status, body)) == CALLER


@pytest.mark.parametrize("status", [400, 402, 404, 405, 408, 409, 413, 415, 422, 451])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"error": null}',
        b'{"error": {"message": 5, "code": []}}',
        error_body("bad"),
    ],
)
def test_the_caller_sees_its_own_mistakes(status: int, body: bytes) -> None:
    assert facts(answered(status, body)) == CALLER


def test_a_message_over_the_limit_is_not_read() -> None:
    padding = "x" * MAX_ERROR_BYTES
    assert facts(answered(400, error_body(padding, code="context_length_exceeded"))) == CALLER


@pytest.mark.parametrize("status", [404, 413, 422])
def test_too_long_is_read_from_400_only(status: int) -> None:
    assert facts(answered(status, error_body(code="context_length_exceeded"))) == CALLER


# --- 401 403 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_of_ours_moves_on(status: int) -> None:
    assert facts(answered(status, error_body(code="invalid_api_key"))) == CREDENTIAL
    assert facts(broke(ProxyError("UC", 502, "upstream_cut", "cut"), status)) == CREDENTIAL


def test_a_key_that_may_not_use_one_model_is_good_for_others() -> None:
    assert facts(answered(403, error_body(code="model_not_found"))) == CALLER
    assert facts(answered(401, error_body(code="model_not_found"))) == CREDENTIAL


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_of_the_callers_is_its_own_affair(status: int) -> None:
    assert facts(answered(status, error_body(), is_own_key=False)) == CALLER


# --- what is nobody's failure --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ProxyError("DR", 503, "draining", "shutting down"),
        ProxyError("UPE", 502, "upstream_empty", "not to be sent twice", Retry.NO),
    ],
)
def test_what_must_not_be_sent_again_is_not(error: ProxyError) -> None:
    assert facts(broke(error, 200)) == NOTHING


@given(status=st.integers(200, 599), body=st.binary(max_size=200), is_own_key=st.booleans())
def test_every_answer_has_a_verdict(status: int, body: bytes, is_own_key: bool) -> None:
    verdict = answered(status, body, is_own_key=is_own_key)
    assert not (verdict.counts_for_endpoint and verdict.counts_against_endpoint)
    assert not (verdict.counts_for_endpoint and verdict.others)
    assert verdict.counts_against_endpoint == (status >= 500)
