"""Calls to the API server from inside the cluster: plain HTTP and JSON with the ServiceAccount's token.

Only what the injector needs for its certificate; nothing here is used while a pod is being admitted.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 10.0
MAX_BYTES = 4 * 1024 * 1024
_MAX_SHOWN = 200


class ApiError(Exception):
    """The API server was not reached, or refused. One line: what, and what to do."""


class Api:
    """One API server. `close` it at the end."""

    def __init__(self, url: str, token_file: Path, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._token_file = token_file
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=False
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Status and decoded body of one call.

        Statuses that the caller can act upon (2xx, 404, 409, 422) are returned; ApiError for all else.
        """
        headers = {"authorization": f"Bearer {self._token()}", "accept": "application/json"}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["content-type"] = content_type
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                content = await response.content.read(MAX_BYTES)
                while len(content) < MAX_BYTES and (more := await response.content.read(MAX_BYTES)):
                    content += more
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or "no answer in time"
            raise ApiError(f"the API server at {self._url} is not reached: {reason}") from None
        return status, self._judged(f"{method} {path}", status, content)

    def _judged(self, what: str, status: int, content: bytes) -> Any:
        try:
            tree = orjson.loads(content)
        except orjson.JSONDecodeError:
            tree = None
        if status in (404, 409, 422):
            return tree
        if not 200 <= status < 300:
            reason = tree.get("message") if isinstance(tree, dict) else None
            hint = ": give the injector's ServiceAccount this right" if status == 403 else ""
            raise ApiError(f"{what}: status {status}, {str(reason)[:_MAX_SHOWN]}{hint}")
        if not isinstance(tree, dict):
            raise ApiError(f"{what}: status {status}, but the body is no JSON object")
        return tree

    def _token(self) -> str:
        # Read for each call: the kubelet replaces it within the hour.
        try:
            return self._token_file.read_text().strip()
        except OSError as error:
            raise ApiError(f"{self._token_file} cannot be read: {error.strerror}") from None


def in_cluster(environ: Mapping[str, str], account: Path = ACCOUNT) -> tuple[Api, str]:
    """The API server of the cluster this process runs in, and the process's namespace.

    ApiError when it runs in none, or has no ServiceAccount token.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ApiError(
            "--managed works in a cluster only (KUBERNETES_SERVICE_HOST is not set): give --cert and --key"
        )
    try:
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = (account / "namespace").read_text().strip()
    except OSError as error:
        raise ApiError(
            f"{account} cannot be read ({error.strerror}): set automountServiceAccountToken: true"
        ) from None
    bracketed = f"[{host}]" if ":" in host else host
    return Api(f"https://{bracketed}:{port}", account / "token", tls), namespace
