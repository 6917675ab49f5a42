"""Who may call: the section `auth`, with the service accounts that callers of a gateway may have."""

from typing import Annotated, Literal

from msgspec import Meta

from sidecar.config.addresses import Url
from sidecar.config.base import Base
from sidecar.config.values import Name, Text

# Callers' ids of this kind are the service accounts' own: budgets and ledger go by them.
ID_PREFIX = "sa:"


class ServiceAccountRule(Base, frozen=True, kw_only=True):
    """Service accounts that may call, and as whom; both names may end in `*`. Without `team` it is the
    namespace. `regions` is a hard filter, empty means any.
    """

    namespace: Name
    name: Name = "*"
    team: Name | None = None
    tier: Name | None = None
    regions: tuple[Name, ...] = ()
    models: Annotated[tuple[Name, ...], Meta(min_length=1)] = ("*",)


class ServiceAccounts(Base, frozen=True, kw_only=True):
    """Callers known by a Kubernetes token that was made for `audience`; the first of `callers` that matches
    holds. The API server tells issuer and keys to whom shows the token of `token_file`; the files are a pod's
    own where they are None.
    """

    callers: Annotated[tuple[ServiceAccountRule, ...], Meta(min_length=1)]
    audience: Name = "ai-sidecar"
    api_server: Url = Url("https", "kubernetes.default.svc", 443)
    ca_file: Text | None = None
    token_file: Text | None = None


class Auth(Base, frozen=True, kw_only=True):
    """`passthrough` lets every caller in, `keys` only those listed: `keys` and `service_accounts`."""

    mode: Literal["passthrough", "keys"] = "passthrough"
    service_accounts: ServiceAccounts | None = None
