"""English questions in one form: the same words in the same order, less what does not change the answer.

    small letters     but not where capitals tell words apart: IT, US, Will inside a sentence; Mb, MB, MBps,
                      C, B12. Docker, JavaScript and GDPR are written either way
    contractions      what's -> what is, don't -> do not; only those that stand for one thing
    courtesies        "Hi, could you please ...", "..., thanks!"; at the edges, and set off by a comma there
    embedded          tell me what X is, explain how I can X -> the question itself
    ways to ask how   how do I, how can I, I want to X. How do I do that?, the steps, the best way -> how to X
    what is           explain X, define X -> what is X, where X is nothing but the name of a thing

All else stays: numbers, negation, modals, prepositions, order, names, articles, "how should I", "how do you"
(who asks a company how it stores data does not ask how to). "Explain the score" is not "what is the score": a
thing that has an article `the`, a preposition or a digit is a value or a passage to explain.

What speaks about the form of a text (spelling, capitals, translation) has no form here.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# With what is left of contractions: of what's, don't, we're, I'm.
_FUNCTION = _words(
    """a an the is are was were be been am do does did have has had can could will would shall should may
    might must how what why when where which who whom whose i you he she it we they me him us them my your his
    her its our their this that these those and or but not no if than of in on at to for from with without by
    about into as so there please s t re m"""
)
# Those of them, and openings, that no other language writes alike, as it does "was", "in", "no", "my", "are".
_ENGLISH = _words(
    """the what how why when where which who does your from with this that these those would should could
    please explain tell describe write give because their there about without"""
)
_OPENINGS = frozenset(("explain", "define", "please", "describe"))
# Who says one of these asks about letters, marks or wording, which the form would change.
_OF_WORDING = _words(
    """translate translation translated rewrite rephrase paraphrase proofread correct grammar
    grammatically spell spelled spelling punctuation punctuate capitalize capitalise capitalized capitalised
    uppercase lowercase letters characters verbatim repeat pronounce"""
)
_QUESTION = _words(
    """what how why when where which who whom whose is are was were am do does did can could will would
    shall should may might must have has had"""
)

_CONTRACTIONS = {
    **{f"{word}'s": f"{word} is" for word in ("what", "who", "where", "how", "when", "why")},
    **{f"{word}'re": f"{word} are" for word in ("you", "we", "they", "what", "who", "where", "how")},
    "can't": "cannot",
    "won't": "will not",
    "shan't": "shall not",
    "i'm": "i am",
}
_NO_MARKS = str.maketrans(",.?!'", "     ")
_ENDS = (".", "?", "!")
_WITH_CAPITAL = re.compile(r"[A-Za-z0-9]*[A-Z][A-Za-z0-9]*")

_ASKING = (
    r"(?:can|could|would|will|please|what|how|why|when|where|which|who|i|tell|explain|define|describe)\b"
)
_GREETING = re.compile(rf"(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: there)?[,.!]+ (?={_ASKING})")
_THANKS = re.compile(
    r"(?<=[,.?!]) ?(?:please|thanks|thank you|many thanks|thanks a lot|thanks in advance)[.?!]*$"
)
_POLITE = re.compile(
    r"(?:please,? )?(?:can|could|would|will) you (?:please |kindly |(?=(?:tell|explain|define)\b))|please,? "
)
_TELLING = re.compile(r"(?:(?:tell|explain to) me|explain|i (?:want|would like|need) to know) (?=how |what )")
_WHAT = re.compile(r"what ([^,.?!]+) (is|are)")
_HOW = re.compile(
    r"(?:(?:how (?:do|can) i|how i can)"
    r"|what (?:is the best way|are the steps) to) "
)
_WANTED = re.compile(r"i (?:want|need|would like) to ([^.?!]+)[.!] how (?:do|can) i do (?:that|this|it)")
_JOINING = ("and", "of")
_WORD_AT_END = re.compile(r"[a-z]{2,}$")
_NAMED = re.compile(r"(?:explain|define) ((?:an? )?[A-Za-z'-]+(?: [A-Za-z'-]+){0,3})")


def words_of(line: str) -> list[str]:
    """The words in small letters, without the marks of sentences: of "What's Java?" what, s, java."""
    return line.lower().translate(_NO_MARKS).split()


def is_english(words: list[str]) -> bool:
    """Whether so much of a line of ASCII is English that the rules here may be applied."""
    if words and words[0] in _OPENINGS:
        return True
    return not _ENGLISH.isdisjoint(words) and len(_FUNCTION.intersection(words)) > 1


def form(line: str, words: list[str]) -> str | None:
    """The form of one line of English; None if it speaks about wording, or says nothing."""
    if not _OF_WORDING.isdisjoint(words):
        return None
    low = _expand(_keep_names(line, line.lower()))
    if (greeting := _GREETING.match(low)) is not None:
        low = low[greeting.end() :]
    if (thanks := _THANKS.search(low)) is not None:
        low = low[: thanks.start()]
    asked = low
    if (polite := _POLITE.match(low)) is not None:
        low = low[polite.end() :]
    is_question = _asks(asked) or _asks(low)
    low = _reframed(_without_end(low, is_question))
    # One word is what was little else than a courtesy.
    return low if " " in low else None


def _keep_names(line: str, low: str) -> str:
    """`low`, but as they were: the words whose capitals tell them from another word."""
    if line[1:] == low[1:]:
        return low
    for found in _WITH_CAPITAL.finditer(line):
        word, at = found.group(), found.start()
        begins = at == 0 or line[at - 2 : at - 1] in _ENDS
        if word == "I" or (begins and word[1:] == low[at + 1 : found.end()]):
            continue
        is_short = len(word) < 3 or (len(word) < 5 and not word[1:].islower() and not word.isupper())
        if is_short or not word.isalpha() or (word.lower() in _FUNCTION and not begins):
            low = low[:at] + word + low[found.end() :]
    return low


def _expand(low: str) -> str:
    if "'" not in low:
        return low
    return " ".join([_expanded(word) if "'" in word else word for word in low.split(" ")])


def _expanded(word: str) -> str:
    bare = word.rstrip(",.?!")
    full = _CONTRACTIONS.get(bare)
    if full is None:
        full = bare[:-3] + " not" if bare.endswith("n't") and len(bare) > 4 else bare
    return full + word[len(bare) :]


def _asks(low: str) -> bool:
    """Whether it is a question by its first word, or ends in one after a wish."""
    return low[: low.find(" ")] in _QUESTION or ". how " in low


def _without_end(low: str, is_question: bool) -> str:
    """Without the marks at the end; of what is no question, without the full stop only."""
    bare = low.rstrip(".?!, ")
    end = low[len(bare) :]
    if "!" in end and not _WORD_AT_END.search(bare):
        return bare + "!"  # 5! and n! are numbers
    if not is_question and ("!" in end or "?" in end):
        return bare + ("?" if "?" in end else "!")
    return bare


def _reframed(low: str) -> str:
    if (telling := _TELLING.match(low)) is not None:
        low = low[telling.end() :]
        if (what := _WHAT.fullmatch(low)) is not None:
            return f"what {what.group(2)} {what.group(1)}"
    if (how := _HOW.match(low)) is not None:
        return "how to " + low[how.end() :]
    if (wanted := _WANTED.fullmatch(low)) is not None:
        return "how to " + wanted.group(1)
    if (named := _NAMED.fullmatch(low)) is not None:
        name = named.group(1)
        words = name.removeprefix("a ").removeprefix("an ").split(" ")
        if not [word for word in words if word in _FUNCTION and word not in _JOINING]:
            return "what is " + name
    return low
