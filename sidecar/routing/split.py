"""Which arm of a split a conversation falls on.

The draw is by the conversation, not by the request: its first messages always fall on the same arm, so that
a provider's prompt cache stays warm. It is weighted rendezvous hashing (Schindelhauer and Schomaker,
"Weighted Distributed Hash Tables", 2005): each arm draws a number between 0 and 1 from the conversation and
its own name, and the one whose logarithm, divided by the weight, is closest to 0 wins. So a change of weights
moves only the share that has to move, and only towards the arms that grew.

A conversation is named by what stays the same through it: the system's text and the messages up to the
user's first. Apps that begin every conversation with the very same words have but one conversation here, and
so one arm.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import islice
from math import inf, log
from typing import Any

# A user's first message stands behind the system's and the developer's; where none is among so many, they do.
NAMING_MESSAGES = 8
# Of each message: a template may be long and end in what differs, so both ends count.
NAMING_CHARS = 4096
_HALF = NAMING_CHARS // 2
_MAX_ITEMS = 64
_MAX_STEPS = 256
_SCALE = 2.0**-64


class Split:
    """The arms of one route as (model, weight); the names differ."""

    __slots__ = ("_arms",)

    def __init__(self, arms: Iterable[tuple[str, float]]) -> None:
        self._arms = tuple((index, model.encode(), weight) for index, (model, weight) in enumerate(arms))

    def draw(self, document: Mapping[str, Any]) -> int:
        """The index of the arm that a request's conversation falls on."""
        if len(self._arms) == 1:
            return 0
        conversation = blake2b(_name(document), digest_size=8)
        chosen, best = 0, -inf
        for index, model, weight in self._arms:
            drawn = conversation.copy()
            drawn.update(model)
            score = log((int.from_bytes(drawn.digest(), "big") + 1) * _SCALE) / weight
            if score > best:
                chosen, best = index, score
        return chosen


def _name(document: Mapping[str, Any]) -> bytes:
    """What a conversation keeps: at most a few KiB of it, however long it is."""
    pieces: list[str] = []
    for key in ("system", "instructions"):
        said = document.get(key)
        if said is not None:
            _add(said, pieces)
    messages = document.get("messages")
    if type(messages) is not list:
        messages = document.get("input") or document.get("prompt")
    if type(messages) is list and messages and type(messages[0]) is dict:
        for message in messages[:NAMING_MESSAGES]:
            content = message.get("content") if type(message) is dict else None
            if type(content) is str and len(content) <= NAMING_CHARS:
                pieces.append(content)
            else:
                _add(message if content is None else content, pieces)
            if type(message) is dict and message.get("role") == "user":
                break
    else:
        _add(messages, pieces)
    pieces.append("")
    return "\0".join(pieces).encode(errors="surrogatepass")


def _add(value: Any, pieces: list[str]) -> None:
    """The texts and numbers of any JSON value, both ends of what is long."""
    room = NAMING_CHARS
    pending = [value]
    for _ in range(_MAX_STEPS):
        if not pending or room <= 0:
            return
        item = pending.pop()
        if type(item) is list:
            if len(item) > _MAX_ITEMS:
                item = [len(item), *item[: _MAX_ITEMS // 2], *item[-_MAX_ITEMS // 2 :]]
            pending += reversed(item)
        elif type(item) is dict:
            text = item.get("text")
            # Clients move the cache_control mark from message to message as a conversation grows.
            pending += (
                [text]
                if type(text) is str
                else [inner for name, inner in islice(item.items(), _MAX_ITEMS) if name != "cache_control"]
            )
        else:
            piece = item if type(item) is str else str(item)
            if len(piece) > NAMING_CHARS:
                piece = f"{len(piece)} {piece[:_HALF]}{piece[-_HALF:]}"
            pieces.append(piece)
            room -= len(piece)
