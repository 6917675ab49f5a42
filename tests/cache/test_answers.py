"""Look-up and offer: what a request gets, what a directive changes, what is kept for how long."""

from typing import Any

import orjson
import pytest

from sidecar.cache.answers import MAX_PINS, AnswerCache, Hit, Miss
from sidecar.cache.control import NONE, Directives, directives_of
from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Place, scope_of
from sidecar.cache.recording import Record, Recording, record_of
from sidecar.config.cache import Cache as CacheConfig
from tests.cache.support import HERE, Json, asking, plain, request, streamed

TTL_S = 1000.0


def cache(**config: Any) -> AnswerCache:
    return AnswerCache(CacheConfig(ttl_s=TTL_S, **config))


def ask(
    of: AnswerCache,
    document: Json | None = None,
    *,
    now_s: float = 0.0,
    said: bytes | None = None,
    place: Place = HERE,
) -> Hit | Miss | Bypass:
    x, call = request(document or asking())
    return of.lookup(x, call, place, directives_of(fields_of(said)), now_s)


def fields_of(said: bytes | None) -> dict[bytes, bytes]:
    return {} if said is None else {b"cache-control": said}


def fill(of: AnswerCache, text: str = "Six.", document: Json | None = None, now_s: float = 0.0) -> None:
    missed = ask(of, document, now_s=now_s, said=b"no-cache")
    record = record_of("chat", orjson.dumps(plain(text)))
    assert isinstance(missed, Miss) and isinstance(record, Record)
    assert of.offer(missed.key, record, now_s)


def text_of(found: object) -> str:
    assert isinstance(found, Hit)
    return found.answer("chat").text


def test_the_second_asking_is_a_hit_with_its_age() -> None:
    one = cache()
    missed = ask(one)
    assert isinstance(missed, Miss) and missed.forwarded == "miss"
    fill(one, now_s=100.0)
    found = ask(one, now_s=130.0)
    assert isinstance(found, Hit)
    assert text_of(found) == "Six."
    assert (found.tier, found.age_s) == ("exact", 30.0)
    assert 0.9 * TTL_S - 30 <= found.ttl_s <= TTL_S - 30
    assert isinstance(ask(one, now_s=100 + TTL_S), Miss)


def test_another_wording_is_a_hit_where_forms_count() -> None:
    one, other = cache(), cache(match="exact")
    for each in (one, other):
        fill(each)
    found = ask(one, asking("how can I boil an egg"))
    assert isinstance(found, Hit) and found.tier == "canonical"
    assert isinstance(ask(other, asking("how can I boil an egg")), Miss)
    assert isinstance(ask(other), Hit)


def test_what_is_not_eligible_is_not_looked_up() -> None:
    one = cache()
    fill(one)
    found = ask(one, asking(tools=[{"type": "function"}]))
    assert isinstance(found, Bypass) and found.reason == "tools"


def test_nobody_else_gets_it() -> None:
    one = cache()
    fill(one)
    for credential, team, regions in (("other", "", ()), ("caller", "", ("eu",)), ("", "caller", ())):
        assert isinstance(
            ask(one, place=Place(scope_of("key", credential, team, regions), "auto", "provider/model")), Miss
        )


def test_no_store_keeps_out() -> None:
    one = cache()
    fill(one)
    found = ask(one, said=b"no-store")
    assert isinstance(found, Bypass) and found.reason == "no-store"


def test_no_cache_asks_anew_and_replaces() -> None:
    one = cache()
    fill(one, "Old.")
    found = ask(one, said=b"no-cache")
    assert isinstance(found, Miss) and found.forwarded == "request"
    assert text_of(ask(one)) == "Old."
    fill(one, "New.", now_s=5.0)
    assert text_of(ask(one, now_s=5.0)) == "New."
    assert one.store.stats.entries == 1


@pytest.mark.parametrize(("age_s", "is_hit"), [(9.0, True), (10.0, True), (11.0, False)])
def test_max_age_sets_a_limit(age_s: float, is_hit: bool) -> None:
    one = cache()
    fill(one)
    found = ask(one, now_s=age_s, said=b"max-age=10")
    assert isinstance(found, Hit) is is_hit
    assert is_hit or (isinstance(found, Miss) and found.forwarded == "request")


def test_max_age_allows_a_temperature() -> None:
    one, warm = cache(), asking(temperature=1)
    assert isinstance(ask(one, warm), Bypass)
    missed = ask(one, warm, said=b"max-age=600")
    assert isinstance(missed, Miss)
    record = record_of("chat", orjson.dumps(plain()))
    assert isinstance(record, Record)
    one.offer(missed.key, record, 0.0)
    assert isinstance(ask(one, warm, said=b"max-age=600"), Hit)
    assert isinstance(ask(one, warm), Bypass)


def test_an_answer_without_figures_serves_only_who_needs_none() -> None:
    one = cache()
    missed = ask(one, asking(stream=True))
    assert isinstance(missed, Miss)
    recording = Recording("chat")
    for event in streamed("Six.", usage=None):
        recording.note(event)
    record = recording.end()
    assert isinstance(record, Record)
    one.offer(missed.key, record, 0.0)
    assert isinstance(ask(one, asking(stream=True)), Hit)
    assert isinstance(ask(one, asking(stream=True, stream_options={"include_usage": True})), Miss)
    assert isinstance(ask(one), Miss)
    fill(one)
    assert isinstance(ask(one), Hit)


def test_what_is_too_large_is_not_kept() -> None:
    one = cache(max_bytes=8 * 1024)
    missed = ask(one)
    noise = "".join(chr(0x4E00 + index * 7919 % 20000) for index in range(3000))
    record = record_of("chat", orjson.dumps(plain(noise)))
    assert isinstance(missed, Miss) and isinstance(record, Record)
    assert not one.offer(missed.key, record, 0.0)
    assert isinstance(ask(one), Miss)


def test_what_is_stored_together_does_not_expire_together() -> None:
    one = cache()
    ttls = set()
    for index in range(50):
        document = asking(f"How do I boil {index} eggs?")
        fill(one, document=document)
        found = ask(one, document)
        assert isinstance(found, Hit)
        assert 0.9 * TTL_S <= found.ttl_s <= TTL_S
        ttls.add(found.ttl_s)
    assert len(ttls) > 20


def test_another_configuration_goes_on_with_what_there_is() -> None:
    one = cache()
    fill(one)
    one.configure(CacheConfig(ttl_s=1.0))
    assert isinstance(ask(one, now_s=100.0), Hit)
    one.configure(CacheConfig(match="exact"))
    assert isinstance(ask(one, asking("how can I boil an egg")), Miss)
    one.configure(CacheConfig(max_bytes=1))
    assert one.store.stats.entries == 0


def test_directives_of_one_request_are_not_those_of_the_next() -> None:
    assert isinstance(NONE, Directives)
    directives_of(fields_of(b"no-cache, no-store, max-age=1"))
    assert (NONE.no_cache, NONE.no_store, NONE.max_age_s) == (False, False, None)


OTHER_WORDS = asking("how can I boil an egg")


def test_a_caller_may_ask_for_its_own_words_only() -> None:
    one = cache()
    fill(one)
    x, call = request(OTHER_WORDS)
    assert isinstance(one.lookup(x, call, HERE, NONE, 0.0), Hit)
    narrow = directives_of({b"x-sidecar-cache": b"exact"})
    assert isinstance(one.lookup(x, call, HERE, narrow, 0.0), Miss)
    same, call = request(asking())
    assert isinstance(one.lookup(same, call, HERE, narrow, 0.0), Hit)


def test_a_reported_false_hit_is_dropped_and_never_given_for_other_words_again() -> None:
    one = cache()
    fill(one)
    found = ask(one, OTHER_WORDS)
    assert isinstance(found, Hit) and found.tier == "canonical"
    assert one.pin(found.digest)
    assert isinstance(ask(one), Miss)
    fill(one)
    assert isinstance(ask(one), Hit)
    assert isinstance(ask(one, OTHER_WORDS), Miss)


def test_pins_are_bounded() -> None:
    one = cache()
    assert not one.pin(b"first")
    for index in range(MAX_PINS):
        one.pin(b"%d" % index)
    assert not one.is_pinned(b"first")
    assert one.is_pinned(b"0")


def test_an_answer_to_another_question_is_given_only_where_it_would_be_given_to_its_own() -> None:
    one = cache()
    fill(one, now_s=0.0)
    stored, other = ask(one), ask(one, asking("Boiling eggs, how is it done?"))
    assert isinstance(stored, Hit) and isinstance(other, Miss)
    _, call = request(asking())

    def found(said: bytes | None = None) -> object:
        directives = directives_of(fields_of(said))
        return one.of_same_meaning(other.key, stored.digest, call, directives, 60.0)

    hit = found()
    assert isinstance(hit, Hit) and (hit.tier, hit.digest) == ("semantic", stored.digest)
    assert isinstance(found(b"max-age=30"), Miss)
    one.pin(stored.digest)
    fill(one)
    assert found() is None
