"""What a sidecar says of its answer cache, as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from sidecar.tables import columns, printable

_NO_ROUTE = "-"
_HITS = ("ROUTE", "TIER", "HITS", "SAVED $", "SAVED S")
_CHECKS = ("ROUTE", "TIER", "CHECKS", "DIFFERED", "NOW")
_RIGHT = frozenset((2, 3, 4))  # columns of figures


def text(shown: Mapping[str, Any]) -> str:
    """The text; KeyError, TypeError or AttributeError for what is none of a cache."""
    facts = [
        ("cache", f"{shown['match']}, shared by {shown['scope']}, for {shown['ttl_s']:g} s"),
        ("memory", _memory(shown)),
        ("requests", ", ".join(f"{count:,} {name}" for name, count in shown["requests"].items())),
        ("hits", _hits(shown)),
        ("saved", f"${shown['saved_usd']:.4f}, and {shown['saved_s']:,.1f} s of waiting"),
        ("misses", _counts(shown["misses"])),
        ("bypasses", _counts(shown["bypasses"])),
        ("redis", _shared(shown["shared"])),
        ("meaning", _semantic(shown["semantic"])),
    ]
    lines = [f"{name:<10}{fact}" for name, fact in facts if fact]
    if shown["hits"]:
        lines += ["", *columns([_HITS, *map(_hit, shown["hits"])], _RIGHT)]
    if shown["checks"]:
        lines += ["", *columns([_CHECKS, *map(_check, shown["checks"])], _RIGHT)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _memory(shown: Mapping[str, Any]) -> str:
    used, budget = shown["bytes"] / 2**20, shown["budget_bytes"] / 2**20
    return (
        f"{shown['entries']:,} answers in {used:.1f} of {budget:.1f} MiB,"
        f" {shown['evictions']:,} dropped for want of room"
    )


def _hits(shown: Mapping[str, Any]) -> str:
    ratio = shown["hit_ratio"]
    hits = "none looked up yet" if ratio is None else f"{ratio:.1%} of what was looked up"
    return f"{hits}; {shown['questions_under_way']} questions under way"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason or 'other'}" for reason, count in counts.items())


def _shared(shared: Mapping[str, Any] | None) -> str:
    if shared is None:
        return ""
    counts = _counts({name: count for name, count in shared["results"].items() if count})
    return f"{'on' if shared['on'] else 'off: this sidecar has its own answers only'}; {counts or 'unused'}"


def _semantic(semantic: Mapping[str, Any] | None) -> str:
    if semantic is None:
        return ""
    given = "looked up, never given" if semantic["shadow_only"] else "given"
    refused = _counts(semantic["refused"])
    return (
        f"{given}; {semantic['entries']:,} questions, {semantic['looked_up']:,} looked up,"
        f" {semantic['failures']:,} without a vector" + (f"; refused by {refused}" if refused else "")
    )


def _hit(one: Mapping[str, Any]) -> tuple[str, ...]:
    route, hits = one["route"] or _NO_ROUTE, f"{one['hits']:,}"
    return route, one["tier"], hits, f"{one['saved_usd']:.4f}", f"{one['saved_s']:,.1f}"


def _check(one: Mapping[str, Any]) -> tuple[str, ...]:
    now = "on" if one["on"] else "off"
    return one["route"] or _NO_ROUTE, one["tier"], f"{one['checks']:,}", f"{one['disagreed']:,}", now
