"""Configurations with callers, and heads that present keys."""

import hashlib

from sidecar.config.model import Config
from sidecar.exchange import Reply, RequestHead
from sidecar.policy.callers import Caller, Callers
from tests.config.support import MODELS, config_of

URL = 'endpoints: [{url: "https://a.example/v1"}]'
FORWARDING = f"providers: {{a: {{{URL}}}}}\n{MODELS}"
OWN_KEY = f"providers: {{a: {{{URL}, api_key: {{env: GLOBAL_API_KEY}}}}}}\n{MODELS}"
TIERS = (
    "tiers: {standard: {requests_per_minute: 50}, pro: {key_prefix: ga_pro_, requests_per_minute: 3000}}\n"
)
NOW_S = 1_795_000_000.0  # 2026-11-18


def hash_of(key: str) -> str:
    return f"blake2b:{hashlib.blake2b(key.encode()).hexdigest()}"


def listed(key: str, more: str = "") -> str:
    """An entry of `keys` whose id is the key itself."""
    return f"{{id: {key}, hash: '{hash_of(key)}'{more}}}"


def keys(*entries: str, mode: str = "keys") -> str:
    return f"auth: {{mode: {mode}}}\nkeys: [{', '.join(entries)}]\n"


def callers_of(text: str) -> Callers:
    return Callers(config_of(text), "default-team")


def head(**fields: str | bytes) -> RequestHead:
    made = RequestHead(b"POST", b"/v1/chat/completions")
    for name, value in fields.items():
        made.fields[name.replace("_", "-").encode()] = value.encode() if isinstance(value, str) else value
    return made


def bearer(key: str) -> RequestHead:
    return head(authorization=f"Bearer {key}")


def admitted(outcome: Caller | Reply) -> Caller:
    assert isinstance(outcome, Caller), outcome.body
    return outcome


def refused(outcome: Caller | Reply) -> Reply:
    assert isinstance(outcome, Reply), outcome.id
    return outcome


def tiers_config(tiers: str, more: str = "") -> Config:
    return config_of(f"{FORWARDING}tiers: {{{tiers}}}\n{more}")
