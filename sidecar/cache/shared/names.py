"""Under which names the shared answers stand in Redis.

    sidecar:answers:FLEET:FORM:SCOPE:ROUTE:DIGEST    an answer
    sidecar:answers:FLEET:purges, ...:pins           the logs of orders

Fleet, scope, route and digest in hex. The name says what a purge goes by, so that a pattern finds what it
reaches, of this form and of those of other versions.
"""

from hashlib import blake2b

from sidecar.cache.key import STAMP, Key
from sidecar.cache.shared.orders import Order

_FORM = STAMP.decode().replace(" ", "-")


class Names:
    """The names of one fleet."""

    __slots__ = ("_prefix", "pins", "purges")

    def __init__(self, fleet: str) -> None:
        self._prefix = f"sidecar:answers:{fleet}"
        self.purges = f"{self._prefix}:purges"
        self.pins = f"{self._prefix}:pins"

    def of(self, key: Key) -> str:
        """The name of an answer."""
        return f"{self._prefix}:{_FORM}:{key.scope.hex()}:{_route(key.route)}:{key.digest.hex()}"

    def reached_by(self, purge: Order) -> str:
        """The pattern, as SCAN has it, of all that a purge is to delete."""
        scope = "*" if purge.scope is None else purge.scope.hex()
        route = "*" if purge.route is None else _route(purge.route)
        digest = "*" if purge.digest is None else purge.digest.hex()
        return f"{self._prefix}:*:{scope}:{route}:{digest}"


def _route(route: str) -> str:
    # A route's own name may have any sign in it, those of patterns too.
    return blake2b(route.encode(), digest_size=8).hexdigest()
