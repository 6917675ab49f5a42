"""`python -m tests.cache`: how often the cache finds a question again, how often it is wrong, its costs."""

import sys
import timeit
from collections.abc import Callable
from typing import Any

import orjson

from sidecar.cache.embedding import EmbedderError
from sidecar.cache.key import Key, key_of
from sidecar.cache.local_embedder import LocalEmbedder
from sidecar.cache.recording import Record, Recording, record_of
from sidecar.cache.replay import Answer
from sidecar.cache.sameness import differs, features, may_mean
from sidecar.cache.store import Entry, Store
from tests.cache.evaluation import Figures, count, cross, halves, is_allowed, is_hit, measure, similarity
from tests.cache.support import HERE, PATH, Json, asking, chunk, key, plain, read, streamed
from tests.support.vectors import Vector, load

PROMPTS = 100_000
MIN_RECALL = 0.75
THRESHOLDS = (0.90, 0.95, 0.97)
# Of the pairs with different answers, so many may be served by meaning.
MAX_WRONG = 0.005


def main() -> int:
    failures = _pairs() + _meaning() + _crossings()
    _costs()
    print("\n".join(failures) or "No wrong answer.")
    return 1 if failures else 0


def _pairs() -> list[str]:
    failures = []
    print(f"{'pairs':16}{'match':12}{'half':18}{'found':>12}{'recall':>9}{'wrong':>12}")
    for name in ("prompt_pairs", "foreign_pairs"):
        for match in ("exact", "canonical"):
            for half, pairs in halves(name).items():
                same, found, different, wrong = figures = measure(pairs, match)
                counts = f"{f'{found}/{same}':>12}{figures.recall:>9.1%}{f'{wrong}/{different}':>12}"
                print(f"{name:16}{match:12}{half:18}{counts}")
                if wrong:
                    failures.append(f"{name}, {match}: {wrong} wrong answers")
                if match == "canonical" and figures.recall < MIN_RECALL:
                    failures.append(f"{name}, {match}, {half}: recall is under {MIN_RECALL:.0%}")
    return failures


def _meaning() -> list[str]:
    """Hits by meaning: by the guards alone (the worst that an embedder can do), by the cosine alone, by both.

    The guards were written with all pairs in sight, so there are no halves.
    """
    embed: Callable[[str], Any] | None = None
    try:
        embed = LocalEmbedder().embed
    except EmbedderError as error:
        print(f"\nBy meaning, only the guards: {error}")
    failures = []
    print(f"\n{'pairs':16}{'by meaning':24}{'':6}{'found':>12}{'recall':>9}{'wrong':>12}")
    for name in ("prompt_pairs", "foreign_pairs"):
        for way, (same, found, different, wrong) in _ways(load(name), embed).items():
            recall = f"{found / same:>9.1%}"
            print(f"{name:16}{way:30}{f'{found}/{same}':>12}{recall}{f'{wrong}/{different}':>12}")
            if not way.startswith("cosine") and wrong > MAX_WRONG * different:
                failures.append(f"{name}, {way}: more than {MAX_WRONG:.1%} wrong answers")
    return failures


def _ways(pairs: list[Vector], embed: Callable[[str], Any] | None) -> dict[str, Figures]:
    forms = [is_hit(pair, "canonical") for pair in pairs]
    allowed = [is_allowed(pair) for pair in pairs]
    ways = {"guards alone": count(pairs, allowed)}
    if embed is None:
        return ways
    cosines = [similarity(pair, embed) for pair in pairs]
    for least in THRESHOLDS:
        near = [cosine >= least for cosine in cosines]
        served = [form or (fits and close) for form, fits, close in zip(forms, allowed, near, strict=True)]
        ways[f"cosine alone {least:.2f}"] = count(pairs, near)
        ways[f"semantic {least:.2f}"] = count(pairs, served)
    return ways


def _crossings() -> list[str]:
    failures = []
    print(f"\n{'generated':12}{'prompts':>9}{'hits':>9}{'bypassed':>10}{'crossed':>9}")
    for match in ("exact", "canonical"):
        prompts, hits, bypassed, crossed = cross(PROMPTS, seed=2026, match=match)
        print(f"{match:12}{prompts:>9}{hits:>9}{bypassed:>10}{crossed:>9}")
        if crossed:
            failures.append(f"generated, {match}: {crossed} answers went to others")
    return failures


def _costs() -> None:
    """Times of a 4 KB chat of 16 messages, without its parse, which is made anyway."""
    words = "Some words of a conversation that goes on for a while, with this and that in it. " * 2
    turns = [{"role": role, "content": words} for role in ("user", "assistant") * 7]
    system = {"role": "system", "content": "You are a helpful assistant. " * 30}
    last = {"role": "user", "content": "Hi, can you please tell me how to renew my driving licence?"}
    chat = asking() | {"messages": [system, *turns, last]}
    record = record_of("chat", orjson.dumps(plain("Some words of an answer. " * 40)))
    assert isinstance(record, Record)
    recording, event = Recording("chat"), chunk({"content": " word"})
    for made in streamed(*[" word"] * 200):
        recording.note(made)
    long = recording.end()
    assert isinstance(long, Record)
    store, found = Store(2**20), key(chat)
    assert isinstance(found, Key)

    print(f"\nµs of {len(orjson.dumps(chat))} bytes of request")
    _time("not eligible: tools", _key_of({**chat, "tools": [{"type": "function"}]}))
    _time("not eligible: volatile", _key_of(asking("What is the weather in Rome?")))
    _time("exact", _key_of(chat, is_canonical=False))
    _time("canonical", _key_of(chat))
    question = "Hi, can you please tell me how to renew my driving licence?"
    one, other = features(question), features("What are the steps to renew my passport?")
    _time("may be looked up by meaning", lambda: may_mean(question))
    _time("features", lambda: features(question))
    _time("guards", lambda: differs(one, other))
    _time("store 1 KB", lambda: store.put(found, Entry(found, record.content, True, 0.0, 1.0)))
    _time("find and read 1 KB", lambda: _read(store, found.digest))
    _time("replay 1 KB as JSON", lambda: Answer("chat", record.content).as_json("id", 0))
    _time("replay 200 events", lambda: Answer("chat", long.content).as_events("id", 0, include_usage=False))
    live = Recording("chat")
    _time("note one event", lambda: live.note(event))


def _key_of(document: Json, is_canonical: bool = True) -> Callable[[], object]:
    body = orjson.dumps(document)
    call = read(body)
    return lambda: key_of("chat", PATH, call, body, HERE, is_canonical=is_canonical)


def _read(store: Store, digest: bytes) -> bytes:
    entry = store.get(digest, 0.0)
    assert entry is not None
    return entry.record


def _time(what: str, act: Callable[[], object], number: int = 2000) -> None:
    best = min(timeit.repeat(act, number=number, repeat=5)) / number
    print(f"  {what:28}{best * 1e6:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
