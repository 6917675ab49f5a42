"""Who calls: from the key in a request's head to a `Caller`, or to a 401.

A key is looked up by its BLAKE2b-512 among those of the configuration. Keys carry 256 random bits, so a plain
digest cannot be guessed back, and presenting a digest instead of a key leads to the digest of a digest. Every
head that is not remembered costs the same: one hash, one look-up, one comparison, whatever it presents, so
that the time a refusal takes says nothing of the keys there are.

Where service accounts may call, what is none of the keys may be their token (service_accounts.py). Tokens are
remembered apart from heads: more pods call a gateway than there is room for heads.

A key decides tier and bucket only where somebody vouches for it: this configuration, or the provider it is
forwarded to. All others share one bucket: else every made-up key would come with a full one of its own.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.config.instants import end_s, start_s
from sidecar.config.model import Config, Key, Tier, matches, standard_tier
from sidecar.errors import refuse
from sidecar.exchange import Reply, RequestHead
from sidecar.headers import CREDENTIALS

if TYPE_CHECKING:
    from sidecar.policy.service_accounts import Account, Issuer, Tokens

MAX_KEY_BYTES = 512
MAX_TOKEN_BYTES = 8 * 1024  # one with the longest names that Kubernetes allows has 3 KiB
REMEMBERED_HEADS = 256
REMEMBERED_HEAD_BYTES = 4096
REMEMBERED_MODELS = 1000
REMEMBERED_TOKENS = 2048
SHARED_BUCKET = "shared"


def digest_of(key: bytes) -> bytes:
    """What a configuration holds of a key; of a key that is too long, of its beginning."""
    return hashlib.blake2b(key[:MAX_KEY_BYTES]).digest()


def bucket_of(key_id: str) -> str:
    """The name of a listed key's bucket."""
    return f"key:{key_id}"


class Caller:
    """Who calls, and what it may do.

    `id` is that of a listed key or a service account, else empty; `bucket` is a name for whom limits count
    together, never the key. `tier` is empty where there are no tiers. `regions` is a hard filter, empty: any.
    `unforwarded` is whom it counts as where its key does not go to the provider: itself, if it is known here.
    """

    __slots__ = (
        "_verdicts",
        "bucket",
        "id",
        "models",
        "priority",
        "regions",
        "team",
        "tier",
        "unforwarded",
        "valid_from_s",
        "valid_until_s",
    )

    def __init__(self, team: str, tier: str, priority: int, bucket: str, key: Key | None = None) -> None:
        self.team = team
        self.tier = tier
        self.priority = priority
        self.bucket = bucket
        self.unforwarded = self
        self.id = "" if key is None else key.id
        self.regions: tuple[str, ...] = () if key is None else key.regions
        self.models: tuple[str, ...] = ("*",) if key is None else key.models
        self.valid_from_s = start_s(None if key is None else key.not_before)  # Unix seconds
        self.valid_until_s = end_s(None if key is None else key.expires)
        self._verdicts: dict[str, bool] = {}

    def may_use(self, model: str) -> bool:
        """Whether the caller's key allows a model, by the name it asks for."""
        try:
            return self._verdicts[model]
        except KeyError:
            verdict = any(matches(pattern, model) for pattern in self.models)
            if len(self._verdicts) < REMEMBERED_MODELS:
                self._verdicts[model] = verdict
            return verdict


class _Listed:
    """A key of the configuration; its caller is made when it first calls."""

    __slots__ = ("caller", "digest", "key")

    def __init__(self, digest: bytes, key: Key | None) -> None:
        self.digest = digest
        self.key = key
        self.caller: Caller | None = None


class Callers:
    """Everyone one configuration knows. Immutable but for what it remembers, within bounds."""

    def __init__(self, config: Config, team: str, issuer: "Issuer | None" = None) -> None:
        self.team = team  # of callers who have none of their own
        self._tiers = config.tiers
        self._standard = standard_tier(config.tiers) or ""
        self._prefixes = _by_prefix(config.tiers)
        self._needs_key = config.auth.mode == "keys"
        self._forwards = any(provider.api_key is None for provider in config.providers.values())
        self._listed = {key.hash.digest: _Listed(key.hash.digest, key) for key in config.keys}
        self._unlisted = _Listed(bytes(hashlib.blake2b().digest_size), None)
        self._shared = self._caller(self._standard, SHARED_BUCKET)
        self._remembered: dict[RequestHead, Caller] = {}

        accounts = config.auth.service_accounts
        self._tokens: Tokens | None = None
        if accounts is not None and issuer is not None:
            from sidecar.policy import service_accounts  # with PyJWT and cryptography 9 MB

            self._tokens = service_accounts.Tokens(accounts, issuer)
        self._unknown = (
            _UNKNOWN_KEY if accounts is None else _UNKNOWN_KEY + _OR_ACCOUNT.format(accounts.audience)
        )
        self._by_token: dict[bytes, Caller] = {}
        self._verdicts: dict[tuple[str, ...], dict[str, bool]] = {}  # shared by all tokens of a rule

    def identify(self, head: RequestHead, wall_s: float) -> Caller | Reply:
        """The caller, or a 401. `wall_s` is the time of day in Unix seconds: keys begin and expire."""
        caller = self._remembered.get(head)
        if caller is not None and caller.valid_from_s <= wall_s < caller.valid_until_s:
            return caller
        return self._verify(head, wall_s)

    def of_account(self, account: "Account") -> Caller:
        """A service account as the caller that its rule makes of it."""
        rule = account.rule
        caller = self._caller(self._standard if rule.tier is None else rule.tier, account.id)
        caller.team = account.namespace if rule.team is None else rule.team
        caller.id = account.id
        caller.regions, caller.models = rule.regions, rule.models
        caller.valid_until_s = account.until_s
        caller._verdicts = self._verdicts.setdefault(rule.models, {})
        return caller

    def forget(self) -> None:
        """Verify all callers anew: the keys of the tokens' issuer are others now."""
        self._remembered.clear()
        self._by_token.clear()

    def _verify(self, head: RequestHead, wall_s: float) -> Caller | Reply:
        key = presented_key(head.fields)
        digest = digest_of(key)
        listed = self._listed.get(digest, self._unlisted)
        is_same = hmac.compare_digest(digest, listed.digest)
        if is_same and listed.key is not None and 0 < len(key) <= MAX_KEY_BYTES:
            caller = listed.caller = listed.caller or self._named(listed.key, key)
            if wall_s < caller.valid_from_s:
                return _refusal("This API key is not valid yet: its not_before is still to come.")
            if wall_s >= caller.valid_until_s:
                return _refusal("This API key has expired: use the one that took its place.")
        elif self._tokens is not None and (found := self._of_token(self._tokens, key, wall_s)) is not None:
            if isinstance(found, Reply):
                return found
            caller = found
        elif self._needs_key:
            return _refusal(self._unknown)
        elif self._forwards and key:
            caller = self._caller(self._tier_of(key), f"credential:{digest[:8].hex()}")
            caller.unforwarded = self._shared
        else:
            caller = self._shared
        self._remember(head, caller)
        return caller

    def _remember(self, head: RequestHead, caller: Caller) -> None:
        # A large head is read anew with each request, so it would only take room.
        if sum(map(len, head.fields.values())) > REMEMBERED_HEAD_BYTES:
            return
        if len(self._remembered) >= REMEMBERED_HEADS:
            self._remembered.clear()
        self._remembered[head] = caller

    def _of_token(self, tokens: "Tokens", token: bytes, wall_s: float) -> Caller | Reply | None:
        """Who has a ServiceAccount token, or a refusal; None where it is none."""
        if len(token) >= MAX_TOKEN_BYTES or token.count(b".") != 2:
            return None
        digest = hashlib.blake2b(token).digest()
        caller = self._by_token.get(digest)
        if caller is not None and wall_s < caller.valid_until_s:
            return caller
        account = tokens.identify(token, wall_s)
        if account is None or isinstance(account, Reply):
            return account
        caller = self.of_account(account)
        if len(self._by_token) >= REMEMBERED_TOKENS:
            self._by_token.clear()
        self._by_token[digest] = caller
        return caller

    def _named(self, listed: Key, key: bytes) -> Caller:
        tier = self._tier_of(key) if listed.tier is None else listed.tier
        return self._caller(tier, bucket_of(listed.id), listed)

    def _caller(self, tier: str, bucket: str, key: Key | None = None) -> Caller:
        team = self.team if key is None or key.team is None else key.team
        priority = self._tiers[tier].priority if tier else 0
        return Caller(team, tier, priority, bucket, key)

    def _tier_of(self, key: bytes) -> str:
        return next((tier for prefix, tier in self._prefixes if key.startswith(prefix)), self._standard)


def presented_key(fields: Mapping[bytes, bytes]) -> bytes:
    """The one key in a head's fields; empty where there is none, a malformed one, or where two differ."""
    keys: set[bytes] = set()
    for name in CREDENTIALS:
        value = fields.get(name, b"")
        if value and name == b"authorization":
            scheme, _, key = value.partition(b" ")
            # Of another scheme: something is presented, and it is no key.
            keys.add(key.strip() if scheme.lower() == b"bearer" else b"")
        elif value:
            keys.add(value)
    return keys.pop() if len(keys) == 1 else b""


def _by_prefix(tiers: Mapping[str, Tier]) -> list[tuple[bytes, str]]:
    """Prefixes of keys and their tiers, the longest first."""
    found = [(tier.key_prefix.encode(), name) for name, tier in tiers.items() if tier.key_prefix is not None]
    return sorted(found, key=lambda entry: len(entry[0]), reverse=True)


def _refusal(message: str) -> Reply:
    reply = refuse(401, "invalid_api_key", message)
    reply.lines.append(b'www-authenticate: Bearer realm="sidecar"')
    return reply


# One for all that is wrong, so that it tells nothing: missing, malformed, unknown, too long, two at once.
_UNKNOWN_KEY = (
    "Incorrect API key provided, or none, or two that differ. Send one that this sidecar lists under keys, as"
    " `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`."
)
_OR_ACCOUNT = " Or send a ServiceAccount token for the audience {}."
