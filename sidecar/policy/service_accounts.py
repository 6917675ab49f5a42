"""Callers with a Kubernetes ServiceAccount token: whose it is, or why it is refused.

A projected token is a JWT that the API server signed for one audience and one pod. Of its header the key's id
counts, to choose among the keys that the issuer has published, each of which goes with one algorithm. What a
header says of other keys, or where to find them (jwk, jku, x5u), is never looked at. Claims are read once the
signature is known to be right.

Nobody is asked about a single token, so one stays good until it ends, even when its pod or its account is
gone before: an hour at most for those the kubelet mounts. Importing this costs 9 MB, for PyJWT and
cryptography, and verifying one token 0.1 ms.
"""

from base64 import urlsafe_b64decode
from typing import Any, NamedTuple, Protocol

import msgspec
from jwt import PyJWK, PyJWS, PyJWTError
from msgspec import Struct

from sidecar.config.auth import ID_PREFIX, ServiceAccountRule, ServiceAccounts
from sidecar.config.model import rule_of
from sidecar.errors import NO_RETRY_LINE, refuse
from sidecar.exchange import Reply

LEEWAY_S = 30.0
# While the API server is away its last keys hold so long: it changes them once in months, if ever.
KEYS_HOLD_S = 86400.0
# Keys that were fetched so shortly ago are all there are: an id that is none of theirs is made up.
FRESH_S = 10.0
MAX_KEYS = 64
RSA_BITS = range(2048, 8192 + 1)
# By type and curve. Nothing symmetric: a public key would do as its secret.
ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256"}
_JWS = PyJWS(algorithms=list(ALGORITHMS.values()))


class KeySet:
    """An issuer's public keys by their ids. `fetched_s` is in Unix seconds, `content` as it was published."""

    __slots__ = ("content", "fetched_s", "issuer", "keys")

    def __init__(self, issuer: str, keys: dict[str, PyJWK], content: bytes, fetched_s: float) -> None:
        self.issuer = issuer
        self.keys = keys
        self.content = content
        self.fetched_s = fetched_s


class Issuer(Protocol):
    """Who has the keys. None: not yet."""

    keys: KeySet | None

    def refresh_soon(self) -> None:
        """Fetch them again, when that is not too often."""


class Account(NamedTuple):
    """A service account that may call, until `until_s` (Unix seconds) by this token."""

    namespace: str
    name: str
    rule: ServiceAccountRule
    until_s: float

    @property
    def id(self) -> str:
        """Its name among all callers."""
        return f"{ID_PREFIX}{self.namespace}/{self.name}"


# --- what is sent -----------------------------------------------------------------------------------------


class _PublishedKey(Struct):
    kty: str
    kid: str = ""
    alg: str = ""
    use: str = "sig"
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _Published(Struct):
    keys: list[_PublishedKey]


class _Header(Struct):
    kid: str


class _Named(Struct):
    name: str


class _Pod(Struct):
    namespace: str
    serviceaccount: _Named


class _Claims(Struct):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    kubernetes: _Pod = msgspec.field(name="kubernetes.io")
    nbf: float = 0.0


_read_header = msgspec.json.Decoder(_Header).decode
_read_claims = msgspec.json.Decoder(_Claims).decode


def read_keys(issuer: str, content: bytes, fetched_s: float) -> KeySet:
    """The usable keys of a JSON Web Key Set (RFC 7517); ValueError where there are none."""
    try:
        published = msgspec.json.decode(content, type=_Published).keys
    except (ValueError, RecursionError):
        raise ValueError("the answer is no JSON Web Key Set") from None
    keys = {key.kid: made for key in published[:MAX_KEYS] if key.kid and (made := _key(key)) is not None}
    if not keys:
        raise ValueError("the key set has no RSA key for RS256 and no P-256 key for ES256")
    return KeySet(issuer, keys, content, fetched_s)


def _key(published: _PublishedKey) -> PyJWK | None:
    """The key, made fast to its one algorithm; None where it is of no use here."""
    algorithm = ALGORITHMS.get((published.kty, published.crv))
    if algorithm is None or published.use != "sig" or published.alg not in ("", algorithm):
        return None
    parts: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(published).items() if value
    }
    try:
        key = PyJWK(parts, algorithm)
    except PyJWTError:
        return None
    return key if algorithm != "RS256" or key.key.key_size in RSA_BITS else None


# --- tokens -----------------------------------------------------------------------------------------------


class Tokens:
    """Tells callers by their tokens: `config` says who may call, `issuer` has the keys."""

    def __init__(self, config: ServiceAccounts, issuer: Issuer) -> None:
        self._config = config
        self._issuer = issuer

    def identify(self, token: bytes, wall_s: float) -> Account | Reply | None:
        """Whose the token is; a refusal; or None where it is no token at all. `wall_s` is in Unix seconds."""
        kid = _key_id(token)
        if kid is None:
            return None
        keys = self._issuer.keys
        if keys is None or wall_s >= keys.fetched_s + KEYS_HOLD_S:
            self._issuer.refresh_soon()
            return _later(
                "The API server's keys are not here, so that no ServiceAccount token can be checked."
            )
        key = keys.keys.get(kid)
        if key is None:
            if wall_s < keys.fetched_s + FRESH_S:
                return _refusal(f"is signed with a key that is none of {keys.issuer}: is it of this cluster?")
            self._issuer.refresh_soon()
            return _later("The key that signed this ServiceAccount token is not known here yet.")
        return self._judged(token, key, keys, wall_s)

    def _judged(self, token: bytes, key: PyJWK, keys: KeySet, wall_s: float) -> Account | Reply:
        audience = self._config.audience
        try:
            payload = _JWS.decode_complete(token, key, algorithms=[key.algorithm_name])["payload"]
            claims = _read_claims(payload)
        except (PyJWTError, ValueError, RecursionError):
            return _refusal("is not one that the API server signed for a pod: send it as it was mounted")
        if claims.iss != keys.issuer:
            return _refusal(f"is of another issuer than {keys.issuer}")
        if audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            return _refusal(f"is for another audience: mount one with audience {audience}")
        if not wall_s < claims.exp + LEEWAY_S:
            return _refusal("has expired: the kubelet renews the file, so read it again")
        if not claims.nbf - LEEWAY_S <= wall_s:
            return _refusal("is not valid yet: do the clocks agree?")
        namespace, name = claims.kubernetes.namespace, claims.kubernetes.serviceaccount.name
        if claims.sub != f"system:serviceaccount:{namespace}:{name}":
            return _refusal("names two accounts: sub is another than kubernetes.io")
        rule = rule_of(self._config.callers, namespace, name)
        if rule is None:
            return _not_listed(namespace, name)
        return Account(namespace, name, rule, min(claims.exp + LEEWAY_S, keys.fetched_s + KEYS_HOLD_S))


def _key_id(token: bytes) -> str | None:
    """What the header says of the key; None where there is no such header."""
    encoded = token.partition(b".")[0]
    try:
        return _read_header(urlsafe_b64decode(encoded + b"==")).kid
    except (ValueError, RecursionError):  # of base64, UTF-8 and msgspec alike
        return None


def _refusal(what: str) -> Reply:
    reply = refuse(401, "invalid_api_key", f"The ServiceAccount token {what}.")
    reply.lines.append(b'www-authenticate: Bearer realm="sidecar"')
    return reply


def _later(message: str) -> Reply:
    # Not the caller's fault, and over soon: an SDK tries again by itself.
    reply = refuse(503, "issuer_keys_unavailable", f"{message} Try again in a moment.")
    reply.lines.append(b"retry-after: 1")
    return reply


def _not_listed(namespace: str, name: str) -> Reply:
    message = (
        f"Service account {name} of namespace {namespace} may not call here: list it under"
        " auth.service_accounts.callers."
    )
    reply = refuse(403, "service_account_not_allowed", message)
    reply.lines.append(NO_RETRY_LINE)
    return reply
