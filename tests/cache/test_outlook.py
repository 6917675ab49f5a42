"""A look from outside: it finds what a request would, and leaves everything as it was."""

import orjson

from sidecar.cache.answers import AnswerCache, Hit, Miss
from sidecar.cache.control import NONE, Directives
from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Key
from sidecar.cache.outlook import look
from sidecar.cache.recording import Record, record_of
from sidecar.config.cache import Cache as CacheConfig
from tests.cache.support import HERE, asking, plain, request

SAME = "how can I boil an egg"


def filled(config: CacheConfig | None = None, *questions: str) -> tuple[AnswerCache, list[Key]]:
    """A cache with answers to these, stored at 0 s, the first one first."""
    answers, keys = AnswerCache(config or CacheConfig()), []
    record = record_of("chat", orjson.dumps(plain()))
    assert isinstance(record, Record)
    for question in questions or ("How do I boil an egg?",):
        x, call = request(asking(question))
        missed = answers.lookup(x, call, HERE, NONE, 0.0)
        assert isinstance(missed, Miss)
        assert answers.offer(missed.key, record, 0.0)
        keys.append(missed.key)
    return answers, keys


def seen(
    answers: AnswerCache, text: str, now_s: float = 1.0, directives: Directives = NONE
) -> Hit | Miss | Bypass:
    x, call = request(asking(text))
    return look(answers, x, call, HERE, directives, now_s)


def test_what_is_seen_is_what_a_request_finds() -> None:
    answers, _ = filled()
    for text, tier in (("How do I boil an egg?", "exact"), (SAME, "canonical")):
        hit = seen(answers, text)
        assert isinstance(hit, Hit) and hit.tier == tier
        x, call = request(asking(text))
        found = answers.lookup(x, call, HERE, NONE, 1.0)
        assert isinstance(found, Hit) and (found.tier, found.digest) == (hit.tier, hit.digest)
    assert isinstance(seen(answers, "How do I boil rice?"), Miss)
    bypassed = seen(answers, "What is the weather today?")
    assert isinstance(bypassed, Bypass) and bypassed.reason == "volatile"


def test_a_pin_and_the_directives_count_for_a_look_too() -> None:
    answers, (key,) = filled()
    exact = Directives()
    exact.tier = 0
    assert isinstance(seen(answers, SAME, directives=exact), Miss)
    answers._pins[key.digest] = None
    assert isinstance(seen(answers, SAME), Miss)
    assert isinstance(seen(answers, "How do I boil an egg?"), Hit)


def test_nothing_is_counted() -> None:
    answers, _ = filled()
    stats = answers.store.stats
    before = [getattr(stats, name) for name in stats.__slots__]
    for text in ("How do I boil an egg?", SAME, "How do I boil rice?", "What is the weather today?"):
        seen(answers, text)
    assert [getattr(stats, name) for name in stats.__slots__] == before


def test_what_is_out_of_date_is_not_seen_and_not_dropped() -> None:
    answers, (key,) = filled()
    assert isinstance(seen(answers, "How do I boil an egg?", 3601.0), Miss)
    assert answers.store.stats.entries == 1
    assert answers.store.peek(key.digest, 3601.0) is None
    assert answers.store.peek(key.digest, 1.0) is not None


def test_nothing_becomes_the_most_recently_used() -> None:
    answers, (first, second) = filled(None, "How do I boil an egg?", "How do I boil rice?")
    assert isinstance(seen(answers, "How do I boil an egg?"), Hit)
    answers.store.resize(answers.store.stats.bytes - 1)
    assert answers.store.peek(first.digest, 1.0) is None
    assert answers.store.peek(second.digest, 1.0) is not None
