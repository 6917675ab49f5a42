"""Break-glass: whether the providers marked `break_glass: true` may be asked now, as the last resort.

Two may say so: an operator (admin interface), and the configuration file, which reaches a whole fleet. Where
both do, the later end counts. An operator's `off` also puts the file's word out of force, until the file says
something else.

It always ends. Each grant has an end on the wall clock, which is what people agree on and what survives a
restart, and the same end on the monotonic clock, which nobody can set back; the first of the two counts, and
no grant is longer than a day. Every change is one line of the log at level warning: who, until when, why.

The operator's word is kept in a file, where one is configured. It is replaced whole, without waiting for the
disk: a crash of the machine may lose it, which is the safe side, and the event loop must not wait. What could
not be written is tried again each second.
"""

import logging
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from sidecar.config.break_glass import MAX_PERIOD_S, parse_reason
from sidecar.config.instants import end_s
from sidecar.config.model import BreakGlass as Section
from sidecar.config.model import Config

# What the configuration file says: until when (Unix time), and why.
FileWord: TypeAlias = tuple[float, str]

_MAX_FILE_BYTES = 16 * 1024
_NOTHING_SAID = Section()
_log = logging.getLogger("sidecar")


class Grant:
    """Leave to ask the direct providers: who gave it, why, and until when (Unix time)."""

    __slots__ = ("by", "end_s", "reason", "since_s", "until_s")

    def __init__(self, since_s: float, until_s: float, reason: str, by: str, end_s: float) -> None:
        self.since_s = since_s
        self.until_s = until_s
        self.reason = reason
        self.by = by
        self.end_s = end_s  # on the monotonic clock


class _SavedGrant(Struct, forbid_unknown_fields=True):
    since: float
    until: float
    reason: str
    by: str


class _Saved(Struct, forbid_unknown_fields=True):
    """The state file."""

    format: Literal["ai-sidecar break-glass 1"]
    granted: _SavedGrant | None
    overridden: FileWord | None


class BreakGlass:
    """The one owner of this state. `on_change(is_on)` hears each change, `check` wants a call a second."""

    def __init__(
        self,
        on_change: Callable[[bool], None],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._wall = wall
        self._clock = clock

        # Configuration.
        self.providers: tuple[str, ...] = ()  # who may be asked while it is on
        self._path: str | None = None
        self._file_word: FileWord | None = None
        self._is_configured = False

        # State.
        self.in_force: Grant | None = None  # None: off
        self._by_admin: Grant | None = None
        self._by_file: Grant | None = None
        self._overridden: FileWord | None = None  # the file's word that an operator put out of force
        self._write_error = ""  # of the state file

    # --- what it is -----------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        return self.in_force is not None

    @property
    def left_s(self) -> float:
        """How long it stays on; 0 when it is off."""
        return 0.0 if self.in_force is None else max(0.0, self._left_s(self.in_force))

    def notes(self) -> list[str]:
        """What an operator should know besides: sentences."""
        notes = []
        if not self.providers:
            notes.append("no provider has break_glass: true, so there is nobody to ask")
        if self._overridden is not None:
            until = show_moment(self._overridden[0])
            notes.append(
                f"the configuration file says on until {until}; that was switched off by hand"
                " and stays so until the file's break_glass changes"
            )
        if self._write_error or (self._has_operators_word and self._path is None):
            why = self._write_error or "break_glass.path is not set"
            notes.append(f"this will not survive a restart: {why}")
        return notes

    @property
    def _has_operators_word(self) -> bool:
        return self._by_admin is not None or self._overridden is not None

    # --- who changes it -------------------------------------------------------------------------------

    def turn_on(self, period_s: float, reason: str, by: str) -> None:
        """An operator's word, in place of an earlier one. `providers` must not be empty."""
        now_s = self._wall()
        grant = self._by_admin = self._grant(now_s, now_s + period_s, reason, by)
        self._save()
        self._settle("")
        if self.in_force is not grant:
            until = show_moment(grant.until_s)
            _log.warning(
                "break-glass asked for until %s, the file's end is later, by %s: %s", until, by, reason
            )

    def turn_off(self, by: str) -> None:
        """An operator's word, against the configuration file's too."""
        if self._by_admin is None and self._by_file is None:
            return
        if self._by_file is not None:
            self._overridden = self._file_word
        self._by_admin = self._by_file = None
        self._save()
        self._settle(f"by {by}")

    def configure(self, config: Config) -> None:
        """Take a configuration; the first time, also what the state file has of an earlier process."""
        section = config.break_glass or _NOTHING_SAID
        self.providers = tuple(name for name, provider in config.providers.items() if provider.break_glass)
        is_moved, self._path = section.path != self._path, section.path
        word = None if section.until is None else (end_s(section.until), section.reason or "")
        if not self._is_configured:
            self._is_configured = True
            self._restore()
            self._take_file_word(word)
        elif word != self._file_word:
            self._take_file_word(word)
        if is_moved:
            self._write_error = ""
            if self._has_operators_word:
                self._save()
        self._settle("by the configuration file")

    def check(self) -> None:
        """End what is over, and write what could not be written."""
        if self._by_admin is not None and self._left_s(self._by_admin) <= 0:
            self._by_admin = None
            self._save()
        elif self._write_error:
            self._save()
        if self._by_file is not None and self._left_s(self._by_file) <= 0:
            self._by_file = None
        self._settle("its time is over")

    def _take_file_word(self, word: FileWord | None) -> None:
        self._file_word = word
        self._by_file = None
        if self._overridden is not None and self._overridden != word:
            self._overridden = None
            self._save()
        now_s = self._wall()
        if word is not None and word != self._overridden and word[0] > now_s:
            self._by_file = self._grant(now_s, word[0], word[1], "the configuration file")

    # --- inside ---------------------------------------------------------------------------------------

    def _grant(self, since_s: float, until_s: float, reason: str, by: str) -> Grant:
        now_s = self._wall()
        until_s = min(until_s, now_s + MAX_PERIOD_S)
        return Grant(since_s, until_s, reason, by, self._clock() + until_s - now_s)

    def _left_s(self, grant: Grant) -> float:
        return min(grant.until_s - self._wall(), grant.end_s - self._clock())

    def _settle(self, why_off: str) -> None:
        """Put in force what now holds, and say so where that is something else than before."""
        grants = [grant for grant in (self._by_admin, self._by_file) if grant is not None]
        latest = max(grants, key=lambda grant: grant.until_s) if grants and self.providers else None
        before, self.in_force = self.in_force, latest
        if latest is before:
            return
        if latest is None:
            _log.warning("break-glass off: %s", why_off)
        else:
            until = show_moment(latest.until_s)
            _log.warning("break-glass on until %s, by %s: %s", until, latest.by, latest.reason)
        if (latest is None) != (before is None):
            self._on_change(latest is not None)

    # --- the state file -------------------------------------------------------------------------------

    def _save(self) -> None:
        before, self._write_error = self._write_error, ""
        if self._path is None:
            return
        try:
            if self._has_operators_word:
                _write(self._path, self._encoded())
            else:
                _remove(self._path)
        except OSError as error:
            self._write_error = f"{self._path} cannot be written ({error.strerror})"
            if self._write_error != before:
                _log.error("break-glass state file: %s", self._write_error)
        else:
            if before:
                _log.warning("break-glass state file: %s is written again", self._path)

    def _encoded(self) -> bytes:
        one = self._by_admin
        granted = None if one is None else _SavedGrant(one.since_s, one.until_s, one.reason, one.by)
        return msgspec.json.encode(_Saved("ai-sidecar break-glass 1", granted, self._overridden))

    def _restore(self) -> None:
        if self._path is None:
            return
        try:
            saved = _read(self._path, self._wall())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            _log.error("break-glass state file %s is ignored: %s", self._path, reason)
            return
        self._overridden = saved.overridden
        one = saved.granted
        if one is not None and one.until > self._wall():
            self._by_admin = self._grant(one.since, one.until, one.reason, one.by)


def show_moment(unix_s: float) -> str:
    """A Unix time as the configuration would have it: 2026-11-21T18:00:00Z."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(path: str, now_s: float) -> _Saved:
    """A state file of ours that can be believed. OSError, or ValueError that says what is wrong with it."""
    # Not to hang on a pipe that somebody put there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("it is too large to be one of ours")
    try:
        saved = msgspec.json.decode(content, type=_Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("it is damaged, or was not written by a sidecar") from None
    one = saved.granted
    if one is not None:
        if one.since > now_s:
            raise ValueError("it begins in the future: was the clock set back?")
        if not 0 < one.until - one.since <= MAX_PERIOD_S:
            raise ValueError("it is longer than a day, or ends before it begins")
        parse_reason(one.reason)
        parse_reason(one.by)
    return saved


def _write(path: str, content: bytes) -> None:
    """Replace a file whole: a reader sees the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.tmp"
    _remove(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
