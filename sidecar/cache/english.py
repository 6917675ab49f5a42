"""English questions in one form: the same words in the same order, less what does not change the answer.

    small letters     of first words, "I" and names that are no other word in small letters (capitals.py)
    courtesies        "Hi, ...", "...? Thanks!" (courtesies.py), "could you please ...", "please ..."
    contractions      what's -> what is, I can't -> I cannot; only those that stand for one thing there
    embedded          tell me what X is, explain how I can X -> the question itself
    ways to ask how   how do I, how can I, I want to X. How do I do that?, the steps, the best way
                      -> how to X, with the verbs that verbs.py allows
    question mark     of what is a question by the order of its words (questions.py)

All else stays: numbers, negation, modals, prepositions, order, names, articles, "how should I", "how do you"
(who asks a company how it stores data does not ask how to). "Explain a theorem" wants one of them, "explain
code" may mean that of before and "define a function" wants it written: none of them is "what is".

What speaks about the form of a text (spelling, capitals, translation) has no form here.
"""

import re

from sidecar.cache.capitals import OF_INDEX, in_small
from sidecar.cache.courtesies import without_greeting, without_thanks
from sidecar.cache.languages import TYPES, is_shortened
from sidecar.cache.questions import asks, is_simple, last_sentence, may_exclaim, plainly_asked
from sidecar.cache.verbs import (
    ASKED,
    ASKED_BEFORE,
    HABITS,
    OBJECTS,
    OF_MANNER,
    OF_THINGS,
    OTHER_THINGS,
    TO_DO,
)
from sidecar.cache.wordlists import listed

# With what is left of contractions: of what's, don't, we're, I'm.
_FUNCTION = listed(
    """a an the is are was were be been am do does did have has had can could will would shall should may
    might must how what why when where which who whom whose i you he she it we they me him us them my your
    his her its our their this that these those and or but not no if than of in on at to for from with
    without by about into as so there please s t re m"""
)
# Those of them, and others, that no other language writes alike, as it does "was", "in", "give", "describe".
_ENGLISH = listed(
    """the what how why when where which who does your from with this that these those would should could
    please explain write because their there about without recommend isn doesn didn aren wasn weren couldn
    shouldn wouldn"""
)
_OPENINGS = listed("explain please suggest what how why when where which who")
_GREETINGS = frozenset(("hi", "hello", "hey"))
# Two words that only English begins with.
_TURNS = frozenset(
    f"{first} {then}"
    for first, thens in {
        "can": "i you we",
        "do": "you we they",
        "does": "he she it my your",
        "did": "you i he she",
        "is": "it there he she a my your",
        "are": "you they there my your",
        "am": "i",
        "will": "you it",
        "may": "i",
        "must": "i",
        "have": "you",
        "has": "it",
        "i": "can cannot have want need am lost forgot don",
        "it": "is does",
        "you": "are",
        "there": "is",
        "my": "order account",
        **dict.fromkeys(("tell", "give", "show", "help"), "me"),
    }.items()
    for then in thens.split(" ")
)
# Who says one of these asks about letters, marks or wording, which the form would change.
_OF_WORDING = listed(
    """translate translation translated rewrite rephrase paraphrase proofread correct grammar grammatical
    grammatically spell spelled spelling spelt punctuation punctuate capitalize capitalise capitalized
    capitalised capitals uppercase lowercase letters characters verbatim repeat pronounce pronounced
    pronoun noun nouns verb verbs adjective adverb preposition plural singular syllable syllables rhyme
    rhymes etymology apostrophe hyphen comma ascii unicode regex regexp glob wildcard palindrome anagram
    abbreviated abbreviation typo"""
)
# Only after a person or thing, at the beginning: "I can't log in". Elsewhere it may be spoken of: "when do I
# use don't?", "who sang can't stop".
_NEGATABLE = listed("do does did is are was were have has had could would should must")
_NEGATED = {f"{verb}n't": f"{verb} not" for verb in _NEGATABLE} | {"can't": "cannot", "won't": "will not"}
_SUBJECTS = listed("I i you we they he she it")
# "What's he done" is what he has done, "what's app" a name.
_PARTICIPLES = listed(
    """been become begun bet bitten blown bought bound bred broken brought built burnt cast caught chosen
    clung come crept cut dealt done drawn dreamt driven drunk dug eaten fallen felt fled flown forbidden
    forgiven forgotten fought found frozen given gone got gotten grown had heard held hidden hit hung hurt
    kept known laid lain leapt learnt led left lent let lit lost made meant met mistaken overcome paid
    proven put read ridden rung risen run said sat seen sent set sewn shaken shot shown shut slept slid
    sold sought spelt spent split spoken spread sprung stolen stood struck stuck stung sung sunk swept
    sworn swum taken taught thought thrown told torn undergone understood undone withdrawn woken won worn
    woven written"""
)
_NO_PARTICIPLES = listed("bed breed bleed feed hundred indeed need red seed speed weed")
_ARTICLES = frozenset(("a", "an", "the", "my", "your", "our"))

_REQUEST = re.compile(
    r"(?:(?:can|could|would|will) you (?:please|kindly) |please,? |kindly )([a-z]+) ([a-z]+)"
)
_PLEASE = re.compile(r"please,? (?=(?:can|could|would|will) you )")
# Not "would you tell", which may ask whether; nor "can you tell him", "can you explain contracts".
_TELL = re.compile(
    r"(?:can|could) you (?=(?:tell me|explain|explain to me) (?:how|what|why|who|where|which) )"
)
# Not "I want to know what love is", a song.
_TELLING = re.compile(
    r"(?:tell me|explain to me|explain|[iI] (?:need|would like) to know) (?=(?:how|what) )|tell me (?=who )"
)
# "Explain how to fold it in one word", "to a child": how to explain it, not how to fold it.
_OF_TELLING = listed(
    """sentence sentences word words detail details detailed terms step steps point points bullet bullets
    paragraph paragraphs line lines simple simply plain brief briefly short shortly quick quickly example
    examples like as again slowly when if before after until once emoji emojis rhyme rhymes verse poem
    english french german spanish italian portuguese russian japanese chinese korean arabic hindi dutch
    swedish polish turkish latin for with using without under picture pictures diagram diagrams song second
    seconds minute minutes page pages memory level grade table limerick joke haiku"""
)
_WHAT = re.compile(r"what ([^,.?!]+) (is|are)")
_HOW = re.compile(
    r"(?:how (?:to|(?:do|can) [iI]|[iI] can)|what (?:is the best way|are the steps) to)"
    r" ([a-z]+) ([^ .?!]+)(.*)"
)
_WANTED = re.compile(
    r"[iI] (?:want|need|would like) to ([a-z]+) ([^ .?!]+)([^.?!]*)[.!]"
    r" how (?:do|can) [iI] do (?:that|this|it)"
)
# "How to train your dragon" is a film, "how do I cancel your service" not "your subscription".
_OF_YOU = frozenset(("you", "your", "yours", "yourself"))
# Before these a verb has no object, and may be what an index does.
_PLACES = listed("to in from after at by on into during before back over with")
# Without an object they are also what becomes of one: how do I change with age, dry out, fold under pressure.
_OF_BECOMING = listed("change improve read clean fold register dry start stop")
_NO_OBJECTS = _PLACES | listed("under up out")
_CHANGED = frozenset(("to", "from"))
# "How can I block them and still get their calls" asks how it is possible, "lose weight but gain fat" why.
_OF_DOUBT = listed("still yet but and so when while without")


def words_of(line: str) -> list[str]:
    """The words in small letters, without the marks of sentences: of "What's Java?" what, s, java."""
    return line.lower().translate(_NO_MARKS).split()


_NO_MARKS = str.maketrans(",.?!'", "     ")


def is_english(words: list[str]) -> bool:
    """Whether so much of a line of ASCII is English that the rules here may be applied."""
    if not _ENGLISH.isdisjoint(words) and len(_FUNCTION.intersection(words)) > 1:
        return True
    if len(words) > 2 and words[0] in _GREETINGS:
        words = words[1:]
    return len(words) > 1 and (words[0] in _OPENINGS or f"{words[0]} {words[1]}" in _TURNS)


def form(line: str, words: list[str]) -> str | None:
    """The form of one line of English; None if it speaks about wording, or of its end nothing is sure."""
    if not _OF_WORDING.isdisjoint(words):
        return None
    line = without_greeting(line, words)
    head = without_thanks(line, words)
    if head is not line:
        shaped = _shaped(head, words)
        if shaped is not None and (shaped[1] or shaped[0].startswith("how to ")):
            return shaped[0]
    shaped = _shaped(line, words)
    return None if shaped is None else shaped[0]


def _shaped(line: str, words: list[str]) -> tuple[str, bool] | None:
    """The form, and whether it is one simple question."""
    tokens = line.split(" ")
    if len(tokens) < 2 or not in_small(tokens, words):
        return None
    end = _cut_end(tokens, words)
    if end is None:
        return None
    if "'" in line:
        _expand(tokens)
    text = " ".join(tokens)
    if end in ("", "?") and (plain := plainly_asked(text)) is not None:
        return plain, is_simple(tokens)
    asked = _reframed(_without_request(text))
    sentence = last_sentence(tokens)
    is_question = asks(sentence)
    if asked is not text:
        sentence = last_sentence(asked.split(" "))
        is_question = is_question or asks(sentence)
    if (end == "?" and is_question) or (end == "." and not may_exclaim(sentence)):
        end = ""
    return asked + end, is_question and is_simple(tokens)


def _cut_end(tokens: list[str], words: list[str]) -> str | None:
    """Take the mark off the last word: it, or none if it says nothing; None where it may be data."""
    last = tokens[-1]
    if last[-1] not in ".?!":
        return ""
    word = last.rstrip(".?!")
    end = last[len(word) :]
    if end == ".":
        if not word.isalpha() or len(word) == 1 or is_shortened(word, words):
            return ""  # of "1.", "U.S.", "fig." it stays
    elif end == "?":
        if len(word) == 1:
            return ""  # a pattern that matches "a" or nothing
    elif end.strip("?") == "":
        if not (word.islower() and word.isalpha() and len(word) > 2) or word in TYPES:
            return None  # Nf3??, Int??
        end = "?"
    elif len(end) > 1 or (end == "!" and not (word.isalpha() and len(word) > 1)):
        return None  # 5!, n!!
    tokens[-1] = word
    return end


def _expand(tokens: list[str]) -> None:
    first, second = tokens[0], tokens[1]
    if first in _SUBJECTS:
        if second in _NEGATED and len(tokens) > 3:
            tokens[1] = _NEGATED[second]
        return
    if first == "what's":
        # "What's app", "what's cooking", "what's good" are names and greetings.
        is_whole = second.rstrip(",") not in ("app", "apps", "up") and (
            len(tokens) > 2 or not second.endswith(("ing", "good"))
        )
    elif first == "how's" or first == "when's":
        is_whole = second in _ARTICLES
    elif first == "where's":
        is_whole = second in _ARTICLES and len(tokens) > 3
    else:
        is_whole = first == "who's" and second == "the" and "of" in tokens
    if is_whole and not any(map(_is_participle, tokens)):
        tokens[:1] = first[:-2], "is"


def _is_participle(word: str) -> bool:
    return word in _PARTICIPLES or (word.endswith("ed") and word not in _NO_PARTICIPLES)


def _without_request(text: str) -> str:
    if (please := _PLEASE.match(text)) is not None:
        text = text[please.end() :]
    if (tell := _TELL.match(text)) is not None:
        return text[tell.end() :]
    if (request := _REQUEST.match(text)) is not None:
        verb, then = request.groups()
        if verb in ASKED or (verb in ASKED_BEFORE and then in OBJECTS):
            return text[request.start(1) :]
    return text


def _reframed(text: str) -> str:
    if (telling := _TELLING.match(text)) is not None:
        told = text[telling.end() :]
        if (what := _WHAT.fullmatch(told)) is not None:
            return f"what {what.group(2)} {what.group(1)}"
        asked = _as_how_to(told)
        words = asked.split(" ")
        if not _OF_TELLING.isdisjoint(words) or (text[0] == "e" and "to" in words[4:]):
            return text
        # "Tell me how I met your mother" does not ask for the series.
        return asked if asked is not told or asks(last_sentence(words)) else text
    return _as_how_to(text)


def _as_how_to(text: str) -> str:
    how = _HOW.fullmatch(text) or _WANTED.fullmatch(text)
    if how is None:
        return text
    verb, then, rest = how.groups()
    befores = TO_DO.get(verb, _NONE)
    if befores is not None and then not in befores:
        return text
    if then in OF_MANNER or (then == "my" and verb in HABITS):
        return text
    done = f"{verb} {then}{rest}"
    words = done.split(" ")
    if done.startswith(OTHER_THINGS) or not _OF_YOU.isdisjoint(words):
        return text
    if not _OF_DOUBT.isdisjoint(words):
        return text
    if verb in _OF_BECOMING and then in _NO_OBJECTS and (verb != "change" or then not in _CHANGED):
        return text
    if text.startswith("what ") and (then[0].isdigit() or (len(then) == 1 and then != "a")):
        return text  # the way to Plant 2, the steps to block B
    if verb in OF_THINGS and then in _PLACES and not OF_INDEX.isdisjoint(words):
        return text  # "how can i reset to zero"
    return f"how to {done}"


_NONE: frozenset[str] = frozenset()
