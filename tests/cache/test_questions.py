"""What is a question by the order of its words, and what says something else without its mark."""

import pytest

from sidecar.cache.questions import asks, is_simple, last_sentence, may_exclaim, plainly_asked


def is_asked(line: str) -> bool:
    return asks(last_sentence(line.split(" ")))


@pytest.mark.parametrize(
    "line",
    [
        "how do i boil an egg",
        "how to boil an egg",
        "what is a black hole",
        "what do i do if it is late",
        "what payment methods do you accept",
        "how many days are in a year",
        "who wrote Dracula",
        "is it late",
        "can i change my order",
        "I am ill. what can I do",
    ],
)
def test_such_words_ask_with_or_without_a_mark(line: str) -> None:
    assert is_asked(line)


@pytest.mark.parametrize(
    "line",
    [
        "you are late",
        "what a day it is",
        "what is done is done",
        "what does not kill me makes me stronger",
        "how much I do love it",
        "how long it takes",
        "who dares wins",
        "which is why I left",
        "was a good day",
        "does it every day",
        "do the dishes",
        "have a nice day",
        "am I glad to see you",
        "how are you? you are fine",
        "how do i fix it, you broke it",
        "is it",
        "how",
    ],
)
def test_such_words_may_say_it_so_that_the_mark_counts(line: str) -> None:
    assert not is_asked(line)


def test_with_a_full_stop_an_inverted_sentence_may_be_a_cry() -> None:
    assert may_exclaim(["could", "I", "use", "a", "drink"])
    assert not may_exclaim(["how", "do", "i", "boil", "an", "egg"])
    assert not may_exclaim([])


def test_a_sentence_that_quotes_another_has_two_verbs() -> None:
    assert is_simple(["why", "is", "the", "sky", "blue"])
    assert not is_simple(["how", "polite", "is", "do", "you", "mind"])


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("Can dogs eat grapes?", "can dogs eat grapes"),
        ("does honey go bad??", "does honey go bad"),
        ("Can my landlord evict me", "can my landlord evict me"),
        ("Do cats need milk when I leave?", "do cats need milk when I leave"),
        ("Are bananas good for dogs?", "are bananas good for dogs"),
    ],
)
def test_a_short_question_in_plain_order_needs_no_capital_and_no_mark(line: str, asked: str) -> None:
    assert plainly_asked(line) == asked


@pytest.mark.parametrize(
    "line",
    [
        "Can tomatoes at home",
        "Do good have good",
        "does wonders for the skin",
        "does not exist",
        "can help prevent cancer",
        "can get hurt",
        "will probably go up",
        "are always good for you",
        "Can Bill eat grapes?",
        "CAN dogs eat grapes?",
        "Can dogs eat grapes.",
        "can dogs, cats eat grapes",
        "does swift have optional?",
        "does it contain c?",
        "how do dogs eat",
        "can",
        "",
    ],
)
def test_what_may_be_said_told_or_named_is_not_plainly_asked(line: str) -> None:
    assert plainly_asked(line) is None
