"""Whether an English sentence is a question by the order of its words, so that its mark says nothing more.

"How do I" and "is it" are. "You are done", "May is warm", "What is done is done", "Was a good day", "Am I
glad" are not, or need not be: with the mark they say something else.
"""

import re

from sidecar.cache.languages import TYPES
from sidecar.cache.wordlists import listed

_VERBS = "is are was were do does did can could should will am"
_ANSWERED_BY_THINGS = {
    "how": listed(f"{_VERBS} would to"),
    "what": listed(f"{_VERBS} to causes caused happens happened"),
    "why": listed(_VERBS),
    "where": listed(_VERBS),
    "when": listed(_VERBS),
    "who": listed("is are was were wrote invented discovered founded painted composed directed won owns"),
}
# Not "was it", "does it": "Does it every day." leaves its subject away.
_ANSWERED_BY_YES = {
    "is": listed("it he she there this that"),
    "are": listed("you we they there these those"),
    "do": listed("i I you we they"),
    "does": listed("he she"),
    **dict.fromkeys(("did", "can", "could", "would", "will"), listed("i I you he she we they")),
    "should": listed("i I we"),
    "may": listed("i I we"),
    "have": listed("you"),
}
# By the first word of the sentence: one of which must come next.
_NEXT = _ANSWERED_BY_THINGS | _ANSWERED_BY_YES
_MEASURES = listed("many much long old far often tall high big large deep wide heavy fast")
_PEOPLE = listed("i I you we they he she it there")
_OTHER_VERBS = listed(
    f"""{_VERBS} would have has had may might must cannot can't won't isn't don't makes means matters depends
    remains"""
)
_INVERTED = listed("do did can could should would will")
_SUBJECTS = listed("i I you we they he she")
_MIN_WORDS = 3
# "Can dogs eat grapes", "are bananas good for dogs". With a verb after the one who does it, as "can tomatoes"
# and "do good" tell one to; in small letters, as other capitals may be those of a name or a title.
_MODALS = "can|could|did|does|should|will|would"
_MANY = "[a-z]+s|people|men|women|children|fish"
_DOES = (
    "affect|attack|bite|break|carry|cause|contain|contribute|die|digest|eat|evict|exist|expire|get|go|grow"
    "|have|hear|hibernate|know|lay|live|lower|make|need|prevent|raise|reduce|see|survive|swim|understand"
)
_QUALITIES = (
    "bad|contagious|dangerous|edible|good|harmful|healthy|hereditary|illegal|legal|poisonous|safe|toxic"
)
# Who says "does not exist", "can help prevent" or "are always good" leaves away whom it is about.
_NOBODY = (
    f"(?!(?:you|i|we|they|he|she|it|there|not|never|no|also|only|often|always|sometimes|perhaps|still|even|just|then|now|soon|ever|already"
    f"|all|each|both|and|or|less|does|is|be|as|this|thus|help|helps|let|come|feel|{_DOES}) |[a-z]+ly )"
)
_PLAINLY_ASKED = re.compile(
    rf"(?:(?:{_MODALS}) (?:(?:the|my|an?) )?{_NOBODY}[a-z]+ |do (?:my )?{_NOBODY}(?:{_MANY}) )(?:{_DOES})"
    rf"(?: [a-z0-9]+| I)*|are {_NOBODY}(?:{_MANY}) (?:{_QUALITIES})(?: (?:for|to) [a-z]+)?"
)
_OPENINGS = frozenset(f"{_MODALS}|do|are".split("|"))


def plainly_asked(line: str) -> str | None:
    """A short question in plain order, as "Can dogs eat grapes?", with a small letter and no mark.

    None if it is not certainly one. `line`: in ASCII.
    """
    first, _, rest = line.partition(" ")
    if (small := first[:1].lower() + first[1:]) not in _OPENINGS:
        return None
    asked = f"{small} {rest.rstrip('?')}"
    last = asked[asked.rfind(" ") + 1 :]
    if len(last) == 1 or last in TYPES or _PLAINLY_ASKED.fullmatch(asked) is None:
        return None
    return asked


def last_sentence(tokens: list[str]) -> list[str]:
    """The words of a line's last sentence; empty if it has parts: "How do I fix it, you broke it?"

    `tokens`: the line by its blanks, in form but for the mark at its end.
    """
    begin = 0
    for at in range(len(tokens) - 1):
        last = tokens[at][-1]
        if last in ".?!":
            begin = at + 1
        elif last == ",":
            return []
    return tokens[begin:] if begin else tokens


def asks(sentence: list[str]) -> bool:
    """Whether a sentence, of `last_sentence`, is certainly a question."""
    if len(sentence) < _MIN_WORDS:
        return False
    first, second = sentence[0], sentence[1]
    after = 2
    if first == "how" and second in _MEASURES:
        # "How much I do love it" is a cry.
        after = next((at + 1 for at, word in enumerate(sentence) if word in _OTHER_VERBS), 0)
        if not after or after == len(sentence) or sentence[after - 2] in _PEOPLE:
            return False
    elif second not in _NEXT.get(first, ()):
        return first in ("what", "which") and _asks_people(sentence)
    # "What is done is done". Not where a person is asked about: "what do I do if it is".
    if first in _ANSWERED_BY_YES or sentence[after] in _PEOPLE:
        return True
    return _OTHER_VERBS.isdisjoint(sentence[after:])


def may_exclaim(sentence: list[str]) -> bool:
    """Whether with a full stop it may be none: "Am I glad to see you.", "Could I use a drink." """
    return bool(sentence) and (sentence[0] in _ANSWERED_BY_YES or sentence[0] == "am")


def is_simple(sentence: list[str]) -> bool:
    """Whether it has one verb of its own, so that it quotes no other sentence."""
    return len(_OTHER_VERBS.intersection(sentence)) < 2


def _asks_people(sentence: list[str]) -> bool:
    """As "what payment methods do you accept" does."""
    verb = next((at for at, word in enumerate(sentence) if word in _OTHER_VERBS), 0)
    return sentence[verb] in _INVERTED and verb + 2 < len(sentence) and sentence[verb + 1] in _SUBJECTS
