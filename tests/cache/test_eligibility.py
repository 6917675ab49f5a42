"""Which requests the cache is for."""

from typing import Any

import orjson
import pytest

from sidecar.cache.eligibility import MAX_BODY_BYTES, Bypass, last_turn
from tests.cache.support import asking, key, read, reason

IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example"}}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0},
        {"temperature": 0.3},
        {"temperature": None},
        {"n": 1},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"tools": []},
        {"tools": None, "store": False, "logprobs": False},
        {"future_option": {"a": 1}},
    ],
)
def test_a_plain_question_is_eligible(more: dict[str, Any]) -> None:
    assert reason(asking(**more)) == ""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"web_search_options": {"a": 1}}, "search"),
        ({"plugins": [{"id": "web"}]}, "search"),
        ({"store": True}, "state"),
        ({"background": True}, "state"),
        ({"previous_response_id": "r"}, "state"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "choices"),
        ({"temperature": 0.31}, "temperature"),
        ({"temperature": 1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"audio": {"voice": "a"}}, "content"),
        ({"messages": None}, "content"),
        ({"messages": []}, "content"),
        ({"messages": "hello"}, "content"),
        ({"messages": ["hello"]}, "content"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": ""}]}, "content"),
        ({"messages": [{"role": "user", "content": 7}]}, "content"),
        ({"messages": [{"role": "user", "content": []}]}, "content"),
        ({"messages": [{"role": "user", "content": ["hello"]}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, IMAGE]}]}, "content"),
        ({"messages": [{"role": "assistant", "content": "The answer is"}]}, "content"),
        ({"messages": [{"role": "tool", "content": "7"}]}, "content"),
    ],
)
def test_what_the_cache_is_not_for(more: dict[str, Any], why: str) -> None:
    assert reason({**asking(), **more}) == why


@pytest.mark.parametrize(
    "kind", ["", "embeddings", "responses", "messages", "images", "speech", "moderations"]
)
def test_other_apis_are_not_cached(kind: str) -> None:
    assert reason(asking(), kind) == "kind"


def test_max_age_asks_for_a_stored_answer_whatever_the_temperature() -> None:
    assert reason(asking(temperature=1), any_temperature=True) == ""


def test_a_question_about_now_is_not_kept_nor_what_follows_it() -> None:
    earlier = [
        {"role": "user", "content": "What is the weather in Bonn?"},
        {"role": "assistant", "content": "Mild."},
    ]
    rome = {"role": "user", "content": "And in Rome?"}
    assert reason(asking("What is the weather in Rome?")) == "volatile"
    assert reason(asking() | {"messages": [*earlier, rome]}) == "volatile"
    assert reason(asking() | {"messages": [rome]}) == ""
    assert reason({"model": "m", "prompt": "The weather in Rome is"}, "completions") == "volatile"


def test_what_an_assistant_or_a_system_says_about_now_does_not_matter() -> None:
    told = [{"role": role, "content": "It is sunny today."} for role in ("system", "assistant")]
    assert reason(asking() | {"messages": [*told, *asking()["messages"]]}) == ""


@pytest.mark.parametrize("prompt", [None, "", 7, ["one"], ["one", "two"], [1, 2]])
def test_a_completion_needs_one_text(prompt: object) -> None:
    assert reason({"model": "m", "prompt": prompt}, "completions") in ("content", "choices")


def test_a_completion_is_taken_by_the_letter() -> None:
    prompts = ["How do I boil an egg?", "how do i boil an egg", "How do I boil an egg? "]
    digests = {
        getattr(key({"model": "m", "prompt": prompt}, "completions"), "digest", b"") for prompt in prompts
    }
    assert len(digests - {b""}) == 3


def test_a_large_body_is_not_hashed_and_an_abridged_one_never() -> None:
    assert reason(asking("x" * (MAX_BODY_BYTES - 100))) == ""
    assert reason(asking("x" * MAX_BODY_BYTES)) == "size"
    call = read(orjson.dumps(asking()))
    call.is_abridged = True
    found = last_turn("chat", call, 100, any_temperature=False)
    assert isinstance(found, Bypass) and found.reason == "size"
