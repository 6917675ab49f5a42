"""Whether a question may be answered as another wording of it was, or its words are the very matter.

"Translate the user's message" makes the last text of a request data: "How do I pay?" and "How can I pay?" ask
the same, and their translations differ. So a text has a form (canonical.py) and a meaning (meaning/) only
where nothing else in the request can make it data, and is compared as it stands everywhere else:

    before it      nothing but instructions; after an answer (a conversation, or examples of what to do) each
                   word counts
    instructions   in English, not too long, for somebody who answers questions, without one of the words that
                   texts are worked on with
    members        those that every chat has; a schema, a grammar or a bias tells of extraction or classes

That list is long on purpose: what is found in vain costs a hit, what is missing costs a wrong answer.
"""

import re
from functools import lru_cache
from typing import Any

from sidecar.cache.wordlists import listed

# Longer ones bring texts along, and work on them.
MAX_CHARS = 8192
_REMEMBERED = 128

_MEMBERS = listed(
    """
    model messages stream stream_options max_tokens max_completion_tokens temperature top_p top_k min_p
    presence_penalty frequency_penalty repetition_penalty seed stop n user metadata store service_tier
    reasoning reasoning_effort verbosity safety_identifier prompt_cache_key prompt_cache_retention tools
    tool_choice parallel_tool_calls functions logprobs modalities
    """
)
_INSTRUCTING = ("system", "developer")

# Beginnings of words: what is done to texts, what texts are made of, what only a machine reads.
_WORKED_ON = """
    abridg acronym alphabet anagram analy annotat assess autocomplet calculat capitali caption categor
    censor charact cipher classif clean compil complet compress condens console convert copy correct
    count decod decrypt detect determin dialect dictat echo edit emulat encod encrypt entit enumerat
    estimat evaluat expand extract fill filter flag flip formal game generat grad gramma guess haiku
    hashtag headlin highlight identif idiom imitat impersonat improv infer input intent interpret invert
    json keyword label lemma letter lint lowercase mark(?!down|et) mask meter mimic mirror moder modif
    mood morse negativ neutral normali obfuscat opposit outputs paraphras pars passage phrase poem
    polish politeness positiv predict pretend pronounc pronunc proofread prose pun quot rank rating
    rearrang recit recogni redact redo refin reformat reformulat regex remov reorder repeat rephras
    replac restat retell revers revis reword rewrit rhym rout sanitiz sarcas score scoring segment
    sentiment shell shorten simplif simulat slang slug snippet sort spell split sql stem story string
    style substitut subtitl summar syllab synonym syntax tag templat terminal titl token tone transcrib
    transcript transform transl translat transpos trim typo unscrambl uppercase utteran validat variant
    verbatim verify version voice wording xml yaml
    """
# Whole words.
_SAID = """
    says said saying writes wrote written types typed enters entered sends sent text texts message's
    messages' sentence word yes true false rude rate
    """
_TURNS = r"number of|examples?:|turns? [^.]{0,100}\binto"
_DATA = re.compile(rf"\b(?:(?:{'|'.join(_WORKED_ON.split())})\w*|(?:{'|'.join(_SAID.split())})\b|{_TURNS})")
_PLAIN_TEXT = re.compile(r"\bplain[- ]text\b")
_WORDS = re.compile(r"[^\W\d_]+")
# Every few words of English are among these, of no other language one in five.
_ENGLISH = listed(
    """
    a you are the to of and for your with this that be as if or not it is by from at they their who what
    how when where which will can should must may always never only please use help answer answers
    questions question helpful assistant assistants concise brief short polite friendly customer
    customers support about user users know don't know say
    """
)
_MIN_ENGLISH = 0.3
_ANSWERING = re.compile(
    r"\b(?:you are|you're|assist|help|support|answer|question|expert|advis|brief|concise)"
)


def wording_counts(document: dict[str, Any]) -> str:
    """Why the words of a chat's last text have to be the same for the same answer, in a word or two; empty
    where they need not."""
    if not document.keys() <= _MEMBERS:
        return _member(document)
    for message in document["messages"][:-1]:
        if type(message) is not dict or message.get("role") not in _INSTRUCTING:
            return "conversation"
        content = message.get("content")
        if type(content) is not str:
            return "instructions in parts"
        if content and (reason := _reason(content) if len(content) <= MAX_CHARS else "long instructions"):
            return reason
    return ""


def _member(document: dict[str, Any]) -> str:
    for name in document:
        if name not in _MEMBERS and not (name == "response_format" and _is_text(document[name])):
            return name
    return ""


def _is_text(response_format: Any) -> bool:
    return response_format is None or (
        type(response_format) is dict and response_format.get("type") == "text"
    )


# Most callers have one set of instructions: read once, it takes 0.3 µs, else a millisecond for the longest.
@lru_cache(_REMEMBERED)
def _reason(instructions: str) -> str:
    low = instructions.lower()
    if (found := _DATA.search(_PLAIN_TEXT.sub(" ", low))) is not None:
        return f"instructions: {found.group()}"
    if _ANSWERING.search(low) is None:
        return "instructions of which nothing is known"
    words = _WORDS.findall(low)
    if sum(word in _ENGLISH for word in words) < _MIN_ENGLISH * len(words):
        return "instructions of which nothing is known"
    return ""
