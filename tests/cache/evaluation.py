"""Measures the cache's keys: pairs of questions, and generated requests whose answers must not cross.

A pair is two texts and whether one answer serves both. A hit where it does not is a wrong answer.
The hostile pairs are written against the rules, so that their recall says nothing about requests.
The English pairs are split by a hash into a half that the rules were written with and a half that was looked
at as a figure only.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha1
from random import Random
from typing import Any, NamedTuple, TypeVar

import orjson

from sidecar.cache.answers import AnswerCache, Hit, Miss
from sidecar.cache.control import NONE
from sidecar.cache.key import Key, Place, scope_of
from sidecar.cache.meaning.sameness import differs, features, may_mean
from sidecar.cache.recording import Record, record_of
from sidecar.config.cache import Cache as CacheConfig
from tests.cache.support import asking, key, plain, request
from tests.support.vectors import Vector, load

Json = dict[str, Any]


class Figures(NamedTuple):
    """Hits among pairs that one answer serves (`same`), and among those it does not (`wrong`)."""

    same: int
    found: int
    different: int
    wrong: int

    @property
    def recall(self) -> float:
        return self.found / max(1, self.same)


def is_held_out(pair: Vector) -> bool:
    """Whether the rules were written without looking at this pair."""
    return bool(sha1((pair["text_a"] + pair["text_b"]).encode()).digest()[0] & 1)


def is_hit(pair: Vector, match: str) -> bool:
    """Whether the answer to the first text is found by the second."""
    first, second = (
        key(asking(pair[name]), is_canonical=match == "canonical") for name in ("text_a", "text_b")
    )
    return isinstance(first, Key) and isinstance(second, Key) and first.digest == second.digest


def is_allowed(pair: Vector) -> bool:
    """Whether the guards let one answer serve both texts, however near they are."""
    one, other = pair["text_a"], pair["text_b"]
    return may_mean(one) and may_mean(other) and not differs(features(one), features(other))


def similarity(pair: Vector, embed: Callable[[str], Any]) -> float:
    """The cosine of the two texts, as the cache embeds them."""
    return float(embed(features(pair["text_a"]).asked) @ embed(features(pair["text_b"]).asked))


def measure(pairs: list[Vector], match: str) -> Figures:
    return count(pairs, [is_hit(pair, match) for pair in pairs])


def count(pairs: list[Vector], hits: list[bool]) -> Figures:
    same = [is_hit for pair, is_hit in zip(pairs, hits, strict=True) if pair["same"]]
    different = [is_hit for pair, is_hit in zip(pairs, hits, strict=True) if not pair["same"]]
    return Figures(len(same), sum(same), len(different), sum(different))


def halves(name: str) -> dict[str, list[Vector]]:
    """The pairs of a vector file: all of them, and the halves where there are any."""
    pairs = load(name)
    if name != "prompt_pairs":
        return {"all": pairs}
    return {
        "all": pairs,
        "developed with": [pair for pair in pairs if not is_held_out(pair)],
        "held out": [pair for pair in pairs if is_held_out(pair)],
    }


# --- answers must not cross ------------------------------------------------------------------------------

_THINGS = ("an egg", "eggs", "a potato", "2 eggs", "20 eggs", "no eggs", "C", "C++", "C#", "Java", "IT", "it")
_QUESTIONS = (
    ("boil", "How do I boil {}?", "how can I boil {}", "Please tell me how to boil {}.", "How to boil {}??"),
    ("sell", "How do I sell {}?", "What's the best way to sell {}?", "I want to sell {}. How do I do that?"),
    ("should", "How should I boil {}?", "how should I boil  {}", "Hi, how should I boil {}?"),
    ("what", "What is {}?", "what's {}?", "Can you tell me what {} is?", "What is {}? Thanks!"),
    (
        "write",
        "Write a poem about {}.",
        "Please write a poem about {}",
        "Could you please write a poem about {}?",
    ),
    ("text", 'Summarize: "{}"', 'Summarize: "{}"'),
    ("German", "Wie kocht man {}?", "wie kocht man {}??"),
)
_CHOICES: dict[str, tuple[Any, ...]] = {
    "model": ("m", "n", "auto"),
    "temperature": (None, 0, 0.1, 0.2),
    "max_tokens": (None, 10, 100),
    "seed": (None, 1, 2),
    "user": (None, "a", "b"),
    "response_format": (None, {"type": "json_object"}, {"type": "text"}),
    "tools": (None, None, None, [], [{"type": "function", "function": {"name": "f"}}]),
    "tool_choice": (None, "none", "auto"),
    "future_option": (None, True, 1, 1.5, "1", {"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}),
}
_SYSTEMS = (None, "", "You are a cook.", "You are a cook. ", "You are a crook.", "You are a cook.\nBe brief.")
_HISTORIES: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("user", "Hello"), ("assistant", "Hi")),
    (("user", "Hello"), ("assistant", "Hi!")),
    (("user", "HelloHi"), ("assistant", "")),
)
_REGIONS: tuple[tuple[str, ...], ...] = ((), ("eu",), ("eu", "us"))
_ROUTES = ("auto", "fast", "")
_ROUTED = ("p/m", "p/n", "q/m")
_TENANTS = ("red", "blue", "green", "")


Option = TypeVar("Option")


def _mostly_first(random: Random, options: Sequence[Option]) -> Option:
    return random.choice(options) if random.random() < 0.1 else options[0]


class Prompt:
    """A generated request: `identity` is all that its answer may depend on."""

    def __init__(self, random: Random) -> None:
        meaning, *askings = random.choice(_QUESTIONS)
        thing = random.choice(_THINGS)
        tenant = random.choice(_TENANTS)
        # Mostly the first of each, so that there is something to hit.
        regions, route = _mostly_first(random, _REGIONS), _mostly_first(random, _ROUTES)
        routed = _mostly_first(random, _ROUTED)
        system, history = _mostly_first(random, _SYSTEMS), _mostly_first(random, _HISTORIES)
        set_ = [name for name in _CHOICES if random.random() < 0.05]
        options = {name: random.choice(_CHOICES[name]) for name in set_}
        options = {"model": "m"} | {name: value for name, value in options.items() if value is not None}
        self.place = Place(scope_of("key", tenant, "team", regions), route, routed)
        depends_on = [meaning, thing, tenant, regions, route, routed, options, system, history]
        self.identity = orjson.dumps(depends_on, option=orjson.OPT_SORT_KEYS).decode()
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages += [{"role": role, "content": text} for role, text in history]
        messages.append({"role": "user", "content": random.choice(askings).format(thing)})
        members = list({**options, "messages": messages}.items())
        random.shuffle(members)
        document = dict(members)
        if random.random() < 0.5:
            document["stream"] = random.random() < 0.5
        self.body = orjson.dumps(document) if random.random() < 0.5 else json.dumps(document).encode()


class Crossings(NamedTuple):
    """What came of generated prompts: hits of the right answer, and `crossed` ones of another's."""

    prompts: int
    hits: int
    bypassed: int
    crossed: int


def cross(prompts: int, seed: int, match: str = "canonical") -> Crossings:
    """Ask, and store under each miss whose answer it is; every hit must give the asker's own."""
    random = Random(seed)
    cache = AnswerCache(CacheConfig(match=match))  # type: ignore[arg-type]
    hits = bypassed = crossed = 0
    for _ in range(prompts):
        prompt = Prompt(random)
        x, call = request(prompt.body)
        found = cache.lookup(x, call, prompt.place, NONE, 0.0)
        if isinstance(found, Hit):
            hits += 1
            crossed += found.answer(x.kind).text != prompt.identity
        elif isinstance(found, Miss):
            record = record_of(x.kind, orjson.dumps(plain(prompt.identity)))
            assert isinstance(record, Record)
            cache.offer(found.key, record, 0.0)
        else:
            bypassed += 1
    return Crossings(prompts, hits, bypassed, crossed)
