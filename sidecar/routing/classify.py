"""Rules that look at a request and choose its model: the first that matches wins, before the split.

They know no language but the keywords that the configuration gives. Looked at is the text of the last message
of the user, or the prompt; what only carries a tool's result is no message of the user. Its first 16,384
characters are searched; its length counts whole. Bodies come from outside: what has another shape than in the
APIs is passed over, and what is looked at is bounded, whatever the body.

- A keyword is found whatever its case and as a whole word ("reason" is not in "reasonable"). Where it begins
  or ends with a character of a script without spaces (Chinese, Japanese, Korean, Thai, ...) or with a sign
  ("c++", "```"), that end may stand anywhere; a character of such a script ends a word, too.
- A question is a text with a question mark of any script in it, at the end or not, also that of a URL. The
  Greek one, U+037E, is known; the semicolon that most Greek keyboards write instead means too much else.
- An importance other than critical is normal.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any
from unicodedata import category, normalize

from sidecar.config.model import When

SEARCHED_CHARS = 16_384
IMPORTANCE = b"x-sidecar-importance"
IMAGE_TYPES = frozenset(("image_url", "input_image", "image"))

# Messages, and parts of messages, that are looked at, newest first: up to 100 ns each.
_MAX_LOOKED_AT = 4096
# Where a keyword stands inside so many longer words, it is taken for absent.
_MAX_HITS = 256

# Latin, full width, Arabic, Greek, Armenian, Ethiopic, Limbu, Coptic, Vai, Bamum, Chakma; reversed, doubled,
# with exclamation marks, vertical, small; emoji.
_QUESTION_MARKS = tuple("?？؟\u037e՞፧᥅⳺⳻꘏꛷\U00011143⸮⁇⁈⁉‽︖﹖❓❔")

# Thai, Lao, Tibetan, Burmese, Khmer; Han, kana, Hangul with their radicals, extensions and half-width forms.
# Korean has spaces, but its words carry endings.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\uff66-\uffdf\U00020000-\U0003ffff]"
)


class Classifier:
    """The rules of one route, compiled once."""

    __slots__ = ("_rules",)

    def __init__(self, conditions: Iterable[When]) -> None:
        self._rules = tuple(_Rule(when) for when in conditions)

    def choose(self, document: Mapping[str, Any], fields: Mapping[bytes, bytes]) -> int | None:
        """The index of the first rule that matches a request; None where none does."""
        facts = _Facts(document, fields)
        for index, rule in enumerate(self._rules):
            if rule.matches(facts):
                return index
        return None


class _Rule:
    """One `when`: what is None is not asked."""

    __slots__ = (
        "_images",
        "_is_critical",
        "_keywords",
        "_max_chars",
        "_min_chars",
        "_needs_text",
        "_question",
        "_tools",
    )

    def __init__(self, when: When) -> None:
        self._is_critical = None if when.importance is None else when.importance == "critical"
        self._tools = when.tools
        self._images = when.images
        self._question = when.question
        self._min_chars = when.min_chars or 0
        self._max_chars = when.max_chars
        self._keywords = tuple(_keyword(word) for word in when.keywords)
        self._needs_text = (
            bool(when.keywords)
            or when.min_chars is not None
            or when.max_chars is not None
            or when.question is not None
        )

    def matches(self, facts: "_Facts") -> bool:
        """Whether every condition holds; the cheap ones are asked first."""
        if self._is_critical is not None and self._is_critical is not facts.is_critical:
            return False
        if self._tools is not None and self._tools is not facts.has_tools():
            return False
        if self._needs_text:
            facts.read_text()
            if facts.chars < self._min_chars:
                return False
            if self._max_chars is not None and facts.chars > self._max_chars:
                return False
            if self._question is not None and self._question is not facts.is_question():
                return False
            if self._keywords and not self._has_keyword(facts.folded_text()):
                return False
        return self._images is None or self._images is facts.has_images()

    def _has_keyword(self, text: str) -> bool:
        for word, begins, ends in self._keywords:
            if word in text and _stands_alone(text, word, begins, ends):
                return True
        return False


class _Facts:
    """What rules ask of one request, each found when first asked for."""

    __slots__ = ("_document", "_folded", "_has_images", "_is_question", "chars", "is_critical", "text")

    def __init__(self, document: Mapping[str, Any], fields: Mapping[bytes, bytes]) -> None:
        self._document = document
        self._folded: str | None = None
        self._has_images: bool | None = None
        self._is_question: bool | None = None
        self.is_critical = fields.get(IMPORTANCE, b"").lower() == b"critical"
        self.text = ""  # these two by read_text
        self.chars = -1

    def has_tools(self) -> bool:
        document = self._document
        tools, functions = document.get("tools"), document.get("functions")
        return (type(tools) is list and bool(tools)) or (type(functions) is list and bool(functions))

    def has_images(self) -> bool:
        if self._has_images is None:
            self._has_images = _have_image(_messages(self._document))
        return self._has_images

    def read_text(self) -> None:
        if self.chars < 0:
            self.text, self.chars = _asked(_messages(self._document))

    def is_question(self) -> bool:
        if self._is_question is None:
            text = self.text
            self._is_question = any(mark in text for mark in _QUESTION_MARKS)
        return self._is_question

    def folded_text(self) -> str:
        if self._folded is None:
            self._folded = _fold(self.text)
        return self._folded


# --- keywords --------------------------------------------------------------------------------------------


def _fold(text: str) -> str:
    """The same text for the same letters: one spelling of accents, no case."""
    return text.lower() if text.isascii() else normalize("NFC", text).casefold()


def _keyword(word: str) -> tuple[str, bool, bool]:
    """A keyword as it is searched, and whether it must begin and end a word."""
    folded = _fold(word)
    return folded, _is_of_word(folded[0]), _is_of_word(folded[-1])


def _stands_alone(text: str, word: str, begins: bool, ends: bool) -> bool:
    at = text.find(word)
    for _ in range(_MAX_HITS):
        if at < 0:
            return False
        end = at + len(word)
        is_inside = (begins and at and _is_of_word(text[at - 1])) or (
            ends and end < len(text) and _is_of_word(text[end])
        )
        if not is_inside:
            return True
        at = text.find(word, at + 1)
    return False


def _is_of_word(char: str) -> bool:
    """Whether words of a script with spaces are made of it: letters, digits, accents, vowel signs."""
    if char.isalnum() or char == "_":
        return char < "\u0e00" or _WITHOUT_SPACES.match(char) is None
    return char > "\u02ff" and category(char)[0] == "M" and _WITHOUT_SPACES.match(char) is None


# --- bodies --------------------------------------------------------------------------------------------


def _messages(document: Mapping[str, Any]) -> Any:
    """Chat completions and Anthropic have messages, responses an input, completions a prompt."""
    for name in ("messages", "input", "prompt"):
        value = document.get(name)
        if value is not None:
            return value
    return None


def _asked(messages: Any) -> tuple[str, int]:
    """The text of the last message of the user, or the prompt: what is searched of it, and its length."""
    if type(messages) is not list or not messages or type(messages[0]) is not dict:
        return _text_of(messages)
    for message in islice(reversed(messages), _MAX_LOOKED_AT):
        if type(message) is dict and message.get("role") == "user":
            content = message.get("content")
            text, chars = _text_of(content)
            if chars or not _is_tool_result(content):
                return text, chars
    # Moderations take parts without messages.
    return _text_of(messages) if "text" in messages[0] else ("", 0)


def _text_of(content: Any) -> tuple[str, int]:
    """The text of a message's content, which is a text or a list of parts, and its length."""
    if type(content) is str:
        return content[:SEARCHED_CHARS], len(content)
    if type(content) is not list:
        return "", 0
    texts, chars = [], 0
    for part in islice(content, _MAX_LOOKED_AT):
        text = part.get("text") if type(part) is dict else part
        if type(text) is str:
            if chars < SEARCHED_CHARS:
                texts.append(text[:SEARCHED_CHARS])
            chars += len(text)
    return "\n".join(texts)[:SEARCHED_CHARS], chars


def _is_tool_result(content: Any) -> bool:
    """Anthropic's tool results come in messages of the user."""
    return (
        type(content) is list
        and bool(content)
        and type(content[0]) is dict
        and content[0].get("type") == "tool_result"
    )


def _have_image(messages: Any) -> bool:
    """Whether an image is among the parts of the messages, newest first, those inside tool results too."""
    pending = messages[-_MAX_LOOKED_AT:] if type(messages) is list else []
    for _ in range(_MAX_LOOKED_AT):
        if not pending:
            return False
        item = pending.pop()
        if type(item) is dict:
            kind, content = item.get("type"), item.get("content")
            if type(kind) is str and kind in IMAGE_TYPES:
                return True
            if type(content) is list:
                pending += content[-_MAX_LOOKED_AT:]
    return False
