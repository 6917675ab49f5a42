"""The addresses of a provider's name: looked up off the loop, refreshed behind the requests' backs.

Only the very first dial waits for a look-up. While the name is in use its answer is renewed every 30 s in the
background, and a look-up that fails or comes back empty changes nothing: the last good answer stays until
there is a better one, so an outage of DNS is not an outage of the provider. One look-up is in flight at a
time; a resolver that hangs holds one thread, not one for each request.

Dials take turns over the addresses, IPv6 and IPv4 alternating (RFC 8305 section 4: a family without a route
then costs one try, not one per address). An address whose dial failed goes last for a while.
"""

import asyncio
import ipaddress
import math
import socket
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain, zip_longest
from typing import Any

from sidecar.tasks import spawn

REFRESH_S = 30.0
RETRY_S = 5.0  # after a look-up that failed
IDLE_S = 300.0
AVOID_S = 10.0

# What `loop.getaddrinfo` returns: tuples whose last part is the socket address.
Lookup = Callable[[str, int], Awaitable[Iterable[tuple[Any, ...]]]]


async def system_lookup(name: str, port: int) -> Iterable[tuple[Any, ...]]:
    """Ask the system's resolver (hosts file, search domains and all) in a thread of the loop's."""
    return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)


class Resolver:
    """The addresses of one name. All times are seconds of the ticker's clock."""

    def __init__(self, name: str, port: int, lookup: Lookup = system_lookup) -> None:
        self.name = name
        self._port = port
        self._lookup = lookup
        self._is_literal = _is_address(name)
        self._families: list[list[str]] = [[name]] if self._is_literal else []
        self._avoided_until_s: dict[str, float] = {}
        self._turn = 0
        self._used_s = self._due_s = -math.inf
        self._task: asyncio.Task[None] | None = None

    def addresses(self, now_s: float) -> tuple[str, ...]:
        """The last good answer in the order to dial it; empty before the first."""
        self._used_s = now_s
        if not self._families:
            return ()
        families = [_rotated(family, self._turn) for family in self._families]
        self._turn += 1
        mixed = [host for host in chain(*zip_longest(*families)) if host is not None]
        if self._avoided_until_s:
            mixed.sort(key=lambda host: self._avoided_until_s.get(host, now_s) > now_s)
        return tuple(mixed)

    async def first(self, now_s: float) -> tuple[str, ...]:
        """As `addresses`, waiting for a look-up if there was no good answer yet; empty if it fails."""
        if not self._families:
            # Shielded: the caller who leaves must not take the look-up from the others who wait for it.
            await asyncio.shield(self._task or self._begin(now_s))
        return self.addresses(now_s)

    def refresh(self, now_s: float, *, is_used: bool = False) -> None:
        """Begin a look-up if one is due; to be called once a second. `is_used` counts as use of the name."""
        if is_used:
            self._used_s = now_s
        if self._due_s <= now_s < self._used_s + IDLE_S and self._task is None and not self._is_literal:
            self._begin(now_s)

    def failed(self, host: str, now_s: float) -> None:
        """An address could not be dialled, or is slow about it."""
        self._avoided_until_s[host] = now_s + AVOID_S

    def succeeded(self, host: str) -> None:
        """An address was dialled."""
        self._avoided_until_s.pop(host, None)

    def _begin(self, now_s: float) -> asyncio.Task[None]:
        self._task = spawn(self._resolve(now_s), f"look up {self.name}")
        return self._task

    async def _resolve(self, now_s: float) -> None:
        self._due_s = now_s + RETRY_S
        try:
            answer = await self._lookup(self.name, self._port)
        except (OSError, UnicodeError):  # UnicodeError: a label that is empty or too long
            return
        finally:
            self._task = None
        hosts = list(dict.fromkeys(str(info[4][0]) for info in answer))
        if hosts:
            self._due_s = now_s + REFRESH_S
            self._families = _by_family(hosts)
            avoided = self._avoided_until_s
            self._avoided_until_s = {host: avoided[host] for host in hosts if host in avoided}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _by_family(hosts: list[str]) -> list[list[str]]:
    """The addresses by family, the family that the system's resolver puts first (RFC 6724) first."""
    families: dict[bool, list[str]] = {}
    for host in hosts:
        families.setdefault(":" in host, []).append(host)
    return list(families.values())


def _rotated(hosts: list[str], turn: int) -> list[str]:
    start = turn % len(hosts)
    return hosts[start:] + hosts[:start]
