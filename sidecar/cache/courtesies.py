"""Greetings before an English question and thanks after it: what can be left away, and when it cannot.

"How do I say no? Thanks." asks how to say no, or all of it. So nothing is taken from a text that speaks about
words, and thanks only after a question: who asks "How rude is the bill, please?" or "Explain hold on, please"
speaks of words too, and no list knows it.
"""

import re

from sidecar.cache.wordlists import listed

# Who says one of these may speak of words, the first or last of which look like a courtesy.
_OF_SAYING = listed(
    """say says saying said answer answers answered answering reply replies replied replying respond responds
    responding response responses write writes writing wrote written text texted texting type typed typing
    word words phrase phrases sentence sentences call called mean means meaning meant shout shouts
    shouting yell scream ask asks asked asking greet greets greeting toast tweet caption print prints echo
    output quote sing sings sang sung lyrics lyric title order english american french german spanish
    italian portuguese russian japanese chinese mandarin cantonese korean arabic hebrew hindi urdu bengali
    dutch flemish swedish danish norwegian finnish icelandic polish czech hungarian romanian bulgarian
    serbian croatian greek turkish latin thai vietnamese indonesian malay tagalog swahili welsh irish
    gaelic afrikaans ukrainian persian farsi catalan esperanto basque yiddish"""
)
# But "write a cover letter", "call an ambulance", "where is my order".
_WRITING = frozenset(("write", "call", "order"))
_THINGS = frozenset(("write a", "write an", "call a", "call an", "my order"))
_MARKS = ",.!"
_ALONE = frozenset(
    f"{word}{mark}" for word in ("Hi", "hi", "Hello", "hello", "Hey", "hey") for mark in _MARKS
)
_FIRST_OF_TWO = listed("Hi hi Hello hello Hey hey Good good")
_SECOND_OF_TWO = frozenset(
    f"{word}{mark}" for word in ("there", "morning", "afternoon", "evening") for mark in _MARKS
)
# Not "Hello, I love you", "Hello, world", "Hi, Will".
_ASKING = listed("please please, what how why when where which who tell explain what's where's who's")
_ASKING_PEOPLE = frozenset(
    f"{verb} {who}" for verb in ("can", "could", "would", "do") for who in ("i", "you", "we")
) | {"is there", "are there", "can my"}
_LAST = listed("please thanks you lot advance much")
_THANKS = re.compile(
    r"(?<=\?) (?:[Pp]lease|[Tt]hanks|(?:[Tt]hank you|[Mm]any thanks)(?: very much)?|[Tt]hanks a lot"
    r"|[Tt]hanks in advance)[.!]*$"
)
# "Hello, who sang it" and "Hello, where was it filmed" may be about a song or a film of that name.
_OF_TITLES = frozenset(("who", "where", "when"))
_AUXILIARIES = listed("is are was were do does did can could will would should has have to")
# What is left of "Hi, thanks" is not a question.
_MIN_WORDS = 3


def without_greeting(line: str, words: list[str]) -> str:
    """The line without its greeting, if that says nothing. `words`: of `words_of`."""
    tokens = line.split(" ", 4)
    at = 1 if tokens[0] in _ALONE else 2 if tokens[0] in _FIRST_OF_TWO and tokens[1] in _SECOND_OF_TWO else 0
    if not at or len(tokens) < at + _MIN_WORDS or _is_of_saying(words):
        return line
    asking = tokens[at].lower()
    if asking in _OF_TITLES and ("it" in words or tokens[at + 1] not in _AUXILIARIES):
        return line
    if tokens[at][1:].islower() and (
        asking in _ASKING or f"{asking} {tokens[at + 1].lower()}" in _ASKING_PEOPLE
    ):
        return line.split(" ", at)[at]
    return line


def without_thanks(line: str, words: list[str]) -> str:
    """The question before the thanks at the end; the line itself where there are none."""
    if words[-1] not in _LAST or (thanks := _THANKS.search(line)) is None or _is_of_saying(words):
        return line
    return line[: thanks.start()]


def _is_of_saying(words: list[str]) -> bool:
    said = _OF_SAYING.intersection(words)
    if not said <= _WRITING:
        return True
    return any(
        word in said
        and f"{words[at - 1]} {word}" not in _THINGS
        and f"{word} {' '.join(words[at + 1 : at + 2])}" not in _THINGS
        for at, word in enumerate(words)
    )
