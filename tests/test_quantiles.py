"""Quantiles of a sliding window: close to the exact value, and forgetting what is old."""

import random

import pytest

from sidecar.quantiles import Window


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize(
    "draw",
    [
        lambda random: random.lognormvariate(-2, 1),
        lambda random: random.uniform(0.0001, 60),
        lambda random: random.paretovariate(1.5) / 1000,
        lambda random: random.choice((0.001, 30.0)),
    ],
    ids=["lognormal", "uniform", "pareto", "two-values"],
)
def test_a_quantile_is_off_by_at_most_8_percent(draw, share: float) -> None:  # type: ignore[no-untyped-def]
    source = random.Random(17)
    window = Window()
    values = sorted(draw(source) for _ in range(5000))
    for value in values:
        window.observe(value)
    exact = values[max(0, -(-int(share * 100) * len(values) // 100) - 1)]
    (found,) = window.quantiles(share)
    assert found == pytest.approx(exact, rel=0.08)


def test_without_data_there_is_no_quantile() -> None:
    assert Window().quantiles(0.5, 0.99) == [None, None]


@pytest.mark.parametrize("value_s", [0.0, 1e-9, 1e6])
def test_values_beyond_the_scale_are_counted_at_its_ends(value_s: float) -> None:
    window = Window()
    window.observe(value_s)
    (found,) = window.quantiles(0.5)
    assert found is not None
    assert (found < 1e-4) if value_s < 1 else (found > 3000)


def test_values_are_forgotten_after_the_span_and_not_before() -> None:
    window = Window(span_s=60.0, slices=6)
    window.advance(100.0)
    window.observe(0.5)
    for now_s in range(101, 150):
        window.advance(float(now_s))
    assert window.quantiles(0.5) != [None]
    for now_s in range(150, 162):
        window.advance(float(now_s))
    assert window.quantiles(0.5) == [None]
