"""What a request may cost with each model, and which model to go down to where a budget is used up."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from sidecar.policy.budget import Budgets
from sidecar.policy.callers import Caller

# What is reserved for an answer where neither the request nor its model says how long it may be.
UNSTATED_OUTPUT_TOKENS = 4096


class Tariff(Protocol):
    """The price of a model."""

    def worst_case_nano_usd(self, input_tokens: int, max_output: int) -> int:
        """The most that so many tokens may cost."""


class Candidate(Protocol):
    """A model that a request may go to."""

    @property
    def model(self) -> str: ...
    @property
    def is_premium(self) -> bool: ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def worst_case_nano_usd(
    tariff: Tariff | None,
    input_tokens: int,
    asked_output: int | None,
    max_output: int | None,
    choices: int = 1,
) -> int | None:
    """The most that a request may cost, with an output as `most_output` has it; None of a model without a
    price."""
    if tariff is None:
        return None
    return tariff.worst_case_nano_usd(input_tokens, most_output(asked_output, max_output, choices))


def most_output(asked: int | None, max_output: int | None, choices: int) -> int:
    """How many tokens of output to reserve.

    `asked` is what the request allows all its answers together, `max_output` what one answer of the model
    may have, `choices` how many are asked for. Where neither is said a limit may be exceeded, by what the
    requests under way have in answers longer than UNSTATED_OUTPUT_TOKENS.
    """
    if asked is not None:
        return asked
    return (UNSTATED_OUTPUT_TOKENS if max_output is None else max_output) * choices


def cheapest_within(
    candidates: Iterable[AnyCandidate],
    worst_case: Callable[[AnyCandidate], int | None],
    budgets: Budgets,
    caller: Caller,
    now_unix_s: float,
) -> AnyCandidate | None:
    """The candidate to go down to: not premium, within every budget, and the cheapest at its worst case.

    `worst_case` gives that in nano-USD. One without a price comes after all that have one, for nobody knows
    what it costs; of equals the first. None: there is no such candidate, so the request is rejected.
    """
    best: AnyCandidate | None = None
    least = float("inf")
    for candidate in candidates:
        if candidate.is_premium:
            continue
        cost = worst_case(candidate)
        if best is not None and (cost is None or cost >= least):
            continue
        if budgets.has_room(caller, candidate.model, cost, now_unix_s):
            best = candidate
            least = float("inf") if cost is None else cost
    return best
