"""The answer cache's part of the configuration."""

from typing import Annotated, Literal

from msgspec import Meta, field

from sidecar.config.base import Base
from sidecar.config.secrets import Secret
from sidecar.config.values import Name, Seconds, Share, Size


class Semantic(Base, frozen=True, kw_only=True):
    """Hits by meaning. `local` embeds in this process (the extra `ai-sidecar[semantic]`), `endpoint` asks
    `/v1/embeddings` of a provider, at most `timeout_s`. `threshold` is a cosine; a provider's model needs one
    of its own (`sidecar cache calibrate`). `shadow_only`: looked up and counted, never given.
    """

    embedder: Literal["local", "endpoint"] = "local"
    provider: Name | None = None
    model: Name | None = None
    threshold: Annotated[float, Meta(ge=0.5, le=1)] = 0.95
    timeout_s: Seconds = field(name="timeout", default=0.3)
    shadow_only: bool = False


class Cache(Base, frozen=True, kw_only=True):
    """The answer cache, in memory, and in `redis` where several sidecars share it.

    `shadow` is the share of hits that are asked again to count disagreement; a tier in which more than
    `max_disagreement` of them differ switches itself off.
    """

    match: Literal["exact", "canonical", "semantic"] = "canonical"
    scope: Literal["key", "team", "all"] = "key"
    ttl_s: Seconds = field(name="ttl", default=3600.0)
    max_bytes: Size = 32 * 1024 * 1024
    shadow: Share = 0.0
    max_disagreement: Share = 0.2
    redis: Secret | None = None
    semantic: Semantic | None = None
