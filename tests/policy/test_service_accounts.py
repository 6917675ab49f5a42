"""Which tokens are believed, whose they are, and why all others are refused."""

import hashlib
import hmac
import json
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sidecar.config.auth import ServiceAccountRule, ServiceAccounts
from sidecar.config.model import rule_of
from sidecar.exchange import Reply
from sidecar.policy.service_accounts import (
    FRESH_S,
    KEYS_HOLD_S,
    LEEWAY_S,
    MAX_KEYS,
    Account,
    KeySet,
    Tokens,
    read_keys,
)
from tests.policy.support import NOW_S
from tests.support.tokens import AUDIENCE, ISSUER, Signer, account, by_hand, claims_at, key_set, signer

RULE = ServiceAccountRule(namespace="payments")
CONFIG = ServiceAccounts(callers=(RULE,))


class Keys:
    """An issuer whose keys are at hand; counts how often they were asked for again."""

    def __init__(self, keys: KeySet | None) -> None:
        self.keys = keys
        self.wishes = 0

    def refresh_soon(self) -> None:
        self.wishes += 1


def issuer_of(*signers: Signer, fetched_s: float = NOW_S) -> Keys:
    return Keys(read_keys(ISSUER, key_set(*signers), fetched_s))


def outcome(
    token: str, issuer: Keys | None = None, wall_s: float = NOW_S, config: ServiceAccounts = CONFIG
) -> Account | Reply | None:
    return Tokens(config, issuer or issuer_of(signer())).identify(token.encode(), wall_s)


def refusal(token: str, issuer: Keys | None = None, wall_s: float = NOW_S) -> tuple[int, str]:
    reply = outcome(token, issuer, wall_s)
    assert isinstance(reply, Reply), reply
    return reply.status, orjson.loads(reply.body)["error"]["message"]


# --- good tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_token_of_the_cluster_is_its_accounts(algorithm: str) -> None:
    one = signer(algorithm, algorithm)
    found = outcome(one.token(NOW_S), issuer_of(one))
    assert isinstance(found, Account)
    assert (found.id, found.namespace, found.name) == ("sa:payments/checkout", "payments", "checkout")
    assert found.rule is RULE
    assert found.until_s == NOW_S + 3600 + LEEWAY_S


def test_audience_may_be_one_of_several_or_a_text() -> None:
    for audience in (AUDIENCE, ["other", AUDIENCE]):
        assert isinstance(outcome(signer().token(NOW_S, aud=audience)), Account)


def test_clocks_may_differ_by_half_a_minute() -> None:
    token = signer().token(NOW_S)
    for wall_s, is_good in [
        (NOW_S - LEEWAY_S, True),
        (NOW_S - LEEWAY_S - 1, False),
        (NOW_S + 3600 + LEEWAY_S - 1, True),
        (NOW_S + 3600 + LEEWAY_S, False),
    ]:
        assert isinstance(outcome(token, wall_s=wall_s), Account) is is_good


def test_a_token_is_good_no_longer_than_the_keys() -> None:
    found = outcome(signer().token(NOW_S, exp=NOW_S + 1e9))
    assert isinstance(found, Account)
    assert found.until_s == NOW_S + KEYS_HOLD_S


# --- claims ----------------------------------------------------------------------------------------------

WRONG_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"exp": NOW_S - LEEWAY_S - 1}, "has expired"),
    "without end": ({"exp": None}, "is not one that the API server signed"),
    "end is no number": ({"exp": "tomorrow"}, "is not one"),
    "end is NaN": ({"exp": float("nan")}, "is not one"),
    "not yet valid": ({"nbf": NOW_S + LEEWAY_S + 1}, "is not valid yet"),
    "another audience": ({"aud": ["https://kubernetes.default.svc"]}, "for another audience: mount one with"),
    "no audience": ({"aud": None}, "is not one"),
    "empty audience": ({"aud": []}, "for another audience"),
    "audience within another": ({"aud": f"x{AUDIENCE}"}, "for another audience"),
    "another issuer": ({"iss": ISSUER + "/"}, "is of another issuer"),
    "no issuer": ({"iss": None}, "is not one"),
    "sub alone": ({"kubernetes.io": None}, "is not one"),
    "no account": ({"kubernetes.io": {"namespace": "payments"}}, "is not one"),
    "sub of another account": ({"sub": "system:serviceaccount:payments:admin"}, "names two accounts"),
    "sub of a user": ({"sub": "admin"}, "names two accounts"),
    "no sub": ({"sub": None}, "is not one"),
}


@pytest.mark.parametrize(("claims", "said"), WRONG_CLAIMS.values(), ids=WRONG_CLAIMS.keys())
def test_signed_token_with_wrong_claims_is_refused_with_the_reason(claims: dict[str, Any], said: str) -> None:
    status, message = refusal(signer().token(NOW_S, **claims))
    assert status == 401
    assert said in message


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5000])
def test_signed_nonsense_is_refused(payload: bytes) -> None:
    assert refusal(signer().sign(payload))[0] == 401


def test_account_that_no_rule_lists_is_told_its_name() -> None:
    status, message = refusal(signer().token(NOW_S, **account("search", "crawler")))
    assert status == 403
    assert "crawler of namespace search" in message


def test_first_rule_that_matches_holds() -> None:
    rules = (
        ServiceAccountRule(namespace="payments", name="checkout", team="a"),
        ServiceAccountRule(namespace="payments", name="check*", team="b"),
        ServiceAccountRule(namespace="team-*", team="c"),
        ServiceAccountRule(namespace="*", name="robot", team="d"),
    )
    found = [
        rule_of(rules, *names)
        for names in [
            ("payments", "checkout"),
            ("payments", "checker"),
            ("team-x", "any"),
            ("other", "robot"),
            ("payments", "other"),
            ("Payments", "checkout"),
        ]
    ]
    assert [rule and rule.team for rule in found] == ["a", "b", "c", "d", None, None]


# --- signatures ------------------------------------------------------------------------------------------


def header(**changes: Any) -> dict[str, Any]:
    return {"alg": "RS256", "typ": "JWT", "kid": "one", **changes}


def signed_with_public_key(algorithm: str) -> str:
    """The public key taken for a shared secret, as PEM: the classic confusion of algorithms."""
    pem = (
        signer()
        .key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    unsigned = by_hand(header(alg=algorithm), claims_at(NOW_S)).rstrip(".")
    digest = hmac.new(pem, unsigned.encode(), hashlib.sha256).digest()
    return by_hand(header(alg=algorithm), claims_at(NOW_S), digest)


def flipped(part: int) -> str:
    """A good token with one bit of a part turned over."""
    parts = signer().token(NOW_S).split(".")
    middle = len(parts[part]) // 2
    other = "B" if parts[part][middle] == "A" else "A"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


FORGED = {
    "none": by_hand(header(alg="none"), claims_at(NOW_S)),
    "None": by_hand(header(alg="None"), claims_at(NOW_S)),
    "no algorithm": by_hand({"kid": "one"}, claims_at(NOW_S)),
    "no signature": by_hand(header(), claims_at(NOW_S)),
    "public key as secret": signed_with_public_key("HS256"),
    "public key as secret, said to be RS256": signed_with_public_key("RS256"),
    "flipped signature": flipped(2),
    "flipped claims": flipped(1),
    "another key under the same id": Signer("one").token(NOW_S),
    "a curve's key under an RSA key's id": Signer("one", "ES256").token(NOW_S),
    "key in the header": Signer("one").token(NOW_S, headers={"jwk": Signer("one").jwk}),
    "key elsewhere": Signer("one").token(
        NOW_S, headers={"jku": "https://evil.example/jwks", "x5u": "https://evil.example/cert"}
    ),
    "critical extension": signer().token(NOW_S, headers={"crit": ["exp"], "exp": 1}),
    "payload left out": signer().token(NOW_S).replace(signer().token(NOW_S).split(".")[1], ""),
    "signature of nothing": by_hand(header(), claims_at(NOW_S), b"\0" * 256),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_forged_token_is_refused(token: str) -> None:
    issuer = issuer_of(signer())
    status, message = refusal(token, issuer)
    assert (status, "is not one that the API server signed" in message) == (401, True)
    assert issuer.wishes == 0


def test_where_a_header_says_keys_are_does_not_matter() -> None:
    token = signer().token(NOW_S, headers={"jku": "https://evil.example/jwks", "x5u": "x", "jwk": {}})
    assert isinstance(outcome(token), Account)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_other_algorithms_are_refused_though_the_key_could(algorithm: str) -> None:
    token = jwt.encode(claims_at(NOW_S), signer().key, algorithm, {"kid": "one"})
    assert refusal(token)[0] == 401


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "sk-1.2.3",
        ".".join(["e30"] * 3),
        by_hand({"kid": 1}, {}),
        "\xff.b.c",
        "[" * 6000 + ".b.c",
    ],
)
def test_what_is_no_token_is_nobodys(token: str) -> None:
    assert outcome(token) is None


# --- keys ------------------------------------------------------------------------------------------------


def test_keys_overlap_in_a_rotation() -> None:
    old, new = signer("old"), signer("new", "ES256")
    both = issuer_of(old, new)
    assert isinstance(outcome(old.token(NOW_S), both), Account)
    assert isinstance(outcome(new.token(NOW_S), both), Account)
    assert refusal(old.token(NOW_S), issuer_of(new))[0] == 401


def test_unknown_key_of_a_set_just_fetched_is_refused_for_good() -> None:
    issuer = issuer_of(signer())
    assert refusal(signer("two").token(NOW_S), issuer, NOW_S + FRESH_S - 1)[0] == 401
    assert issuer.wishes == 0


def test_unknown_key_has_older_keys_fetched_again_and_the_caller_come_back() -> None:
    issuer = issuer_of(signer())
    reply = outcome(signer("two").token(NOW_S), issuer, NOW_S + FRESH_S)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.code, reply.lines) == (503, "issuer_keys_unavailable", [b"retry-after: 1"])
    assert issuer.wishes == 1


def test_without_keys_the_caller_is_told_to_come_back() -> None:
    issuer = Keys(None)
    assert refusal(signer().token(NOW_S), issuer)[0] == 503
    assert issuer.wishes == 1


def test_keys_hold_for_a_day() -> None:
    issuer = issuer_of(signer())
    at_s = NOW_S + KEYS_HOLD_S
    token = signer().token(at_s)
    assert isinstance(outcome(token, issuer, at_s - 1), Account)
    assert refusal(token, issuer, at_s)[0] == 503
    assert issuer.wishes == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b'{"keys": []}',
        b"\xff\xfe",
        b'{"keys": ' + b"[" * 100_000,
    ],
)
def test_key_set_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)key set"):
        read_keys(ISSUER, content, NOW_S)


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
USELESS: dict[str, dict[str, Any]] = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
    "no id": {**signer().jwk, "kid": ""},
    "for encryption": {**signer().jwk, "use": "enc"},
    "another algorithm": {**signer().jwk, "alg": "RS512"},
    "symmetric algorithm": {**signer().jwk, "alg": "HS256"},
    "short": {
        **json.loads(jwt.PyJWS().get_algorithm_by_name("RS256").to_jwk(SMALL.public_key())),
        "kid": "x",
    },
    "another curve": {
        **json.loads(jwt.PyJWS().get_algorithm_by_name("ES384").to_jwk(OTHER_CURVE.public_key())),
        "kid": "x",
    },
    "broken numbers": {"kty": "RSA", "kid": "x", "n": "!", "e": "AQAB"},
    "point beside the curve": {**signer("e", "ES256").jwk, "y": "A" * 43},
}


@pytest.mark.parametrize("jwk", USELESS.values(), ids=USELESS.keys())
def test_useless_key_is_left_out_and_the_others_stay(jwk: dict[str, Any]) -> None:
    published = json.dumps({"keys": [jwk, signer("good").jwk]}).encode()
    assert list(read_keys(ISSUER, published, NOW_S).keys) == ["good"]
    with pytest.raises(ValueError, match="no RSA key"):
        read_keys(ISSUER, json.dumps({"keys": [jwk]}).encode(), NOW_S)


def test_key_without_algorithm_has_that_of_its_type() -> None:
    plain = {name: value for name, value in signer().jwk.items() if name not in ("alg", "use")}
    keys = read_keys(ISSUER, json.dumps({"keys": [plain]}).encode(), NOW_S)
    assert isinstance(outcome(signer().token(NOW_S), Keys(keys)), Account)


def test_number_of_keys_is_bounded() -> None:
    many = {"keys": [{**signer().jwk, "kid": str(number)} for number in range(MAX_KEYS + 10)]}
    assert len(read_keys(ISSUER, json.dumps(many).encode(), NOW_S).keys) == MAX_KEYS
