"""The form of a question under which askings that one answer serves are the same text.

No model and no distance: a few rules that each keep the meaning, so that a false hit needs two questions
which say the same. What the rules do not know stays as it is, and then two askings are merely two.

- Only a question is changed: one line, at most MAX_CHARS, made of words, numbers and plain punctuation. A
  colon, quotes, brackets, backticks, operators, emoji, an ellipsis mean that the text carries data, where
  each character counts ("Translate: ..."): there is no form, it is compared as it stands.
- In any language: Unicode's composed form, one blank between words, a repeated end mark once, no blank before
  it, no full stop at the end, a small first letter. Not the compatibility form, which makes 5² into 52; no
  other letter in small, since German "Sie" and "sie" are two words.
- In English (english.py): small letters, contractions, courtesies, and a handful of ways to ask the same.

Left out, though they find more: articles and plurals. Without its article or its s "vitamin A deficiency",
"name the trees" or "a few friends" asks something else.
"""

import re
from unicodedata import is_normalized, normalize

from sidecar.cache import english

# Part of every key: a change of the rules must not find what was stored under the old ones.
VERSION = b"1"
MAX_CHARS = 300

# Letters and digits of every script, and punctuation that belongs to sentences, amounts, C++ and C#.
_PLAIN = re.compile(r"(?:[^\W_]|[ ,.?!'’%$€£+#&،。，、？！؟¿¡·-])+")
# An option (-l), a variable ($PATH), a quoted word ('Hello'), where capitals count too.
_DATA = re.compile(r"(?:^| )[-$€£%#&+'’]+[^\W\d_]|['’](?:[ .,?!]|$)")
_ENDS = ".?!。？！؟"
_MARKS = str.maketrans("？！؟", "?!?")


def canonical(text: str) -> str | None:
    """The form of a user's text; None where it is to be compared as it stands."""
    if len(text) > MAX_CHARS:
        return None
    lines = text.strip().splitlines()
    if len(lines) != 1:
        return None
    # Every kind of blank, U+00A0 and U+3000 too.
    line = " ".join(lines[0].split())
    is_ascii = line.isascii()
    if not is_ascii and not is_normalized("NFC", line):
        line = normalize("NFC", line)
    if _PLAIN.fullmatch(line) is None or ".." in line:
        return None
    if _DATA.search(line) is not None:
        return None
    if not is_ascii and "’" in line:
        line = line.replace("’", "'")
        is_ascii = line.isascii()
    if is_ascii and english.is_english(words := english.words_of(line)):
        return english.form(line, words)
    return _sentence(line)


def _sentence(line: str) -> str | None:
    """The form in a language of which nothing is known."""
    words = line.rstrip(_ENDS + " ")
    if not words:
        return None
    end = line[len(words) :].replace(" ", "").translate(_MARKS)
    if end:
        # A question mark or a cry changes what is said ("Du kommst mit?"), the number of them does not.
        end = "".join(mark for mark in "?!" if mark in end)
    if words[-1].isdigit() and "!" in end:
        return None  # a factorial
    if len(words) > 1 and words[1].isupper():
        return words + end  # an acronym
    return words[0].lower() + words[1:] + end
