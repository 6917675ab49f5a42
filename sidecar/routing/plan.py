"""What one request may try, in order: a `Plan` of `Candidate`s. Requests share them: they are read only."""

from sidecar.config.model import Model, Timeouts
from sidecar.upstream.provider import Provider


class Candidate:
    """A model under the name the provider knows it by, and what holds for it."""

    __slots__ = (
        "is_judged",
        "is_premium",
        "late_plain_s",
        "late_s",
        "max_output",
        "model",
        "provider",
        "resumes",
        "timeouts",
    )

    def __init__(self, model: str, entry: Model, provider: Provider) -> None:
        self.model = model
        self.provider = provider
        self.timeouts: Timeouts = (
            entry.timeouts.over(provider.timeouts) if entry.timeouts else provider.timeouts
        )
        self.late_s = entry.p99_budget_s  # a first token later than this is late; None: not judged
        self.late_plain_s = entry.p99_budget_plain_s
        self.is_judged = entry.p99_budget_s is not None or entry.p99_budget_plain_s is not None
        self.resumes = entry.on_stream_cut == "resume"
        self.is_premium = entry.premium
        self.max_output = entry.max_output  # tokens of one answer, if that is known


class Plan:
    """The models to try, in order; never empty.

    `reason` is how the first was chosen: "named" by the caller, by "split", or by a rule, "classify[2]".
    `long_context` is asked when the model says that the request is too long; `cheaper` are the models of the
    route that are not premium, for callers whose budget is used up.
    """

    __slots__ = ("candidates", "cheaper", "long_context", "reason", "resumes", "route")

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        *,
        reason: str = "named",
        route: str = "",
        long_context: Candidate | None = None,
        cheaper: tuple[Candidate, ...] = (),
        resumes: bool = False,
    ) -> None:
        self.candidates = candidates
        self.reason = reason
        self.route = route
        self.long_context = long_context
        self.cheaper = cheaper
        self.resumes = resumes

    def instead(self, first: Candidate) -> "Plan":
        """The same for another first model; none of those after it is premium."""
        rest = [c for c in self.candidates if c.model != first.model and not c.is_premium]
        return Plan(
            (first, *rest),
            reason="downgrade",
            route=self.route,
            long_context=self.long_context,
            resumes=self.resumes,
        )
