"""Refusals that several parts of the sidecar give in the same words."""

import math
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import (
    MAX_RETRY_AFTER_S,
    ProxyError,
    blocked,
    key_refused,
    model_not_allowed,
    model_not_found,
    no_healthy_upstream,
    overloaded,
)
from sidecar.exchange import Reply


def error_of(reply: Reply) -> dict[str, str]:
    error: dict[str, str] = orjson.loads(reply.body)["error"]
    return error


@pytest.mark.parametrize(
    ("nearest", "hint"),
    [([], ""), (["m"], " Did you mean `m`?"), (["m", "org/n"], " Did you mean `m`, `org/n`?")],
)
def test_a_model_that_is_not_there_is_a_404_that_says_what_is(nearest: list[str], hint: str) -> None:
    reply = model_not_found("mm", nearest)
    assert (reply.status, reply.code, reply.flag) == (404, "model_not_found", "NR")
    message = f"The model `mm` is not configured here.{hint} GET /v1/models lists what is."
    assert error_of(reply) == {
        "message": message,
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_a_model_that_a_key_does_not_list_is_a_403_that_names_it() -> None:
    reply = model_not_allowed('a "quoted" name\\')
    assert (reply.status, reply.code, reply.flag) == (403, "model_not_allowed", "-")
    error = error_of(reply)
    assert (error["type"], error["param"]) == ("permission_error", "model")
    assert '`a "quoted" name\\`' in error["message"]


LONGEST = int(MAX_RETRY_AFTER_S)


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [
        (1.5, 2, 1500),
        (0.0, 0, 0),
        (-3.0, 0, 0),
        (5e-324, 1, 1),
        (1e300, LONGEST, LONGEST * 1000),
        (math.inf, LONGEST, LONGEST * 1000),
        (-math.inf, 0, 0),
        (math.nan, 1, 1000),
    ],
)
@pytest.mark.parametrize("kind", [blocked, overloaded])
@pytest.mark.parametrize("is_final", [True, False])
def test_any_wait_becomes_one_that_a_client_can_read(
    kind: Callable[[float], ProxyError], wait_s: float, seconds: int, milliseconds: int, is_final: bool
) -> None:
    reply = kind(wait_s).reply(is_final=is_final)
    assert reply.lines == [b"retry-after: %d" % seconds, b"retry-after-ms: %d" % milliseconds]
    message = error_of(reply)["message"]
    assert "inf" not in message and "nan" not in message


@given(st.floats())
def test_no_wait_makes_an_error_fail(wait_s: float) -> None:
    error = no_healthy_upstream()
    error.retry_after_s = wait_s
    name, _, value = error.reply(is_final=True).lines[0].partition(b": ")
    assert name == b"retry-after"
    assert 0 <= int(value) <= LONGEST


def test_a_refused_key_is_a_503_that_names_it_and_where_to_look() -> None:
    error = key_refused(["p", "q"])
    assert (error.status, error.code, error.flag) == (503, "no_healthy_upstream", "UH")
    for word in ("`p` (providers.p.api_key)", "`q`", "log", "/clusters"):
        assert word in error.message
