"""What a Redis URL must look like. It holds a password, so no message says anything of it."""

import re
from urllib.parse import parse_qs, urlsplit

from sidecar.config.secrets import Secret

# What the decoder puts where a secret was not found, which it has told already.
_NOT_FOUND = Secret("missing")


def check_redis_url(raw: str) -> None:
    """ValueError unless it is a `redis://` or `rediss://` URL with a host, and perhaps a database."""
    expected = "redis must be a URL such as redis://:PASSWORD@redis.example:6379/0, or rediss:// for TLS"
    try:
        parts = urlsplit(raw)
        is_whole = bool(parts.scheme in {"redis", "rediss"} and parts.hostname and parts.port != 0)
    except ValueError:
        raise ValueError(f"{expected}: what follows the host must be a port") from None
    # A password with one of these in it would end the host early, and be taken for a path.
    if not is_whole or not re.fullmatch(r"/?[0-9]*", parts.path) or parts.fragment:
        raise ValueError(f"{expected}; in a password write / as %2F, # as %23, ? as %3F and @ as %40")
    if any(not name.startswith("ssl_") for name in parse_qs(parts.query, keep_blank_values=True)):
        raise ValueError(f"{expected}, with no options after ? but those of redis-py that begin with ssl_")


def redis_fault(secret: Secret) -> str | None:
    """What is wrong with a Redis URL, as a sentence about its field; None where nothing is."""
    if secret == _NOT_FOUND:
        return None
    try:
        check_redis_url(secret.reveal())
    except ValueError as error:
        return str(error).removeprefix("redis ")
    return None
