"""Whether two questions may be answered alike: the guards of the search by meaning.

Vectors say what is near, not what is the same. "Unlock my account" is near "lock my account", and
for a mean of word vectors "from A to B" is "from B to A". So a near text counts only if no guard forbids it.
It is not enough to list what must not differ (numbers, negations, antonyms): one word more ("a vegan
recipe"), one less ("a few" and "few", "a python" and Python), another ("chest pain" for "back pain"), a comma
elsewhere ("apple, pie" and "apple pie,") makes another question, whatever the word. So only what is known to
mean the same may differ. A text is read once into its Features, and two agree if their words do, all of them
and in their order, with capitals and marks as the canonical form has them, when

    turns       of a question that ask the same are one turn (turns.py)
    spellings   of a word or an amount are one, where no name can be meant (spellings.py)

and not even these in texts that speak about words: "is `grey` English" is not "is `gray` English". The names
of guards say what kind of word was in the way. What the vectors add is what no list of words knows, in the
direction of refusal.

English only, as the lists are.
"""

from sidecar.cache import english
from sidecar.cache.canonical import canonical
from sidecar.cache.meaning.lexicon import ARTICLES, ASKING, NEGATIONS, NUMBERS, OF_WORDS, OF_WRITING, SCOPE
from sidecar.cache.meaning.spellings import counted, spelled, with_apostrophes
from sidecar.cache.meaning.turns import compared, framed, parted, without_please

MAX_CHARS = 200
MIN_WORDS = 3

# In the order in which they are asked.
GUARDS = ("order", "number", "negation", "symbol", "name", "scope", "question", "word")

_MARKS = ",.?!"


class Features:
    """What of a text is compared. `asked`: the text in plain form, which is the one to embed."""

    __slots__ = ("asked", "names", "words")

    def __init__(self, asked: str, words: tuple[str, ...], names: frozenset[str]) -> None:
        self.asked = asked
        self.words = words
        self.names = names


def may_mean(text: str) -> bool:
    """Whether a user's last text may be looked up by its meaning: one short line of plain English."""
    if len(text) > MAX_CHARS or not (line := text.replace("’", "'")).isascii():
        return False
    words = english.words_of(line)
    return len(words) >= MIN_WORDS and english.is_english(words) and canonical(text) is not None


def features(text: str) -> Features:
    """What is compared of a text that `may_mean` lets through."""
    form = compared(canonical(text) or " ".join(text.split()))
    words = english.words_of(form)
    if not OF_WORDS.isdisjoint(words):
        return Features(form.removesuffix("?"), tuple(form.split(" ")), _names(text))
    is_plain = OF_WRITING.isdisjoint(words)
    form = counted(framed(with_apostrophes(form, words) if is_plain else form))
    if is_plain:
        form = spelled(without_please(form), words)
    return Features(form.removesuffix("?"), tuple(parted(form).split(" ")), _names(text))


def differs(one: Features, other: Features) -> str:
    """The name of the guard that forbids one answer for both, of GUARDS; empty if none does."""
    if one.words == other.words:
        return ""
    here, there = one.words, other.words
    alone = set(here).symmetric_difference(there)
    if not (is_plain := "".join(alone).isalpha()) and any(word[-1:] in _MARKS for word in alone):
        here, there = _without_marks(here), _without_marks(there)
        if here == there:
            return "symbol"
        alone = set(here).symmetric_difference(there)
    if not alone:
        return "order"
    if not NUMBERS.isdisjoint(alone) or (not is_plain and any(map(_has_digit, alone))):
        return "number"
    if not NEGATIONS.isdisjoint(alone) or (not is_plain and any(word.endswith("n't") for word in alone)):
        return "negation"
    if not is_plain and any(not word.replace("'", "").isalpha() for word in alone):
        return "symbol"
    if not alone.isdisjoint(one.names) or not alone.isdisjoint(other.names):
        return "name"
    if alone <= ARTICLES or not SCOPE.isdisjoint(alone):
        return "scope"
    return "question" if not ASKING.isdisjoint(alone) else "word"


def _without_marks(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([word.rstrip(_MARKS) for word in words])


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _names(text: str) -> frozenset[str]:
    """The words with a capital, but for the first, as they are compared: large or small."""
    low = text.lower()
    if text[1:] == low[1:]:
        return frozenset()
    words = [word.strip(_MARKS) for word in text.split()[1:] if not word.islower() and word != "I"]
    return frozenset([*words, *[word.lower() for word in words]])
