"""Whether two questions may be answered alike: the guards of the search by meaning.

Vectors say what is near, not what is the same. "Unlock my account" is near "lock my account", and
for a mean of word vectors "from A to B" is "from B to A". So a near text counts only if no guard forbids it.
A text is read once into its Features; two of them are compared by what they hold:

    words       in their order, less what says nothing, each by the word that stands for it (lexicon.py);
                numbers as digits, in questions the singular for the plural
    question    who, what, where, when, why, how, yes or no; empty for what is no question
    scope       what counts wherever it stands: "is", "was" or "does", modals, one "in", "on" or "at", marks

All three must be equal. The names of guards say what kind of word was in the way. It is not enough to list
what must not differ (numbers, negations, antonyms): one word more ("a vegan recipe") or another ("chest pain"
for "back pain") is another question, whatever the word, so that only what is known to mean the same may
differ. What the vectors add is what no list of words knows, in the direction of refusal.

English only, as the lists are.
"""

from sidecar.cache import english
from sidecar.cache.canonical import canonical
from sidecar.cache.meaning.lexicon import (
    AUXILIARIES,
    DIGITS,
    LETTERED,
    LIGHT,
    MODALS,
    NEGATIONS,
    NO_PLURALS,
    NUMBERS,
    PLACES,
    SAME,
    SCOPE,
    SINGULARS,
    TELLING,
    TENS,
    reframed,
)

MAX_CHARS = 200
MIN_WORDS = 3

# In the order in which they are asked.
GUARDS = ("order", "number", "negation", "symbol", "name", "scope", "question", "word")

_ASKING = {word: word for word in ("what", "who", "where", "when", "why", "how")}
_ASKING |= {"which": "what", "whom": "who"}
_YES_OR_NO = MODALS | AUXILIARIES.keys() | {"has", "have", "had"}
# "In which city" asks what.
_LEADING = frozenset(("in", "at", "on", "for", "from", "to", "by", "with"))
_MARKS = ",.?!"


class Features:
    """What of a text is compared. `asked`: the text in plain form, which is the one to embed."""

    __slots__ = ("asked", "names", "question", "scope", "words")

    def __init__(
        self, asked: str, words: tuple[str, ...], question: str, scope: str, names: frozenset[str]
    ) -> None:
        self.asked = asked
        self.words = words
        self.question = question
        self.scope = scope
        self.names = names


def may_mean(text: str) -> bool:
    """Whether a user's last text may be looked up by its meaning: one short line of plain English."""
    if len(text) > MAX_CHARS or not (line := text.replace("’", "'")).isascii():
        return False
    words = english.words_of(line)
    return len(words) >= MIN_WORDS and english.is_english(words) and canonical(text) is not None


def features(text: str) -> Features:
    """What is compared of a text that `may_mean` lets through."""
    asked = reframed(canonical(text) or " ".join(text.split()))
    reading = _Reading(asked)
    scope = reading.scope()
    return Features(asked, tuple(reading.words), reading.question, scope, _names(text))


def differs(one: Features, other: Features) -> str:
    """The name of the guard that forbids one answer for both, of GUARDS; empty if none does."""
    if one.words != other.words:
        return _word_guard(one, other)
    if one.question != other.question:
        return "question"
    return "scope" if one.scope != other.scope else ""


def _word_guard(one: Features, other: Features) -> str:
    """What kind of word only one of them has."""
    alone = set(one.words).symmetric_difference(other.words)
    if not alone:
        return "order"
    if not NUMBERS.isdisjoint(alone) or any(not word.isalpha() and _has_digit(word) for word in alone):
        return "number"
    if not NEGATIONS.isdisjoint(alone):
        return "negation"
    if any(not word.replace("'", "").isalpha() for word in alone):
        return "symbol"
    if not alone.isdisjoint(one.names) or not alone.isdisjoint(other.names):
        return "name"
    if not SCOPE.isdisjoint(alone):
        return "scope"
    return "question" if one.question != other.question else "word"


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _names(text: str) -> frozenset[str]:
    """The words with a capital, but for the first, as they are compared: large or small."""
    low = text.lower()
    if text[1:] == low[1:]:
        return frozenset()
    words = [word.strip(_MARKS) for word in text.split()[1:] if not word.islower() and word != "I"]
    return frozenset([*words, *[word.lower() for word in words]])


class _Reading:
    """One pass over the words of a text in plain form."""

    __slots__ = ("_before", "_has_the", "_marks", "_modals", "_verbs", "question", "words")

    def __init__(self, asked: str) -> None:
        # One, not many: "what is the planet" is not "what are the planets".
        self._has_the = " is the " in asked or " was the " in asked
        self.words: list[str] = []
        self._verbs: list[str] = []
        self._modals: list[str] = []
        self._marks = ""
        self._before = ""
        pieces = asked.split(" ")
        self.question = _question(pieces)
        if self.question:
            if pieces[0] in _ASKING:
                del pieces[0]
            elif pieces[0] in _LEADING:
                del pieces[1]
        for piece in pieces:
            word = piece.rstrip(_MARKS)
            self._marks += piece[len(word) :]
            if "-" in word and word not in SAME and word.replace("-", "").isalpha():
                for part in word.split("-"):
                    self._read(part)
            else:
                self._read(word)

    def _read(self, word: str) -> None:
        before, self._before = self._before, word
        if word in LIGHT or word == "":
            return
        if word in AUXILIARIES:
            self._verbs.append(AUXILIARIES[word])
        elif word in MODALS:
            self._modals.append(word)
        elif not ((word == "a" and before not in LETTERED) or (word == "me" and before in TELLING)):
            self._keep(word, before)

    def _keep(self, word: str, before: str) -> None:
        words = self.words
        if word == "has":
            word = "have"
        elif word[0].isdigit():
            word = word.replace(",", "")  # 1,000
        elif word in NO_PLURALS:
            if before == "the":
                words.append(before)  # "the windows" are not Windows
        elif self.question:
            word = _singular(word)
        same = SAME.get(word, word)
        if word in DIGITS and before in TENS:
            words[-1] = words[-1][0] + same  # twenty five
        elif "+" in same and same is not word:
            words += same.split("+")
        else:
            words.append(same)

    def scope(self) -> str:
        """What counts wherever it stands. Ends the reading."""
        words = self.words
        if self.question == "what" or self.question == "who":
            self._settle_parts()
        # "Which city is it in" is "in which city"; of two such words each has its place.
        places = [word for word in words if word in PLACES]
        if len(places) == 1:
            words.remove(places[0])
        else:
            places.clear()
        marks = self._marks.rstrip("?") if self.question else self._marks
        return " ".join((*self._verbs, "the" if self._has_the else "", *self._modals, *places, marks))

    def _settle_parts(self) -> None:
        words, verbs = self.words, self._verbs
        if words[-1:] == ["have"] and verbs in (["do"], ["did"]):
            # "What symptoms does it have" for "what are the symptoms of it".
            words.pop()
            verbs[0] = "be" if verbs[0] == "do" else "was"
        elif len(words) > 1 and words[-2].endswith("'s") and verbs == ["be"] and SCOPE.isdisjoint(words):
            # "What is France's capital" for "what is the capital of France".
            words.insert(0, words.pop())
            words[-1] = words[-1][:-2]
            self._has_the = True


def _question(pieces: list[str]) -> str:
    first = pieces[0]
    if first in _LEADING and len(pieces) > 1:
        first = pieces[1]
    elif first in _YES_OR_NO:
        return "yes or no"
    return _ASKING.get(first, "")


def _singular(word: str) -> str:
    """The singular of a plural, and the plain form of a verb in the third person."""
    if word[-1] != "s" or len(word) < 4 or not word.isalpha():
        return SINGULARS.get(word, word)
    if word[-2] in "sui" or not word.islower():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "xes", "sses", "oes")) else word[:-1]
