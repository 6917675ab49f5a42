"""What `sidecar usage --fleet` makes of the fleet's totals."""

import csv
import io
from datetime import date

import orjson
import pytest

from sidecar.commands.fleet_usage import as_csv, as_json, grouped, read, table
from sidecar.fleet.totals import Total
from sidecar.usage.report import Window
from tests.support.redis import fleet_of, redis_server

MINUTE = 29_000_000  # 2025-02-19
DAY = 1440
TOTALS = [
    Total(MINUTE, "red", "m", 2, 100, 1_500),
    Total(MINUTE + 1, "red", "m", 3, 50, 1_500),
    Total(MINUTE + 1, "=cmd()", "m", 1, 10, 1_000),
    Total(MINUTE + 20 * DAY, "red", "n\x1b[2J", 1, 1, 1_000_000_000),
]


def test_sums_are_by_the_columns_asked_for() -> None:
    assert [tuple(sums) for sums in grouped(TOTALS, ("team",))] == [
        (("=cmd()",), 1, 10, 1_000),
        (("red",), 6, 151, 1_000_003_000),
    ]
    assert [sums.group for sums in grouped(TOTALS, ("month", "day"))] == [
        ("2025-02", "2025-02-19"),
        ("2025-03", "2025-03-11"),
    ]
    assert grouped([], ("team",)) == []


def test_a_table_ends_in_its_total_and_shows_no_control_characters() -> None:
    lines = table(("team", "model"), grouped(TOTALS, ("team", "model"))).splitlines()
    assert lines[0].split() == ["team", "model", "requests", "tokens", "cost", "USD"]
    assert lines[-1].split() == ["total", "7", "161", "1.000004"]
    assert len(lines) == 7
    assert "n?[2J" in lines[4]


def test_csv_is_safe_to_open_in_a_spreadsheet_and_adds_up() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(("team",), grouped(TOTALS, ("team",))))))
    assert [row["team"] for row in rows] == ["'=cmd()", "red", "total"]
    assert [row["cost_usd"] for row in rows] == ["0.000001", "1.000003", "1.000004"]
    assert sum(int(row["cost_nano_usd"]) for row in rows[:-1]) == int(rows[-1]["cost_nano_usd"])


def test_json_has_rows_and_their_total() -> None:
    shown = orjson.loads(as_json(("model", "month"), grouped(TOTALS[:2], ("model", "month"))))
    figures = {"cost_usd": "0.000003", "requests": 5, "tokens": 150, "cost_nano_usd": 3_000}
    assert shown == {
        "by": ["model", "month"],
        "rows": [{"model": "m", "month": "2025-02", **figures}],
        "total": figures,
    }


@pytest.mark.parametrize("window", [Window(), Window(date(1, 1, 1), date(9999, 12, 31))])
def test_no_more_hours_are_asked_for_than_are_kept(window: Window) -> None:
    with redis_server() as server:
        assert read(fleet_of(server.url), window) == []
        asked = server.admin.info("commandstats")["cmdstat_hgetall"]["calls"]
        assert 40 * 24 <= asked <= 42 * 24
