"""How the rules of the cache write down lists of words."""


def listed(text: str) -> frozenset[str]:
    """The words of a text, which blanks and line ends part."""
    return frozenset(text.split())
