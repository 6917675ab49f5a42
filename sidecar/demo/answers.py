"""The text a simulated provider answers with: pleasant, made from the prompt alone, and the same every time.

The words do not depend on the region; only the signature at the very end does. So a stream that is taken
up again in another region repeats itself character for character until the last words, as two replicas of
one model at temperature 0 do, and a person still sees who answered.

A token here is a word with the blanks before it. The texts hold characters of two, three and four UTF-8
bytes, so that every split of the bytes is met sooner or later.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
import struct
from collections.abc import Iterator
from random import Random

import msgspec

from .scenario import Scenario

_TOKEN = re.compile(r"\s*\S+|\s+")
_SENTENCES = (
    "Picture a small café at the harbour, where every cup ☕ finds its table by itself.",
    "The old lighthouse keeper would say 中文 and français are both just ways of waving a lamp.",
    "Begin with the simplest case, and let the naïve answer show you where it bends.",
    "A river never asks which bridge is open; it takes the one that carries it 🌊.",
    "Measure first, then change one thing, then measure again — 测量 twice, cut once.",
    "Good plans leave room for rain, a late train and a señor with too much luggage 🧳.",
    "What looks slow from the shore is often a ship choosing the safer strait.",
    "Write it down plainly; the Übersetzung into deeds comes easier tomorrow 🌱.",
)
_REASONING = ("First", " recall", " what", " was", " asked", ",", " then", " answer", " plainly", ".")
_TOOL_ARGUMENTS = ('{"', "city", '": "', "Zürich", '", "', "unit", '": "', "celsius", '"}')
_EXCERPT_CHARS = 60


class Ask(msgspec.Struct):
    """What a request of any dialect asks for, as far as the answer depends on it."""

    model: str
    prompt: str  # everything that was said
    question: str  # the last thing the user said
    limit: int | None = None  # max_tokens
    n: int = 1
    prefill: str | None = None  # the last message is the assistant's: go on from there
    tool: str | None = None  # the first tool offered
    text_only: bool = False  # the dialect knows neither reasoning nor tools


class Choice(msgspec.Struct):
    """One answer, token by token. With `tool`, the tokens are its arguments in JSON."""

    tokens: list[str]
    finish: str
    reasoning: list[str]
    tool: str | None = None

    @property
    def text(self) -> str:
        """The answer in one piece."""
        return "".join(self.tokens)


class Turn(msgspec.Struct):
    """A finished plan of an answer: the dialects only put it into their own words."""

    id: str  # without the dialect's prefix
    created: int
    model: str
    prompt_tokens: int
    choices: list[Choice]
    omit_usage: bool = False

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens of the answer are reasoning."""
        return sum(len(choice.reasoning) for choice in self.choices)

    @property
    def completion_tokens(self) -> int:
        """All tokens of the answer: as many as a stream has token deltas."""
        return self.reasoning_tokens + sum(len(choice.tokens) for choice in self.choices)


def tokenize(text: str) -> list[str]:
    """Words with the blanks before them; joined again they are the text."""
    return _TOKEN.findall(text)


def count_prompt_tokens(text: str) -> int:
    """The usual estimate of four characters to a token."""
    return max(1, math.ceil(len(text) / 4))


def plan_choices(ask: Ask, scenario: Scenario, region: str) -> list[Choice]:
    """The answers to a request, one for each `n`, cut at its token limit."""
    return [_plan_choice(ask, index, scenario, region) for index in range(ask.n)]


def _plan_choice(ask: Ask, index: int, scenario: Scenario, region: str) -> Choice:
    reasoning = list(_REASONING) if scenario.reasoning and not ask.text_only else []
    tool = (ask.tool or "get_weather") if scenario.tool_call and not ask.text_only else None
    if tool is not None:
        tokens = list(_TOOL_ARGUMENTS)
    else:
        tokens = _answer_tokens(ask.question, index, scenario, region)
        if scenario.done_in_content:
            tokens.insert(len(tokens) // 2, " data: [DONE]\n\n")
        if ask.prefill:
            tokens = _after_prefill(tokens, ask.prefill)
    finish = "stop" if tool is None else "tool_calls"
    if ask.limit is not None and len(reasoning) + len(tokens) > ask.limit:
        reasoning = reasoning[: ask.limit]
        tokens = tokens[: ask.limit - len(reasoning)]
        finish = "length"
    return Choice(tokens, scenario.finish_reason or finish, reasoning, tool)


def _answer_tokens(question: str, index: int, scenario: Scenario, region: str) -> list[str]:
    if scenario.answer is not None:
        return tokenize(scenario.answer)
    digest = hashlib.sha256(question.encode()).digest()
    signature = tokenize(f" Answered from {region}.")
    sentences = _sentences(question, digest[0] + index)
    if scenario.tokens is None:
        return [*itertools.chain(*itertools.islice(sentences, 3 + digest[1] % 3)), *signature]
    words = itertools.chain.from_iterable(sentences)
    body = list(itertools.islice(words, max(0, scenario.tokens - len(signature))))
    return (body + signature)[: scenario.tokens]


def _sentences(question: str, first: int) -> Iterator[list[str]]:
    """Without end: the prompt named, then the sentences in an order of the prompt's own."""
    excerpt = " ".join(question.split())[:_EXCERPT_CHARS].strip()
    yield tokenize(f"About “{excerpt}”:" if excerpt else "Hello:")
    for position in itertools.count(first):
        yield tokenize(f" {_SENTENCES[position % len(_SENTENCES)]}")


def _after_prefill(tokens: list[str], prefill: str) -> list[str]:
    """What follows the text the caller has: by characters, or by words if that text came from elsewhere."""
    text = "".join(tokens)
    if text.startswith(prefill):
        return tokenize(text[len(prefill) :])
    return tokens[len(tokenize(prefill)) :]


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone. Near texts are not near each other: it is a hash."""
    draw = Random(hashlib.sha256(text.encode()).digest())
    vector = [draw.gauss(0.0, 1.0) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def as_base64_floats(vector: list[float]) -> str:
    """Little-endian float32 in base64, the SDK's default encoding_format."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
