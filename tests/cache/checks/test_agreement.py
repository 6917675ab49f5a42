"""Whether two answers say the same: the measured pairs, and what each rule sees.

answer_pairs.jsonl has answers as models write them, made up for this: `same` 1 are two answers to one
question, 0 are answers to two questions, mostly one word apart. They are split by a hash into a half that the
rules were tuned on and a half that only a figure was taken of: 1 of 29 false alarms and 2 of 32 missed there,
0 of 32 and 3 of 33 here. Real answers are longer and vary more; these figures are the better end.
"""

import json
from hashlib import sha1
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.cache.checks.agreement import MAX_JSON_CHARS, agree
from sidecar.cache.checks.wording import MAX_BYTES

Pair = dict[str, Any]
PAIRS: list[Pair] = [
    json.loads(line)
    for line in (Path(__file__).parent / "answer_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]
# Neither opens with a word that decides, nor is there a number or a name.
PROSE = "The oven is hot enough when a drop of water dances on the plate before it is gone. "


def is_held_out(pair: Pair) -> bool:
    return bool(sha1((pair["a"] + pair["b"]).encode()).digest()[0] & 1)


def half(held_out: bool, same: int) -> list[Pair]:
    return [pair for pair in PAIRS if is_held_out(pair) is held_out and pair["same"] == same]


# --- the pairs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", [False, True])
def test_at_most_one_in_ten_is_a_false_alarm(held_out: bool) -> None:
    pairs = half(held_out, same=1)
    assert len(pairs) >= 25
    assert len([pair for pair in pairs if not agree(pair["a"], pair["b"])]) <= len(pairs) / 10


@pytest.mark.parametrize("held_out", [False, True])
def test_at_most_one_in_ten_disagreements_is_missed(held_out: bool) -> None:
    pairs = half(held_out, same=0)
    assert len(pairs) >= 25
    assert len([pair for pair in pairs if agree(pair["a"], pair["b"])]) <= len(pairs) / 10


def test_it_does_not_matter_which_answer_was_stored() -> None:
    for pair in PAIRS:
        assert agree(pair["a"], pair["b"]) is agree(pair["b"], pair["a"])


def test_an_answer_agrees_with_itself_and_with_no_others_answer() -> None:
    answers = [pair["a"] for pair in PAIRS if len(pair["a"]) > 100]
    for index, answer in enumerate(answers):
        assert agree(answer, f"\n{answer}  ")
        assert not agree(answer, answers[index - 1])


# --- texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " **paris**.\n"),
        ("", " "),
        ("It takes two hours.", "It takes 2 hours."),
        ("1,024", "1024"),
        ("１０", "10"),
        ("−5", "-5"),
        ("東京です。", "東京"),
        ("1. red\n2. blue", "- red\n- blue"),
        ("It is.", "it is."),
        ("👍", "👍 "),
        ("[link]", "{link}"),
    ],
)
def test_short_answers_that_say_the_same(one: str, other: str) -> None:
    assert agree(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", "Paris"),
        ("It is.", "Is it?"),
        ("👍", "👎"),
        ("1,024", "1.024"),
        ("10", "100"),
        ("5 km", "5 miles"),
        ("a <= b", "a >= b"),
        ("C", "C++"),
        ("Christina", "Christopher"),
        ("Python 2", "Python 3"),
        ("-l", "-a"),
        ("red, blue", "red, blue, green"),
        ("London", "Not London"),
        ("東京", "京都"),
        ("はい", "いいえ"),
    ],
)
def test_short_answers_that_differ(one: str, other: str) -> None:
    assert not agree(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes. ", "No. "),
        ("True. ", "False. "),
        ("Ja, ", "Nein, "),
        ("Да, ", "Нет, "),
        ("Wait for 10 minutes. ", "Wait for 12 minutes. "),
        ("Of 10 take 5. ", "Of 10 take 6. "),
        ("As in Rome. ", "As in Paris. "),
        ("First enable it. ", "First disable it. "),
        ("It is safe. ", "It is unsafe. "),
        ("You may touch it. ", "You may not touch it. "),
    ],
)
def test_one_word_tells_long_answers_apart(one: str, other: str) -> None:
    assert agree(one + PROSE, f"{PROSE} {one}")
    assert not agree(one + PROSE, other + PROSE)


def test_a_word_that_both_have_is_no_opposite() -> None:
    assert agree(f"Enable it, or disable it later. {PROSE}", f"{PROSE} You can disable what you enable.")


def test_what_one_answer_is_about_stands_in_the_other() -> None:
    about = (
        "Wash the {0}. Cut the {0}. Boil the {0} in salted water. Drain the {0}. Serve the {0} warm. " + PROSE
    )
    assert agree(about.format("potatoes"), about.format("potatoes").replace("Wash", "Clean"))
    assert not agree(about.format("potatoes"), about.format("carrots"))


def test_the_beginning_of_a_long_answer_decides() -> None:
    long = (PROSE * 100)[: 2 * MAX_BYTES]
    assert agree(f"{long} Paris", f"{long}. Or else.")
    assert not agree(f"Yes. {long}", f"No. {long}")


# --- JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1.0}'),
        ('```json\n{"a": 1}\n```', '```\n{"a":1}\n```'),
        ('{"a": "New  York"}', '{"a": "new york"}'),
        ('{"a": "' + PROSE + 'One."}', '{"a": "One. ' + PROSE + '"}'),
        ("[]", "[ ]"),
    ],
)
def test_json_is_compared_by_what_it_holds(one: str, other: str) -> None:
    assert agree(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": 1, "b": null}'),
        ('{"a": null}', '{"b": null}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": 0.91}', '{"a": 0.92}'),
        ('{"a": "yes"}', '{"a": "no"}'),
        ("{}", "[]"),
        ('{"answer": "Paris"}', "Paris"),
        ('{"a": 1}', '{"a": 1'),
    ],
)
def test_json_that_differs_in_one_value_differs(one: str, other: str) -> None:
    assert not agree(one, other)


def test_json_that_is_too_long_is_compared_as_a_text() -> None:
    long = orjson.dumps({f"name {n}": n for n in range(1000)}).decode()
    assert len(long) > MAX_JSON_CHARS
    assert agree(long, long.replace(":", ": "))
    assert not agree(long, "no answer")


def test_json_nested_too_deeply_is_no_agreement_and_no_error() -> None:
    for depth in (100, 1000, 2000):
        assert not agree("[" * depth + "1" + "]" * depth, "[" * depth + "2" + "]" * depth)


# --- anything at all ----------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(max_size=60), st.text(alphabet='aZ1.,:-+#[]{}" \n`é不東は\ud800', max_size=60))
def test_any_two_texts_can_be_compared_either_way(one: str, other: str) -> None:
    assert agree(one, other) is agree(other, one)
    assert agree(one, one)


@pytest.mark.parametrize(
    "piece", ["a", "1", "1,", "[", "{", '"', "`", "-", "\n", " ", "不", "は", "a1 ", "A b "]
)
def test_of_a_huge_answer_only_the_beginning_is_read(piece: str) -> None:
    huge = f"x{piece * 300_000}"
    assert agree(huge, f"{huge}y")
