"""Explanations as text."""

from typing import Any

import pytest

from sidecar.commands.explained import table


def shown(**changes: Any) -> dict[str, Any]:
    """An explanation of which nothing is known yet."""
    return {
        **dict.fromkeys(("model", "caller", "route", "reason", "limits", "error")),
        **{name: [] for name in ("arms", "budgets", "targets", "left_out", "notes")},
        "cache": {"class": "off", "reason": None, "would": None},
        "would": "send to x",
        **changes,
    }


def target(**changes: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "provider": "p",
        "endpoint": "http://a.example/v1",
        "region": "",
        "in": True,
        "share": 0.5,
        "why": "same zone",
        "price": {"input": 0.1, "output": 2.0},
        "worst_case_usd": 0.0010248,
        **changes,
    }


def test_what_is_not_there_takes_no_line() -> None:
    assert table(shown()) == "cache   off\nwould   send to x\n"


def test_targets_are_numbered_in_their_order_and_those_that_are_out_are_not() -> None:
    out = target(**{"in": False}, share=0.0, price=None, worst_case_usd=None, why="parked")
    lines = table(shown(targets=[target(), target(), out])).splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["1", "2", "out"]
    assert lines[0].split()[4:] == ["-", "50%", "0.1", "2", "0.001025", "same", "zone"]
    assert lines[2].split()[4:] == ["-", "-", "-", "-", "-", "parked"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = table(shown(targets=[target(model="a-long-name"), target()]))
    header, first, second = text.splitlines()[-3:]
    assert header.index("PROVIDER") == first.index(" p ") + 1 == second.index(" p ") + 1


def test_limits_are_said_to_be_none_only_where_there_are_targets() -> None:
    limits = {"requests": {"limit": 50, "remaining": 3, "reset_s": 1.5}, "tokens": None}
    text = table(shown(limits=limits, targets=[target()]))
    assert "limits  3 of 50 requests left, full again in 1.5 s\n" in text
    assert "limits  none\n" in table(shown(targets=[target()]))


def test_a_budget_without_an_end_has_none() -> None:
    budget = {"name": "b", "per": "all", "whom": "", "limit_usd": 5.0, "spent_usd": 1.0, "reserved_usd": 0.5}
    text = table(shown(budgets=[{**budget, "resets_in_s": None}]))
    assert "budget  b of all: $1.00 spent, $0.50 reserved of $5.00\n" in text


def test_an_error_is_said_with_its_message() -> None:
    error = {"status": 404, "code": "model_not_found", "message": "No such model."}
    text = table(shown(would="answer 404 model_not_found", error=error))
    assert "would   answer 404 model_not_found: No such model.\n" in text


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        (("bypass", "tools", None), "bypass (tools)"),
        (("eligible", None, "hit exact"), "eligible, hit exact"),
        (("eligible", "they differed", "shadow exact"), "eligible, shadow exact (they differed)"),
        (("unknown", "give the body to know", None), "unknown (give the body to know)"),
    ],
)
def test_the_cache_takes_one_line(cache: tuple[str, str | None, str | None], line: str) -> None:
    said = dict(zip(("class", "reason", "would"), cache, strict=True))
    assert f"cache   {line}\n" in table(shown(cache=said))


def test_it_is_fit_for_a_terminal_whoever_wrote_it() -> None:
    text = table(shown(model="m\x1b[2J", notes=["a\nb"]))
    assert text == "model   m?[2J\ncache   off\nwould   send to x\nnote: a?b\n"
