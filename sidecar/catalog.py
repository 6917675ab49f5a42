"""What `/v1/models` shows: OpenAI's model objects, made from the providers' lists and the configuration.

A list is kept as the bytes of its entries by id: half the memory of the objects, and an answer is a join.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from sidecar.config.model import Config, find_model

# The largest public lists have some hundred models. More would hold up the requests of others.
MAX_MODELS = 10_000
# An id longer than this is none: it would have to fit into a path.
MAX_ID_CHARS = 1024

Entries = Mapping[str, bytes]  # an entry as JSON, by the model's id


def read_list(body: bytes, provider: str, created_s: int) -> dict[str, bytes] | None:
    """The entries of a provider's answer, its own further fields kept; None where it is no model list.

    Taken are OpenAI's {"data": [...]}, also with null for nothing, and a bare array. Entries without a
    usable id are left out; of two with the same id the first stays, and no more than MAX_MODELS are looked
    at. `created_s` (Unix time) stands where the provider does not say.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(document, dict) and "data" in document:
        document = document["data"] or []
    if not isinstance(document, list):
        return None
    entries: dict[str, bytes] = {}
    for one in document[:MAX_MODELS]:
        name = one.get("id") if isinstance(one, dict) else None
        if isinstance(name, str) and 0 < len(name) <= MAX_ID_CHARS and name not in entries:
            try:
                entries[name] = _model(name, provider, created_s, one)
            except orjson.JSONEncodeError:
                continue  # nested deeper than orjson writes, though not than it reads
    # Full of things that are no models: an error page in JSON, or another API.
    return entries if entries or not document else None


def model_entry(name: str, provider: str, created_s: int) -> bytes:
    """A model that the configuration sends to a provider which does not list it, or was not heard."""
    return _model(name, provider, created_s, {})


def route_entry(name: str, created_s: int) -> bytes:
    """A virtual model: which provider answers is decided anew for each request."""
    return orjson.dumps(
        {
            "id": name,
            "object": "model",
            "created": created_s,
            "owned_by": "sidecar",
            "sidecar": {"provider": None, "kind": "route"},
        }
    )


def provider_of(config: Config, name: str) -> str | None:
    """Where a request that names this model goes; None: nowhere, or only while break-glass is on."""
    key = find_model(config.models, name)
    if key is None:
        return None
    provider = config.models[key].provider
    return None if config.providers[provider].break_glass else provider


def merge(config: Config, lists: Mapping[str, Entries], created_s: int) -> Entries:
    """All that may be named: routes, then exact names of the configuration, then the lists.

    `lists` are by provider; of each only those models are shown that are asked there.
    """
    shown = {name: route_entry(name, created_s) for name in config.routes}
    for name in config.models:
        provider = None if name.endswith("*") else provider_of(config, name)
        if provider is not None and name not in shown:
            listed = lists.get(provider, {}).get(name)
            shown[name] = listed or model_entry(name, provider, created_s)
    for provider, entries in lists.items():
        for name, entry in entries.items():
            if name not in shown and provider_of(config, name) == provider:
                shown[name] = entry
    return shown


def as_list(entries: Iterable[bytes]) -> bytes:
    """OpenAI's list object."""
    return b'{"object":"list","data":[' + b",".join(entries) + b"]}"


def _model(name: str, provider: str, created_s: int, given: dict[str, Any]) -> bytes:
    created, owner = given.get("created"), given.get("owned_by")
    known = {
        "id": name,
        "object": "model",
        # The SDKs rely on the type of each of these.
        "created": created if type(created) is int else created_s,
        "owned_by": owner if isinstance(owner, str) else provider,
    }
    return orjson.dumps({**known, **given, **known, "sidecar": {"provider": provider, "kind": "model"}})
