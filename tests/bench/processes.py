"""Child processes: where they run, when they are ready, what they cost, and that they end.

Linux only: CPU clocks of other processes, `/proc`, CPU affinity.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_POLL_S = 0.002


class NotStarted(Exception):
    """The process ended or stayed silent before it was ready."""


class Cpus:
    """Which CPUs the measured proxy has, and which everything else."""

    def __init__(self, is_pinned: bool = True) -> None:
        every = sorted(os.sched_getaffinity(0))
        self.is_pinned = is_pinned and len(every) > 1
        self.proxy = {every[-1]} if self.is_pinned else set(every)
        self.rest = set(every) - {every[-1]} if self.is_pinned else set(every)


class Child:
    """A process in a session of its own, so that its workers are found and ended with it."""

    def __init__(self, command: list[str], cpus: set[int], log: Path, is_worker: bool = False) -> None:
        pipe = subprocess.PIPE if is_worker else None
        own = os.sched_getaffinity(0)
        with log.open("ab") as errors:
            # Affinity is inherited; set here and not on the child, whose first threads would escape it.
            os.sched_setaffinity(0, cpus)
            try:
                self.started_s = time.perf_counter()
                self.process = subprocess.Popen(
                    command,
                    stdin=pipe or subprocess.DEVNULL,
                    stdout=pipe or errors,
                    stderr=errors,
                    cwd=ROOT,
                    start_new_session=True,
                    bufsize=0,  # nothing is left to flush into a child that died
                )
            finally:
                os.sched_setaffinity(0, own)
        self._log = log

    def wait_ready(self, port: int, path: str, patience_s: float = 10.0) -> float:
        """Poll until `path` on `port` answers 200; return the seconds since exec."""
        while not _answers_200(port, path):
            waited_s = time.perf_counter() - self.started_s
            if self.process.poll() is not None:
                raise NotStarted(f"exited with {self.process.returncode}: {self.last_words()}")
            if waited_s > patience_s:
                raise NotStarted(f"not ready on {path} after {patience_s:.0f} s: {self.last_words()}")
            time.sleep(_POLL_S)
        return time.perf_counter() - self.started_s

    def cpu_s(self) -> float:
        """User and system time of the process and its children, in nanosecond resolution.

        The kernel's process CPU clock: the same counter as utime + stime of /proc/PID/stat, which rounds
        to 10 ms, a twentieth of what a round of paced streams costs.
        """
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids())

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children; pages they share count for each."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return sum(pages) * _PAGE_BYTES

    def last_words(self) -> str:
        """The last line it logged."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "(no output)"

    def end(self) -> None:
        """End it with its children."""
        # Asked first, for nginx's master to reap its workers; not for long, as draining takes seconds.
        self.process.terminate()
        try:
            self.process.wait(timeout=0.3)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _pids(self) -> Iterator[int]:
        """Every process of the session this child leads."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _session(entry) == self.process.pid:
                yield int(entry.name)


def _session(entry: Path) -> int:
    try:
        # After the command name, which may itself hold spaces and parentheses.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return 0  # it ended since the listing


def _answers_200(port: int, path: str) -> bool:
    # No HTTP library: the polling must cost less than what it times.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
            )
            return connection.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports nothing listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that children and files are cleaned up then too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
