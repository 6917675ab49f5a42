"""Callers by name, for an operator who asks about one and has neither its key nor its token.

Who is found is whom `Callers` would let in, as far as a name tells: a key whose tier goes by its prefix is
taken for one of the standard tier, and a service account for one whose token is good.
"""

import math
import re
from typing import NamedTuple

from sidecar.config.auth import ID_PREFIX, ServiceAccountRule
from sidecar.config.model import Config, Key, rule_of, standard_tier
from sidecar.errors import refuse
from sidecar.exchange import Reply, RequestHead
from sidecar.policy.callers import Caller, Callers, bucket_of

# One for all requests without a key, since heads are remembered.
_NOBODY = RequestHead()
_ACCOUNT = re.compile(ID_PREFIX + r"([a-z0-9-]+)/([a-z0-9.-]+)")  # what Kubernetes allows as their names


class Found(NamedTuple):
    """Who would call; None where no more can be said of it. `refusal` is what it would be answered, `note` is
    a sentence for the operator, empty where there is nothing to say.
    """

    caller: Caller | None
    refusal: Reply | None = None
    note: str = ""


def find_caller(config: Config, callers: Callers, name: str, team: str, wall_s: float) -> Found:
    """Who is meant by `name`, the id of a listed key or `sa:NAMESPACE/NAME`, else by `team`, which stands for
    its first key; with neither it is a caller without a listed key. `wall_s` is in Unix seconds. ValueError,
    with a sentence for the operator, where there is no such key or team."""
    accounts = config.auth.service_accounts
    if accounts is not None and name.startswith(ID_PREFIX):
        return _of_account(accounts.callers, callers, name)
    key = _listed(config, name, team, callers.team)
    if key is not None:
        return _of_key(config, callers.team, key, wall_s)
    anyone = callers.identify(_NOBODY, wall_s)
    if isinstance(anyone, Reply):
        return Found(None, anyone, _who_may_call(config))
    return Found(anyone)


def _of_account(rules: tuple[ServiceAccountRule, ...], callers: Callers, name: str) -> Found:
    from sidecar.policy.service_accounts import Account  # with PyJWT and cryptography 9 MB

    named = _ACCOUNT.fullmatch(name)
    if named is None:
        raise ValueError(f"{name!r} names no service account: give {ID_PREFIX}NAMESPACE/NAME")
    rule = rule_of(rules, named[1], named[2])
    if rule is None:
        message = f"No entry of auth.service_accounts.callers matches {name}."
        return Found(None, refuse(403, "service_account_not_allowed", message))
    return Found(callers.of_account(Account(named[1], named[2], rule, math.inf)))


def _of_key(config: Config, own_team: str, key: Key, wall_s: float) -> Found:
    tiers, note, refusal = config.tiers, "", None
    tier = key.tier or standard_tier(tiers) or ""
    if key.tier is None and any(one.key_prefix for one in tiers.values()):
        note = f"key {key.id} has its tier by its prefix, which is not known here: taken for {tier}"
    priority = tiers[tier].priority if tier else 0
    caller = Caller(key.team or own_team, tier, priority, bucket_of(key.id), key)
    if not caller.valid_from_s <= wall_s < caller.valid_until_s:
        when = "is not valid yet" if wall_s < caller.valid_from_s else "has expired"
        refusal = refuse(401, "invalid_api_key", f"The key {key.id} {when}.")
    return Found(caller, refusal, note)


def _listed(config: Config, name: str, team: str, own_team: str) -> Key | None:
    """The key of the configuration that is meant; None for a caller without one."""
    if name:
        for key in config.keys:
            if key.id == name:
                return key
        ids = ", ".join(key.id for key in config.keys) or "none"
        accounts = "" if config.auth.service_accounts is None else "; or give sa:NAMESPACE/NAME"
        raise ValueError(f"no key has the id {name!r}; listed are {ids}{accounts}")
    if team:
        for key in config.keys:
            if (key.team or own_team) == team:
                return key
        if team != own_team:
            teams = ", ".join(dict.fromkeys([own_team, *(key.team for key in config.keys if key.team)]))
            raise ValueError(f"no key is of team {team!r}; the teams are {teams}")
    return None


def _who_may_call(config: Config) -> str:
    kinds, ways = [], []
    if config.keys:
        kinds.append("listed keys")
        ways.append(f"key=ID, of {', '.join(key.id for key in config.keys)}")
    if config.auth.service_accounts is not None:
        kinds.append("service accounts")
        ways.append("key=sa:NAMESPACE/NAME")
    return f"only {' and '.join(kinds)} may call: say which with {', or '.join(ways)}"
