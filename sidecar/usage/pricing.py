"""What tokens cost, in whole numbers, so that no sum of costs is ever off.

A price is USD per million tokens with up to six decimals. That is a whole number of pico-USD (1e-12) for
each token, so the cost of one answer is an exact integer. It is rounded once, half up, to nano-USD (1e-9),
the unit of everything that is kept and added up: no answer is off by more than half a billionth of a
dollar, and sums of integers come out the same in any order and any grouping. 64 bits hold nine billion
dollars of them.

A model without a price has no cost: None, never 0.
"""

from collections.abc import Mapping
from hashlib import blake2b

from sidecar.config.model import Baseline, Model, Price, find_model
from sidecar.exchange import Usage

MAX_REMEMBERED = 1000

_PICO_IN_NANO = 1000


class Tariff:
    """A price made ready to count with. `version` stands for its figures: another price, another version."""

    __slots__ = (
        "_cached_off",
        "_input",
        "_output",
        "_reasoning_off",
        "_worst_input",
        "_worst_output",
        "version",
    )

    def __init__(self, price: Price) -> None:
        self._input = _pico_usd(price.input_usd)
        self._output = _pico_usd(price.output_usd)
        cached = self._input if price.cached_usd is None else _pico_usd(price.cached_usd)
        reasoning = self._output if price.reasoning_usd is None else _pico_usd(price.reasoning_usd)
        # What a cached or reasoning token costs more or less than a plain one.
        self._cached_off = cached - self._input
        self._reasoning_off = reasoning - self._output
        self._worst_input = max(self._input, cached)
        self._worst_output = max(self._output, reasoning)
        figures = f"{self._input}/{self._output}/{cached}/{reasoning}"
        self.version = blake2b(figures.encode(), digest_size=4).hexdigest()

    def cost_nano_usd(self, usage: Usage) -> int:
        """What the tokens of one answer cost. A provider that reports more cached than input tokens, or more
        reasoning than output, gets no more of them counted than there can be."""
        input_, output, cached, reasoning = usage.input, usage.output, usage.cached, usage.reasoning
        pico = input_ * self._input + output * self._output
        if cached:
            pico += (cached if cached < input_ else input_) * self._cached_off
        if reasoning:
            pico += (reasoning if reasoning < output else output) * self._reasoning_off
        return (pico + _PICO_IN_NANO // 2) // _PICO_IN_NANO

    def worst_case_nano_usd(self, input_tokens: int, max_output: int) -> int:
        """The most that a request may cost, to be reserved before it is sent; rounded up."""
        pico = input_tokens * self._worst_input + max_output * self._worst_output
        return -(-pico // _PICO_IN_NANO)


class Pricing:
    """The prices of a configuration: which tariff a model has, and what the baseline would have cost."""

    def __init__(self, models: Mapping[str, Model], baseline: Baseline | None) -> None:
        self._models = models
        self._tariffs = {
            pattern: None if model.price is None else Tariff(model.price) for pattern, model in models.items()
        }
        self._found: dict[str, Tariff | None] = {}
        self._baseline = None if baseline is None else Tariff(baseline.price)

    def tariff(self, model: str) -> Tariff | None:
        """The tariff of a model by the name it is sent under; None where it has no price."""
        try:
            return self._found[model]
        except KeyError:
            return self._find(model)

    def _find(self, model: str) -> Tariff | None:
        pattern = find_model(self._models, model)
        tariff = None if pattern is None else self._tariffs[pattern]
        if len(self._found) >= MAX_REMEMBERED:  # names come from callers: there may be any number
            self._found.clear()
        self._found[model] = tariff
        return tariff

    def saved_nano_usd(self, usage: Usage, cost_nano_usd: int | None) -> int:
        """What the same tokens would have cost at the baseline, less what they did cost; negative where they
        cost more. 0 without a baseline or where the cost is not known."""
        if self._baseline is None or cost_nano_usd is None:
            return 0
        return self._baseline.cost_nano_usd(usage) - cost_nano_usd


def _pico_usd(usd_per_million: float) -> int:
    """Per token; exact, for the configuration takes six decimals and no more."""
    return round(usd_per_million * 1_000_000)
