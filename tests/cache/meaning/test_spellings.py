"""What is written in two ways is one, and what only looks so is not."""

import pytest

from sidecar.cache.canonical import canonical
from sidecar.cache.english import words_of
from sidecar.cache.meaning.spellings import counted, spelled, with_apostrophes


def one_way(form: str) -> str:
    return spelled(counted(form), words_of(form))


@pytest.mark.parametrize(
    ("form", "stands_for"),
    [
        ("what is the colour of it", "what is the color of it"),
        ("how to organise my files", "how to organize my files"),
        ("what timezone is it in", "what time zone is it in"),
        ("how fast is my website?", "how fast is my web site?"),
        ("i lost an e-mail, and the wi-fi", "i lost an email, and the wifi"),
        ("who leads the United States", "who leads the usa"),
        ("who leads the united states of America in war", "who leads the usa in war"),
        ("who leads the United Kingdom", "who leads the uk"),
        ("who leads the UK", "who leads the uk"),
        ("what is 12.5 percent of 80", "what is 12.5% of 80"),
        ("is $1,000 more than 25,000, or 1,000,000", "is $1000 more than 25000, or 1000000"),
        ("is 1,000 the lcm of 100,200", "is 1000 the lcm of 100,200"),
        ("give me three ideas", "give me 3 ideas"),
        ("List ten good books", "List 10 good books"),
        ("what are five uses of it", "what are 5 uses of it"),
    ],
)
def test_one_way_stands_for_both(form: str, stands_for: str) -> None:
    assert one_way(form) == stands_for


@pytest.mark.parametrize(
    "form",
    [
        "who is in living colour",
        "who leads the united states of Europe",
        "who leads the United Kingdom of Israel",
        "what is USA Today",
        "how much is 1,5 km",
        "what is 12,34 in cents",
        "what is the lcm of 100,200",
        "what is 0,000 and 0,500",
        "what is 1,0000",
        "is the colour the color",
        "is 1,000 more than 1000",
        "what is the sum of twenty, five and two",
        "what are twenty five dollar bills",
        "give me one idea",
        "give me two half day trips",
        "what is two times five",
        "who is no one",
        "is 20 percent tax too much",
        "what is a kid, a repo, a db and a bike",
    ],
)
def test_what_may_be_another_stays(form: str) -> None:
    assert one_way(form) == form


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ("whats the capital of Peru", "what's the capital of Peru"),
        ("why dont cats bark", "why don't cats bark"),
        ("why doesnt my printer work", "why doesn't my printer work"),
    ],
)
def test_an_apostrophe_that_was_left_out_is_read(form: str, meant: str) -> None:
    assert with_apostrophes(form, words_of(form)) == canonical(meant) != form


@pytest.mark.parametrize("form", ["is it cant or wont", "what is its color", "are you ill", "what is DONT"])
def test_what_is_a_word_without_one_stays(form: str) -> None:
    assert with_apostrophes(form, words_of(form)) == form
