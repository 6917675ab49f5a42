"""`sidecar usage`, from its arguments to its exit code."""

import argparse
import asyncio
import sqlite3
import sys
from pathlib import Path

import orjson
import pytest

from sidecar.commands import usage
from sidecar.usage.store import Store
from tests.usage.support import MINUTE, labels, one, row


def run(*arguments: str) -> int:
    """Run the command in this process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sidecar")
    usage.add_parser(parser.add_subparsers())
    try:
        options = parser.parse_args(["usage", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    code: int = options.command(options)
    return code


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A ledger with usage of two days, one of them in the month before."""
    path = str(tmp_path / "usage.db")
    store = Store(path)
    store.open()
    store.add(one(1_000_000_000, team="a"))  # 2026-06-21
    store.add(one(2_000_000_000, MINUTE - 30 * 1440, team="=cmd()"))  # 2026-05-22
    store.close()
    return path


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = orjson.loads(capsys.readouterr().out)["rows"]
    return found


def test_a_table_by_team_model_and_month_is_the_default(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--db", path) == 0
    out, errors = capsys.readouterr()
    assert out.splitlines()[0].split()[:3] == ["team", "model", "month"]
    assert out.splitlines()[-1].split()[0] == "total" and "3.000000" in out.splitlines()[-1]
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "teams"),
    [
        (("--month", "2026-06"), ["a"]),
        (("--month", "2026-05"), ["=cmd()"]),
        (("--since", "2026-06-21"), ["a"]),
        (("--until", "2026-06-20"), ["=cmd()"]),
        (("--since", "2026-05-22", "--until", "2026-05-22"), ["=cmd()"]),
        (("--month", "2024-02"), []),
        ((), ["=cmd()", "a"]),
    ],
)
def test_a_window_chooses_days(
    path: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], teams: list[str]
) -> None:
    assert run("--db", path, "--format", "json", *arguments) == 0
    assert [found["team"] for found in rows(capsys)] == teams


def test_lines_are_by_the_columns_asked_for(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--db", path, "--by", "month, provider,month", "--format", "json") == 0
    assert [(found["month"], found["provider"]) for found in rows(capsys)] == [
        ("2026-05", "p"),
        ("2026-06", "p"),
    ]


def test_csv_is_safe_to_open_in_a_spreadsheet(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--db", path, "--by", "team", "--format", "csv") == 0
    assert [text.split(",")[0] for text in capsys.readouterr().out.splitlines()] == [
        "team",
        "'=cmd()",
        "a",
        "total",
    ]


def test_what_has_no_price_is_a_note_beside_the_csv(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    store.open()
    store.add({(MINUTE, labels(model="new")): row(requests=1, unpriced=1)})
    store.close()
    assert run("--db", path, "--format", "csv") == 0
    out, errors = capsys.readouterr()
    assert "note: 1 answers have no price and are not in the cost: new." in errors
    assert "note" not in out


# --- where it is ---


def test_the_path_may_come_from_a_configuration_whose_secrets_are_elsewhere(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"providers: {{p: {{api_key: {{env: NOT_HERE}}}}}}\nusage: {{path: {path}}}\n")
    assert run("--config", str(config)) == 0
    assert "3.000000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("providers: {}", "has no usage.path: add it, or give the database with --db PATH"),
        ("", "has no usage.path"),
        ("usage: {path: 5}", "usage.path: expected text"),
        ("usage: {pth: x}", "usage.pth: is not a known key: did you mean path?"),
        ("usage: {path: a", "usage: "),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_configuration_that_does_not_say_where_is_a_wrong_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    config = tmp_path / "config.yaml"
    if text is not None:
        config.write_text(text)
    assert run("--config", str(config)) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in errors and str(config) in errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "holds no usage yet"),
        (b"this is no database" * 500, "is not a sound database (file is not a database)"),
    ],
)
def test_a_database_that_is_of_no_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "usage.db"
    if content is not None:
        path.write_bytes(content)
    assert run("--db", str(path)) == 1
    assert capsys.readouterr() == ("", f"sidecar usage: {path}: {message}\n")


def test_a_ledger_without_a_row_and_a_foreign_database_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, foreign = tmp_path / "empty.db", tmp_path / "foreign.db"
    store = Store(str(empty))
    store.open()
    store.close()
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE usage (photos TEXT)")
    connection.close()
    assert (run("--db", str(empty)), run("--db", str(foreign)), run("--db", str(tmp_path))) == (1, 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(": ")[2] for line in lines] == [
        "holds no usage yet",
        "is the database of something else: give another path",
        "is a directory: give the file in it",
    ]


# --- wrong arguments ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--since", "yesterday"), "'yesterday' is not a day such as 2026-11-01"),
        (("--until", "2026-02-30"), "'2026-02-30' is not a day"),
        (("--month", "2026-13"), "'2026-13' is not a month such as 2026-11"),
        (("--month", "2026-11-01"), "is not a month"),
        (("--month", "2026-11", "--since", "2026-11-01"), "give either --month, or --since and --until"),
        (
            ("--since", "2026-11-02", "--until", "2026-11-01"),
            "--since 2026-11-02 is after --until 2026-11-01",
        ),
        (("--by", "team,colour"), "'colour' is no column: choose from team, key"),
        (("--by", ""), "'' is no column"),
        (("--by", "cost); DROP TABLE usage; --"), "is no column"),
        (("--format", "xml"), "invalid choice"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_what_is_right(
    path: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run("--db", path, *arguments) == 2
    out, errors = capsys.readouterr()
    assert out == "" and message in errors


def test_it_wants_to_know_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "--db" in capsys.readouterr().err


# --- as a program ---


# --- of a fleet ---


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, ("--db", "x.db"), "--fleet needs --config FILE"),
        (None, (), "cannot be read: No such file or directory"),
        ("usage: {path: a.db}", (), "has no fleet: it says where Redis is"),
        ("fleet: {expected: 2}", (), "fleet.redis: is missing"),
        ("fleet: {redis: {env: NOT_HERE}, expected: 2}", (), "variable NOT_HERE is not set"),
        ("fleet: {redis: {env: FLEET_URL}, expected: 2}", (), "fleet.redis: must be a URL such as redis://"),
        ("fleet: {redis: {env: REDIS_URL}, expected: 2}", ("--by", "team,key"), "--fleet has no key: choose"),
    ],
)
def test_a_fleet_that_cannot_be_asked_is_a_wrong_configuration(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("FLEET_URL", "http://:hidden@redis")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    config = tmp_path / "config.yaml"
    if text is not None:
        config.write_text(text)
    source = () if "--db" in arguments else ("--config", str(config))
    assert run("--fleet", *source, *arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in errors and "hidden" not in errors


def test_a_fleets_redis_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@127.0.0.1:1")
    config = tmp_path / "config.yaml"
    config.write_text("fleet: {redis: {env: REDIS_URL}, expected: 2}\n")
    assert run("--fleet", "--config", str(config)) == 1
    out, errors = capsys.readouterr()
    assert (out, len(errors.splitlines())) == ("", 1)
    assert "Redis cannot be used: 127.0.0.1:1 cannot be reached" in errors and "hidden" not in errors


@pytest.mark.parametrize("teams", [1, 5000])
async def test_a_reader_that_leaves_is_a_clean_end(tmp_path: Path, teams: int) -> None:
    path = str(tmp_path / "usage.db")
    store = Store(path)
    store.open()
    store.add({(MINUTE, labels(team=f"t{index}")): row(requests=1) for index in range(teams)})
    store.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", "usage", "--db", path, "--format", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        errors = await process.stderr.read()
        assert (await process.wait(), errors) == (0, b"")
