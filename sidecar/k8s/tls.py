"""The certificate that the webhook shows, exchangeable while it serves.

Each certificate has a context of its own, and a new connection is given the current one when its handshake
begins (the callback runs without a server name, too). Loading into one context again would not do: it keeps
a certificate for each kind of key, and an old RSA one would still be shown beside a new EC one.
"""

import os
import ssl
from datetime import datetime

from cryptography import x509


class Serving:
    """`context` is for the listener; it refuses handshakes until `use` was called."""

    def __init__(self) -> None:
        self.context = _context()
        self.context.sni_callback = self._choose
        self.expires: datetime | None = None
        self._current: ssl.SSLContext | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a certificate to show."""
        return self._current is not None

    def use(self, chain: bytes, key: bytes) -> None:
        """Show this certificate from now on; connections that stand are left alone.

        Both are PEM. ValueError when they are not a certificate and its key, and then nothing has changed.
        """
        context = _context()
        try:
            expires = x509.load_pem_x509_certificate(chain).not_valid_after_utc
        except ValueError:
            raise ValueError("the certificate is not PEM, as in -----BEGIN CERTIFICATE-----") from None
        try:
            _load(context, chain + b"\n" + key)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "not readable"
            raise ValueError(f"certificate and key do not work together: {reason}") from None
        self._current, self.expires = context, expires

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, *_: object) -> int | None:
        if self._current is None:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        connection.context = self._current
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, content: bytes) -> None:
    """OpenSSL reads files only; this one has no name and is never on a disk."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        # The password, which no key here has: without it OpenSSL would ask on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
