"""GET /v1/models and /v1/models/{id}: the providers' own lists and the configured names, always at once.

A provider's list is fresh for a minute. After that the old one is served while it is asked anew in the
background, and where that fails the last good one stays. Only who comes before the first answer waits for it,
with all others who came meanwhile, two seconds at most. So the answer is never an error: in the worst case it
has the configured names alone.

A provider that is asked with the callers' own keys has a list for each key, or one caller would see the
models of another. Nothing of a caller's request goes along but that key and what chooses an account by it.
Of all that there is a caller is shown what its key may use.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeAlias, cast
from urllib.parse import unquote

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from sidecar.catalog import Entries, as_list, merge, model_entry, provider_of, read_list, route_entry
from sidecar.config.model import Config
from sidecar.errors import model_not_allowed, model_not_found
from sidecar.exchange import Downstream, Exchange, Reply, RequestHead
from sidecar.headers import CREDENTIALS
from sidecar.policy.callers import Caller
from sidecar.runtime import Snapshot
from sidecar.tasks import spawn
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.provider import Provider

PATH = "/v1/models"
FRESH_S = 60.0
RETRY_S = 5.0  # after a failure
LIMIT_S = 2.0
# The largest public lists have half a megabyte.
MAX_BYTES = 4 * 1024 * 1024
MAX_CALLERS = 64
# Answers made ready, each for the keys with the same `models`; of the largest list 4 MB each.
MAX_BODIES = 16
MAX_CONNECTIONS = 16
_COPY_BYTES = 64 * 1024
# By these a key's account is chosen at OpenAI; Anthropic answers nothing without its version.
_CHOOSING = (b"openai-organization", b"openai-project", b"anthropic-version")
_log = logging.getLogger("sidecar")

_Key: TypeAlias = tuple[str, tuple[str, ...], str, bytes]


class _List:
    """One provider's list as one key sees it. `entries` None: never heard."""

    __slots__ = ("due_s", "entries", "fetched", "is_failing")

    def __init__(self) -> None:
        self.entries: dict[str, bytes] | None = None
        self.due_s = -math.inf
        self.fetched: asyncio.Future[None] | None = None  # done when the request under way is over
        self.is_failing = False


class _Joined:
    """All models of a configuration and its providers' lists, and the answers made of them, by the `models`
    of the callers' keys: a look at each of ten thousand names takes 10 ms."""

    __slots__ = ("_bodies", "_config", "_parts", "_shown")

    def __init__(self, config: Config, parts: list[dict[str, bytes]], shown: Entries) -> None:
        self._config = config
        self._parts = parts
        self._shown = shown
        self._bodies: dict[tuple[str, ...], bytes] = {}

    def is_of(self, config: Config, parts: list[dict[str, bytes]]) -> bool:
        """Whether it was made of these."""
        return (
            self._config is config
            and len(self._parts) == len(parts)
            and all(a is b for a, b in zip(self._parts, parts, strict=True))
        )

    def body(self, caller: Caller | None) -> bytes:
        """The list of what a caller may use; None: of all."""
        allowed = _ALL if caller is None else caller.models
        body = self._bodies.get(allowed)
        if body is None:
            entries: Iterable[bytes] = self._shown.values()
            if caller is not None and allowed != _ALL:
                entries = [entry for name, entry in self._shown.items() if caller.may_use(name)]
            if len(self._bodies) >= MAX_BODIES:
                self._bodies.clear()
            body = self._bodies[allowed] = as_list(entries)
        return body


class ModelList:
    """Answers for `/v1/models`. `snapshot` gives the configuration in force."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._created_s = int(time.time())
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

        # What is known: of providers with a key of ours, and of the others by caller, last asked last.
        self._ours: dict[str, tuple[_Key, _List]] = {}
        self._callers: OrderedDict[_Key, _List] = OrderedDict()
        self._joined: _Joined | None = None

    @staticmethod
    def serves(x: Exchange) -> bool:
        """Whether a request is for here; its path must have been found fit."""
        return x.method in (b"GET", b"HEAD") and (x.path == PATH or x.path.startswith(PATH + "/"))

    async def answer(self, x: Exchange, caller: Caller | None = None) -> Reply:
        """The list of what a caller may use, or one model of it; None: a caller that may use all.

        As with a request for it, a model that nothing serves is a 404, one that the key does not list a 403.
        """
        snapshot = self._snapshot()
        if x.path == PATH:
            return Reply(200, (await self._all(x, snapshot)).body(caller))
        return await self._one(x, snapshot, unquote(x.path.removeprefix(PATH + "/")), caller)

    async def close(self) -> None:
        """Give up what is under way and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # --- answers --------------------------------------------------------------------------------------

    async def _all(self, x: Exchange, snapshot: Snapshot) -> _Joined:
        config = snapshot.config
        used = {model.provider for model in config.models.values()}
        asked = {
            name: self._list(provider, x)
            for name, provider in snapshot.providers.items()
            if name in used and not config.providers[name].break_glass
        }
        # First all are asked, then each is waited for.
        lists = {name: await _entries(one) for name, one in asked.items()}
        parts = list(lists.values())
        joined = self._joined
        if joined is None or not joined.is_of(config, parts):
            joined = self._joined = _Joined(config, parts, merge(config, lists, self._created_s))
        return joined

    async def _one(self, x: Exchange, snapshot: Snapshot, name: str, caller: Caller | None) -> Reply:
        config = snapshot.config
        provider = None if name in config.routes else provider_of(config, name)
        if provider is None and name not in config.routes:
            return model_not_found(name)
        if caller is not None and not caller.may_use(name):
            return model_not_allowed(name)
        if provider is None:
            return Reply(200, route_entry(name, self._created_s))
        entries = await _entries(self._list(snapshot.providers[provider], x))
        return Reply(200, entries.get(name) or model_entry(name, provider, self._created_s))

    # --- what is known --------------------------------------------------------------------------------

    def _list(self, provider: Provider, x: Exchange) -> _List:
        """What is known of a provider's list, and the request for a newer one sent if it is time."""
        asking = _asking(x, provider)
        urls = tuple(endpoint.url for endpoint in provider.endpoints)
        key = (provider.name, urls, provider.credential(x), b"\n".join(asking.head.forward))
        one = self._ours_of(provider, key) if provider.has_own_key else self._callers_of(key)
        now_s = self._clock()
        if one.fetched is None and now_s >= one.due_s:
            one.fetched = asyncio.get_running_loop().create_future()
            first = provider.closest(asking, now_s)
            endpoints = sorted(provider.allowed(asking), key=lambda endpoint: endpoint is not first)
            task = spawn(
                self._refresh(one, provider, endpoints, _headers(provider, asking)),
                f"model list of {provider.name}",
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return one

    def _ours_of(self, provider: Provider, key: _Key) -> _List:
        known = self._ours.get(provider.name)
        if known is None or known[0] != key:
            known = self._ours[provider.name] = (key, _List())
        return known[1]

    def _callers_of(self, key: _Key) -> _List:
        one = self._callers.setdefault(key, _List())
        self._callers.move_to_end(key)
        if len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        return one

    async def _refresh(
        self, one: _List, provider: Provider, endpoints: list[Endpoint], headers: CIMultiDict[str]
    ) -> None:
        """Ask one endpoint after another until one has a list, within the time there is for all."""
        entries: dict[str, bytes] | None = None
        end_s = time.monotonic() + LIMIT_S
        try:
            for endpoint in endpoints:
                left_s = end_s - time.monotonic()
                body = await self._get(endpoint, headers, left_s) if left_s > 0 else None
                entries = read_list(body, provider.name, self._created_s) if body is not None else None
                if entries is not None:
                    one.entries = entries
                    break
        finally:
            self._note(one, provider, entries is None)
            one.due_s = self._clock() + (RETRY_S if entries is None else FRESH_S)
            if one.fetched is not None:
                one.fetched.set_result(None)
            one.fetched = None

    def _note(self, one: _List, provider: Provider, is_failing: bool) -> None:
        # Of callers' keys nothing is said: anyone could fill the log with wrong ones.
        if is_failing and not one.is_failing and provider.has_own_key:
            stays = "only configured names are" if one.entries is None else "its last good one is"
            _log.warning("%s gave no model list: %s shown", provider.name, stays)
        one.is_failing = is_failing

    async def _get(self, endpoint: Endpoint, headers: CIMultiDict[str], limit_s: float) -> bytes | None:
        tls = endpoint.pool.address.tls
        authority = endpoint.host_line.partition(b": ")[2].decode()
        url = f"{'http' if tls is None else 'https'}://{authority}{endpoint.prefix.decode()}/models"
        body = bytearray()
        try:
            async with self._client().get(
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,  # the key is for this provider alone
                ssl=tls or True,
                timeout=aiohttp.ClientTimeout(total=limit_s),
            ) as response:
                if response.status != 200:
                    return None
                async for piece in response.content.iter_chunked(_COPY_BYTES):
                    body += piece
                    if len(body) > MAX_BYTES:
                        return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return bytes(body)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                auto_decompress=False,  # a bound on bytes is none if they may unfold
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


async def _entries(one: _List) -> dict[str, bytes]:
    """The list, once there was time to ask for it."""
    if one.entries is None and one.fetched is not None:
        # A caller that leaves cancels what it waits for; others wait for the same.
        await asyncio.shield(one.fetched)
    return one.entries or _NOTHING


_NOTHING: dict[str, bytes] = {}
_ALL = ("*",)  # the `models` of a key that may use all


def _asking(x: Exchange, provider: Provider) -> Exchange:
    """A caller's request, of which only that is left by which a provider knows whom it answers.

    A list that is shared among callers must not depend on the headers of the one who happened to be first.
    """
    head = RequestHead(b"GET", PATH.encode())
    head.fields = {name: x.fields[name] for name in CREDENTIALS if name in x.fields}
    asking = Exchange(cast(Downstream, None), x.started_s, head)
    if not provider.has_own_key:
        chosen = {name: x.fields[name] for name in _CHOOSING if name in x.fields}
        head.fields |= chosen
        head.forward = [b"%b: %b" % pair for pair in chosen.items()]
        asking.regions = x.regions
    return asking


def _headers(provider: Provider, asking: Exchange) -> CIMultiDict[str]:
    lines = [line.decode().partition(":") for line in provider.header_lines(asking)]
    headers = CIMultiDict((name, value.strip()) for name, _, value in lines)
    headers.setdefault("accept", "application/json")
    headers.setdefault("accept-encoding", "identity")
    headers.setdefault("user-agent", "ai-sidecar-model-list")
    return headers
