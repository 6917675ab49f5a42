"""Which capitals of English say nothing: those of a sentence's first word, of "I", of names in names.py.

A first word loses its capital where it asks or begins to: how, is, explain. Where it could be a name or a
sign too (Will, May, Make, the magazine, In, indium, List, the type), only before a word that it asks with.
All other words keep theirs: Map and map, WHO and who, Nice and nice are two.
"""

from sidecar.cache.names import (
    AFTER_BARE,
    ARTICLES,
    BARE,
    BEFORE_BARE,
    INITIALS,
    NAMES,
    OF_CODE,
    OF_USE,
    PRODUCTS,
    PROGRAMMING,
    SECOND,
)
from sidecar.cache.verbs import ASKED, ASKED_BEFORE, OBJECTS
from sidecar.cache.wordlists import listed

_ENDS = (".", "?", "!")

_PEOPLE = "I i you we they he she it"
_BEFORE = {
    **dict.fromkeys(ASKED_BEFORE | {"give", "tell"}, " ".join(OBJECTS)),
    "am": "I i",
    "can": f"{_PEOPLE} my your",
    "do": f"{_PEOPLE} my your",
    "has": "he she it my your the",
    "have": _PEOPLE,
    "in": "the which what a my",
    "it": "is was does did has can will",
    "may": "I i we",
    "might": _PEOPLE,
    "must": _PEOPLE,
    "they": "are were do did have",
    "we": "are were do did have need want",
    "will": _PEOPLE,
    "you": "are were can have",
}
_ALWAYS = listed(
    """how what why when where which who whose is are was were does did should could would define if my
    please please, kindly suggest the there these this what's who's where's how's when's"""
)
# By how it is written with a capital: in small letters, and the words of which one must come next, if any.
_FIRST: dict[str, tuple[str, frozenset[str]]] = {
    **{word.capitalize(): (word, listed("")) for word in ASKED | _ALWAYS},
    **{word.capitalize(): (word, listed(then)) for word, then in _BEFORE.items()},
}
# Contractions that only a person has.
_PERSON = {"I'm": "i'm", "I've": "i've", "I'd": "i'd", "I'll": "i'll"}
# Where one of these is, "i" may be an index, a unit or a number.
OF_INDEX = listed(
    """loop loops index indices array arrays variable variables iteration iterator matrix matrices vector
    vectors identity current currents imaginary complex real equation formula squared square root sum
    sigma integral exponent power multiply multiplied divide divided plus minus equal equals zero one
    value values voltage resistance circuit field magnetic j k n v x y z"""
)
# Before "I" one of these, after it a verb without its s: a person, as one says that an index "needs".
_CLAUSES = listed(
    """after as because before but everything how if once since so than that though unless until what
    whatever when where whether which while who whom why"""
)
_VERBS = listed(
    """accept add agree apply ask bake believe book borrow bring build buy call care change check choose
    clean click close come connect contact convert cook copy create decide delete deserve download draw
    drink drive earn eat enter feel fill find finish fix forget get give go hate hear help hire hold hope
    install invest join keep know learn leave lend live log look lose love make mean meet move open order
    own park pass pay pick plan play prefer press print quit read receive remember remove rent repair
    replace reset return save say see sell send set shop sign sleep speak spend start stay stop study
    submit switch take talk tell thank travel trust try turn type unlock update upgrade upload use visit
    wait wake walk watch wear wish work write am have need want don't haven't think understand ate bought
    deleted forgot lost ordered paid received"""
)
_OWN_VERBS = listed("am have need want don't haven't think understand bought forgot paid")
# After these all things say "i start": only what people alone do then.
_MODALS = listed("can could should would will may might must did cannot can't")
_ONLY_PEOPLE = listed(
    """apply ask bake bring buy call cancel check cite claim contact cook deduct deposit disable download
    drink drive eat email enable exchange export file find fly hire import install invite join keep know
    learn log marry mute open order park pay pick play quit read receive recover register remove renew
    rent request reschedule reset restore retire return schedule sell send share ship sign sleep smoke
    speak submit subscribe sue swim talk tell track transfer travel trust unlock unsubscribe update
    upgrade upload use verify visit vote wash watch wear withdraw write adopt donate freeze microwave
    reheat"""
)
# Nor is it one before these: "what do I and J mean", "what do I in line 3".
_NO_VERBS = listed("and or in on of at by for from to with over under")


def in_small(tokens: list[str], words: list[str]) -> bool:
    """Write small, in place, what may be; False if "I" and "i" are both there, which are then two.

    `tokens`: the line by its blanks; `words`: as `words_of` gives them.
    """
    if "I" in tokens and "i" in tokens:
        return False
    begins = True
    for at, token in enumerate(tokens):
        if not token.islower():
            first = _FIRST.get(token) if begins else None
            if first is not None:
                small, then = first
                if not then or (at + 1 < len(tokens) and tokens[at + 1] in then):
                    tokens[at] = small
            elif token == "I":  # noqa: S105
                if _is_person(tokens, at) and OF_INDEX.isdisjoint(words):
                    tokens[at] = "i"
            elif token in _PERSON:
                tokens[at] = _PERSON[token]
            elif token[0].isalpha():
                _write_name(tokens, at, words)
        begins = token.endswith(_ENDS)
    return True


def _is_person(tokens: list[str], at: int) -> bool:
    before = tokens[at - 1] if at else ""
    then, next_then, *_ = (*tokens[at + 1 : at + 3], "", "")
    if before in ("do", "am", "have", "don't"):
        return then != "" and then not in _NO_VERBS
    if before in _MODALS:
        return then in _ONLY_PEOPLE or next_then == "my"
    if before == "" or before in _CLAUSES or before.endswith((".", "?", "!", ",")):
        return then in _VERBS or (then in _MODALS and next_then in _ONLY_PEOPLE)
    return then in _OWN_VERBS and before.islower() and before not in _NO_VERBS  # "the paper I need"


def _write_name(tokens: list[str], at: int, words: list[str]) -> None:
    if not OF_CODE.isdisjoint(words):
        return
    token = tokens[at]
    name = token.rstrip(",.?!")
    if name.endswith("'s"):
        name = name[:-2]
    small = PRODUCTS.get(name) or INITIALS.get(name)
    if small is not None:
        if name in INITIALS and _may_be_code(words):
            return
    elif at == 0 or tokens[at - 1] not in ARTICLES:
        small = NAMES.get(name)
        if small is None and (small := BARE.get(name)) is not None and not _is_bare(tokens, at):
            return
    if small is None:
        _write_two_names(tokens, at)
    elif words.count(small) < 2:  # "is it Monday or monday"
        tokens[at] = small + token[len(name) :]


def _may_be_code(words: list[str]) -> bool:
    return not PROGRAMMING.isdisjoint(words) and not OF_USE.isdisjoint(words)


def _is_bare(tokens: list[str], at: int) -> bool:
    if at == 0 or tokens[at - 1] not in BEFORE_BARE:
        return False
    return at + 1 == len(tokens) or tokens[at + 1] in AFTER_BARE


def _write_two_names(tokens: list[str], at: int) -> None:
    seconds = SECOND.get(tokens[at])
    if seconds is not None and at + 1 < len(tokens):
        second = tokens[at + 1].rstrip(",.?!").removesuffix("'s")
        if second in seconds:
            tokens[at] = tokens[at].lower()
            tokens[at + 1] = second.lower() + tokens[at + 1][len(second) :]
