"""When the sidecar itself has nothing left to make a connection with: file descriptors, local ports, memory.

No endpoint is to blame for that, so it counts against none; and as no health view shows it, the log says it,
a line a minute. Whoever fails to dial tells. Callers are turned away without a word to us (libuv accepts and
closes what it has no descriptor for, so that the loop does not spin), so once a second one is tried for.
"""

import errno
import logging
import os
import resource
import socket

from sidecar.log_limit import LogLimit

# By errno: what is missing, and what to do.
_LACKS = {
    errno.EMFILE: "no file descriptor is left of {limit}: raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the host has no file descriptor left: raise its limit (fs.file-max)",
    errno.ENOMEM: "the kernel has no memory left for one: give the sidecar, or the host, more",
    errno.ENOBUFS: "the kernel has no buffers left for one: give the sidecar, or the host, more memory",
    errno.EADDRNOTAVAIL: "no local address or port is left for one: widen net.ipv4.ip_local_port_range",
}

_log = logging.getLogger("sidecar")


def lack_of(error: BaseException) -> int | None:
    """The errno where a connection failed for want of something of our own; None where it did not."""
    if isinstance(error, socket.gaierror):
        # A look-up opens files and sockets too, and says only that it failed.
        return _lack_now()
    number = getattr(error, "errno", None)
    return number if number in _LACKS else None


class Shortage:
    """What the log was told. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        self._limit = LogLimit()

    def tell(self, number: int, now_s: float) -> None:
        """A connection could not be made for want of this (errno)."""
        held = self._limit.held("", now_s)  # whatever it is that is missing
        if held is None:
            return
        more = f" (not logged before: {held})" if held else ""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        _log.error("connections cannot be made: %s%s", _LACKS[number].format(limit=limit), more)

    def check(self, now_s: float) -> None:
        """Once a second: is there a file descriptor left for a caller?"""
        number = _lack_now()
        if number is not None:
            self.tell(number, now_s)


# Of the process, as are its descriptors.
SHORTAGE = Shortage()


def _lack_now() -> int | None:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno if error.errno in _LACKS else None
    return None
