"""Thresholds from pairs: what is counted as a hit, which threshold follows, and what pairs cannot show."""

import math

import orjson
import pytest

from sidecar.cache.meaning.calibration import (
    LOWEST_THRESHOLD,
    MAX_LINE_BYTES,
    Calibration,
    Judged,
    Pair,
    PairsError,
    Row,
    as_json,
    calibrate,
    embedded,
    judge,
    read_pairs,
    rule_of_three,
    threshold_for,
)
from sidecar.cache.meaning.sameness import features


def line(a: object = "one", b: object = "other", same: object = 0) -> bytes:
    return orjson.dumps({"a": a, "b": b, "same": same}) + b"\n"


# --- pairs ---


def test_reads_pairs_of_either_spelling_and_skips_empty_lines() -> None:
    other = orjson.dumps({"text_a": "c", "text_b": "d", "same": True, "kind": "x"})
    assert read_pairs([line("a", "b", 0), b"\n", b"  \r\n", other]) == [
        Pair("a", "b", False),
        Pair("c", "d", True),
    ]


EXPECTED = 'expected {"a": "a text"'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"nonsense\n", "is not JSON"),
        (b'{"a": "x"\n', "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[]", EXPECTED),
        (b"1", EXPECTED),
        (b'{"a": "x", "same": 0}', EXPECTED),
        (b'{"a": "x", "b": "y"}', EXPECTED),
        (line(a=None), EXPECTED),
        (line(b=["y"]), EXPECTED),
        (line(same=2), EXPECTED),
        (line(same="0"), EXPECTED),
        (line(same=0.0), EXPECTED),
        (line(a=" "), "has an empty text"),
        (line(b=""), "has an empty text"),
        (line(a="x" * MAX_LINE_BYTES), f"is longer than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_a_malformed_line_is_told_by_its_number(bad: bytes, reason: str) -> None:
    with pytest.raises(PairsError) as raised:
        read_pairs([line(), b"\n", bad, line()])
    assert str(raised.value).startswith(f"line 3: {reason}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("lines", [[], [b"\n", b" "]])
def test_no_pairs_at_all_are_refused(lines: list[bytes]) -> None:
    with pytest.raises(PairsError, match="holds no pairs"):
        read_pairs(lines)


def test_pairs_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(PairsError, match='no pair with "same": 0'):
        read_pairs([line(same=1), line(same=True)])


# --- judgement ---


def judged(one: str, other: str, similarity: float = 0.9) -> Judged:
    return judge(Pair(one, other, False), similarity)


def test_embedded_is_what_the_cache_embeds() -> None:
    text = "Hi, can you please tell me how I can boil an egg?"
    assert embedded(text) == features(text).asked != text
    for as_it_stands in ("def f(x):\n  return 1", "Wie kocht man ein Ei?", "x" * 5000):
        assert embedded(as_it_stands) == as_it_stands


def test_a_text_and_itself_are_the_same_by_every_way() -> None:
    text = "How do I boil an egg?"
    assert judged(text, text, 0.99999994) == Judged(False, True, True, True, True, 1.0)


def test_another_asking_of_the_same_is_canonical() -> None:
    pair = judged("How do I boil an egg?", "Please tell me how to boil an egg.")
    assert (pair.is_exact, pair.is_canonical) == (False, True)


def test_texts_without_a_form_are_compared_as_they_stand() -> None:
    assert not judged('Translate: "a cat"', 'Translate: "a dog"').is_canonical
    assert judged('Translate: "a cat"', 'Translate: "a cat"').is_canonical


def test_the_guards_refuse_what_differs_and_what_may_not_be_looked_up_by_meaning() -> None:
    assert judged("How long do I boil 2 eggs?", "How long should I boil two eggs?").similarity == 0.9
    assert not judged("How do I enable the firewall?", "How do I disable the firewall?").is_allowed
    assert not judged("def f(x):\n  return 1", "def f(x):\n  return 1").is_allowed


def test_an_answer_that_soon_changes_is_not_kept() -> None:
    assert not judged("What is the weather in Rome?", "How do I boil an egg?").is_kept
    assert not judged("How do I boil an egg?", "What is the weather in Rome?").is_kept


# --- thresholds ---


@pytest.mark.parametrize(
    ("scores", "rate", "threshold"),
    [
        ([0.9683], 0.01, 0.9684),
        ([0.96835], 0.01, 0.9684),
        ([0.95], 0.01, 0.9501),
        ([0.3, 0.2], 0.01, LOWEST_THRESHOLD),
        ([0.5], 0.01, 0.5001),
        ([-math.inf], 0.01, LOWEST_THRESHOLD),
        ([0.99995], 0.01, 1.0),
        ([1.0], 0.01, None),
        ([math.inf, 0.6], 0.01, None),
        ([0.9, 0.8, 0.7, 0.6], 0.5, 0.7001),
        ([1.0, 0.7], 0.5, 0.7001),
        ([0.8] * 3, 0.34, 0.8001),
    ],
)
def test_the_threshold_is_the_lowest_that_lets_few_enough_through(
    scores: list[float], rate: float, threshold: float | None
) -> None:
    assert threshold_for(scores, rate) == threshold


@pytest.mark.parametrize("size", range(100, 3001, 100))
def test_a_whole_number_of_wrong_hits_is_not_lost_to_rounding(size: int) -> None:
    scores = [0.6 + 0.3 * n / size for n in range(size)]
    threshold = threshold_for(scores, 0.01)
    assert threshold is not None
    assert sum(score >= threshold for score in scores) <= size // 100
    assert sum(score >= threshold - 0.0002 for score in scores) >= size // 100


def pairs(similarities: list[float], is_same: bool, **changes: bool) -> list[Judged]:
    plain = Judged(is_same, True, False, False, True, 0.0)
    return [plain._replace(similarity=one, **changes) for one in similarities]


def rows_of(calibration: Calibration, way: str) -> list[Row]:
    return [row for row in calibration.rows if row.way == way]


def test_the_figures_of_each_way() -> None:
    given = [
        *pairs([0.97, 0.93, 0.6], True),
        *pairs([0.7], True, is_canonical=True),
        *pairs([0.99], True, is_canonical=True, is_exact=True),
        *pairs([0.98], True, is_canonical=True, is_kept=False),
        *pairs([0.9], False),
        *pairs([0.96], False, is_allowed=False),
    ]
    calibration = calibrate(given, configured=0.95)
    assert (calibration.same, calibration.different, calibration.not_kept) == (6, 2, 1)
    assert rows_of(calibration, "exact") == [Row("exact", None, None, 1, 0)]
    assert rows_of(calibration, "canonical") == [Row("canonical", None, None, 2, 0)]
    assert rows_of(calibration, "similarity") == [
        Row("similarity", 0.01, 0.9601, 3, 0),
        Row("similarity", 0.001, 0.9601, 3, 0),
        Row("similarity", None, 0.95, 3, 1),
    ]
    assert rows_of(calibration, "similarity, guarded") == [
        Row("similarity, guarded", 0.01, 0.9001, 3, 0),
        Row("similarity, guarded", 0.001, 0.9001, 3, 0),
        Row("similarity, guarded", None, 0.95, 2, 0),
    ]
    assert rows_of(calibration, "match: semantic") == [
        Row("match: semantic", 0.01, 0.9001, 4, 0),
        Row("match: semantic", 0.001, 0.9001, 4, 0),
        Row("match: semantic", None, 0.95, 3, 0),
    ]


def test_where_no_threshold_is_high_enough_nothing_is_found() -> None:
    given = pairs([1.0, 0.9], True) + pairs([1.0], False)
    assert rows_of(calibrate(given, 0.95), "similarity")[0] == Row("similarity", 0.01, None, 0, 0)


def test_a_wrong_canonical_hit_leaves_no_threshold_for_the_whole() -> None:
    given = pairs([0.9], True) + pairs([0.2], False, is_canonical=True)
    by_rate = rows_of(calibrate(given, 0.95), "match: semantic")[0]
    assert by_rate == Row("match: semantic", 0.01, None, 0, 1)


def test_a_rate_that_may_be_reached_is_used_up() -> None:
    given = pairs([0.9], True) + pairs([0.6 + n / 10_000 for n in range(1000)], False)
    by_rate = {row.rate: row for row in rows_of(calibrate(given, 0.95), "similarity")}
    assert (by_rate[0.01].wrong, by_rate[0.001].wrong) == (10, 1)


# --- what pairs cannot show ---


def test_the_rule_of_three() -> None:
    assert rule_of_three(3000) == pytest.approx(0.001)
    assert rule_of_three(1) == 1.0


@pytest.mark.parametrize(
    ("same", "different", "said"),
    [
        (100, 3000, []),
        (100, 2999, ["2999 pairs that differ are too few to show 0.1 %"]),
        (100, 300, ["300 pairs that differ are too few to show 0.1 %"]),
        (100, 10, ["may still be 30 % (rule of three); 300 would do", "to show 0.1 %"]),
        (0, 3000, ["no pair is the same"]),
        (25, 3000, ["25 pairs that are the same: the share found is known to about ±20%"]),
    ],
)
def test_too_few_pairs_are_said(same: int, different: int, said: list[str]) -> None:
    warnings = calibrate(pairs([0.9] * same, True) + pairs([0.5] * different, False), 0.95).warnings
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))


def test_as_json_it_has_shares_too_and_survives_no_same_pair() -> None:
    tree = as_json(calibrate(pairs([0.99, 0.1], False), 0.95))
    rows = orjson.loads(orjson.dumps(tree))["rows"]
    assert rows[4] == {
        "way": "similarity",
        "rate": None,
        "threshold": 0.95,
        "found": 0,
        "wrong": 1,
        "recall": None,
        "wrong_rate": 0.5,
    }
