"""First words of other languages: a capital makes none of them another word."""

import pytest

from sidecar.cache.canonical import canonical
from sidecar.cache.languages import ASKING, FIRST, KNOWN, is_shortened


@pytest.mark.parametrize("word", sorted(FIRST))
def test_a_first_word_is_written_small_and_otherwise_the_same(word: str) -> None:
    small, then = FIRST[word]
    assert small == word[0].lower() + word[1:]
    assert {word, small} <= KNOWN
    line = f"{word} {next(iter(then), 'Xyz')} abc"
    assert canonical(line) == small + line[len(word) :]


@pytest.mark.parametrize("word", sorted(word for word, (_, then) in FIRST.items() if then))
def test_where_it_may_be_a_name_the_next_word_decides(word: str) -> None:
    assert canonical(f"{word} Xyz abc") == f"{word} Xyz abc"


def test_only_before_the_mark_of_a_question_a_blank_says_nothing() -> None:
    assert canonical("Comment fait-on du pain ?") == canonical("comment fait-on du pain?")
    assert canonical("Explique le pain ?") is None
    assert ASKING < KNOWN


def test_the_full_stop_of_a_short_form_is_not_that_of_a_sentence() -> None:
    assert is_shortened("Fig", ["show", "fig"])
    assert is_shortened("Gen", ["what", "is", "meant", "by", "gen"])
    assert not is_shortened("life", ["this", "is", "life"])
    assert not is_shortened("photosynthesis", ["what", "is", "meant", "by", "photosynthesis"])
    assert canonical("Was bedeutet Art.") != canonical("Was bedeutet Art")
    assert canonical("What is a min.") != canonical("What is a min")
    assert canonical("Wie geht das.") == canonical("Wie geht das")
