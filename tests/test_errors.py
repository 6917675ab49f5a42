"""Refusals that several parts of the sidecar give in the same words."""

import orjson
import pytest

from sidecar.errors import model_not_allowed, model_not_found
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
