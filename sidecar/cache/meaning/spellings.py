"""Words and numbers that are written in two ways, and the one that stands for both.

Only where no name can be meant: "Living Colour" is no "living color", and who is number one may be "no one".
"Twenty five dollar bills" may be twenty of five dollars, 1,5 is not 15, nor 100,200 one number for certain.
"""

import re

from sidecar.cache.canonical import canonical
from sidecar.cache.wordlists import listed


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


# Without the apostrophe, and no words of their own: not cant, wont, its, were, ill, id, hell.
_CARELESS = _pairs(
    """dont=don't doesnt=doesn't didnt=didn't isnt=isn't arent=aren't wasnt=wasn't werent=weren't
    havent=haven't hasnt=hasn't couldnt=couldn't shouldnt=shouldn't
    whats=what's wheres=where's whos=who's hows=how's"""
)
# The same word after one of _FIXED, where it is no part of a name.
_SPELLINGS = {
    word: same.replace("+", " ")
    for word, same in _pairs(
        """colour=color colours=colors favourite=favorite behaviour=behavior litre=liter jewellery=jewelry
        organise=organize analyse=analyze optimise=optimize summarise=summarize customise=customize
        recognise=recognize visualise=visualize organisation=organization
        timezone=time+zone website=web+site"""
    ).items()
}
_FIXED = listed("the a an my your his her our their its this that what which to i I")
_HYPHENED = _pairs("e-mail=email e-mails=emails wi-fi=wifi")
_DIGITS = _pairs("""two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12""")
# "Give me three ideas", "what are five good books".
_COUNT = re.compile(
    "((?:[Gg]ive me|[Tt]ell me|[Ll]ist|[Nn]ame|[Ss]uggest|[Rr]ecommend|[Ww]rite|what are) )"
    rf"({'|'.join(_DIGITS)}) (?=(?:[a-z]+ )?[a-z]{{2,}}[^sui]s\b)"
)
_THOUSANDS = re.compile(r"\$?[1-9][0-9]{0,2}(?:,[0-9]{3})*,000")
_PERCENT = re.compile("(?<=[0-9]) percent (?=of )")
# Not "the united states of Europe", "the united kingdom of the Netherlands".
_STATES = re.compile(" the (?:[Uu]nited [Ss]tates(?: of America)?|USA)(?= |$)(?! of )")
_KINGDOM = re.compile(" the (?:[Uu]nited [Kk]ingdom|UK)(?= |$)(?! of )")
_IN_TWO_WAYS = frozenset((*_SPELLINGS, *_HYPHENED, "percent", "united", "usa", "uk"))


def with_apostrophes(form: str, words: list[str]) -> str:
    """A canonical form with the apostrophes that were left out. `words`: its own, by english.words_of."""
    if _CARELESS.keys().isdisjoint(words):
        return form
    full = " ".join([_CARELESS.get(piece, piece) for piece in form.split(" ")])
    return canonical(full) or full


def counted(form: str) -> str:
    """With a digit for how many things are wanted."""
    if (count := _COUNT.match(form)) is None:
        return form
    return f"{count.group(1)}{_DIGITS[count.group(2)]} {form[count.end() :]}"


def spelled(form: str, words: list[str]) -> str:
    """With one spelling for each word and amount. `words`: those of the form, by english.words_of."""
    if _IN_TWO_WAYS.isdisjoint(words) and ",000" not in form:
        return form
    form = _KINGDOM.sub(" the uk", _STATES.sub(" the usa", _PERCENT.sub("% ", form)))
    pieces = form.split(" ")
    before = ""
    for at, piece in enumerate(pieces):
        word = piece.rstrip(",.?!")
        same = _HYPHENED.get(word) or _same(word, before)
        # "Is the colour the color": the one and the other are spoken of.
        if same and same not in form:
            pieces[at] = same + piece[len(word) :]
        before = piece
    return " ".join(pieces)


def _same(word: str, before: str) -> str:
    if before in _FIXED and word in _SPELLINGS:
        return _SPELLINGS[word]
    return word.replace(",", "") if _THOUSANDS.fullmatch(word) else ""
