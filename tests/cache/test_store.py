"""The answers in memory: least recently used, within bytes, for a time."""

import math
import os
import tracemalloc
import zlib
from random import Random

import pytest

from sidecar.cache.key import Key, Place
from sidecar.cache.store import COMPRESS_FROM_BYTES, MAX_SHARE, OVERHEAD_BYTES, Entry, Store

BUDGET = 64 * 1024
PLACE = Place(b"scope", "auto", "p/m")
SMALL = b"x" * 100


def key(name: str, place: Place = PLACE) -> Key:
    return Key(place, b"partition", name.encode().ljust(16), b"exact___", "text")


def put(store: Store, name: str, record: bytes = SMALL, *, now_s: float = 0.0, ttl_s: float = 60.0) -> bool:
    return store.put(key(name), Entry(key(name), record, True, now_s, now_s + ttl_s))


def get(store: Store, name: str, now_s: float = 0.0) -> bytes | None:
    entry = store.get(key(name).digest, now_s)
    return None if entry is None else entry.record


def names(store: Store, *among: str) -> str:
    return "".join(name for name in among if get(store, name) is not None)


def size(record: bytes) -> int:
    """What one entry is counted as."""
    store = Store(1 << 30)
    put(store, "a", record)
    return store.stats.bytes


def test_gives_back_what_was_stored_until_its_time_is_over() -> None:
    store = Store(BUDGET)
    assert put(store, "a", now_s=100.0, ttl_s=60.0)
    assert get(store, "a", 159.9) == SMALL
    assert get(store, "a", 160.0) is None
    assert get(store, "b", 100.0) is None
    assert (store.stats.entries, store.stats.bytes) == (0, 0)


def test_a_second_answer_takes_the_place_of_the_first() -> None:
    store = Store(BUDGET)
    put(store, "a", b"old" * 100, now_s=0.0)
    put(store, "a", b"new", now_s=50.0)
    assert get(store, "a", 100.0) == b"new"
    assert store.stats.entries == 1
    assert store.stats.bytes == size(b"new")


def test_the_least_recently_used_makes_room() -> None:
    store = Store(size(SMALL) * 8)
    for name in "abcdefgh":
        put(store, name)
    assert get(store, "a") is not None
    put(store, "i")
    assert names(store, *"abcdefghi") == "acdefghi"
    assert store.stats.evictions == 1


def test_as_many_go_as_the_new_one_needs_the_oldest_first() -> None:
    large = os.urandom(1000)
    store = Store(size(large) * MAX_SHARE)
    for index in range(40):
        put(store, str(index))
    before, free = store.stats.evictions, size(large) * MAX_SHARE - store.stats.bytes
    assert put(store, "large", large)
    gone = store.stats.evictions - before
    assert gone == math.ceil((size(large) - free) / size(SMALL))
    assert get(store, "0") is None
    assert get(store, "39") == SMALL
    assert get(store, "large") == large


def test_what_takes_more_than_its_share_is_refused_and_harms_nobody() -> None:
    store = Store(BUDGET)
    put(store, "a")
    share = store.max_entry_bytes
    assert put(store, "b", os.urandom(share - size(b"") - 20))
    assert not put(store, "a", os.urandom(share))
    assert get(store, "a") == SMALL


def test_it_is_the_compressed_size_that_counts() -> None:
    store = Store(BUDGET)
    text = b"the same words again and again " * 1000
    assert len(text) > store.max_entry_bytes
    assert put(store, "a", text)
    assert get(store, "a") == text
    assert store.stats.bytes < len(zlib.compress(text, 1)) + OVERHEAD_BYTES + 64


@pytest.mark.parametrize("length", [0, 1, COMPRESS_FROM_BYTES, COMPRESS_FROM_BYTES + 1, 5000])
def test_what_does_not_shrink_is_kept_as_it_is(length: int) -> None:
    store = Store(BUDGET)
    noise = os.urandom(length)
    put(store, "a", noise)
    assert get(store, "a") == noise
    assert store.stats.bytes <= length + OVERHEAD_BYTES + 64


def test_a_budget_for_nothing_keeps_nothing() -> None:
    store = Store(1)
    assert not put(store, "a", b"")
    assert (store.stats.entries, store.stats.bytes) == (0, 0)


def test_purges_by_key_by_route_by_scope_and_all() -> None:
    store = Store(BUDGET)
    places = {
        name: Place(scope, route, "p/m")
        for name, scope, route in (
            ("a", b"red", "auto"),
            ("b", b"red", "fast"),
            ("c", b"blue", "auto"),
            ("d", b"blue", "fast"),
        )
    }

    def fill() -> None:
        for name, place in places.items():
            store.put(key(name, place), Entry(key(name, place), SMALL, True, 0.0, 60.0))

    fill()
    assert store.purge(key("a").digest) == 1
    assert store.purge(key("a").digest) == 0
    assert names(store, *"abcd") == "bcd"
    fill()
    assert store.purge(route="auto") == 2
    assert names(store, *"abcd") == "bd"
    fill()
    assert store.purge(scope=b"red") == 2
    assert names(store, *"abcd") == "cd"
    fill()
    assert store.purge(key("a").digest, route="other") == 0
    assert store.purge(until_s=-1.0) == 0
    assert store.purge(route="fast", scope=b"blue") == 1
    assert store.purge() == 3
    assert (store.stats.entries, store.stats.bytes) == (0, 0)


def test_a_smaller_budget_holds_at_once() -> None:
    store = Store(BUDGET)
    for name in "abcd":
        put(store, name)
    store.resize(size(SMALL) * 2)
    assert names(store, *"abcd") == "cd"
    assert store.stats.bytes <= size(SMALL) * 2


def test_the_bytes_are_exact_and_never_over_budget_whatever_happens() -> None:
    random = Random(5)
    store = Store(20_000)
    kept: dict[str, bytes] = {}
    refused = 0
    for step in range(5000):
        name = str(random.randrange(60))
        act = random.random()
        if act < 0.5:
            record = random.randbytes(random.choice((0, 10, 500, 1500, 3000)))
            if put(store, name, record, now_s=step, ttl_s=random.choice((1, 50, 1000))):
                kept[name] = record
            else:
                refused += 1
        elif act < 0.98:
            assert get(store, name, step) in (None, kept.get(name))
        else:
            store.purge(key(name).digest)
        entries = list(store._entries.values())
        assert store.stats.bytes == sum(entry.size_bytes for entry in entries) <= 20_000
        assert store.stats.entries == len(entries)
    assert store.stats.evictions > 100
    assert refused > 100


@pytest.mark.parametrize("entries", [2000, 5462, 10_923])
def test_memory_is_what_is_counted(entries: int) -> None:
    """The counts of entries are where the dictionary has just grown, and where it is full."""
    store = Store(1 << 30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(entries):
            owned = Key(PLACE, b"partition", os.urandom(16), os.urandom(8), "text")
            store.put(owned, Entry(owned, os.urandom(200), True, index + 0.5, 3600.5 + index, index + 0.25))
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.85 * store.stats.bytes < used <= 1.02 * store.stats.bytes
