"""What the cache costs: its parts, and a whole look-up in a request's way."""

import asyncio
import time
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from sidecar.attempt import Attempt
from sidecar.cache.answers import Hit
from sidecar.cache.key import Key, key_of
from sidecar.cache.meaning.sameness import differs, features, may_mean
from sidecar.cache.recording import Record, Recording, record_of
from sidecar.cache.replay import Answer
from sidecar.cache.store import Entry, Store
from sidecar.caching.requests import Caching
from sidecar.exchange import Exchange, RequestHead
from sidecar.openai import read_call
from tests.cache.support import HERE, PATH, Json, asking, chunk, key, plain, read, streamed
from tests.support.running import Running, config_for, running

WORDS = "Some words of an answer. " * 40


def conversation() -> Json:
    """A chat of 4 KB: instructions and a question."""
    system = {"role": "system", "content": "You are a helpful assistant. " * 135}
    last = {"role": "user", "content": "How do I return a parcel that I have opened?"}
    return asking() | {"messages": [system, last]}


def parts() -> None:
    """The parts of the cache, each by itself."""
    chat, question = conversation(), "Hi, can you please tell me how to renew my driving licence?"
    one, other = features(question), features("What are the steps to renew my passport?")
    record = record_of("chat", orjson.dumps(plain(WORDS)))
    recording, event = Recording("chat"), chunk({"content": " word"})
    for made in streamed(*[" word"] * 200):
        recording.note(made)
    long, found = recording.end(), key(chat)
    assert isinstance(record, Record) and isinstance(long, Record) and isinstance(found, Key)
    store, live = Store(2**20), Recording("chat")
    print(f"\nµs, parts; {len(orjson.dumps(chat))} bytes of request")
    _time("key, exact", _key_of(chat, is_canonical=False))
    _time("key, canonical", _key_of(chat))
    _time("store 1 KB", lambda: store.put(found, Entry(found, record.content, True, 0.0, 1.0)))
    _time("replay 1 KB as JSON", lambda: Answer("chat", record.content).as_json("id", 0))
    _time("replay 200 events", lambda: Answer("chat", long.content).as_events("id", 0, include_usage=False))
    _time("note one event", lambda: live.note(event))
    _time("may be looked up by meaning", lambda: may_mean(question))
    _time("features", lambda: features(question))
    _time("guards", lambda: differs(one, other))


async def look_ups() -> None:
    """A look-up as a request makes it, in memory; a hit is given too."""
    async with running(config_for("http://127.0.0.1:9/v1", cache={})) as here:
        chat = conversation()
        print("\nµs, in a request's way")
        for what, document in (
            ("not eligible: tools", {**chat, "tools": [{"type": "function"}]}),
            ("not eligible: temperature", {**chat, "temperature": 1}),
            ("not eligible: volatile", asking("What is the weather in Rome?")),
            ("miss, one question", asking()),
            ("miss, 4 KB", chat),
        ):
            _time(what, Asking(here, document).look)
        for what, document in (("one question", asking()), ("4 KB", chat)):
            Asking(here, document).store()
            _time(f"hit, {what}, given as JSON", Asking(here, document).get)
            _time(f"hit, {what}, given as events", Asking(here, {**document, "stream": True}).get)


class Asking:
    """One request, to be looked up again and again. It is its caller's connection too."""

    def __init__(self, sidecar: Running, document: Json) -> None:
        snapshot, caching = sidecar.sidecar.snapshot, sidecar.sidecar._proxy.caching
        assert caching is not None
        self._caching: Caching = caching
        head = RequestHead(b"POST", PATH)
        self._x: Any = Exchange(self, time.monotonic(), head)  # type: ignore[arg-type]
        self._x.kind, self._x.body = "chat", orjson.dumps(document)
        call = read_call(self._x.body)
        plan, caller = snapshot.router.plan(call, self._x), snapshot.callers.identify(head, time.time())  # type: ignore[arg-type]
        assert plan is not None
        self._facts: Any = (caller, call, plan.candidates[0])

    def look(self) -> object:
        """What is found; nothing of it is left to the next."""
        self.attempt = Attempt()
        caller, call, candidate = self._facts
        looking = self._caching.look(self._x, self.attempt, caller, call, candidate)
        try:
            looking.send(None)
        except StopIteration as found:
            if self._x.client is not self:
                self._x.client.close()
                self._x.client = self
            return found.value
        raise AssertionError("a look-up in memory does not wait")

    def get(self) -> None:
        """Look up and give."""
        found = self.look()
        assert isinstance(found, Hit)
        self._caching._replay(self._x, self._facts[1], self._facts[2], found)

    def store(self) -> None:
        """Have an answer that the look-up finds."""
        self.look()
        record = record_of("chat", orjson.dumps(plain(WORDS)))
        answers, lookup = self._caching.tiers.answers, self.attempt.lookup
        assert answers is not None and lookup is not None and isinstance(record, Record)
        answers.offer(lookup.key, record, time.monotonic())

    # The connection: it takes everything.

    def respond(self, x: Exchange, status: int, lines: Sequence[bytes], body: bytes) -> None: ...
    def begin(self, x: Exchange, status: int, lines: Sequence[bytes], length: int | None) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self, x: Exchange) -> None: ...


def costs() -> None:
    """Print all of it."""
    parts()
    asyncio.run(look_ups())


def _key_of(document: Json, is_canonical: bool = True) -> Callable[[], object]:
    body = orjson.dumps(document)
    call = read(body)
    return lambda: key_of("chat", PATH, call, body, HERE, is_canonical=is_canonical)


def _time(what: str, act: Callable[[], object], number: int = 2000) -> None:
    best = min(timeit.repeat(act, number=number, repeat=5)) / number
    print(f"  {what:36}{best * 1e6:8.1f}")
