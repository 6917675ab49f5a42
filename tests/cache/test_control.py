"""Cache-Control of requests, and the header lines of answers."""

import orjson
import pytest

from sidecar.cache.control import bypass_line, directives_of, hit_lines, miss_line, not_cached


def read(value: bytes | None) -> tuple[bool, bool, bool, int | None]:
    found = directives_of({} if value is None else {b"cache-control": value})
    return found.no_store, found.no_cache, found.only_if_cached, found.max_age_s


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        (None, (False, False, False, None)),
        (b"", (False, False, False, None)),
        (b"no-store", (True, False, False, None)),
        (b"No-Cache", (False, True, False, None)),
        (b"only-if-cached", (False, False, True, None)),
        (b"max-age=60", (False, False, False, 60)),
        (b'max-age="60"', (False, False, False, 60)),
        (b" no-cache ,\tno-store,, max-age=0", (True, True, False, 0)),
        (b"max-age=60, max-age=5", (False, False, False, 5)),
        (b"max-stale, max-stale=100, min-fresh=9, no-transform, x=y", (False, False, False, None)),
        (b"max-age=99999999999", (False, False, False, 2**31)),
        (b"max-age=" + b"9" * 500, (False, False, False, 2**31)),
    ],
)
def test_reads_the_directives_of_a_request(
    value: bytes | None, directives: tuple[bool, bool, bool, int | None]
) -> None:
    assert read(value) == directives


@pytest.mark.parametrize(
    "value", [b"max-age", b"max-age=", b"max-age=-1", b"max-age=x", b'max-age="', b"max-age=1.5"]
)
def test_an_age_that_cannot_be_read_is_none_at_all(value: bytes) -> None:
    assert read(value) == (False, False, False, 0)


def test_an_endless_header_keeps_the_request_out() -> None:
    assert read(b"x=" + b"y" * 5000 + b", no-cache")[0]


@pytest.mark.parametrize(
    ("value", "tier"),
    [(b"exact", 0), (b" Canonical ", 1), (b"semantic", 2), (b"", 0), (b"all", 0), (b"exact, semantic", 0)],
)
def test_a_caller_may_name_the_furthest_tier_and_what_is_unknown_is_the_nearest(
    value: bytes, tier: int
) -> None:
    assert directives_of({b"x-sidecar-cache": value}).tier == tier


@pytest.mark.parametrize(
    ("value", "threshold"),
    [
        (b"0.97", 0.97),
        (b" 1 ", 1.0),
        (b"0", 0.0),
        (b"-1", 1.0),
        (b"1.01", 1.0),
        (b"nan", 1.0),
        (b"high", 1.0),
    ],
)
def test_a_threshold_that_cannot_be_read_is_the_strictest(value: bytes, threshold: float) -> None:
    assert directives_of({b"x-sidecar-cache-threshold": value}).threshold == threshold


def test_a_hit_tells_its_age_and_how_long_it_lasts() -> None:
    assert hit_lines(12.9, 587.3, "canonical") == [
        b"cache-status: sidecar; hit; ttl=587; detail=canonical",
        b"age: 12",
    ]
    assert hit_lines(-0.5, -0.5, "exact")[1] == b"age: 0"


def test_a_miss_tells_why_it_was_forwarded_and_whether_it_is_kept() -> None:
    assert miss_line("miss") == b"cache-status: sidecar; fwd=miss"
    assert miss_line("request", stored=True) == b"cache-status: sidecar; fwd=request; stored"
    assert miss_line("miss", collapsed=True) == b"cache-status: sidecar; fwd=miss; collapsed"
    assert bypass_line("no-store") == b"cache-status: sidecar; fwd=bypass; detail=no-store"


def test_nothing_stored_is_a_504_that_says_what_to_do() -> None:
    reply = not_cached()
    assert reply.status == 504
    assert b"x-should-retry: false" in reply.lines
    assert "only-if-cached" in orjson.loads(reply.body)["error"]["message"]
