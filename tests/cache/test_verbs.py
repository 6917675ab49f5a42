"""Which verbs are done on purpose: the lists do not speak against each other."""

import pytest

from sidecar.cache.canonical import canonical
from sidecar.cache.verbs import ASKED, ASKED_BEFORE, HABITS, OF_THINGS, OTHER_THINGS, TO_DO


def test_habits_and_what_things_do_are_among_what_one_does() -> None:
    assert (HABITS | OF_THINGS).issubset(TO_DO)
    assert not ASKED & ASKED_BEFORE


@pytest.mark.parametrize("thing", OTHER_THINGS)
def test_a_title_is_not_what_one_asks_how_to_do(thing: str) -> None:
    assert canonical(f"How to {thing}") != canonical(f"How do I {thing}?")
    assert thing.split(" ")[0] in TO_DO


@pytest.mark.parametrize("verb", sorted(verb for verb, before in TO_DO.items() if before is None))
def test_what_is_done_on_purpose_may_be_asked_in_three_ways(verb: str) -> None:
    forms = {canonical(f"{begin} {verb} the box?") for begin in ("How do I", "how can I", "How to")}
    assert forms == {f"how to {verb} the box"}


@pytest.mark.parametrize(
    "rest",
    [
        "store fat",
        "filter waste from blood",
        "repair muscle",
        "change with age",
        "fold under pressure",
        "dry out",
    ],
)
def test_what_a_body_does_by_itself_is_not_done_on_purpose(rest: str) -> None:
    assert canonical(f"How do I {rest} in winter?") != canonical(f"How to {rest} in winter?")


def test_but_one_changes_to_something_on_purpose() -> None:
    assert canonical("How do I change to dark mode?") == canonical("How to change to dark mode")


OTHERS = """look sound compare feel seem appear smell taste rank score stack fit come relate differ stand
    rate do know be have sleep dance spend use help support see hear remember die fail forget fall break catch
    gain need want owe deserve like love hate mean work"""


@pytest.mark.parametrize("verb", OTHERS.split())
def test_states_habits_ideas_and_accidents_are_not(verb: str) -> None:
    assert canonical(f"How do I {verb} the box?") != canonical(f"How can I {verb} the box?")
