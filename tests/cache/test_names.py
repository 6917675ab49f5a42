"""The names that may be written small: each in one way, and none that is another word."""

import pytest

from sidecar.cache.names import BARE, INITIALS, NAMES, PRODUCTS


def test_a_name_is_written_small_in_one_way_only() -> None:
    lists = (NAMES, PRODUCTS, INITIALS, BARE)
    assert sum(map(len, lists)) == len({name for names in lists for name in names})
    assert all(name != small == name.lower() for names in lists for name, small in names.items())


# Words of a dictionary, and names whose small letters mean something else.
OTHER_WORDS = """turkey china chad jordan georgia japan chile panama jersey niger guinea peru java python ruby
    rust go swift word windows teams apple amazon nice reading bath cork mobile polish danish may march august
    soap rest pin ram rom it us who will mark bill tesla visa target subway shell orange mercury mars pandas
    rails flask spark hive helm chef salt basic scratch dart elm nat lan wan vat ira aids ide crud ml pc cv hr
    png apis ios typescript manchester brussels"""


@pytest.mark.parametrize("word", OTHER_WORDS.split())
def test_no_word_of_two_meanings_is_among_the_names(word: str) -> None:
    for names in (NAMES, PRODUCTS, INITIALS):
        assert word not in names.values()
