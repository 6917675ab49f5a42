"""A site on a Unix socket that only its owner may connect to, and whose file it takes away at the end.

aiohttp's own leaves all that to the event loop, which removes any socket in its way, that of a running
process too, follows symbolic links when it looks, and leaves its file behind.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat

from aiohttp import web


class UnixSite(web.BaseSite):
    """Listens on `path`. The file that a killed process left there is replaced, and nothing else is."""

    def __init__(self, runner: web.BaseRunner, path: str, *, backlog: int) -> None:
        super().__init__(runner, backlog=backlog)
        self._path = path
        self._file: tuple[int, int] | None = None  # device and inode of what was bound

    @property
    def name(self) -> str:
        """As aiohttp writes it."""
        return f"http://unix:{self._path}:"

    async def start(self) -> None:
        """Raises OSError, with the path and what to do, when the socket cannot be had."""
        listening = _bound(self._path)
        try:
            self._file = _identity(self._path)
            await super().start()
            server = self._runner.server
            assert server is not None  # noqa: S101  # the runner was set up: aiohttp has just looked
            self._server = await asyncio.get_running_loop().create_unix_server(
                server, sock=listening, backlog=self._backlog
            )
        except BaseException:
            listening.close()
            self._remove()
            raise

    async def stop(self) -> None:
        """aiohttp's call at the runner's end."""
        # While it still listens: once it is closed another process may take the path.
        self._remove()
        await super().stop()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # it is gone, or stays for the next start to replace
            if self._file is not None and _identity(self._path) == self._file:
                os.unlink(self._path)
        self._file = None


def _bound(path: str) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The umask is the whole process's, but nothing is awaited while it is changed.
    before = os.umask(0o177)
    try:
        listening.bind(path)  # never through a symbolic link: where one stands the address is in use
    except OSError as error:
        listening.close()
        reason = error.strerror
        if error.errno == errno.ENOENT:
            reason = f"there is no folder {os.path.dirname(path)}: make it first"
        raise OSError(error.errno, f"unix:{path}: {reason}") from None
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        what = "something else than a socket is there: remove it, or choose another path"
        raise OSError(errno.EEXIST, f"unix:{path}: {what}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a process that does not accept must not hold up the start
        answer = probe.connect_ex(path)
    if answer == errno.ECONNREFUSED:
        os.unlink(path)
    elif answer != errno.ENOENT:
        what = "another process or user has it: end that one, or choose another path"
        raise OSError(errno.EADDRINUSE, f"unix:{path}: {what}")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
