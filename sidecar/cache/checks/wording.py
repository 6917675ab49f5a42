"""What an answer says, taken apart so that two of them can be compared: words by their stems, numbers, names.

Content words only: what every text has (articles, prepositions, pronouns) makes unrelated texts look alike.
A stem is a guess good enough to count with: "enables", "enabled" and "enabling" have one. Chinese, Japanese,
Korean and Thai, which do not set words apart or join their particles to them, are read in pairs of letters
between the particles. The word lists are English, and the commonest of some other languages; in a language
that is not among them more words count, and fewer opposites are seen.
"""

import re
from collections import Counter
from unicodedata import normalize

from sidecar.cache.wordlists import listed

# Only the beginning is read, where a model says what it has to say. In bytes: Chinese takes longer a letter.
MAX_BYTES = 2048
SHORT_WORDS = 8

_FUNCTION = listed(
    """a an the is are was were be been am do does did have has had can could will would should may might must
    how what why when where which who i you he she it we they me them us my your his her its our their this
    that these those and or but if than then of in on at to for from by about into as so there with also while
    because since such one s re ll ve m
    der die das den dem des ein eine einen einem einer ist sind war und oder aber wenn als von im am zu für
    mit auf an es sie er wir ihr ihre ihren sich dass auch kann können wird werden
    le la les un une du de et ou est sont dans en sur pour par avec que qui l d qu j vous il elle ce cette se
    el los las y o es son del al para con su sus lo uma e da do dos das na em ao com gli di che della
    и в на с что это как для по из у или а к о"""
)
_YES = listed("yes yeah yep true correct ja oui sí sì sim да evet")
_NO = listed("no nope false incorrect nein non não нет hayır nie")
_UNSPACED_YES = ("はい", "是", "네", "예")
_UNSPACED_NO = ("いいえ", "不", "否", "아니")
_DENIALS = listed(
    """not no never cannot t none neither nor nicht kein keine keinen nie pas jamais aucun nunca jamás não nem
    non mai не нет нельзя"""
)
_UNSPACED_DENIAL = re.compile("[不没沒无無非未勿않없못]|ない|ません")
# "One" is an article too often.
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 2
    )
}

_SIGNS_AND_DIGITS = frozenset("-0123456789")

# Japanese, Chinese, Korean, Thai.
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_PARTICLE = re.compile("です|ます|[的是了在和与はがをにのでや은는이가을를의]")
# Numbers with their sign, words with C++ and C#, options of a command, comparisons.
_TOKEN = re.compile(
    r"(?:(?<![\w)\]])-)?\d+(?:[.,:]\d+)*|[^\W\d_]+\d*(?:\+\+|#)?|(?<![\w-])--?[a-z]\w*|[<>=≤≥≠]+"
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LIST_MARK = re.compile(r"^[ \t]*(?:\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_INSIDE_SENTENCE = re.compile(r"(?<=[\w,;] )[^\W\d_]\w*")


class Reading:
    """What one text says.

    `words` counts the content words by their stems; `whole` has them unshortened. `numbers` are as written in
    digits. `names` are words with a capital inside a sentence, and a command's options. `denials` is how
    often it says no or not. `opens` is "yes", "no" or "".
    """

    __slots__ = ("denials", "is_short", "names", "numbers", "opens", "text", "whole", "words")

    def __init__(self, text: str) -> None:
        text = text[:MAX_BYTES]
        if not text.isascii():
            text = text.encode(errors="replace")[:MAX_BYTES].decode(errors="ignore")
            text = normalize("NFKC", text).replace("−", "-")
        text = _LIST_MARK.sub("", text).strip()
        self.names = {word.casefold() for word in _INSIDE_SENTENCE.findall(text) if word[0].isupper()}
        self.text = text = text.casefold()
        self.numbers: set[str] = set()
        tokens = _TOKEN.findall(text if text.isascii() else _UNSPACED.sub(_in_pairs, text))
        self.is_short = len(tokens) <= SHORT_WORDS
        self.opens = _opening(text, tokens[0] if tokens else "")
        self.denials = len(_UNSPACED_DENIAL.findall(text))

        self.whole: set[str] = set()
        self.words: Counter[str] = Counter()
        # A word is looked at once, however often it is said.
        for token, times in Counter(tokens).items():
            number = _NUMBERS.get(token, token)
            if number[0] in _SIGNS_AND_DIGITS:
                if number[-1].isdigit():
                    self.numbers.add(number.replace(",", "") if _THOUSANDS.fullmatch(number) else number)
                    continue
                self.names.add(token)
            elif token in _FUNCTION:
                continue
            if token in _DENIALS:
                self.denials += times
            self.whole.add(token)
            self.words[stem(token)] += times


def stem(word: str) -> str:
    """The part of a word that its forms share, roughly."""
    if len(word) > 4:
        for ending in ("ing", "ed", "es", "s", "ly"):
            if word.endswith(ending) and len(word) - len(ending) > 2:
                word = word[: -len(ending)]
                break
        word = word.removesuffix("e")
    return word[:6] if word.isascii() else word[:5]


def _in_pairs(run: re.Match[str]) -> str:
    pieces = []
    for piece in _PARTICLE.split(run.group()):
        pieces += [piece] if len(piece) < 3 else [piece[at : at + 2] for at in range(len(piece) - 1)]
    return f" {' '.join(pieces)} "


def _opening(text: str, word: str) -> str:
    if word in _NO or text.startswith(_UNSPACED_NO):
        return "no"
    return "yes" if word in _YES or text.startswith(_UNSPACED_YES) else ""
