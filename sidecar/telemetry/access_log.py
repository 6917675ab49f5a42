"""One JSON line per finished request, written in batches by a thread.

A log on a slow disk, or a pipe nobody reads, must not hold a single stream up: the data path appends bytes to
a list, once a second (or when 256 lines wait) a thread writes them. When more than 4 MiB wait, lines are
dropped and counted. Never a body, a key or a header value is logged.
"""

import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime

import orjson

from sidecar.exchange import Exchange

FLUSH_LINES = 256
MAX_WAITING_BYTES = 4 * 1024 * 1024

_log = logging.getLogger("sidecar")


class AccessLog:
    """`target` is `stdout`, `off` or a path, which is opened again when it was moved away."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.dropped = 0
        self._is_on = target != "off"
        self._lines: list[bytes] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._second = ""
        self._second_at = 0

    def start(self) -> None:
        """Start the writer; OSError when a path cannot be written."""
        if not self._is_on:
            return
        if self.target != "stdout":
            os.close(self._open())
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

    def write(self, x: Exchange, seconds: float) -> None:
        """Log one finished exchange."""
        if not self._is_on:
            return
        self._lines.append(orjson.dumps(self._fields(x, seconds), option=orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()

    def flush(self, _now_s: float = 0.0) -> None:
        """Hand what has gathered to the thread; called once a second."""
        if not self._lines:
            return
        batch, count, self._lines = b"".join(self._lines), len(self._lines), []
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
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _fields(self, x: Exchange, seconds: float) -> dict[str, object]:
        usage = x.usage
        return {
            "time": self._timestamp(),
            "request_id": x.request_id,
            "method": x.method.decode("latin-1"),
            "path": x.path,
            "team": x.team,
            "model": x.model,
            "provider": x.provider,
            "region": x.region,
            "endpoint": x.endpoint,
            "status": x.status,
            "flags": x.flag,
            "stream": x.stream,
            "attempts": x.attempts,
            "duration_ms": round(seconds * 1e3, 3),
            "first_token_ms": None if x.first_token_s is None else round(x.first_token_s * 1e3, 3),
            "overhead_ms": None if x.overhead_s is None else round(x.overhead_s * 1e3, 3),
            "bytes_received": len(x.body),
            "bytes_sent": x.bytes_sent,
            "tokens_in": None if usage is None else usage.input,
            "tokens_out": None if usage is None else usage.output,
            "tokens_cached": None if usage is None else usage.cached,
        }

    def _timestamp(self) -> str:
        """UTC with milliseconds; the part above is formatted once a second."""
        now = time.time_ns() // 1_000_000
        second, milliseconds = divmod(now, 1000)
        if second != self._second_at:
            self._second_at = second
            self._second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._second}{milliseconds:03d}Z"

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
            if self.target == "stdout":
                sys.stdout.buffer.write(batch)
                sys.stdout.buffer.flush()
                return
            descriptor = self._open()
            try:
                while batch:
                    batch = batch[os.write(descriptor, batch) :]
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            self.dropped += batch.count(b"\n")
            _log.error("access log %s: %s", self.target, error)

    def _open(self) -> int:
        return os.open(self.target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
