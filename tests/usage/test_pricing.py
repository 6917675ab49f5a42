"""What tokens cost: exact, and never 0 for want of a price."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.model import Baseline, Model, Price
from sidecar.exchange import Usage
from sidecar.usage.pricing import MAX_REMEMBERED, Pricing, Tariff
from tests.config.support import MINIMAL, config_of, problems_of

COUNTS = st.integers(0, 10**9)
PRICES = st.integers(0, 10**9).map(lambda micro: micro / 1e6)  # USD with six decimals


def tariff(input_usd: float = 1.0, output_usd: float = 2.0, **more: float) -> Tariff:
    return Tariff(Price(input_usd=input_usd, output_usd=output_usd, **more))


def exact(usd: float) -> Fraction:
    """The price as it was written: with six decimals."""
    return Fraction(f"{usd:.6f}")


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        (Usage(1_000_000, 0), 1_000_000_000),
        (Usage(0, 1_000_000), 2_000_000_000),
        (Usage(1, 1), 3_000),
        (Usage(0, 0), 0),
        (Usage(100, 10, cached=40), 120_000),
        (Usage(100, 10, reasoning=7), 120_000),
    ],
)
def test_tokens_cost_their_price_per_million(usage: Usage, nano_usd: int) -> None:
    assert tariff().cost_nano_usd(usage) == nano_usd


def test_cached_and_reasoning_tokens_cost_their_own_price() -> None:
    dear = tariff(cached_usd=0.1, reasoning_usd=4.0)
    assert dear.cost_nano_usd(Usage(100, 10, cached=40, reasoning=7)) == 60_000 + 4_000 + 6_000 + 28_000


def test_a_free_cache_is_free() -> None:
    assert tariff(cached_usd=0.0).cost_nano_usd(Usage(100, 0, cached=100)) == 0


def test_a_provider_that_reports_more_of_a_part_than_of_the_whole_is_not_believed() -> None:
    lying = Usage(10, 10, cached=1000, reasoning=1000)
    assert tariff(cached_usd=0.0, reasoning_usd=5.0).cost_nano_usd(lying) == 50_000


@given(COUNTS, COUNTS, COUNTS, COUNTS, PRICES, PRICES, PRICES, PRICES)
def test_a_cost_is_the_exact_one_rounded_once_to_a_billionth_of_a_dollar(
    input_: int, output: int, cached: int, reasoning: int, a: float, b: float, c: float, d: float
) -> None:
    cached, reasoning = min(cached, input_), min(reasoning, output)
    cost = tariff(a, b, cached_usd=c, reasoning_usd=d).cost_nano_usd(Usage(input_, output, cached, reasoning))
    true_usd = (
        (input_ - cached) * exact(a)
        + cached * exact(c)
        + (output - reasoning) * exact(b)
        + reasoning * exact(d)
    ) / 1_000_000
    assert abs(cost - true_usd * 10**9) <= Fraction(1, 2)


@given(COUNTS, COUNTS, COUNTS, COUNTS, PRICES, PRICES, PRICES, PRICES)
def test_no_answer_costs_more_than_its_worst_case(
    input_: int, output: int, cached: int, reasoning: int, a: float, b: float, c: float, d: float
) -> None:
    dear = tariff(a, b, cached_usd=c, reasoning_usd=d)
    assert dear.cost_nano_usd(Usage(input_, output, cached, reasoning)) <= dear.worst_case_nano_usd(
        input_, output
    )


def test_the_version_stands_for_the_figures() -> None:
    assert tariff().version == tariff().version == tariff(cached_usd=1.0, reasoning_usd=2.0).version
    versions = {tariff().version, tariff(1.000001).version, tariff(2.0, 1.0).version}
    versions |= {tariff(cached_usd=0.5).version, tariff(reasoning_usd=0.5).version}
    assert len(versions) == 5
    assert all(len(version) == 8 for version in versions)


# --- the prices of a configuration ---


def pricing(baseline_usd: float | None = None) -> Pricing:
    models = {
        "big": Model(provider="p", price=Price(input_usd=1.0, output_usd=2.0)),
        "free": Model(provider="p", price=Price(input_usd=0.0, output_usd=0.0)),
        "Pro/*": Model(provider="p", price=Price(input_usd=0.0, output_usd=5.0)),
        "*": Model(provider="p"),
    }
    baseline = None
    if baseline_usd is not None:
        baseline = Baseline(name="b", price=Price(input_usd=0.0, output_usd=baseline_usd))
    return Pricing(models, baseline)


def test_a_model_has_the_price_of_the_first_pattern_that_matches() -> None:
    found = pricing().tariff("Pro/x")
    assert found is not None and found.cost_nano_usd(Usage(9, 1)) == 5_000
    assert found is pricing().tariff("Pro/y") or found.version == tariff(0.0, 5.0).version


def test_a_model_without_a_price_has_no_tariff_and_a_free_one_has() -> None:
    assert pricing().tariff("unknown") is None
    free = pricing().tariff("free")
    assert free is not None and free.cost_nano_usd(Usage(5, 5)) == 0
    assert Pricing({}, None).tariff("x") is None


def test_names_without_end_do_not_fill_the_memory() -> None:
    prices = pricing()
    for index in range(3 * MAX_REMEMBERED):
        assert prices.tariff(f"made-up-{index}") is None
    assert len(prices._found) <= MAX_REMEMBERED
    assert prices.tariff("big") is not None


def test_savings_are_against_the_baseline_and_may_be_negative() -> None:
    usage = Usage(100, 10)
    assert pricing(10.0).saved_nano_usd(usage, 20_000) == 80_000
    assert pricing(1.0).saved_nano_usd(usage, 20_000) == -10_000


def test_nothing_is_saved_where_the_cost_or_the_baseline_is_not_known() -> None:
    assert pricing(10.0).saved_nano_usd(Usage(100, 10), None) == 0
    assert pricing().saved_nano_usd(Usage(100, 10), 20_000) == 0


# --- as they are written ---


def written(price: str) -> str:
    return MINIMAL.replace("{provider: a}", f"{{provider: a, price: {{{price}}}}}")


def test_cached_and_reasoning_are_optional_in_the_file() -> None:
    assert config_of(written("input: 1, output: 2")).models["*"].price == Price(input_usd=1, output_usd=2)
    price = config_of(written("input: 1, output: 2, cached: 0.1, reasoning: 0")).models["*"].price
    assert price == Price(input_usd=1, output_usd=2, cached_usd=0.1, reasoning_usd=0)


@pytest.mark.parametrize(
    ("price", "path", "message"),
    [
        ("input: -1, output: 2", "input", "expected a number >= 0"),
        ("input: 1, output: 999999999999999", "output", "expected a number <= 10000"),
        ("input: 1, output: 2, cached: 10001", "cached", "expected a number <= 10000"),
        ("input: 1, output: 2, cache: 1", "cache", "did you mean cached?"),
        ("input: 0.00000025, output: 2", "", "input has more than 6 decimals"),
        ("input: 1, output: 2, reasoning: 0.0000001", "", "reasoning has more than 6 decimals"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(price: str, path: str, message: str) -> None:
    ((found, said),) = problems_of(written(price)).items()
    assert found.endswith(f"price.{path}" if path else ".price")
    assert message in said
