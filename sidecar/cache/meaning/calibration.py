"""Which threshold a similarity needs, measured on pairs of texts of which somebody has said whether one
answer serves both.

Each way to find an answer again gives a pair a score, and a pair is a hit where its score reaches the
threshold. What compares texts, not vectors, hits always or never:

    exact                  the same text
    canonical              the same form (canonical.py)
    similarity             the cosine alone, to see what the guards are for
    similarity, guarded    the cosine, where the guards (sameness.py) see no difference
    match: semantic        canonical, and then the guarded similarity: what the cache does

A threshold for a rate of wrong hits is the lowest at which no larger share of the pairs that differ are hits.
None of n is no proof of a rate: it may still be 3/n (the rule of three, with 95 % confidence), which is said.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from sidecar.cache.canonical import canonical
from sidecar.cache.meaning.sameness import differs, features, may_mean
from sidecar.cache.volatile import is_volatile

RATES = (0.01, 0.001)
# What `cache.semantic.threshold` takes.
LOWEST_THRESHOLD = 0.5
MAX_LINE_BYTES = 64 * 1024
MAX_PAIRS = 1_000_000
# From here on the share found is known to about a tenth.
_ENOUGH_SAME = 100
_ALWAYS, _NEVER = math.inf, -math.inf


class PairsError(ValueError):
    """The pairs cannot be used. One line, with the number of the line where there is one."""


class Pair(NamedTuple):
    """Two texts, and whether one answer serves both."""

    one: str
    other: str
    is_same: bool


class Judged(NamedTuple):
    """What the cache makes of a pair. `is_kept`: answers to both are kept at all, as they will not change."""

    is_same: bool
    is_kept: bool
    is_exact: bool
    is_canonical: bool
    is_allowed: bool
    similarity: float


class Row(NamedTuple):
    """What one way finds: `found` of the same pairs, `wrong` of those that differ.

    `rate` is the share of wrong hits that the threshold was chosen for, None where it was given. `threshold`
    is None where the way has none, and where none is high enough: then similarity finds nothing.
    """

    way: str
    rate: float | None
    threshold: float | None
    found: int
    wrong: int


class Calibration(NamedTuple):
    """The figures of all pairs; `not_kept` of them the cache would never answer."""

    same: int
    different: int
    not_kept: int
    rows: list[Row]
    warnings: list[str]


# --- pairs in ---------------------------------------------------------------------------------------------


def read_pairs(lines: Iterable[bytes]) -> list[Pair]:
    """Pairs, a JSON object a line: `a` and `b` (or `text_a` and `text_b`), and `same`, 0 or 1.

    Other members and empty lines do not matter. PairsError for what cannot be read, and where none differ.
    """
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(pairs) == MAX_PAIRS:
            raise PairsError(f"line {number}: more than {MAX_PAIRS} pairs: give some of them")
        try:
            pairs.append(_read(line))
        except PairsError as error:
            raise PairsError(f"line {number}: {error}") from None
    if not pairs:
        raise PairsError("holds no pairs")
    if all(pair.is_same for pair in pairs):
        raise PairsError('has no pair with "same": 0: without them no wrong hit would be seen')
    return pairs


def _read(line: bytes) -> Pair:
    if len(line) > MAX_LINE_BYTES:
        raise PairsError(f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise PairsError(f"is not JSON: {error.msg}") from None
    expected = 'expected {"a": "a text", "b": "another", "same": 0 or 1}'
    if type(entry) is not dict:
        raise PairsError(expected)
    one, other = (entry.get(name, entry.get(f"text_{name}")) for name in ("a", "b"))
    same = entry.get("same")
    if type(one) is not str or type(other) is not str or type(same) not in (int, bool) or same not in (0, 1):
        raise PairsError(expected)
    if not one.strip() or not other.strip():
        raise PairsError("has an empty text")
    return Pair(one, other, bool(same))


# --- judgement --------------------------------------------------------------------------------------------


def embedded(text: str) -> str:
    """What of a text is embedded: what the cache takes, where it would, or else the text as it stands."""
    return features(text).asked if may_mean(text) else text


def judge(pair: Pair, similarity: float) -> Judged:
    """What each way makes of a pair; `similarity` is the cosine of what is `embedded`."""
    one, other, is_same = pair
    is_exact = one == other
    form = canonical(one)
    is_allowed = may_mean(one) and may_mean(other) and not differs(features(one), features(other))
    # Equal vectors have a cosine of 1 but for the last digits of float32.
    return Judged(
        is_same,
        not (is_volatile(one) or is_volatile(other)),
        is_exact,
        is_exact or (form is not None and form == canonical(other)),
        is_allowed,
        round(similarity, 6),
    )


_FIXED: dict[str, Callable[[Judged], float]] = {
    "exact": lambda pair: _ALWAYS if pair.is_kept and pair.is_exact else _NEVER,
    "canonical": lambda pair: _ALWAYS if pair.is_kept and pair.is_canonical else _NEVER,
}
_BY_THRESHOLD: dict[str, Callable[[Judged], float]] = {
    "similarity": lambda pair: pair.similarity,
    "similarity, guarded": lambda pair: pair.similarity if pair.is_kept and pair.is_allowed else _NEVER,
    "match: semantic": lambda pair: max(
        _FIXED["canonical"](pair), _BY_THRESHOLD["similarity, guarded"](pair)
    ),
}


def calibrate(judged: list[Judged], configured: float) -> Calibration:
    """The figures of these pairs, and those at the `configured` threshold."""
    same = [pair for pair in judged if pair.is_same]
    different = [pair for pair in judged if not pair.is_same]

    def row(way: str, score: Callable[[Judged], float], rate: float | None, threshold: float | None) -> Row:
        least = _ALWAYS if threshold is None else threshold
        found, wrong = (sum(score(pair) >= least for pair in pairs) for pairs in (same, different))
        return Row(way, rate, threshold, found, wrong)

    rows = [row(way, score, None, None) for way, score in _FIXED.items()]
    for way, score in _BY_THRESHOLD.items():
        scores = [score(pair) for pair in different]
        rows += [row(way, score, rate, threshold_for(scores, rate)) for rate in RATES]
        rows.append(row(way, score, None, configured))
    not_kept = sum(not pair.is_kept for pair in judged)
    return Calibration(len(same), len(different), not_kept, rows, _warnings(len(same), len(different)))


def threshold_for(scores: list[float], rate: float) -> float | None:
    """The lowest threshold, to four decimals, that at most a share `rate` of the scores reaches.

    None where even a threshold of 1 lets more through.
    """
    may_hit = math.floor(rate * len(scores) + 1e-9)
    highest_out = sorted(scores, reverse=True)[may_hit]
    if highest_out >= 1.0:
        return None
    steps = math.floor(max(highest_out, LOWEST_THRESHOLD) * 10_000)
    while highest_out >= steps / 10_000:
        steps += 1
    return steps / 10_000


def rule_of_three(trials: int) -> float:
    """The highest rate, with 95 % confidence, of what did not happen once in so many trials."""
    return min(1.0, 3.0 / trials)


def _warnings(same: int, different: int) -> list[str]:
    found = [
        f"{different} pairs that differ are too few to show {rate * 100:g} % of wrong hits: with none of them"
        f" a hit it may still be {rule_of_three(different) * 100:.2g} % (rule of three); {round(3 / rate)}"
        " would do"
        for rate in RATES
        if different * rate < 3
    ]
    if same == 0:
        found.append("no pair is the same: what would be found is not known")
    elif same < _ENOUGH_SAME:
        found.append(f"{same} pairs that are the same: the share found is known to about ±{same**-0.5:.0%}")
    return found


def as_json(calibration: Calibration) -> dict[str, Any]:
    """The figures as JSON writes them; `recall` and `wrong_rate` are shares, None where there is no pair."""
    same, different = calibration.same, calibration.different
    rows = [
        row._asdict() | {"recall": row.found / same if same else None, "wrong_rate": row.wrong / different}
        for row in calibration.rows
    ]
    return calibration._asdict() | {"rows": rows}
