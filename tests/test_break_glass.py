"""Break-glass: who switches it on, that it always ends, and what of it survives a restart."""

import json
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.break_glass import BreakGlass, show_moment
from sidecar.config.break_glass import MAX_PERIOD_S
from sidecar.config.model import Config
from tests.config.support import config_of

NOON_S = 1795262400.0  # 2026-11-21T12:00:00Z
HOUR_S = 3600.0
DIRECT = (
    "direct: {endpoints: [{url: 'https://d.example/v1'}], api_key: {env: GLOBAL_API_KEY}, break_glass: %s}"
)


def config(section: str = "{}", *, direct: bool = True) -> Config:
    """A configuration with this `break_glass` section, and a provider for it."""
    provider = DIRECT % str(direct).lower()
    return config_of(
        f"providers: {{a: {{endpoints: [{{url: 'https://a.example/v1'}}]}}, {provider}}}\n"
        f"models: {{'*': {{provider: a}}}}\nbreak_glass: {section}"
    )


def said_until(clock: str, reason: str = "by file") -> str:
    return f"{{until: 2026-11-21T{clock}:00Z, reason: {reason}}}"


class World:
    """Two clocks, a process that may be restarted, and what it reported."""

    def __init__(self, section: str = "{}") -> None:
        self.wall_s = NOON_S
        self.monotonic_s = 1000.0
        self.changes: list[bool] = []
        self.section = section
        self.start()

    def start(self) -> None:
        """A new process: another monotonic clock, nothing remembered."""
        self.glass = BreakGlass(self.changes.append, lambda: self.wall_s, lambda: self.monotonic_s)
        self.glass.configure(config(self.section))

    def reload(self, section: str, *, direct: bool = True) -> None:
        self.section = section
        self.glass.configure(config(section, direct=direct))

    def restart(self) -> None:
        self.monotonic_s = 5.0
        self.start()

    def on(self, period_s: float = HOUR_S, reason: str = "region lost") -> None:
        self.glass.turn_on(period_s, reason, "admin 127.0.0.1")

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds
        self.glass.check()

    @property
    def reason(self) -> str | None:
        return None if self.glass.in_force is None else self.glass.in_force.reason


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "break-glass.json"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


# --- on, off, over ---


def test_it_is_off_until_somebody_says_so(world: World) -> None:
    assert (world.glass.is_on, world.glass.left_s, world.changes) == (False, 0.0, [])


def test_it_goes_on_and_ends_by_itself(world: World) -> None:
    world.on()
    world.pass_time(HOUR_S - 1)
    assert world.glass.is_on and world.glass.left_s == 1.0
    world.pass_time(1)
    assert (world.glass.is_on, world.glass.left_s, world.changes) == (False, 0.0, [True, False])


def test_it_goes_off_by_hand(world: World) -> None:
    world.on()
    world.glass.turn_off("admin")
    world.glass.turn_off("admin")
    assert world.changes == [True, False]


def test_a_later_word_replaces_the_earlier_one_and_changes_nothing_else(world: World) -> None:
    world.on()
    world.on(60.0, "nearly over")
    assert (world.reason, world.glass.left_s, world.changes) == ("nearly over", 60.0, [True])


def test_it_is_never_longer_than_a_day(world: World) -> None:
    world.on(100 * HOUR_S)
    assert world.glass.left_s == MAX_PERIOD_S


def test_a_wall_clock_that_is_set_back_does_not_make_it_longer(world: World) -> None:
    world.on()
    world.wall_s -= 365 * 86400
    world.pass_time(HOUR_S - 1)
    assert world.glass.is_on and world.glass.left_s == 1.0
    world.pass_time(1)
    assert not world.glass.is_on


def test_a_wall_clock_that_is_set_forward_ends_it(world: World) -> None:
    world.on()
    world.wall_s += HOUR_S
    world.glass.check()
    assert not world.glass.is_on


def test_without_a_provider_for_it_nothing_is_on(world: World) -> None:
    world.on()
    world.reload("{}", direct=False)
    assert (world.glass.is_on, world.glass.providers) == (False, ())
    assert any("nobody to ask" in note for note in world.glass.notes())
    world.reload("{}")
    assert (world.glass.is_on, world.glass.providers) == (True, ("direct",))
    assert world.changes == [True, False, True]


def test_each_change_is_one_line_for_the_audit(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.on()
    world.on(60.0, "again")
    world.glass.turn_off("admin 127.0.0.1")
    world.on()
    world.pass_time(HOUR_S)
    world.pass_time(HOUR_S)
    assert lines(caplog) == [
        "WARNING break-glass on until 2026-11-21T13:00:00Z, by admin 127.0.0.1: region lost",
        "WARNING break-glass on until 2026-11-21T12:01:00Z, by admin 127.0.0.1: again",
        "WARNING break-glass off: by admin 127.0.0.1",
        "WARNING break-glass on until 2026-11-21T13:00:00Z, by admin 127.0.0.1: region lost",
        "WARNING break-glass off: its time is over",
    ]


# --- by the configuration file ---


def test_the_file_switches_it_on_and_off(caplog: pytest.LogCaptureFixture) -> None:
    world = World(said_until("13:00"))
    assert (world.changes, world.glass.left_s) == ([True], HOUR_S)
    world.reload("{}")
    assert world.changes == [True, False]
    assert lines(caplog) == [
        "WARNING break-glass on until 2026-11-21T13:00:00Z, by the configuration file: by file",
        "WARNING break-glass off: by the configuration file",
    ]


def test_a_file_whose_time_is_over_does_nothing() -> None:
    assert World(said_until("12:00")).changes == []


def test_a_file_that_says_a_far_end_is_good_for_a_day() -> None:
    world = World("{until: 2027-06-01, reason: forgotten}")
    assert world.glass.left_s == MAX_PERIOD_S
    world.pass_time(MAX_PERIOD_S)
    world.reload(world.section)
    assert world.changes == [True, False]


def test_a_reload_that_says_the_same_starts_nothing_anew(world: World) -> None:
    world.reload(said_until("13:00"))
    world.wall_s -= HOUR_S  # set back: only the monotonic clock knows
    for _ in range(4):
        world.pass_time(HOUR_S / 4)
        world.reload(said_until("13:00"))
    assert world.changes == [True, False]


@pytest.mark.parametrize(("by_file", "wins"), [("12:30", "by hand"), ("14:00", "by file")])
def test_of_two_ends_the_later_counts(world: World, by_file: str, wins: str) -> None:
    world.reload(said_until(by_file))
    world.on(HOUR_S, "by hand")
    assert world.reason == wins
    world.pass_time(1.5 * HOUR_S)
    assert world.reason == (None if wins == "by hand" else "by file")


def test_a_word_that_does_not_count_yet_is_in_the_log_too(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.reload(said_until("18:00"))
    caplog.clear()
    world.on(reason="mine")
    (line,) = lines(caplog)
    assert "asked for until 2026-11-21T13:00:00Z" in line and line.endswith("by admin 127.0.0.1: mine")


def test_off_by_hand_holds_against_the_file_until_it_says_something_else(world: World) -> None:
    world.reload(said_until("18:00"))
    world.glass.turn_off("admin")
    world.reload(said_until("18:00"))
    assert not world.glass.is_on
    assert any("until 2026-11-21T18:00:00Z" in note and "by hand" in note for note in world.glass.notes())
    world.reload(said_until("18:00", "a new one"))
    assert world.reason == "a new one"
    assert not any("by hand" in note for note in world.glass.notes())


def test_off_by_hand_is_forgotten_with_what_it_was_against(world: World) -> None:
    world.reload(said_until("18:00"))
    world.glass.turn_off("admin")
    world.reload("{}")
    world.reload(said_until("18:00"))
    assert world.glass.is_on


# --- through a restart ---


def test_it_survives_a_restart_inside_its_time(path: Path) -> None:
    world = World(f"{{path: {path}}}")
    world.on()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    world.wall_s += 600
    world.restart()
    assert (world.reason, world.glass.left_s, world.changes) == ("region lost", HOUR_S - 600, [True, True])
    assert world.glass.notes() == []
    world.pass_time(HOUR_S - 600)
    assert not world.glass.is_on


def test_a_restart_after_its_time_finds_it_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(f"{{path: {path}}}")
    world.on()
    caplog.clear()
    world.wall_s += HOUR_S
    world.restart()
    assert not world.glass.is_on
    assert lines(caplog) == []


@pytest.mark.parametrize("end", [lambda w: w.glass.turn_off("admin"), lambda w: w.pass_time(HOUR_S)])
def test_what_is_over_leaves_no_file(path: Path, end: Callable[[World], None]) -> None:
    world = World(f"{{path: {path}}}")
    world.on()
    end(world)
    assert list(path.parent.iterdir()) == []


def test_off_by_hand_against_the_file_survives_a_restart(path: Path) -> None:
    section = f"{{path: {path}, until: 2026-11-21T18:00:00Z, reason: by file}}"
    world = World(section)
    world.glass.turn_off("admin")
    world.restart()
    assert not world.glass.is_on
    world.section = section.replace("18:00", "19:00")
    world.restart()
    assert world.reason == "by file"


def test_without_a_path_it_is_said_that_it_will_not_survive(world: World) -> None:
    assert world.glass.notes() == []
    world.on()
    assert world.glass.notes() == ["this will not survive a restart: break_glass.path is not set"]
    world.restart()
    assert not world.glass.is_on


def test_a_path_that_comes_with_a_reload_is_written_at_once(world: World, path: Path) -> None:
    world.on()
    world.reload(f"{{path: {path}}}")
    assert world.glass.notes() == []
    world.restart()
    assert world.reason == "region lost"


def test_a_reload_leaves_alone_what_is_at_a_new_path(world: World, path: Path) -> None:
    path.write_text("somebody's")
    world.reload(f"{{path: {path}}}")
    assert path.read_text() == "somebody's"


def test_a_file_that_cannot_be_written_is_said_and_it_is_on_nevertheless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(f"{{path: {tmp_path / 'no' / 'file'}}}")
    world.on()
    assert world.glass.is_on
    (note,) = world.glass.notes()
    assert "will not survive a restart" in note and "No such file or directory" in note
    assert sum(line.startswith("ERROR") for line in lines(caplog)) == 1


def test_what_could_not_be_written_is_tried_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "late"
    world = World(f"{{path: {folder / 'file'}}}")
    world.on()
    for _ in range(3):
        world.pass_time(1)
    folder.mkdir()
    world.pass_time(1)
    assert world.glass.notes() == []
    assert [line for line in lines(caplog) if "state file" in line] == [
        f"ERROR break-glass state file: {folder}/file cannot be written (No such file or directory)",
        f"WARNING break-glass state file: {folder}/file is written again",
    ]
    world.pass_time(1)
    world.restart()
    assert world.reason == "region lost"


def test_an_end_that_could_not_be_written_down_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(f"{{path: {path}}}")
    world.on()

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fail)
        world.glass.turn_off("admin")
        world.pass_time(1)
        assert path.exists()
    world.pass_time(1)
    assert not path.exists() and world.glass.notes() == []
    world.restart()
    assert not world.glass.is_on


def test_a_write_that_fails_half_way_leaves_the_file_before_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(f"{{path: {path}}}")
    world.on()
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    world.on(60.0, "another")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_end_that_could_not_be_written_down_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(f"{{path: {path}}}")
    world.on()

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", fail)
    world.glass.turn_off("admin")
    assert not world.glass.is_on
    (note,) = world.glass.notes()
    assert "will not survive a restart" in note and "Read-only file system" in note


# --- a file that is not to be believed ---


def saved(**changes: Any) -> dict[str, Any]:
    granted = {"since": NOON_S - 60, "until": NOON_S + 60, "reason": "r", "by": "admin"} | changes
    return {"format": "ai-sidecar break-glass 1", "granted": granted, "overridden": None}


def test_the_file_of_these_tests_is_one_that_is_believed(path: Path) -> None:
    path.write_text(json.dumps(saved()))
    assert World(f"{{path: {path}}}").glass.is_on


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"\xff\xfe",
        b"{}",
        b"[]",
        b'{"on": true}',
        b"[" * 10_000,
        json.dumps(saved()).encode()[:-9],
        json.dumps(saved()).encode().replace(b"glass 1", b"glass 2"),
        json.dumps({**saved(), "more": 1}).encode(),
        json.dumps(saved()).encode() + b" " * 20_000,
        json.dumps(saved(since=NOON_S + 1)).encode(),
        json.dumps(saved(until=NOON_S + MAX_PERIOD_S)).encode(),
        json.dumps(saved(until="1e9")).encode(),
        json.dumps(saved()).encode().replace(b"1795262460.0", b"1e400"),
        json.dumps(saved(since=NOON_S - 60, until=NOON_S - 120)).encode(),
        json.dumps(saved(reason="")).encode(),
        json.dumps(saved(reason="a\nforged line")).encode(),
        json.dumps(saved(by="a\nforged line")).encode(),
    ],
)
def test_a_damaged_foreign_or_future_file_is_one_log_line_and_ignored(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    world = World(f"{{path: {path}}}")
    assert (world.glass.is_on, world.changes) == (False, [])
    (line,) = lines(caplog)
    assert line.startswith(f"ERROR break-glass state file {path} is ignored: ")
    assert "\n" not in line
    world.on()
    world.restart()
    assert world.glass.is_on


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_one_log_line_and_nobody_waits(
    path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(path)
    assert not World(f"{{path: {path}}}").glass.is_on
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR


def test_a_moment_is_shown_as_the_configuration_has_it() -> None:
    assert show_moment(NOON_S + 0.9) == "2026-11-21T12:00:00Z"
