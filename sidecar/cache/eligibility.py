"""Which requests may be answered from the cache at all, and the words of the user that may vary in them.

Chats and completions whose answer is one text that depends on the request alone. A request is not eligible
when its answer does something (tools), looks outside (search), is kept at the provider (store), is wanted
several times or with inner figures (n, logprobs), is meant to vary (temperature), or will soon be another.
Everything else, known or not, is part of the key.

Not eligible although they could be: messages (Anthropic) and responses, whose streams carry signatures,
citations and item ids that a stored answer cannot repeat with fresh ids; a response is also kept at the
provider unless it says otherwise, and what goes on from a replayed one would find nothing.
"""

from typing import Any

from sidecar.cache.volatile import QUESTION_CHARS, is_volatile
from sidecar.openai import Call

# Where a caller sets a temperature above this it wants variety; absent says nothing.
MAX_TEMPERATURE = 0.3
# More takes a millisecond and more to hash, and hardly ever comes twice.
MAX_BODY_BYTES = 256 * 1024
KINDS = frozenset(("chat", "completions"))

# Top-level members that no answer from the cache can do justice to, when they are set.
_UNFIT = {
    **dict.fromkeys(("tools", "functions"), "tools"),
    **dict.fromkeys(("web_search_options", "search_parameters", "enable_search", "plugins"), "search"),
    **dict.fromkeys(("store", "background", "previous_response_id", "conversation"), "state"),
    **dict.fromkeys(("logprobs", "top_logprobs", "echo", "best_of"), "logprobs"),
    "audio": "content",
}
# Questions of the user that are looked at besides the last: "and in Rome?" is about the weather too.
_MAX_EARLIER = 4


class Bypass:
    """The cache is not for this request; `reason` is a word for the answer's head and for metrics."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Turn:
    """The last words of the user, and the request's body without them and without what cannot matter."""

    __slots__ = ("rest", "text")

    def __init__(self, text: str, rest: dict[str, Any]) -> None:
        self.text = text
        self.rest = rest


_REASONS = ("kind", "size", "tools", "search", "state", "logprobs", "choices", "temperature", "content")
_BYPASS = {reason: Bypass(reason) for reason in (*_REASONS, "volatile")}
# How the answer is sent, and what only the provider's bookkeeping sees.
_IMMATERIAL = frozenset(("stream", "stream_options", "metadata", "store"))


def last_turn(kind: str, call: Call, body_bytes: int, *, any_temperature: bool) -> Turn | Bypass:
    """What may vary in a request, or why it is not eligible. The cheap questions come first.

    `any_temperature`: the caller has said by `max-age` that it wants an answer from the cache.
    """
    if kind not in KINDS:
        return _BYPASS["kind"]
    if call.is_abridged or body_bytes > MAX_BODY_BYTES:
        return _BYPASS["size"]
    document = call.document
    if not _UNFIT.keys().isdisjoint(document):
        for name in document:
            if name in _UNFIT and document[name]:
                return _BYPASS[_UNFIT[name]]
    if call.choices != 1:
        return _BYPASS["choices"]
    temperature = document.get("temperature")
    if temperature is not None and not any_temperature and not _is_low(temperature):
        return _BYPASS["temperature"]
    return _chat_turn(document) if kind == "chat" else _completion_turn(document)


def _is_low(temperature: Any) -> bool:
    return type(temperature) in (int, float) and temperature <= MAX_TEMPERATURE


def _completion_turn(document: dict[str, Any]) -> Turn | Bypass:
    prompt = document.get("prompt")
    if type(prompt) is not str or not prompt:
        return _BYPASS["content"]
    if is_volatile(prompt):
        return _BYPASS["volatile"]
    return Turn(prompt, _without(document, "prompt"))


def _chat_turn(document: dict[str, Any]) -> Turn | Bypass:
    messages = document.get("messages")
    if type(messages) is not list or not messages:
        return _BYPASS["content"]
    last = messages[-1]
    if type(last) is not dict or last.get("role") != "user":
        return _BYPASS["content"]
    text = content = last.get("content")
    emptied: Any = ""
    if type(content) is list:
        # One part of text is the same question; anything beside it (an image, a file) is not only text.
        part = content[0] if len(content) == 1 else None
        if type(part) is not dict or part.get("type") != "text":
            return _BYPASS["content"]
        text = part.get("text")
        emptied = [{**part, "text": ""}]
    if type(text) is not str or not text:
        return _BYPASS["content"]
    if is_volatile(text) or (len(messages) > 1 and _was_volatile(messages)):
        return _BYPASS["volatile"]
    rest = _without(document, "messages")
    rest["messages"] = [*messages[:-1], {**last, "content": emptied}]
    return Turn(text, rest)


def _was_volatile(messages: list[Any]) -> bool:
    """Whether one of the user's earlier questions was. A longer text brings its own facts."""
    seen = 0
    for index in range(len(messages) - 2, -1, -1):
        message = messages[index]
        if type(message) is not dict or message.get("role") != "user":
            continue
        text = message.get("content")
        if type(text) is str and len(text) <= QUESTION_CHARS and is_volatile(text):
            return True
        seen += 1
        if seen == _MAX_EARLIER:
            break
    return False


def _without(document: dict[str, Any], varying: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _IMMATERIAL and name != varying}
