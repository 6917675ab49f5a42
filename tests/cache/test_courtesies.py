"""Greetings and thanks: where they are left away, and where they are what is asked about."""

import pytest

from sidecar.cache.courtesies import without_greeting, without_thanks
from sidecar.cache.english import words_of

WHY = "Why is the sky blue?"


@pytest.mark.parametrize(
    "greeting", ["Hi,", "hello!", "Hey.", "Hi there,", "Good morning,", "good evening!", "Hello there."]
)
def test_a_greeting_before_a_question_is_left_away(greeting: str) -> None:
    line = f"{greeting} {WHY}"
    assert without_greeting(line, words_of(line)) == WHY


@pytest.mark.parametrize(
    "line",
    [
        "Hello, world program in C",
        "Hello, I love you and the sea",
        "Hi, Will is here",
        "Hey Jude and the others",
        "Hello, what does hello mean?",
        "Hi, how do I say hi in French?",
        "Hi, who?",
        "Hello, who recorded that first?",
        "Hello, where was it filmed?",
        "Good grief, what is it?",
    ],
)
def test_a_greeting_that_may_be_asked_about_stays(line: str) -> None:
    assert without_greeting(line, words_of(line)) is line


@pytest.mark.parametrize("thanks", ["Thanks!", "thank you.", "Many thanks", "Thanks a lot!", "please"])
def test_thanks_after_a_question_are_left_away(thanks: str) -> None:
    line = f"{WHY} {thanks}"
    assert without_thanks(line, words_of(line)) == WHY


@pytest.mark.parametrize(
    "line",
    [
        "How do I say no, thank you?",
        "What is German for yes, please?",
        "How do I answer sorry? Thanks.",
        "How rude is the bill, please?",
        "Explain hold on, please",
        "What is missing in I am fine. Thanks.",
        "What do I write on a card? Thanks!",
        "Why is it thanks",
    ],
)
def test_thanks_that_may_be_asked_about_stay(line: str) -> None:
    assert without_thanks(line, words_of(line)) is line


@pytest.mark.parametrize("line", ["Can you write a poem?", "Where is my order?", "How do I call a taxi?"])
def test_a_poem_an_order_and_a_taxi_are_no_words(line: str) -> None:
    assert without_thanks(f"{line} Thanks!", words_of(f"{line} Thanks!")) == line


@pytest.mark.parametrize("line", ["Do you ship to Peru?", "Is there a free trial?", "Where is my order?"])
def test_before_what_customers_ask_a_greeting_is_left_away(line: str) -> None:
    assert without_greeting(f"Hi, {line}", words_of(f"Hi, {line}")) == line
