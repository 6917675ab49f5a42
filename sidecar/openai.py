"""What the sidecar knows of the AI APIs' wire format, and nothing more: model, stream, usage. The events of
streams are in events.py.

Bodies are read, never rebuilt: what goes on is the sender's bytes. The formats are OpenAI's chat
completions, completions, embeddings, responses, moderations, images and speech, and Anthropic's messages
(their API references, 2026).
"""

import math
import re
from collections.abc import Generator
from typing import Any

import orjson

from sidecar.errors import bad_request
from sidecar.exchange import Reply, Usage
from sidecar.large_body import LARGE_BYTES, abridge
from sidecar.splice import duplicates, is_usual

# JSON inference calls: every policy applies to these, all else is passed through unread.
KINDS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images",
    "/v1/audio/speech": "speech",
}
MAX_MODEL_CHARS = 256
# More than any answer has: a provider's slip of the pen must not empty a budget for good.
MAX_TOKENS = 1_000_000_000

# What decides something here: no request may say one of these twice.
DECISIVE_KEYS = (
    *(
        "model",
        "stream",
        "stream_options",
        "n",
        "store",
        "background",
        "previous_response_id",
        "conversation",
    ),
    *("messages", "prompt", "input", "instructions", "logprobs", "top_logprobs"),
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "best_of"),
)
# What bounds the answers of each API. Providers pass over the keys of the others: those bound nothing.
_CHAT_LIMITS = ("max_tokens", "max_completion_tokens")
_ANY_LIMITS = (*_CHAT_LIMITS, "max_output_tokens")
_LIMITS: dict[str, tuple[str, ...] | None] = {
    "chat": _CHAT_LIMITS,
    "completions": ("max_tokens",),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "images": (),
    "speech": (),
    # Answers of numbers: no token of output is ever paid for.
    "embeddings": None,
    "moderations": None,
}


class Call:
    """What a JSON inference request asks for.

    `choices` is how many answers it wants, `is_replayable` whether sending it twice leaves nothing behind at
    the provider, `strip_usage` that the stream's usage event was asked for by the sidecar, not the caller.
    `is_abridged`: long texts of `document` are cut (large_body.py), so that it does not tell one request from
    every other. `kind` is the API it calls, one of KINDS; whoever read the path says it, "" is not known.
    """

    __slots__ = ("document", "is_abridged", "kind", "model", "stream", "strip_usage")

    def __init__(self, document: dict[str, Any], model: str, stream: bool) -> None:
        self.document = document
        self.model = model
        self.stream = stream
        self.strip_usage = False
        self.is_abridged = False
        self.kind = ""

    @property
    def asks_for_usage(self) -> bool:
        options = self.document.get("stream_options")
        return type(options) is dict and options.get("include_usage") is True

    @property
    def is_replayable(self) -> bool:
        return not (self.document.get("store") or self.document.get("background"))

    @property
    def continues(self) -> object:
        """The id of the stored response that it goes on from, if it does."""
        return self.document.get("previous_response_id")

    @property
    def max_output(self) -> int | None:
        """How many tokens the answers may have, all together, if the caller says so.

        Where it says so in two ways the larger one counts: which of them a provider goes by is not known.
        """
        keys = _LIMITS.get(self.kind, _ANY_LIMITS)
        if keys is None:
            return 0
        get = self.document.get
        most = 0
        for key in keys:
            limit = get(key)
            if limit is None:
                continue
            if type(limit) is float:
                limit = math.ceil(limit)
            if type(limit) is not int or limit <= 0:
                return None  # what a provider makes of it is not known
            if limit > most:
                most = limit
        return most * self.generated if most else None

    @property
    def choices(self) -> int:
        """How many answers it is given."""
        return _prompts(self.document) * _positive(self.document.get("n"))

    @property
    def generated(self) -> int:
        """How many answers are made for it, and paid for: with `best_of` more than it is given."""
        document, count = self.document, 1
        if "n" in document:
            count = _positive(document["n"])
        if "best_of" in document:
            count = max(count, _positive(document["best_of"]))
        return count * _prompts(document) if "prompt" in document else count


def _prompts(document: dict[str, Any]) -> int:
    prompt = document.get("prompt")
    return len(prompt) if type(prompt) is list and prompt and type(prompt[0]) is not int else 1


def _positive(count: object) -> int:
    return count if type(count) is int and count > 0 else 1


def read_call(body: bytes) -> Call | Reply:
    """Read a request body; anything that is not an object with a usable model is answered with 400.

    A body over LARGE_BYTES takes 1 to 7 ms a MiB; `read_large_call` does the same in steps.
    """
    if len(body) > LARGE_BYTES:
        reading = read_large_call(body)
        while True:
            try:
                next(reading)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return bad_request(f"The body is not valid JSON: {error}. Send one JSON object.")
    if type(document) is not dict:
        return _NOT_AN_OBJECT
    if not is_usual(body, document) and (twice := duplicates(body, document, DECISIVE_KEYS)):
        return _said_twice(twice[0])
    return _judge(document)


def read_large_call(body: bytes) -> Generator[None, None, Call | Reply]:
    """What `read_call` does, with a pause for others to work after every few milliseconds."""
    abridged = yield from abridge(body)
    if isinstance(abridged, Reply):
        return abridged
    try:
        document = orjson.loads(abridged)
    except orjson.JSONDecodeError as error:
        return bad_request(f"The body is not valid JSON: {error.msg}. Send one JSON object.")
    if type(document) is not dict:
        return _NOT_AN_OBJECT
    for key in [key for key in DECISIVE_KEYS if key in document]:
        yield
        if duplicates(abridged, document, (key,)):
            return _said_twice(key)
    call = _judge(document)
    if isinstance(call, Call):
        call.is_abridged = abridged is not body
    return call


def _judge(document: dict[str, Any]) -> Call | Reply:
    model = document.get("model")
    if type(model) is not str or not model:
        return bad_request("Set `model` to the name of a model, as a string.", param="model")
    if len(model) > MAX_MODEL_CHARS or not model.isprintable():
        return bad_request(f"`model` must be at most {MAX_MODEL_CHARS} printable characters.", param="model")
    stream = document.get("stream")
    if stream is not None and type(stream) is not bool:
        return bad_request("`stream` must be true or false.", param="stream")
    return Call(document, model, stream is True)


def _said_twice(key: str) -> Reply:
    message = (
        f"`{key}` stands in the body more than once, and parsers differ on which one counts. Send it once."
    )
    return bad_request(message, param=key)


_NOT_AN_OBJECT = bad_request("The body must be one JSON object.")


# --- usage ---------------------------------------------------------------------------------------------


def usage_from(report: Any) -> Usage | None:
    """The figures of a `usage` object of any of the formats; None where it says neither what went in nor what
    came out: `{}`, or a total alone."""
    if type(report) is not dict:
        return None
    get = report.get
    input_, output = get("prompt_tokens"), get("completion_tokens")
    is_openai = input_ is not None
    if not is_openai:
        input_ = get("input_tokens")
    if output is None:
        output = get("output_tokens")
        if output is None:
            if input_ is None:
                return None
            output = 0
    if input_ is None:
        input_ = 0
    if type(input_) is not int or type(output) is not int or input_ < 0 or output < 0:
        return None
    if input_ > MAX_TOKENS or output > MAX_TOKENS:
        input_, output = min(input_, MAX_TOKENS), min(output, MAX_TOKENS)
    usage = Usage(input_, output)
    details = get("prompt_tokens_details") or get("input_tokens_details")
    if type(details) is dict:
        usage.cached = _count(details.get("cached_tokens"))
    details = get("completion_tokens_details") or get("output_tokens_details")
    if type(details) is dict:
        usage.reasoning = _count(details.get("reasoning_tokens"))
    if not is_openai:
        # Anthropic counts what was read from its cache, or written to it, beside the input; OpenAI inside it.
        read = _count(get("cache_read_input_tokens"))
        usage.input += read + _count(get("cache_creation_input_tokens"))
        usage.cached = read or usage.cached
    return usage


def _count(value: Any) -> int:
    return min(value, MAX_TOKENS) if type(value) is int and value > 0 else 0


def usage_of(body: bytes) -> Usage | None:
    """The usage of a whole plain answer (or of its last part), mostly without parsing all of it.

    `"usage"` cannot stand inside a JSON string (its quotes would be escaped), and from a top-level key to the
    end, with a brace in front, is a JSON object again: only the tail is parsed, however long the answer.
    """
    start = body.rfind(b'"usage"')
    if start < 0:
        return None
    for part in (b"{" + body[start:], body):
        try:
            document = orjson.loads(part)
        except orjson.JSONDecodeError:
            continue
        # Otherwise it was the word, or a key further in, that stood last: then all of it is read.
        if type(document) is dict and (usage := usage_from(document.get("usage"))) is not None:
            return usage
    return None


# --- asking for usage ----------------------------------------------------------------------------------

_OPTIONS = re.compile(rb'"stream_options"\s*:\s*(?:null|\{[^{}]*\})')
_DECLINED = re.compile(rb'"include_usage"\s*:\s*(?:false|null)')
_ASKING = b'"include_usage":true'


def ask_for_usage(body: bytes, call: Call) -> bytes:
    """`body` with `stream_options.include_usage` true, every other byte as it was.

    Where the bytes leave doubt which spot is meant (the name stands twice), they stay as they are.
    """
    options = call.document.get("stream_options")
    if "stream_options" not in call.document:
        start = body.index(b"{") + 1
        return b'%b"stream_options":{%b},%b' % (body[:start], _ASKING, body[start:])
    found = _OPTIONS.search(body)
    if found is None or body.count(b'"stream_options"') != 1:
        return body
    start, end = found.span()
    written = found.group(0)
    if not options or type(options) is not dict:
        written = b'"stream_options":{%b}' % _ASKING
    elif "include_usage" in options:
        written = _DECLINED.sub(_ASKING, written, count=1)
    else:
        at = written.index(b"{") + 1
        written = b"%b%b%b%b" % (written[:at], _ASKING, b",", written[at:])
    return body[:start] + written + body[end:]
