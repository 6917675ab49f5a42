"""One JSON line per finished request, written in batches by a thread.

A log on a slow disk, or a pipe nobody reads, must not hold a single stream up: the data path appends bytes to
a list, once a second (or when 256 lines wait) a thread writes them. When more than 4 MiB wait, lines are
dropped and counted. Never a body, a key or a header value is logged.
"""

import logging
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from sidecar.exchange import NANO_USD, CacheNote, Exchange
from sidecar.telemetry.metrics import FailedTry

FLUSH_LINES = 256
MAX_WAITING_BYTES = 4 * 1024 * 1024

MAX_CONSTANTS = 1000
STDOUT = 1
MAX_ID_BYTES = 128
MAX_TRIES = 8

_NAMES = ("method", "path", "team", "route", "model", "provider", "region", "endpoint")
_LINE = (
    b'{"time":"%b","request_id":%b,%b,"status":%d,"flags":"%b","stream":%b,"attempts":%d,'
    b'"duration_ms":%.3f,"first_token_ms":%b,"overhead_ms":%b,"bytes_received":%d,"bytes_sent":%d,%b,"cost_usd":%b,"cache":%b}\n'
)
_TOKENS = b'"tokens_in":%d,"tokens_out":%d,"tokens_cached":%d'
_NO_TOKENS = b'"tokens_in":null,"tokens_out":null,"tokens_cached":null'
_CACHE = b'{"result":"%b","detail":"%b","key":"%b"}'
_BOOLEANS = (b"false", b"true")

_log = logging.getLogger("sidecar")


def _cache(note: CacheNote) -> bytes:
    """What the cache had to do with it; its words are ours, and plain."""
    return _CACHE % (note.result.encode(), note.detail.encode(), note.key.encode())


def _tries(failed: Sequence[FailedTry]) -> bytes:
    """The first tries that failed, as JSON."""
    return orjson.dumps([_try(one) for one in failed[:MAX_TRIES]])


def _try(one: FailedTry) -> dict[str, str]:
    model, provider, region = one.place
    said = {"model": model, "provider": provider, "region": region, "endpoint": one.endpoint}
    return {**said, "reason": one.reason, "error": one.error}


class AccessLog:
    """`target` is `stdout`, `off` or a path, which is opened again when it was moved away."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.dropped = 0
        self._is_on = target != "off"
        self._constants: dict[tuple[Any, ...], bytes] = {}
        self._id_prefix = os.urandom(6).hex().encode()
        self._count = 0
        self._lines: list[bytes] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._is_closing = False
        self._is_failing = False
        self._writes: threading.Thread | None = None
        self._second = b""
        self._second_at = 0

    def start(self) -> None:
        """Start the writer; OSError when a path cannot be written."""
        if not self._is_on:
            return
        if self.target != "stdout":
            os.close(self._open(os.O_NONBLOCK))  # a pipe without a reader must not hold the start up
        self._writes = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._writes.start()

    def write(self, x: Exchange, seconds: float, at_ns: int, failed: Sequence[FailedTry] = ()) -> None:
        """Log an exchange that took so long and ended at `at_ns` (Unix time), with those of its tries that
        failed."""
        if not self._is_on:
            return
        line = self._line(at_ns, seconds, x)
        self._lines.append(b'%b,"tries":%b}\n' % (line[:-2], _tries(failed)) if failed else line)
        if len(self._lines) >= FLUSH_LINES:
            self.flush()

    def flush(self, _now_s: float = 0.0) -> None:
        """Hand what has gathered to the thread; called once a second."""
        count = len(self._lines)
        if not count:
            return
        batch = b"".join(self._lines)
        self._lines.clear()
        with self._wake:
            if self._waiting_bytes + len(batch) > MAX_WAITING_BYTES:
                self.dropped += count
                return
            self._waiting.append(batch)
            self._waiting_bytes += len(batch)
            self._wake.notify()

    def close(self) -> None:
        """Write what is left, for at most two seconds."""
        self.flush()
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._writes is not None:
            self._writes.join(timeout=2.0)

    def _line(self, at_ns: int, seconds: float, x: Exchange) -> bytes:
        """The line. What repeats from request to request is encoded once: orjson on a dict costs 6 µs."""
        named = (x.method, x.path, x.team, x.route, x.model, x.provider, x.region, x.endpoint)
        constant = self._constants.get(named)
        if constant is None:
            constant = self._encode(named)
        usage = x.usage
        return _LINE % (
            self._timestamp(at_ns),
            self._request_id(x),
            constant,
            x.status,
            x.flag.encode(),
            _BOOLEANS[x.stream],
            x.attempts,
            seconds * 1e3,
            _milliseconds(x.first_token_s),
            _milliseconds(x.overhead_s),
            x.bytes_received,
            x.bytes_sent,
            _NO_TOKENS if usage is None else _TOKENS % (usage.input, usage.output, usage.cached),
            b"null" if x.cost_nano_usd is None else b"%.9f" % (x.cost_nano_usd / NANO_USD),
            b"null" if x.cache is None else _cache(x.cache),
        )

    def _request_id(self, x: Exchange) -> bytes:
        """The caller's id, or one of our own, as JSON."""
        given = x.fields.get(b"x-request-id")
        if given is not None and len(given) <= MAX_ID_BYTES:
            return orjson.dumps(given.decode())
        self._count += 1
        return b'"%b-%x"' % (self._id_prefix, self._count)

    def _encode(self, named: tuple[Any, ...]) -> bytes:
        method, *rest = named
        pairs = zip(_NAMES, (method.decode("latin-1"), *rest), strict=True)
        constant = orjson.dumps(dict(pairs))[1:-1]
        if len(self._constants) >= MAX_CONSTANTS:
            self._constants.clear()
        self._constants[named] = constant
        return constant

    def _timestamp(self, at_ns: int) -> bytes:
        """UTC with milliseconds; the part above is formatted once a second."""
        second, nanoseconds = divmod(at_ns, 1_000_000_000)
        if second != self._second_at:
            self._second_at = second
            self._second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        return b"%b%03dZ" % (self._second, nanoseconds // 1_000_000)

    # --- in the thread --------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._is_closing:
                    self._wake.wait()
                batch, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
                is_last = self._is_closing
            if batch:
                self._write_batch(batch)
            if is_last:
                return

    def _write_batch(self, batch: bytes) -> None:
        try:
            # Not by sys.stdout: a thread that is blocked in it holds a lock the interpreter wants at its end.
            descriptor = STDOUT if self.target == "stdout" else self._open()
            try:
                while batch:
                    batch = batch[os.write(descriptor, batch) :]
            finally:
                if descriptor != STDOUT:
                    os.close(descriptor)
            self._is_failing = False
        except OSError as error:
            self.dropped += batch.count(b"\n")
            if not self._is_failing:
                _log.error("access log %s: %s; lines are dropped", self.target, error.strerror)
            self._is_failing = True

    def _open(self, flags: int = 0) -> int:
        return os.open(self.target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o640)


def _milliseconds(seconds: float | None) -> bytes:
    return b"null" if seconds is None else b"%.3f" % (seconds * 1e3)
