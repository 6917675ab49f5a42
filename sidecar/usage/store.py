"""The ledger's file: a SQLite database in WAL mode, with one table of rows by minute and labels.

Writers add to what stands there, each batch in one transaction, so any number of processes may write at once
and none needs to know of the others. In WAL mode readers never wait for a writer, and with
`synchronous = NORMAL` a process that is killed loses nothing that was committed (a host that loses power may
lose the last seconds, never the file). The file must be on a local disk: WAL needs shared memory.

`application_id` says that a database is ours, `user_version` in which form. Nothing is ever written to a
database of something else, or of a newer version.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sidecar.usage.rows import FIGURES, LABELS, Labels, Row

APPLICATION_ID = 0x53434C47
BUSY_TIMEOUT_S = 2.0
# A stored figure ends here, far above any truth, so that no lie of a provider overflows 64 bits in a sum.
MAX_FIGURE = 10**17

_MAX = MAX_FIGURE
_LABEL_COLUMNS = ", ".join(f'"{name}"' for name in LABELS)
_TYPED_LABELS = (
    ", ".join(f'"{name}" TEXT NOT NULL' for name in LABELS[:-1]) + ", status_class INTEGER NOT NULL"
)
# What brings the database from version i to i + 1.
_MIGRATIONS = (
    f"""CREATE TABLE usage (
        minute INTEGER NOT NULL,
        {_TYPED_LABELS},
        {", ".join(f"{name} INTEGER NOT NULL" for name in FIGURES)},
        PRIMARY KEY (minute, {_LABEL_COLUMNS})
    ) WITHOUT ROWID""",
)
VERSION = len(_MIGRATIONS)

_ADD = f"""INSERT INTO usage VALUES ({", ".join("?" * (1 + len(LABELS) + len(FIGURES)))})
    ON CONFLICT DO UPDATE SET
    {", ".join(f"{name} = max(-{_MAX}, min({_MAX}, {name} + excluded.{name}))" for name in FIGURES)}
"""  # noqa: S608  # made of the constants above
# In two parts: in one, lies of providers could add up to more than 64 bits, and nothing could be read then.
_PART = 10**9
_SPENT = f"""SELECT CASE {{since}} END AS since, team, "key", model,
    SUM(cost_nano_usd / {_PART}), SUM(cost_nano_usd % {_PART}) FROM usage
    WHERE minute >= {{first}} AND cost_nano_usd <> 0 GROUP BY since, team, "key", model"""  # noqa: S608  # made of the constants above


class StoreError(Exception):
    """Why a database cannot be used, in words for its owner; `is_corrupt` if it is of no use to anyone."""

    def __init__(self, message: str, is_corrupt: bool = False) -> None:
        super().__init__(message)
        self.is_corrupt = is_corrupt


class EmptyError(StoreError):
    """A database that is not there yet, or has nothing in it yet."""


class Spent(NamedTuple):
    """What one caller spent on one model from one minute (Unix time / 60) to the next that was asked for."""

    minute: int
    team: str
    key: str
    model: str
    cost_nano_usd: int


class Store:
    """A database to write to. All but `close` may raise StoreError; then close it and make another."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # ":memory:" is a file here too
        self._identity: tuple[int, int] | None = None
        self._connection: sqlite3.Connection
        self._is_open = False

    def open(self) -> None:
        """Open it, made or brought to today's form where need be."""
        try:
            # One at a time: of two that switch a new file to WAL, SQLite turns one away without a wait.
            with _folder_lock(self.path):
                self._open()
        except (OSError, sqlite3.Error) as error:
            raise _explained(error) from None

    def _open(self) -> None:
        _create_file(self.path)
        self._identity = _identity(self.path)
        self._connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self._is_open = True
        is_current = _check(self._connection) == VERSION
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if not is_current:
            self._migrate()

    def _migrate(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for script in _MIGRATIONS[_check(self._connection) :]:  # another process may have been faster
            self._connection.execute(script)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute("COMMIT")

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file: it may have been moved away or deleted."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

    def add(self, rows: Mapping[tuple[int, Labels], Row]) -> None:
        """Add rows to those that stand there: all of them, or none."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_ADD, [_bindable(*item) for item in rows.items()])
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _explained(error) from None

    def drop_before(self, minute: int) -> None:
        """Forget the minutes before this one."""
        try:
            self._connection.execute("DELETE FROM usage WHERE minute < ?", (minute,))
        except sqlite3.Error as error:
            raise _explained(error) from None

    def close(self) -> None:
        """Close it; a transaction that is open is undone. Never raises."""
        try:
            if self._is_open:
                self._connection.close()
        except sqlite3.Error:
            pass

    def move_aside(self, suffix: str) -> str:
        """Close it and give the file, and the log beside it, a name with the suffix. Returns the new name, ""
        where another process was faster: the folder's lock keeps two from moving each other's new file."""
        self.close()
        try:
            with _folder_lock(self.path):
                if not self.is_in_place:
                    return ""
                # The log first: left behind, it would be taken for that of the next database.
                for part in ("-wal", "-shm", ""):
                    if os.path.exists(self.path + part):
                        os.rename(self.path + part, self.path + suffix + part)
        except OSError as error:
            raise _explained(error) from None
        return self.path + suffix


def open_read_only(path: str) -> sqlite3.Connection:
    """A connection that cannot change anything, while others write; StoreError says why there is none."""
    file = Path(path).absolute()
    if not file.exists():
        raise EmptyError("there is no such file")
    if file.is_dir():
        raise StoreError("is a directory: give the file in it")
    # A database on a medium that cannot be written has no log beside it, so nothing in it can change.
    is_frozen = not os.access(file.parent, os.W_OK) and not os.path.exists(f"{file}-wal")
    uri = f"{file.as_uri()}?mode=ro" + "&immutable=1" * is_frozen
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)
    except sqlite3.Error as error:
        raise _explained(error) from None
    try:
        if _check(connection) == 0:
            raise EmptyError("holds no usage yet")
    except BaseException as error:
        connection.close()
        raise _explained(error) if isinstance(error, sqlite3.Error) else error from None
    return connection


def spent(path: str, minutes: Sequence[int]) -> list[Spent]:
    """What was spent from each of these minutes to the next of them, and from the last on, by team, key and
    model."""
    latest_first = sorted(minutes, reverse=True)
    since = " ".join(f"WHEN minute >= {minute} THEN {minute}" for minute in latest_first)
    connection = open_read_only(path)
    try:
        rows = connection.execute(_SPENT.format(since=since, first=latest_first[-1]))
        return [
            Spent(minute, team, key, model, high * _PART + low)
            for minute, team, key, model, high, low in rows
        ]
    except sqlite3.Error as error:
        raise _explained(error) from None
    finally:
        connection.close()


def _check(connection: sqlite3.Connection) -> int:
    """The version of a database, 0 for an empty one; StoreError if it is not for us."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version > VERSION:
            raise StoreError(f"was written by a newer version (form {version}, this one knows {VERSION})")
        return int(version)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables or application or version:
        raise StoreError("is the database of something else: give another path")
    return 0


def _bindable(key: tuple[int, Labels], row: Row) -> tuple[object, ...]:
    """A row as SQLite takes it: text it can encode, integers of 64 bits."""
    minute, labels = key
    texts = [label.encode(errors="replace").decode() for label in labels[:-1] if isinstance(label, str)]
    return (minute, *texts, labels[-1], *[max(-MAX_FIGURE, min(MAX_FIGURE, figure)) for figure in row])


@contextmanager
def _folder_lock(path: str) -> Iterator[None]:
    """Held while a file is opened or moved, by one process at a time; let go of however that ends."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _create_file(path: str) -> None:
    """An empty file where there is none: what was spent is not for everyone's eyes. Also finds the reasons
    for which SQLite says "unable to open database file"."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    except FileExistsError:
        # Not opened: closing it would drop the locks of other connections of this process.
        if os.path.isdir(path):
            raise IsADirectoryError(0, "is a directory: give a file in it") from None
        if not (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)):
            raise PermissionError(0, "it and its folder must be writable for this user") from None


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _explained(error: OSError | sqlite3.Error) -> StoreError:
    if isinstance(error, OSError):
        return StoreError(error.strerror or str(error))
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(f"is not a sound database ({error})", is_corrupt=True)
    return StoreError(str(error))
