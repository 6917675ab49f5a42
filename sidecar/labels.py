"""Which model names are labels of their own, in metrics, in the ledger and in a fleet's totals.

A model's name comes from the caller's body, so there may be any number of them, of models that do not exist.
A name is kept apart once the configuration spells it out or a provider has answered for it; of the latter
there is a bounded number, and all others are `other` together.
"""

OTHER = "other"


class ModelLabels:
    """The names that are labels; `most` is how many of them may be learned.

    `known` has all that are labels by now: what runs for every request looks there first, which saves
    a call (30 ns).
    """

    __slots__ = ("_learned", "_most", "known")

    def __init__(self, most: int) -> None:
        self._most = most
        self._learned: set[str] = set()
        self.known = {""}  # no model is no label to be bounded

    def configure(self, models: frozenset[str]) -> None:
        """The names the configuration spells out: always labels. What was learned stays."""
        self.known = {"", *models, *self._learned}

    def label(self, model: str, was_answered: bool) -> str:
        """The label of a model; `was_answered`: a provider has just answered for it."""
        if model in self.known:
            return model
        if not was_answered or len(self._learned) >= self._most:
            return OTHER
        self._learned.add(model)
        self.known.add(model)
        return model
