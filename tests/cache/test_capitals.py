"""Which words are written small, and which keep their capitals because they may be another thing."""

import pytest

from sidecar.cache.capitals import in_small
from sidecar.cache.english import words_of


def small(line: str) -> str | None:
    """The line in small letters as far as may be; None if it must not be touched."""
    tokens = line.split(" ")
    return " ".join(tokens) if in_small(tokens, words_of(line)) else None


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("How do I pay in Paris?", "how do i pay in paris?"),
        ("Stop. What is it?", "Stop. what is it?"),
        ("Will it rain in London, Rome or Madrid?", "will it rain in london, rome or madrid?"),
        ("Give me France's flag", "give me france's flag"),
        ("Is a PDF an API?", "is a pdf an api?"),
        ("I'm in New York on Monday", "i'm in new york on monday"),
        ("What is Hong Kong's flag?", "what is hong kong's flag?"),
        ("A parcel that I have opened", "A parcel that i have opened"),
        ("What if I need Node.js?", "what if i need node.js?"),
        ("I use Docker in Git on Ubuntu", "i use Docker in git on ubuntu"),
    ],
)
def test_what_is_the_same_word_is_written_small(line: str, form: str) -> None:
    assert small(line) == form


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("What is Java?", "what is Java?"),
        ("What does Map do?", "what does Map do?"),
        ("WHO is right?", "WHO is right?"),
        ("How do I set userId?", "how do i set userId?"),
        ("Will Smith films", "Will Smith films"),
        ("May is warm", "May is warm"),
        ("Make magazine", "Make magazine"),
        ("Find My phone", "Find My phone"),
        ("In alloys", "In alloys"),
        ("Nice hotels", "Nice hotels"),
        ("Where is PARIS?", "where is PARIS?"),
        ("What is Sql?", "what is Sql?"),
        # A person, a unit, an index.
        ("What is I?", "what is I?"),
        ("What do I and J do?", "what do I and J do?"),
        ("What do I in line 3 do?", "what do I in line 3 do?"),
        ("Is I like J?", "is I like J?"),
        ("Can I be squared?", "can I be squared?"),
        ("Should I start at 0?", "should I start at 0?"),
        ("Can I reset it in the loop?", "can I reset it in the loop?"),
        # With an article or another noun they are other things.
        ("Is it a German?", "is it a German?"),
        ("What does a Docker do?", "what does a Docker do?"),
        ("Dreams of Android sheep", "Dreams of Android sheep"),
        # Identifiers.
        ("What is the URL class?", "what is the URL class?"),
        ("Where is the folder Paris?", "where is the folder Paris?"),
        ("Is the password Monday?", "is the password Monday?"),
        ("How do I import Django?", "how do i import Django?"),
        ("What is the meaning of Git?", "what is the meaning of Git?"),
        ("What does JSON do in Python?", "what does JSON do in Python?"),
        # Which of the two is right.
        ("Is it Monday or monday?", "is it Monday or monday?"),
    ],
)
def test_what_may_be_another_thing_keeps_its_capitals(line: str, form: str) -> None:
    assert small(line) == form


def test_two_ways_to_write_i_are_two_things() -> None:
    assert small("What do I multiply i by?") is None
