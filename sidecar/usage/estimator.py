"""How many tokens a request will count as, before the provider has said so, or where it never does.

A token is about four bytes of English JSON, fewer of other languages, thousands of an image in base64. So
each model has a running ratio of the input tokens its provider reported to the bytes that were sent, in
which every answer weighs a tenth (an exponentially weighted average). One lie cannot turn it: what is
reported counts only within bounds.

A stream that was cut, or left by its caller, has had about a token for each of its events.
"""

import math

from sidecar.exchange import Usage

TOKENS_PER_BYTE = 0.25  # until the first report
WEIGHT = 0.1
MIN_RATIO, MAX_RATIO = 1 / 256, 4.0  # an image in base64; a short question on a long stored conversation
MAX_MODELS = 1000


class Estimator:
    """The ratios of up to `MAX_MODELS` models; the one learned first makes room for the next."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def estimate(self, model: str, body_bytes: int) -> int:
        """The input tokens to expect of a body of this size, at least 1."""
        return max(1, math.ceil(body_bytes * self._ratios.get(model, TOKENS_PER_BYTE)))

    def observe(self, model: str, body_bytes: int, input_tokens: int) -> None:
        """Learn from the input tokens that a provider reported, cached ones included."""
        if body_bytes <= 0 or input_tokens <= 0:
            return  # no report, rather than a free prompt
        # Compared as integers first: a report may be too large for a float.
        seen = (
            MAX_RATIO if input_tokens >= body_bytes * MAX_RATIO else max(MIN_RATIO, input_tokens / body_bytes)
        )
        ratio = self._ratios.get(model)
        if ratio is None:
            ratio = TOKENS_PER_BYTE
            if len(self._ratios) >= MAX_MODELS:
                del self._ratios[next(iter(self._ratios))]
        self._ratios[model] = ratio + WEIGHT * (seen - ratio)


def as_delivered(told: Usage | None, events: int, tokens_in: int) -> tuple[Usage, bool]:
    """The tokens of a stream that did not tell all of them: what it told of so far, a token for each event at
    least; and whether that is an estimate. `tokens_in` is the input as estimated."""
    if told is None:
        return Usage(tokens_in, events), True
    if told.output >= events:
        return told, False
    return Usage(told.input, events, told.cached, told.reasoning), True
