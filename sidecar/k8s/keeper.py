"""Keeps the managed certificate: the Secret, the webhook configuration's caBundle, and what is shown.

Any number of replicas do this at once. Whoever writes the Secret first wins: a write carries the
resourceVersion that was read, a conflict means that another replica was first, and then the Secret is read
again and taken as it is. The bundle is published before its certificate is shown, so that the API server
trusts what it meets.
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from sidecar.k8s.api import Api, ApiError
from sidecar.k8s.certificates import Bundle, from_secret, renewed
from sidecar.k8s.tls import Serving

ROUND_S = 60.0
RETRY_S = 5.0
TRIES = 5
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

_log = logging.getLogger("sidecar.injector")


class Names(Struct, frozen=True, kw_only=True):
    """The objects that have to do with the certificate."""

    namespace: str
    secret: str
    service: str
    webhook: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names under which the Service is called; the API server uses the first."""
        short = f"{self.service}.{self.namespace}.svc"
        return short, f"{short}.cluster.local"


def _now() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """One replica's part. `run` never ends; `once` is one round of it."""

    def __init__(
        self, api: Api, names: Names, serving: Serving, clock: Callable[[], datetime] = _now
    ) -> None:
        self._api = api
        self._names = names
        self._serving = serving
        self._clock = clock
        self._shown: Bundle | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Rounds, for as long as the process lives; after a failure the next one comes sooner."""
        while True:
            is_good = await self._tried()
            await asyncio.sleep(ROUND_S if is_good else RETRY_S)

    async def once(self) -> None:
        """Renew what is due, publish it, show it. ApiError, and then what was shown is still shown."""
        bundle = await self._agreed()
        await self._publish(bundle.authorities)
        if bundle != self._shown:
            self._serving.use(bundle.certificate, bundle.key)
            self._shown = bundle
            _log.info("serving a certificate that ends %s", self._serving.expires)

    async def close(self) -> None:
        """Close the connections to the API server."""
        await self._api.close()

    async def _tried(self) -> bool:
        try:
            await self.once()
        except (ApiError, ValueError) as error:
            # Once for each trouble: the same line every five seconds helps nobody.
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("certificate: %s", error)
            return False
        self._trouble = ""
        return True

    async def _agreed(self) -> Bundle:
        """The bundle that all replicas have, made or renewed by one of them where that is due."""
        names = self._names
        collection = f"/api/v1/namespaces/{names.namespace}/secrets"
        for _ in range(TRIES):
            status, found = await self._api.call("GET", f"{collection}/{names.secret}")
            secret = found if status == 200 else _new_secret(names)
            kept = from_secret(secret.get("data"))
            # A Secret that was lost gets back what is trusted now: the other replicas still show it.
            bundle = kept or self._shown
            new = renewed(bundle, names.hosts, self._clock()) or bundle
            assert new is not None  # noqa: S101  # without a bundle one is made
            if new == kept:
                return new
            body = {**secret, "data": {**(secret.get("data") or {}), **new.to_secret()}}
            if status == 200:
                status, answer = await self._api.call("PUT", f"{collection}/{names.secret}", body)
            else:
                status, answer = await self._api.call("POST", collection, body)
            if status < 300:
                return new
            if status == 422:
                raise ApiError(f"Secret {names.secret} is refused: {_message(answer)}")
        raise ApiError(f"Secret {names.secret} changed under each of {TRIES} writes: trying again")

    async def _publish(self, authorities: bytes) -> None:
        """Have every entry of the webhook configuration trust these."""
        path = f"{WEBHOOKS}/{self._names.webhook}"
        wanted = b64encode(authorities).decode()
        for _ in range(TRIES):
            status, found = await self._api.call("GET", path)
            if status != 200:
                raise ApiError(f"there is no MutatingWebhookConfiguration {self._names.webhook}: create it")
            operations = _trusting(found, wanted)
            if not operations:
                return
            status, _ = await self._api.call("PATCH", path, operations, "application/json-patch+json")
            if status < 300:
                _log.info("wrote caBundle into MutatingWebhookConfiguration %s", self._names.webhook)
                return
        raise ApiError(f"MutatingWebhookConfiguration {self._names.webhook} refuses caBundle: trying again")


def _new_secret(names: Names) -> dict[str, Any]:
    metadata = {"name": names.secret, "namespace": names.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}


def _trusting(found: Any, wanted: str) -> list[dict[str, Any]]:
    """The JSON Patch that puts `wanted` where it is not; it fails if the configuration changed meanwhile."""
    try:
        operations = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": wanted}
            for index, entry in enumerate(found.get("webhooks") or ())
            if entry["clientConfig"].get("caBundle") != wanted
        ]
        version = found["metadata"]["resourceVersion"]
    except (AttributeError, KeyError, TypeError):
        raise ApiError("the API server's MutatingWebhookConfiguration cannot be read") from None
    if not operations:
        return []
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *operations]


def _message(answer: Any) -> str:
    return str(answer.get("message"))[:200] if isinstance(answer, dict) else "no reason given"
