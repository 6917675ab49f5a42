"""What a request may cost, and the cheapest model it may go down to."""

import pytest

from sidecar.clock import Ticker
from sidecar.config.model import Config
from sidecar.exchange import NANO_USD
from sidecar.policy.balances import Status
from sidecar.policy.budget import Budgets, Reservation
from sidecar.policy.callers import SHARED_BUCKET, Caller
from sidecar.policy.downgrade import UNSTATED_OUTPUT_TOKENS, cheapest_within, worst_case_nano_usd
from sidecar.routing.plan import Candidate
from sidecar.upstream.provider import Provider, ProviderState
from sidecar.usage.pricing import Pricing
from tests.config.support import config_of
from tests.policy.support import NOW_S, URL

CALLER = Caller("red", "", 0, SHARED_BUCKET)
MODELS = (
    "Pro/x: {provider: a, price: {input: 0, output: 0.01}, premium: true}",
    "dear: {provider: a, price: {input: 1, output: 10}}",
    "cheap: {provider: a, price: {input: 1, output: 2}}",
    "twin: {provider: a, price: {input: 1, output: 2}}",
    "free: {provider: a, price: {input: 0, output: 0}}",
    "unpriced: {provider: a}",
)


class World:
    """Models with their prices, and the budgets that count them."""

    def __init__(self, *budgets: str) -> None:
        entries = ", ".join(f"{{{budget}}}" for budget in budgets)
        text = f"providers: {{a: {{{URL}}}}}\nmodels: {{{', '.join(MODELS)}}}\nbudgets: [{entries}]"
        self.config: Config = config_of(text)
        self.told: list[Status] = []
        self.pricing = Pricing(self.config.models, None)
        self.budgets = Budgets(self.config, self.told.append)

    def candidate(self, model: str) -> Candidate:
        config = self.config.providers["a"]
        provider = Provider("a", config, [], ("", ""), ProviderState(config, Ticker()))
        return Candidate(model, self.config.models[model], provider)

    def worst_case(self, candidate: Candidate) -> int | None:
        """A request of 1,000 tokens, for an answer of at most 1,000."""
        return worst_case_nano_usd(self.pricing.tariff(candidate.model), 1000, 1000, candidate.max_output)

    def cheapest(self, *models: str) -> str | None:
        candidates = [self.candidate(model) for model in models]
        found = cheapest_within(candidates, self.worst_case, self.budgets, CALLER, NOW_S)
        return None if found is None else found.model


# --- the worst case --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "max_output", "choices", "output"),
    [
        (100, 8192, 1, 100),
        (100, 8192, 5, 100),
        (10**6, 8192, 1, 10**6),
        (None, 8192, 1, 8192),
        (None, 8192, 3, 3 * 8192),
        (None, None, 1, UNSTATED_OUTPUT_TOKENS),
        (None, None, 2, 2 * UNSTATED_OUTPUT_TOKENS),
    ],
)
def test_the_worst_case_is_what_was_asked_for_or_what_the_model_may_say(
    asked: int | None, max_output: int | None, choices: int, output: int
) -> None:
    tariff = World().pricing.tariff("dear")
    assert worst_case_nano_usd(tariff, 7, asked, max_output, choices) == 7 * 1000 + output * 10_000


def test_without_a_price_there_is_no_worst_case() -> None:
    world = World()
    assert worst_case_nano_usd(world.pricing.tariff("unpriced"), 10, 10, None) is None
    assert worst_case_nano_usd(world.pricing.tariff("free"), 10, 10, None) == 0


# --- going down ------------------------------------------------------------------------------------------


def test_the_cheapest_that_is_not_premium_is_chosen_whatever_the_order() -> None:
    assert World().cheapest("Pro/x", "dear", "cheap") == "cheap"
    assert World().cheapest("cheap", "dear", "Pro/x") == "cheap"


def test_of_equals_the_first_is_chosen() -> None:
    assert World().cheapest("twin", "cheap") == "twin"
    assert World().cheapest("cheap", "twin") == "cheap"


def test_what_a_budget_has_no_room_for_is_passed_over() -> None:
    world = World("name: b, usd: 0.002, models: [cheap]")
    assert world.cheapest("dear", "cheap") == "dear"


@pytest.mark.parametrize("models", [(), ("Pro/x",), ("dear",), ("Pro/x", "dear")])
def test_where_nothing_is_left_the_request_is_rejected(models: tuple[str, ...]) -> None:
    assert World("name: b, usd: 0.002").cheapest(*models) is None


def test_a_model_that_costs_nothing_is_left_when_all_is_spent() -> None:
    world = World("name: b, usd: 1")
    outcome = world.budgets.reserve(CALLER, "dear", NANO_USD, NOW_S)
    assert isinstance(outcome, Reservation)
    outcome.settle(2 * NANO_USD, NOW_S)
    assert world.cheapest("dear", "cheap") is None
    assert world.cheapest("dear", "cheap", "free") == "free"


def test_a_model_without_a_price_comes_after_all_that_have_one() -> None:
    assert World().cheapest("unpriced", "dear") == "dear"
    assert World().cheapest("dear", "unpriced") == "dear"
    assert World("name: b, usd: 0.002").cheapest("dear", "unpriced", "Pro/x") == "unpriced"


def test_choosing_reserves_nothing_and_counts_no_refusal() -> None:
    world = World("name: b, usd: 0.002")
    world.cheapest("dear", "cheap", "free")
    assert [row.reserved_nano_usd for row in world.budgets.status(NOW_S)] == [0]
    assert world.budgets.counts["b"].exceeded == 0
