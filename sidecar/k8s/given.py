"""A certificate and key that somebody else keeps in files: cert-manager, or you.

A change is shown once the files have rested for a moment. Certificate and key are two files and may be seen
half replaced: what does not work together is not shown, and tried again at the next change.
"""

import asyncio
import logging
import time
from pathlib import Path

from sidecar.config.watch import Watcher
from sidecar.k8s.tls import Serving

POLL_S = 0.5

_log = logging.getLogger("sidecar.injector")


class Given:
    """Two PEM files. `load` them once at start, `run` follows their changes."""

    def __init__(self, certificate: str, key: str, serving: Serving) -> None:
        self._watcher = Watcher((certificate, key), interval_s=POLL_S)
        self._certificate = Path(certificate)
        self._key = Path(key)
        self._serving = serving

    def load(self) -> None:
        """Show what the files hold. ValueError when they are missing or wrong; nothing has changed then."""
        try:
            chain, key = self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None
        try:
            self._serving.use(chain, key)
        except ValueError as error:
            raise ValueError(f"{self._certificate} and {self._key}: {error}") from None
        _log.info("serving the certificate of %s, which ends %s", self._certificate, self._serving.expires)

    async def run(self) -> None:
        """Follow the files, for as long as the process lives."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._watcher.changed(time.monotonic()):
                try:
                    self.load()
                except ValueError as error:
                    _log.error("certificate: %s; the one before is still served", error)

    async def close(self) -> None:
        """Nothing is held."""
