"""The public keys of a cluster's token issuer: fetched from its API server, and kept while that is away.

They are asked for at the start, every five minutes, and when a token names a key that is not among them;
never twice within ten seconds, whatever callers send. A failure changes nothing: the keys that are here go
on, for the day that service_accounts.py gives them. The pod's own token and the authority are read for each
round, since both are replaced in place.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec

from sidecar.config.auth import ServiceAccounts
from sidecar.config.secrets import resolve
from sidecar.policy.service_accounts import FRESH_S, KeySet, read_keys
from sidecar.tasks import spawn

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DISCOVERY = "/.well-known/openid-configuration"
# Of the API server itself, not the document's jwks_uri: that may be an address that pods do not reach.
KEYS = "/openid/v1/jwks"
ROUND_S = 300.0
PAUSE_S = FRESH_S
TIMEOUT_S = 3.0
MAX_BYTES = 256 * 1024  # the key sets of real clusters have 1 or 2 KiB
_log = logging.getLogger("sidecar")


class _Described(msgspec.Struct):
    issuer: str


class Issuer:
    """One API server. `keys` is None until they were fetched for the first time; `on_change` hears of others.

    It begins at once, in the running event loop; `stop` it at the end.
    """

    def __init__(self, config: ServiceAccounts, on_change: Callable[[], None]) -> None:
        self.keys: KeySet | None = None
        self.source = source_of(config)
        self._on_change = on_change
        self._trouble = ""
        loop = asyncio.get_running_loop()
        self._tried: asyncio.Future[None] = loop.create_future()
        self._wanted: asyncio.Future[None] = loop.create_future()
        self._task = spawn(self._run(), "keys of the token issuer")

    def refresh_soon(self) -> None:
        """Fetch the keys now, or when ten seconds have passed since they were fetched."""
        if not self._wanted.done():
            self._wanted.set_result(None)

    async def tried(self) -> None:
        """Wait for the first fetch to end, well or not: some seconds at most."""
        await asyncio.wait((self._tried,))

    def stop(self) -> None:
        """Fetch no more."""
        self._task.cancel()
        if not self._tried.done():
            self._tried.set_result(None)

    async def _run(self) -> None:
        while True:
            is_good = await self._fetched()
            if not self._tried.done():
                self._tried.set_result(None)
            await asyncio.sleep(PAUSE_S)
            if is_good:
                await asyncio.wait((self._wanted,), timeout=ROUND_S - PAUSE_S)
            self._wanted = asyncio.get_running_loop().create_future()

    async def _fetched(self) -> bool:
        try:
            keys = await self._fetch()
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
            trouble = str(error) or "no answer in time"
            # Once for each trouble: the same line every ten seconds helps nobody.
            if trouble != self._trouble:
                self._trouble = trouble
                _log.error("auth.service_accounts: %s: %s; %s", self.source[0], trouble, self._standing())
            return False
        self._trouble = ""
        before, self.keys = self.keys, keys
        if before is None or (before.issuer, before.content) != (keys.issuer, keys.content):
            _log.info("auth.service_accounts: %d keys of %s", len(keys.keys), keys.issuer)
            self._on_change()
        return True

    def _standing(self) -> str:
        return "tokens are refused until it answers" if self.keys is None else "its last keys hold for a day"

    async def _fetch(self) -> KeySet:
        url, ca_file, token_file = self.source
        token = resolve({"file": token_file}, {}).reveal()
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ValueError(f"authority file {ca_file} cannot be used: {error.strerror}") from None
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            headers={"authorization": f"Bearer {token}", "accept-encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            document = await _get(session, url + DISCOVERY)
            try:
                described = msgspec.json.decode(document, type=_Described)
            except (ValueError, RecursionError):
                raise ValueError(f"{DISCOVERY} names no issuer") from None
            content = await _get(session, url + KEYS)
        return read_keys(described.issuer, content, time.time())


def source_of(config: ServiceAccounts) -> tuple[str, str, str]:
    """Where the keys come from: the API server's URL, its authority's file, that of the token to show."""
    return (
        str(config.api_server).rstrip("/"),
        config.ca_file or str(ACCOUNT / "ca.crt"),
        config.token_file or str(ACCOUNT / "token"),
    )


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    """The body of a 200; ValueError for all else."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status in (401, 403):
            raise ValueError(
                f"status {response.status}: bind the ClusterRole system:service-account-issuer-discovery to"
                " this pod's ServiceAccount"
            )
        if response.status != 200:
            raise ValueError(f"status {response.status} for {response.url.path}")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError(f"{response.url.path} has more than {MAX_BYTES // 1024} KiB")
        return bytes(body)
