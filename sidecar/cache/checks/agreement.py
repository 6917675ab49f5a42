"""Whether two answers of a language model to one question say the same, or could well. No model is asked.

Asked twice, a model words a long answer differently. An answer to another question is about another thing,
another number, or the opposite, often in nearly the same words. So the words in common come last:

    JSON            the same members, numbers and switches, and texts that agree by the rules below
    short answers   the same content words, numbers and comparisons
    yes and no      not opposed at the beginning; of texts nearly alike, both say "not" as often
    opposites       no "enable" in one alone where there is a "disable" in the other alone
    numbers, names  those of one are, for the better part, among those of the other
    the subject     no word again and again in one that the other does not have
    the rest        enough content words in common, each as often as it is said

It doubts rather than trusts: a false alarm costs a hit, a missed disagreement costs confidence in all of
them. It cannot see one common word changed in a long text, nor what comes after the first MAX_BYTES of it
(wording.py). How often it errs is measured in tests/cache/test_agreement.py.
"""

import re
from collections import Counter
from typing import Any

import orjson

from sidecar.cache.checks.wording import Reading, stem

MAX_JSON_CHARS = 4096  # longer JSON is compared as a text
# Content words in common (F1) of long answers: to one question 0.43 and more, to two on one topic up to 1.
MIN_COMMON = 0.4
# From here on both are nearly the same text, and a "not" in one of them is no matter of wording.
ALIKE = 0.7
# Of the numbers, and of the names, of the answer that has fewer: two of three will do, one of two will not.
MIN_SHARED = 0.6
# What is said so often, and is so large a part of all content words, is what an answer is about.
SUBJECT_TIMES = 4
SUBJECT_SHARE = 0.04
_VALUE_CHARS = 40  # texts in JSON up to this length are values, longer ones prose
_MAX_DEPTH = 32  # what is nested deeper is not compared: each level takes one of Python's

_CODE_BLOCK = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)
_PAIRS = """enable/disable on/off increase/decrease left/right true/false hot/cold more/less allow/deny
    open/close start/stop add/remove before/after higher/lower high/low advantages/disadvantages up/down
    largest/smallest maximum/minimum ascending/descending positive/negative buy/sell accept/reject
    upload/download import/export always/never first/last first/second include/exclude safe/toxic
    ein/aus einschalten/ausschalten öffnen/schließen включить/отключить включить/выключить открыть/закрыть"""
_OPPOSITES = [tuple(map(stem, pair.split("/"))) for pair in _PAIRS.split()]
_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "des", "dés", "de")


def agree(stored: str, fresh: str) -> bool:
    """Whether a stored answer and a fresh one say the same; 1 ms, of Chinese 2 ms, however long they are."""
    if stored == fresh:
        return True
    stored, fresh = stored.strip(), fresh.strip()
    if len(stored) <= MAX_JSON_CHARS and len(fresh) <= MAX_JSON_CHARS:
        one, other = _parsed(stored), _parsed(fresh)
        if one is not None or other is not None:
            return _values_agree(one, other, _MAX_DEPTH)
    return _texts_agree(stored, fresh)


# --- JSON -------------------------------------------------------------------------------------------------


def _parsed(text: str) -> Any:
    """The object or list that an answer is, perhaps in a code block; None if it is neither."""
    if (block := _CODE_BLOCK.fullmatch(text)) is not None:
        text = block.group(1).strip()
    if text[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _values_agree(one: Any, other: Any, depth: int) -> bool:
    if type(one) is str and type(other) is str:
        if len(one) > _VALUE_CHARS and len(other) > _VALUE_CHARS:
            return _texts_agree(one, other)
        return one.casefold().split() == other.casefold().split()
    if type(one) in (int, float) and type(other) in (int, float):
        return bool(one == other)  # 1 and 1.0, never 1 and true
    if type(one) is not type(other) or depth == 0:
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(
            _values_agree(value, other[name], depth - 1) for name, value in one.items()
        )
    if type(one) is list:
        return len(one) == len(other) and all(
            _values_agree(*values, depth - 1) for values in zip(one, other, strict=True)
        )
    return bool(one == other)


# --- texts ------------------------------------------------------------------------------------------------


def _texts_agree(stored: str, fresh: str) -> bool:
    one, other = Reading(stored), Reading(fresh)
    if one.is_short and other.is_short:
        return _say_the_same(one, other)
    if {one.opens, other.opens} == {"yes", "no"} or _are_opposed(one, other):
        return False
    if min(_shared(one.numbers, other.numbers), _shared(one.names, other.names)) < MIN_SHARED:
        return False
    if _lacks_subject(one.words, other.words) or _lacks_subject(other.words, one.words):
        return False
    common = _common(one.words, other.words)
    return common >= MIN_COMMON and (common < ALIKE or one.denials == other.denials)


def _say_the_same(one: Reading, other: Reading) -> bool:
    if not one.whole and not one.numbers:  # "It is.", an emoji
        return one.text.split() == other.text.split()
    return one.whole == other.whole and one.numbers == other.numbers


def _are_opposed(one: Reading, other: Reading) -> bool:
    here, there = one.words.keys() - other.words.keys(), other.words.keys() - one.words.keys()
    for left, right in _OPPOSITES:
        if (left in here and right in there) or (left in there and right in here):
            return True
    return _is_denied(one.whole - other.whole, there) or _is_denied(other.whole - one.whole, here)


def _is_denied(words: set[str], stems: set[str]) -> bool:
    """Whether one of these words is the opposite of one of those by its prefix: unsafe, inactive."""
    return any(
        word.startswith(prefix) and stem(word[len(prefix) :]) in stems
        for word in words
        if len(word) > 5 and word.startswith(_PREFIXES)
        for prefix in _PREFIXES
    )


def _shared(one: set[str], other: set[str]) -> float:
    """The share of the smaller set that is in the other; 1 where one is empty, and so says nothing."""
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 1.0


def _lacks_subject(words: Counter[str], other: Counter[str]) -> bool:
    often = max(SUBJECT_TIMES, SUBJECT_SHARE * words.total())
    return any(times >= often and word not in other for word, times in words.items())


def _common(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
