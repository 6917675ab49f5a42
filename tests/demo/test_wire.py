from __future__ import annotations

import pytest

from sidecar.demo.wire import RequestError, ask_messages, count_of, error_object, sse, text_of


def test_a_status_openai_does_not_use_gets_the_words_of_its_class() -> None:
    assert error_object(418)["type"] == "invalid_request_error"
    assert error_object(599)["type"] == "server_error"


def test_what_is_given_replaces_the_usual_error() -> None:
    error = error_object(429, "Slow down.", code="tpm", type_="tokens", param="model")
    assert error == {"message": "Slow down.", "type": "tokens", "param": "model", "code": "tpm"}


def test_events_hold_utf8_and_end_with_a_blank_line() -> None:
    assert sse({"a": "é"}).data == b'data: {"a":"\xc3\xa9"}\n\n'
    assert sse({}, event="ping").data == b"event: ping\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}], "a b"),
        (None, ""),
        ([1, {"text": 2}], ""),
    ],
)
def test_the_text_of_a_message_is_found_in_every_form(content: object, text: str) -> None:
    assert text_of(content) == text


def test_the_question_is_the_last_thing_the_user_said() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "so far"},
    ]
    ask = ask_messages({"model": "m", "tools": [{"name": "look_up"}]}, messages, limit=None)
    assert (ask.question, ask.prefill, ask.tool) == ("two", "so far", "look_up")
    assert ask.prompt == "Be kind.\none\ntwo\nso far"


@pytest.mark.parametrize("value", [0, -1, "1", True, 1.5])
def test_a_count_is_a_positive_integer(value: object) -> None:
    with pytest.raises(RequestError):
        count_of({"n": value}, "n")
