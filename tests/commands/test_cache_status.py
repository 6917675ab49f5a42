"""What is told of a cache, as text."""

from typing import Any

import pytest

from sidecar.commands.cache_status import text


def shown(**changes: Any) -> dict[str, Any]:
    """A cache that has done nothing yet."""
    return {
        "match": "canonical",
        "scope": "key",
        "ttl_s": 3600.0,
        "shadow": 0.0,
        "entries": 0,
        "bytes": 0,
        "budget_bytes": 32 * 2**20,
        "evictions": 0,
        "requests": {"hit": 0, "miss": 0, "bypass": 0, "collapsed": 0, "shadow": 0},
        "hit_ratio": None,
        "questions_under_way": 0,
        "saved_usd": 0.0,
        "saved_s": 0.0,
        "hits": [],
        "misses": {},
        "bypasses": {},
        "checks": [],
        "shared": None,
        "semantic": None,
        **changes,
    }


def line(said: str, name: str) -> str:
    (found,) = [line for line in said.splitlines() if line.startswith(name)]
    return found.removeprefix(name).strip()


def test_a_fresh_cache_takes_five_lines() -> None:
    said = text(shown())
    assert [one.split()[0] for one in said.splitlines()] == ["cache", "memory", "requests", "hits", "saved"]
    assert line(said, "cache") == "canonical, shared by key, for 3600 s"
    assert line(said, "hits") == "none looked up yet; 0 questions under way"


def test_figures_are_told_with_their_units() -> None:
    said = text(
        shown(entries=1234, bytes=3 * 2**20, hit_ratio=0.4567, saved_usd=1.5, saved_s=1234.56, evictions=2)
    )
    assert line(said, "memory") == "1,234 answers in 3.0 of 32.0 MiB, 2 dropped for want of room"
    assert line(said, "hits").startswith("45.7% of what was looked up;")
    assert line(said, "saved") == "$1.5000, and 1,234.6 s of waiting"


def test_reasons_are_listed_and_an_empty_one_has_a_name() -> None:
    said = text(shown(misses={"stored": 1000, "": 2}, bypasses={"tools": 3}))
    assert line(said, "misses") == "1,000 stored, 2 other"
    assert line(said, "bypasses") == "3 tools"


def test_hits_and_checks_are_tables() -> None:
    hit = {"route": "auto", "tier": "exact", "hits": 1200, "saved_usd": 0.25, "saved_s": 3.0}
    check = {"route": "", "tier": "canonical", "checks": 20, "disagreed": 15, "on": False}
    said = text(shown(hits=[hit], checks=[check])).splitlines()
    assert [row.split() for row in said[-5:]] == [
        ["ROUTE", "TIER", "HITS", "SAVED", "$", "SAVED", "S"],
        ["auto", "exact", "1,200", "0.2500", "3.0"],
        [],
        ["ROUTE", "TIER", "CHECKS", "DIFFERED", "NOW"],
        ["-", "canonical", "20", "15", "off"],
    ]


def test_redis_and_meaning_have_a_line_each() -> None:
    semantic = {"shadow_only": True, "entries": 5, "looked_up": 9, "failures": 1, "refused": {"number": 2}}
    said = text(shown(shared={"on": False, "results": {"hit": 0, "late": 3}}, semantic=semantic))
    assert line(said, "redis") == "off: this sidecar has its own answers only; 3 late"
    assert line(said, "meaning") == (
        "looked up, never given; 5 questions, 9 looked up, 1 without a vector; refused by 2 number"
    )


def test_it_is_fit_for_a_terminal_whoever_wrote_it() -> None:
    hit = {"route": "a\x1b[2J\nb", "tier": "exact", "hits": 1, "saved_usd": 0.0, "saved_s": 0.0}
    said = text(shown(hits=[hit]))
    assert "\x1b" not in said and "a?[2J?b" in said


@pytest.mark.parametrize("changes", [{"requests": []}, {"hits": [{}]}, {"ttl_s": None}, {"shared": 1}])
def test_what_is_no_cache_is_an_error_that_is_expected(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        text(shown(**changes))
