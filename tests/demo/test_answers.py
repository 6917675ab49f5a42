from __future__ import annotations

import base64
import math
import struct

import pytest

from sidecar.demo.answers import (
    Ask,
    as_base64_floats,
    count_prompt_tokens,
    embed,
    plan_choices,
    tokenize,
)
from sidecar.demo.scenario import Scenario


def ask(question: str = "Why?", **fields: object) -> Ask:
    return Ask("m", question, question, **fields)  # type: ignore[arg-type]


def text(question: Ask, region: str = "us-east-1", **knobs: object) -> str:
    return plan_choices(question, Scenario(**knobs), region)[0].text  # type: ignore[arg-type]


def test_the_same_prompt_gets_the_same_answer_and_another_prompt_another() -> None:
    assert text(ask("a")) == text(ask("a"))
    assert text(ask("a")) != text(ask("b"))


def test_regions_differ_only_in_the_signature_at_the_end() -> None:
    here, there = text(ask(), "us-east-1"), text(ask(), "eu-west-1")
    assert here.removesuffix("us-east-1.") == there.removesuffix("eu-west-1.")
    assert here != there


def test_answers_hold_characters_of_two_three_and_four_bytes() -> None:
    sizes = {len(char.encode()) for char in text(ask(), tokens=200)}
    assert sizes == {1, 2, 3, 4}


@pytest.mark.parametrize("tokens", [1, 2, 4, 50, 1000])
def test_tokens_sets_the_exact_length(tokens: int) -> None:
    (choice,) = plan_choices(ask(), Scenario(tokens=tokens), "us-east-1")
    assert len(choice.tokens) == tokens
    assert choice.finish == "stop"


def test_a_limit_cuts_the_answer_and_says_length() -> None:
    (choice,) = plan_choices(ask(limit=3), Scenario(), "us-east-1")
    assert (len(choice.tokens), choice.finish) == (3, "length")


def test_reasoning_counts_against_the_limit() -> None:
    (choice,) = plan_choices(ask(limit=3), Scenario(reasoning=True), "us-east-1")
    assert (len(choice.reasoning), choice.tokens) == (3, [])


def test_tokens_joined_are_the_text() -> None:
    for sample in ("", " a  b\n\nc ", "é 中\t🌊  "):
        assert "".join(tokenize(sample)) == sample


def test_a_prefill_of_the_same_answer_is_continued_to_the_character() -> None:
    whole = text(ask())
    for end in (1, 7, len(whole) // 2, len(whole)):
        assert whole[:end] + text(ask(prefill=whole[:end])) == whole


def test_a_prefill_from_elsewhere_is_continued_after_as_many_words() -> None:
    assert text(ask(prefill="x y"), answer="one two three") == " three"


def test_the_answer_knob_is_the_answer() -> None:
    assert text(ask(), answer="exactly  this") == "exactly  this"


def test_prompt_tokens_are_a_quarter_of_the_characters() -> None:
    assert [count_prompt_tokens(sample) for sample in ("", "four", "fives")] == [1, 1, 2]


def test_embeddings_are_unit_vectors_of_the_text_alone() -> None:
    vector = embed("text", 64)
    assert vector == embed("text", 64) != embed("other", 64)
    assert math.isclose(sum(value * value for value in vector), 1.0)


def test_base64_holds_little_endian_float32() -> None:
    assert struct.unpack("<2f", base64.b64decode(as_base64_floats([0.5, -2.0]))) == (0.5, -2.0)
