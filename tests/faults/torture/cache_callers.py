"""Callers of a sidecar with a cache, polite and not, and the judge of what they got."""

import asyncio
import socket
from random import Random
from typing import NamedTuple

import orjson

from tests.faults.torture.cache_provider import (
    FAT,
    HUGE,
    LONG_BYTES,
    SHORT,
    Stamp,
    document_of,
    read_stamp,
    words_of,
)
from tests.faults.torture.peers import Caller
from tests.support.answers import RawAnswer
from tests.support.raw import post

MODELS = ("main", "auto")
WHO = ("ann", "bob", "cat", "")  # the last one has no key
_WHO = (6, 2, 1, 1)
CONTROLS = ("no-cache", "no-store", "max-age=1", "only-if-cached")
MANNERS = ("stays", "leaves", "sends a part", "stops reading", "stops and leaves", "sends ahead")
_MANNERS = (45, 32, 5, 5, 3, 10)  # how often, of a hundred
SMALL_BUFFER_BYTES = 4096


class Ask(NamedTuple):
    """One request. `id` is who asks and a number, the same nowhere else."""

    id: str
    question: int
    wording: int = 0
    model: str = "main"
    stream: bool = True
    wants_usage: bool = False
    minor: int = 1
    control: str = ""
    is_exact: bool = False  # it wants its own wording's answer only

    @property
    def who(self) -> str:
        return self.id.partition(".")[0]

    def sent(self, *, close: bool = True) -> bytes:
        """Its bytes."""
        more = {"stream_options": {"include_usage": True}} if self.wants_usage and self.stream else {}
        document = document_of(self.question, self.wording, self.model, stream=self.stream, **more)
        headers = f"x-request-id: {self.id}\r\n"
        if self.who:
            headers += f"authorization: Bearer {self.who}\r\n"
        if self.control:
            headers += f"cache-control: {self.control}\r\n"
        if self.is_exact:
            headers += "x-sidecar-cache: exact\r\n"
        data = post(orjson.dumps(document), headers=headers, close=close)
        return data.replace(b"HTTP/1.1", b"HTTP/1.%d" % self.minor, 1)


class Visit(NamedTuple):
    """One connection: what is asked on it, and how its caller behaves."""

    at_s: float
    manner: str
    stays_s: float
    asks: tuple[Ask, ...]


def plan(seed: int, requests: int, span_s: float) -> list[Visit]:
    """So many visits, at random within `span_s`."""
    draw = Random(seed)
    visits = []
    for number in range(requests):
        manner = draw.choices(MANNERS, _MANNERS)[0]
        count = 3 if manner == "sends ahead" else 1
        asks = tuple(_ask(draw, f"{seed}.{number}.{part}", manner) for part in range(count))
        visits.append(Visit(span_s * draw.random(), manner, 0.06 * draw.random(), asks))
    return visits


def _ask(draw: Random, id_: str, manner: str) -> Ask:
    question = draw.choice(SHORT)
    if manner.startswith("stops"):
        question = draw.choice((FAT, HUGE))
    elif draw.random() < 0.06:
        question = draw.choice((FAT, HUGE, *LONG_BYTES))
    return Ask(
        f"{draw.choices(WHO, _WHO)[0]}.{id_}",
        question,
        wording=draw.randrange(2),
        model=MODELS[draw.random() < 0.3],
        stream=draw.random() < 0.7,
        wants_usage=draw.random() < 0.3,
        minor=int(manner == "sends ahead" or draw.random() < 0.8),
        control=draw.choice(CONTROLS) if draw.random() < 0.08 else "",
        is_exact=draw.random() < 0.1,
    )


class Visitor(Caller):
    """A caller's connection that knows how it ended."""

    was_reset = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.was_reset = exc is not None
        super().connection_lost(exc)

    @classmethod
    async def arrive(cls, port: int, *, is_narrow: bool = False) -> "Visitor":
        """A connection; a narrow one takes little that is not read."""
        loop = asyncio.get_running_loop()
        raw = socket.socket()
        if is_narrow:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", port))
        _, visitor = await loop.create_connection(cls, sock=raw)
        return visitor


class Verdict(NamedTuple):
    """whole, told (an error in or instead of the answer), broken, or what is wrong with it; and where it came
    from."""

    outcome: str
    stamps: tuple[Stamp, ...] = ()


FINE = ("whole", "told", "broken")


def judge(answer: RawAnswer, ask: Ask, *, was_reset: bool) -> Verdict:
    """What a caller got. A streamed answer that is not whole says so; a plain one only breaks off."""
    if answer.status != 200:
        return Verdict("told" if answer.is_own_error else "an error without its object")
    wanted = "".join(words_of(ask.question))
    if not ask.stream:
        if not answer.is_whole:
            return Verdict("broken")
        document = orjson.loads(answer.body)
        stamp = read_stamp(document["system_fingerprint"])
        is_right = document["choices"][0]["message"]["content"] == wanted
        return Verdict("whole" if is_right else "another text", (stamp,))
    said, mark, _ = answer.body.partition(b'data: {"error"')
    try:
        text, stamps, is_finished = _read(said)
    except orjson.JSONDecodeError:
        return Verdict("an event that is no JSON")
    is_framed = answer.is_whole and not (ask.minor == 0 and was_reset)
    if not wanted.startswith(text):
        return Verdict("another text", stamps)
    if is_finished and text == wanted and not mark:
        return Verdict("whole" if is_framed else "broken", stamps)
    if b"data: [DONE]" in answer.body:
        return Verdict("[DONE] in a stream that is not whole")
    if mark:
        # A caller of HTTP/1.0 has the event alone to tell it.
        return Verdict("told" if ask.minor == 0 or not answer.is_whole else "an error that looks like an end")
    return Verdict("a beginning that looks like an end" if is_framed else "broken")


def _read(said: bytes) -> tuple[str, tuple[Stamp, ...], bool]:
    """The text of a stream, where it came from, and whether it says that this is all. What is cut in an event
    is left out."""
    text: list[str] = []
    stamps: dict[str, Stamp] = {}
    is_finished = False
    for event in said.split(b"\n\n")[:-1]:
        if not event or event == b"data: [DONE]":
            continue
        document = orjson.loads(event.removeprefix(b"data: "))
        if fingerprint := document.get("system_fingerprint"):  # not in an event that joins two answers
            stamps[fingerprint] = read_stamp(fingerprint)
        for choice in document["choices"]:
            text.append(choice["delta"].get("content") or "")
            is_finished = is_finished or choice["finish_reason"] == "stop"
    return "".join(text), tuple(stamps.values()), is_finished
