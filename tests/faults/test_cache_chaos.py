"""The cache under chaos at a size for every day, and its judges: each kind of wrong answer has to be seen."""

import orjson
import pytest

from tests.faults.torture import cache_chaos
from tests.faults.torture.cache_book import Book, Purge, Told
from tests.faults.torture.cache_callers import Ask, Verdict, judge, plan
from tests.faults.torture.cache_provider import SHORT, Stamp, words_of
from tests.faults.torture.peers import STREAM_HEAD, chunk
from tests.support.answers import read_answers

ASK = Ask("ann.1", 3)
STAMP = Stamp(0, "main", 0, "ann.1")
HIT = "sidecar; hit; ttl=9; detail=exact"
COLLAPSED = "sidecar; fwd=miss; collapsed"
MISS = "sidecar; fwd=miss"
KEY_SCOPE: dict[str, str] = {}


async def test_whole_answers_are_right_and_nothing_is_left_behind() -> None:
    report = await cache_chaos.run(250, seeds=(14,))
    assert report.case.failures == []


# --- what is right to say ---------------------------------------------------------------------------------


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    document = {"system_fingerprint": "0|main|0|ann.1", "choices": [choice]}
    return chunk(b"data: %b\n\n" % orjson.dumps(document))


WORDS = [event(word) for word in words_of(3)]
STOP = event("", "stop")
DONE = chunk(b"data: [DONE]\n\n")
ERROR = chunk(b'data: {"error":{"message":"It broke off."}}\n\n')
LAST = b"0\r\n\r\n"


def outcome(*said: bytes, ask: Ask = ASK, was_reset: bool = False) -> str:
    answer = read_answers(b"".join([STREAM_HEAD, *said]))[0]
    return judge(answer, ask, was_reset=was_reset).outcome


def test_a_stream_is_whole_told_or_broken() -> None:
    assert outcome(*WORDS, STOP, DONE, LAST) == "whole"
    assert outcome(*WORDS, STOP, LAST) == "whole"  # complete without [DONE]
    assert outcome(*WORDS[:3], ERROR) == "told"
    assert outcome(*WORDS[:3]) == "broken"
    assert outcome(*WORDS, STOP, DONE) == "broken"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ((*WORDS[:3], LAST), "a beginning that looks like an end"),
        ((*WORDS[:3], DONE, LAST), "[DONE] in a stream that is not whole"),
        ((*WORDS[:3], ERROR, DONE), "[DONE] in a stream that is not whole"),
        ((*WORDS[:3], ERROR, LAST), "an error that looks like an end"),
        ((*WORDS[:3], *WORDS[2:], STOP, DONE, LAST), "another text"),
        ((event("q4.0 "), LAST), "another text"),
        ((*WORDS[:3], chunk(b'data: {"cho\n\n'), LAST), "an event that is no JSON"),
    ],
)
def test_a_stream_that_lies_is_seen(said: tuple[bytes, ...], what: str) -> None:
    assert outcome(*said) == what


def test_without_chunks_only_a_reset_says_that_it_is_not_whole() -> None:
    old = ASK._replace(minor=0)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    said = b'data: {"choices":[{"delta":{"content":"q3.0 "},"finish_reason":null}]}\n\n'
    answer = read_answers(head + said)[0]
    assert judge(answer, old, was_reset=True).outcome == "broken"
    assert judge(answer, old, was_reset=False).outcome == "a beginning that looks like an end"


def plain(text: str) -> bytes:
    choices = [{"message": {"content": text}}]
    body = orjson.dumps({"system_fingerprint": "0|main|0|ann.1", "choices": choices})
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def test_a_plain_answer_is_whole_or_breaks_off() -> None:
    ask, right = ASK._replace(stream=False), plain("".join(words_of(3)))
    judged = [
        judge(read_answers(data)[0], ask, was_reset=False).outcome
        for data in (right, right[:-1], plain("q4.0 "))
    ]
    assert judged == ["whole", "broken", "another text"]
    unsaid = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"
    assert judge(read_answers(unsaid)[0], ask, was_reset=False).outcome == "an error without its object"


# --- what a caller may be given ---------------------------------------------------------------------------


def told(status: str = HIT, stamp: Stamp = STAMP, ask: Ask = ASK, began_s: float = 5.0) -> Told:
    return Told(ask, began_s, began_s + 1, status, Verdict("whole", (stamp,)))


def book(*settings: dict[str, str] | None) -> Book:
    """These were in force one after the other, from 0 s on, from 5.5 s on."""
    made = Book()
    made.settings = list(zip((0.0, 5.5), settings, strict=False))
    return made


def test_one_s_own_answer_may_be_given_again() -> None:
    for status in (HIT, COLLAPSED, MISS):
        assert book(KEY_SCOPE).wrong(told(status), [1.0]) == ""


@pytest.mark.parametrize(("scope", "owners"), [("key", "ann"), ("team", "ann bob"), ("all", "ann bob cat")])
def test_an_answer_goes_to_whom_the_scope_allows(scope: str, owners: str) -> None:
    given = [
        owner
        for owner in ("ann", "bob", "cat")
        if not book({"scope": scope}).wrong(told(stamp=STAMP._replace(who=f"{owner}.7")), [1.0])
    ]
    assert given == owners.split()


def test_settings_that_changed_meanwhile_count_all() -> None:
    bob_s = told(stamp=STAMP._replace(who="bob.7"))
    assert book(KEY_SCOPE, {"scope": "all"}).wrong(bob_s, [1.0]) == ""
    late = book({"scope": "all"}, KEY_SCOPE)
    assert late.wrong(bob_s._replace(began_s=6.0, ended_s=7.0), [1.0]) == "somebody else's answer"


@pytest.mark.parametrize(
    ("one", "cache", "what"),
    [
        (told(), None, "out of a cache that was off"),
        (told(MISS, STAMP._replace(who="bob.7")), {}, "somebody else's answer without the cache"),
        (told(stamp=STAMP._replace(wording=1)), {"match": "exact"}, "another wording's answer"),
        (
            told(stamp=STAMP._replace(wording=1), ask=ASK._replace(is_exact=True)),
            {},
            "another wording's answer",
        ),
        (told(stamp=STAMP._replace(model="backup")), {}, "a stored answer of another model"),
        (told(ask=ASK._replace(control="no-cache")), {}, "a hit in spite of no-cache"),
        (told(MISS, ask=ASK._replace(control="only-if-cached")), {}, "asked in spite of only-if-cached"),
    ],
)
def test_what_must_not_be_given_is_seen(one: Told, cache: dict[str, str] | None, what: str) -> None:
    assert book(cache).wrong(one, [1.0]) == what


def test_what_was_purged_must_not_come_again() -> None:
    made = book(KEY_SCOPE)
    made.purges.append(Purge(3.0, 4.0))
    assert made.wrong(told(), [2.0]) == "an answer that was purged"
    assert made.wrong(told(), [3.5]) == ""
    assert made.wrong(told(began_s=3.9), [2.0]) == ""  # the purge was not done yet
    assert made.wrong(told(COLLAPSED), [2.0]) == ""  # asked before the purge, and never stored


def test_what_was_reported_must_not_come_again() -> None:
    other = told(stamp=STAMP._replace(wording=1))
    made = book(KEY_SCOPE, None)
    made.pins["aa"] = 4.0
    assert made.is_false_again(other._replace(ended_s=5.4), "aa")
    assert not made.is_false_again(other._replace(ended_s=5.4), "bb")
    assert not made.is_false_again(told(), "aa")  # its own words
    assert not made.is_false_again(other, "aa")  # the cache was off meanwhile, and forgot


def test_a_plan_is_the_same_each_time_and_has_all_manners() -> None:
    visits = plan(14, 250, 1.0)
    assert visits == plan(14, 250, 1.0)
    assert len({visit.manner for visit in visits}) == 6
    assert {visit.asks[0].question for visit in visits} > set(SHORT)
    ids = [ask.id for visit in visits for ask in visit.asks]
    assert len(set(ids)) == len(ids)
