"""Who shares answers with whom, under one configuration; and which names an operator has for it."""

from sidecar.cache.key import Place, scope_of
from sidecar.config.auth import ID_PREFIX, ServiceAccountRule
from sidecar.config.model import Config, matches, rule_of
from sidecar.policy.callers import SHARED_BUCKET, Caller, bucket_of
from sidecar.routing.plan import Candidate

MAX_REMEMBERED = 1000


class Scopes:
    """The scopes of one configuration. `own_team` is of callers who have none."""

    def __init__(self, config: Config, own_team: str) -> None:
        self._config = config
        self._own_team = own_team
        self.shared_by = "key" if config.cache is None else config.cache.scope
        self._remembered: dict[tuple[Caller, bool], bytes] = {}

    def place_of(self, caller: Caller, route: str, candidate: Candidate) -> Place:
        """Where the answers to a caller belong."""
        provider = candidate.provider
        who = caller, provider.has_own_key
        scope = self._remembered.get(who)
        if scope is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            # Whether a caller's own key is good, only the provider knows: others' answers are not for it.
            shared_by = self.shared_by if provider.has_own_key else "key"
            scope = self._remembered[who] = scope_of(shared_by, caller.bucket, caller.team, caller.regions)
        model = f"{provider.name} {provider.identity} {candidate.model}"
        return Place(scope, route, model, has_own_key=provider.has_own_key)

    def has(self, name: str) -> bool:
        """Whether there may be answers of a team, or of a key: the id of a listed one or a service account's,
        or `shared` for all callers without either."""
        if self.shared_by == "all":
            return False
        rules = self._rules
        if self.shared_by == "team":
            teams = {self._own_team, *(key.team for key in self._config.keys), *(rule.team for rule in rules)}
            return name in teams or any(rule.team is None and matches(rule.namespace, name) for rule in rules)
        if name == SHARED_BUCKET or any(key.id == name for key in self._config.keys):
            return True
        namespace, _, account = name.removeprefix(ID_PREFIX).partition("/")
        is_account = name.startswith(ID_PREFIX) and account != ""
        return is_account and rule_of(rules, namespace, account) is not None

    def named(self, name: str) -> list[bytes]:
        """The scopes of a team or key: one for each team and residency that its callers may have."""
        keys, rules = self._config.keys, self._rules
        regions = {(), *(key.regions for key in keys), *(rule.regions for rule in rules)}
        if self.shared_by != "key":
            return [scope_of(self.shared_by, "", name, some) for some in sorted(regions)]
        is_listed = any(key.id == name for key in keys)
        is_bucket = not is_listed and (name == SHARED_BUCKET or name.startswith(ID_PREFIX))
        bucket = name if is_bucket else bucket_of(name)
        namespace = name.removeprefix(ID_PREFIX).partition("/")[0]
        teams = {self._own_team, namespace}
        teams.update(key.team for key in keys if key.team is not None)
        teams.update(rule.team for rule in rules if rule.team is not None)
        return [scope_of("key", bucket, team, some) for team in sorted(teams) for some in sorted(regions)]

    @property
    def _rules(self) -> tuple[ServiceAccountRule, ...]:
        accounts = self._config.auth.service_accounts
        return () if accounts is None else accounts.callers
