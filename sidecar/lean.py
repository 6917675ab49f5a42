"""Imports aiohttp without the certificate authorities it would never use here.

At import aiohttp builds two TLS contexts for sessions that name none, each with the system's 150 authorities:
40 ms and 2.5 MB. Every connection of the sidecar names its own context (upstream/tls.py); one that forgot
would trust nobody, so it fails closed.
"""

import os

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # where OpenSSL looks first


def import_aiohttp() -> None:
    """Import aiohttp, lean. Call it before anything else imports it."""
    saved = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
