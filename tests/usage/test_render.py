"""Tables, CSV and JSON whose lines add up to their totals."""

import csv
import io
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.usage.render import apportioned, as_csv, as_json, notes, table
from sidecar.usage.report import Line, Report
from sidecar.usage.rows import FIGURES

AMOUNTS = st.lists(st.integers(-(10**20), 10**20), max_size=40)


def line(*group: str, **figures: int) -> Line:
    return Line(group, {name: figures.get(name, 0) for name in FIGURES})


def report_of(*lines: Line, by: tuple[str, ...] = ("team",), **more: list[str]) -> Report:
    total = Line(("",) * len(by), {name: sum(line.figures[name] for line in lines) for name in FIGURES})
    return Report(by, list(lines), total, **{"unpriced_models": [], "unmetered_models": [], **more})


def read_csv(found: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(found))))


# --- money ---


@given(AMOUNTS)
def test_shares_add_up_to_the_total_and_are_off_by_less_than_a_millionth(nano: list[int]) -> None:
    micro, total = apportioned(nano)
    assert sum(micro) == total
    assert abs(total * 1000 - sum(nano)) <= 500
    assert all(abs(share * 1000 - amount) < 1000 for share, amount in zip(micro, nano, strict=True))


def test_what_rounding_leaves_over_goes_to_those_that_lost_most() -> None:
    assert apportioned([1_400, 1_700, 1_900]) == ([1, 2, 2], 5)
    assert apportioned([1_500] * 4) == ([2, 2, 1, 1], 6)
    assert apportioned([]) == ([], 0)


@pytest.mark.parametrize("show", [table, as_csv, as_json])
def test_dollars_have_six_decimals_and_lines_add_up(show: object) -> None:
    found = report_of(
        *(line(str(index), cost_nano_usd=333_333_333, saved_nano_usd=-1_500) for index in range(3))
    )
    text = show(found)  # type: ignore[operator]
    assert text.count("0.333333") == 2 and "0.333334" in text and "1.000000" in text
    assert "-0.000002" in text and "-0.000004" in text


# --- the table ---


def test_a_table_has_its_lines_under_headings_and_the_total_under_a_rule() -> None:
    found = report_of(
        line("a", "m", requests=1200, failures=1, input_tokens=1_000_000, cost_nano_usd=2_500_000_000),
        line("bb", "m", requests=1, output_tokens=5, cached_tokens=2, reasoning_tokens=3),
        by=("team", "model"),
    )
    assert table(found) == (
        "team   model  requests  available      input  cached  output  reasoning  cost USD  saved USD\n"
        "--------------------------------------------------------------------------------------------\n"
        "a      m         1,200    99.916%  1,000,000       0       0          0  2.500000   0.000000\n"
        "bb     m             1   100.000%          0       2       5          3  0.000000   0.000000\n"
        "--------------------------------------------------------------------------------------------\n"
        "total            1,201    99.916%  1,000,000       2       5          3  2.500000   0.000000\n"
    )


def test_one_failure_in_a_million_is_not_shown_as_none() -> None:
    text = table(report_of(line("a", requests=1_000_000, failures=1)))
    assert "99.999%" in text and "100.000%" not in text


def test_nothing_asked_is_not_shown_as_available() -> None:
    assert "%" not in table(report_of(line("a", attempts=1)))


def test_a_name_cannot_play_with_the_terminal() -> None:
    text = table(report_of(line("a\x1b[2J\nb"), line("")))
    assert "\x1b" not in text and "a?[2J?b" in text
    assert len(text.splitlines()) == 6


def test_what_the_cost_leaves_out_is_said_with_what_to_do() -> None:
    models = [f"m{index}" for index in range(7)]
    found = report_of(line("a", unpriced=12, unmetered=3), unpriced_models=models, unmetered_models=["x\n"])
    unpriced, unmetered = notes(found)
    assert unpriced.startswith(
        "12 answers have no price and are not in the cost: m0, m1, m2, m3, m4 and 2 more."
    )
    assert "models.NAME.price" in unpriced
    assert unmetered.startswith("3 answers came without usage figures") and ": x?." in unmetered
    assert unpriced in table(found) and unmetered in table(found)
    assert orjson.loads(as_json(found))["notes"] == [unpriced, unmetered]
    assert notes(report_of(line("a"))) == []


# --- CSV ---


def test_csv_has_all_figures_and_the_total_as_its_last_line() -> None:
    found = report_of(
        line("a", requests=4, failures=1, cost_nano_usd=1_234_567_891), line("b", requests=1, unpriced=2)
    )
    first, second, total = read_csv(found)
    assert (first["team"], first["availability"], first["cost_usd"]) == ("a", "0.750000", "1.234568")
    assert first["cost_nano_usd"] == "1234567891"
    assert (second["unpriced"], total["team"], total["requests"]) == ("2", "total", "5")
    assert set(first) >= set(FIGURES)


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "＝1"])
def test_a_name_that_is_a_formula_to_a_spreadsheet_gets_an_apostrophe(name: str) -> None:
    assert read_csv(report_of(line(name)))[0]["team"] == f"'{name}"


@pytest.mark.parametrize("name", ["a=b", 'qu"ote', "comma, semi;", "", "河流"])
def test_other_names_come_back_as_they_were(name: str) -> None:
    assert read_csv(report_of(line(name)))[0]["team"] == name


@pytest.mark.parametrize("sign", ["\n", "\r", "\t", "\0"])
def test_a_name_cannot_begin_a_line_of_its_own(sign: str) -> None:
    assert read_csv(report_of(line(f"a{sign}=cmd()")))[0]["team"] == "a?=cmd()"


def test_a_negative_saving_stays_a_number() -> None:
    assert read_csv(report_of(line("a", saved_nano_usd=-5_000)))[0]["saved_usd"] == "-0.000005"


# --- JSON ---


def test_json_has_rows_and_their_total() -> None:
    found = report_of(line("a", "2026-11", requests=2, cost_nano_usd=10**20), by=("team", "month"))
    document = orjson.loads(as_json(found).replace(str(10**20), '"huge"'))
    assert document["by"] == ["team", "month"]
    (only,) = document["rows"]
    assert (only["team"], only["month"], only["availability"]) == ("a", "2026-11", 1.0)
    assert Decimal(only["cost_usd"]) == 10**11
    assert only["cost_nano_usd"] == "huge"
    assert document["total"] == {name: value for name, value in only.items() if name not in ("team", "month")}


def test_nothing_at_all_is_still_a_report() -> None:
    found = report_of()
    assert orjson.loads(as_json(found))["rows"] == []
    assert len(as_csv(found).splitlines()) == 2
    assert table(found).splitlines()[-1].startswith("total")
