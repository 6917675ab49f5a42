"""ServiceAccount tokens as an API server signs them, those it would not, and the server itself over TLS."""

import contextlib
import functools
import json
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.certificates import Authority

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "ai-sidecar"
OWN_TOKEN = "the-gateways-own-token"


class Signer:
    """One signing key of an API server."""

    def __init__(self, kid: str, algorithm: str = "RS256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key: Any = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public half, as the API server publishes it."""
        maker = jwt.PyJWS().get_algorithm_by_name(self.algorithm)
        published: dict[str, Any] = json.loads(maker.to_jwk(self.key.public_key()))
        published.pop("key_ops", None)
        return {**published, "use": "sig", "kid": self.kid, "alg": self.algorithm}

    def token(self, now_s: float, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of checkout in payments for an hour from now; a claim that is None is left out."""
        return self.sign(json.dumps(claims_at(now_s, **claims)).encode(), headers)

    def sign(self, payload: bytes, headers: dict[str, Any] | None = None) -> str:
        """Any payload, signed with the key."""
        return jwt.PyJWS().encode(payload, self.key, self.algorithm, {"kid": self.kid, **(headers or {})})


@functools.cache
def signer(kid: str = "one", algorithm: str = "RS256") -> Signer:
    """A signer; the same for all tests, since an RSA key takes a while."""
    return Signer(kid, algorithm)


def claims_at(now_s: float, **changes: Any) -> dict[str, Any]:
    """What a projected token says."""
    claims = {
        "iss": ISSUER,
        "sub": "system:serviceaccount:payments:checkout",
        "aud": [AUDIENCE],
        "exp": int(now_s) + 3600,
        "iat": int(now_s),
        "nbf": int(now_s),
        "jti": "b5a1",
        "kubernetes.io": {
            "namespace": "payments",
            "node": {"name": "node-1", "uid": "u1"},
            "pod": {"name": "checkout-7d9c", "uid": "u2"},
            "serviceaccount": {"name": "checkout", "uid": "u3"},
        },
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def account(namespace: str, name: str) -> dict[str, Any]:
    """The claims by which a token is another account's."""
    kubernetes = {"namespace": namespace, "serviceaccount": {"name": name}}
    return {"sub": f"system:serviceaccount:{namespace}:{name}", "kubernetes.io": kubernetes}


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def key_set(*signers: Signer) -> bytes:
    """Their public keys as a JSON Web Key Set."""
    return json.dumps({"keys": [each.jwk for each in signers]}).encode()


class ApiServer:
    """Publishes issuer and keys to whom shows its token; `answer`, where it is set, answers for the keys."""

    def __init__(self, folder: Path, *signers: Signer) -> None:
        self.signers = list(signers)
        self.issuer = ISSUER
        self.asked: list[str] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.token_file = folder / "own-token"
        self.token_file.write_text(OWN_TOKEN + "\n")
        self.authority = Authority(folder, "api-ca.pem")
        self.url = ""

    @property
    def settings(self) -> dict[str, Any]:
        """What of `auth.service_accounts` leads here."""
        return {
            "api_server": self.url,
            "ca_file": self.authority.ca_file,
            "token_file": str(self.token_file),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.headers.get("authorization") != f"Bearer {OWN_TOKEN}":
            return web.json_response({"message": "forbidden"}, status=403)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.issuer, "jwks_uri": "https://10.0.0.1/openid/v1/jwks"})
        assert request.path == "/openid/v1/jwks"
        if self.answer is not None:
            return await self.answer(request)  # type: ignore[arg-type]
        return web.Response(body=key_set(*self.signers), content_type="application/jwk-set+json")

    @property
    def rounds(self) -> int:
        """How often it was asked for its keys."""
        return self.asked.count("/openid/v1/jwks")

    def says(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer so from now on."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.answer = answer


@contextlib.asynccontextmanager
async def api_server(
    folder: Path, *signers: Signer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ApiServer]:
    """A started one."""
    server = ApiServer(folder, *signers)
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    context = tls or server.authority.server("127.0.0.1")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
