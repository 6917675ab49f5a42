"""The form of a question under which askings that one answer serves are the same text.

No model and no distance: a few rules that each keep the meaning, so that a false hit needs two questions
which say the same. What the rules do not know stays as it is, and then two askings are merely two.

- Only a question is changed: one line, at most MAX_CHARS, made of words, numbers and plain punctuation. A
  colon, quotes, brackets, backticks, operators, emoji, an ellipsis, a tab, a mark that stands alone mean that
  the text carries data, where each character counts ("Translate: ..."). It has no form and is compared as it
  stands, and so is a single word ("Turkey").
- In any language: Unicode's composed form, a doubled blank once where it is a slip, a repeated question mark
  once, no blank before it, no full stop at the end. Not the compatibility form, which makes 5² into 52.
- Capitals stay, but for the first letter of a question word (languages.py): German "Sie" and "sie" are two.
- In English (english.py): also what may be written small, contractions, courtesies, and a handful of ways to
  ask the same.

Left out, though they find more: articles and plurals, all in small letters. Without its article or its s
"vitamin A deficiency", "name the trees" or "a few friends" asks something else, and so do userId and userID,
PIN and pin, "Explain the Nice hotel".
"""

import re
from unicodedata import is_normalized, normalize

from sidecar.cache import english
from sidecar.cache.languages import (
    ASKING,
    FIRST,
    KNOWN,
    OF_APOSTROPHES,
    OF_BLANKS,
    OF_CHARACTERS,
    OF_MARKS,
    TYPES,
    WIDE,
    is_shortened,
)
from sidecar.cache.questions import plainly_asked

# Part of every key: a change of the rules must not find what was stored under the old ones.
VERSION = b"3"
MAX_CHARS = 300

# A word: letters and digits of every script, and punctuation that belongs to sentences, amounts, C++ and C#.
# An option (-l), a variable ($PATH), a quoted word ('Hello') and what has no letter or digit are none.
_WORD = r"[¿¡]*(?:[-+$€£#%]+(?=\d)|\.)?[^\W_](?:[^\W_]|[,?!%$€£+#&،。，、？！؟·-]|\.(?!\.)|'(?=[^\W_]))*+"
_PLAIN = re.compile(rf"{_WORD}(?: {_WORD})*+")
# The no-break ones of French, and the wide one.
_SOME_BLANK = str.maketrans("\u00a0\u202f\u3000", "   ")
_AFTER_MARK = re.compile(r"(?<=[,.?!]) {2,}")
_ENDS = ".?!。？！؟"
_NARROW = str.maketrans("？！؟。", "?!?.")


def canonical(text: str) -> str | None:
    """The form of a user's text; None where it is to be compared as it stands."""
    if len(text) > MAX_CHARS:
        return None
    line = text.strip()
    is_ascii = line.isascii()
    if not is_ascii:
        line = _composed(line)
        is_ascii = line.isascii()
    if "  " in line:
        line = _with_single_blanks(line)
    if " " not in line and line[:1].lower() != line[:1].upper():
        return None
    is_set_off = line.endswith((" ?", " !"))
    if is_set_off and line[: line.find(" ")].lstrip("¿¡") in ASKING and OF_MARKS.isdisjoint(_words(line)):
        line = line[:-2] + line[-1]
    if _PLAIN.fullmatch(line) is None:
        return None
    if is_ascii:
        if english.is_english(words := english.words_of(line)):
            return None if is_set_off else english.form(line, words)
        if (asked := plainly_asked(line)) is not None:
            return asked
    return _sentence(line)


def _words(line: str) -> list[str]:
    return [word.strip(",.?!¿¡") for word in line.lower().split(" ")]


def _composed(line: str) -> str:
    """With one sign for a letter and its accent, and one kind of blank; empty if the signs are spoken of."""
    if not is_normalized("NFC", line):
        line = normalize("NFC", line)
        if not OF_CHARACTERS.isdisjoint(_words(line)):
            return ""
    if "’" in line:
        if not OF_APOSTROPHES.isdisjoint(_words(line)):
            return ""
        line = line.replace("’", "'")
    return line.translate(_SOME_BLANK)


def _with_single_blanks(line: str) -> str:
    """Without what is a slip: after a mark, or after the first word of a sentence.

    Empty where it may be a table ("Mary Ann  Smith"), or is spoken of.
    """
    words = _words(line)
    if not OF_BLANKS.isdisjoint(words) or not OF_MARKS.isdisjoint(words):
        return ""
    first, _, rest = line.partition("  ")
    if " " not in first and rest.lstrip()[:1].islower():
        is_sentence = first[:1].isupper() and line[-1] in _ENDS
        if is_sentence or first.lstrip("¿¡") in KNOWN or english.is_english(english.words_of(line)):
            line = f"{first} {rest.lstrip()}"
    return _AFTER_MARK.sub(" ", line)


def _sentence(line: str) -> str | None:
    """The form in a language of which little is known."""
    said = line.rstrip(_ENDS)
    end = line[len(said) :].translate(_NARROW)
    first, _, rest = said.partition(" ")
    last = rest[rest.rfind(" ") + 1 :] or first
    if end == "." and last.isalpha() and len(last) > 1 and not is_shortened(last, _words(line)):
        end = ""  # not of an ordinal, initials, or "Art."
    elif len(end) > 1 and end == "?" * len(end):
        end = "?"
        if not last[-1].isalpha() or len(last) == 1 or last.lower() in TYPES:
            return None  # moves of chess, types
    elif len(end) > 1 or (end == "!" and (last[-1].isdigit() or len(last) == 1)):
        return None  # factorials, patterns
    if len(line) > len(said) and line[-1] not in "?!." and any(part in line for part in WIDE):
        return None
    return _with_small_first(first, rest) + end


def _with_small_first(first: str, rest: str) -> str:
    word = first.lstrip("¿¡")
    known = FIRST.get(word)
    if known is None or not rest:
        return f"{first} {rest}" if rest else first
    small, then = known
    if then and rest.partition(" ")[0].rstrip(",") not in then:
        return f"{first} {rest}"
    return f"{first[: len(first) - len(word)]}{small} {rest}"
