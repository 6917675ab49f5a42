"""Which arm a conversation falls on: shares, changes of weights, and what names a conversation."""

from typing import Any

import pytest

from sidecar.routing.split import Split
from tests.routing.support import user

COUNT = 100_000


def split(*weights: float) -> Split:
    return Split((f"m{index}", weight) for index, weight in enumerate(weights))


def draws(*weights: float) -> list[int]:
    """The arms of the same hundred thousand conversations."""
    arms = split(*weights)
    return [arms.draw({"messages": [{"role": "user", "content": f"question {n}"}]}) for n in range(COUNT)]


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


HALVES = Split((f"m{index}", 1) for index in range(64))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two requests are of one conversation: of 64 arms the same."""
    return HALVES.draw(one) == HALVES.draw(other)


# --- shares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(95, 5), (80, 15, 5)])
def test_arms_get_their_shares(weights: tuple[float, ...]) -> None:
    drawn = draws(*weights)
    for index, weight in enumerate(weights):
        assert drawn.count(index) / COUNT == pytest.approx(weight / 100, abs=0.01)


def test_a_change_of_weights_moves_only_what_must_move() -> None:
    moved = [pair for pair in zip(draws(95, 5), draws(90, 10), strict=True) if pair[0] != pair[1]]
    assert set(moved) == {(0, 1)}
    assert len(moved) / COUNT == pytest.approx(0.05, abs=0.005)


def test_a_new_arm_takes_from_each_and_gives_to_none() -> None:
    two, three = Split([("a", 50), ("b", 50)]), Split([("a", 50), ("b", 50), ("c", 100)])
    pairs = {(two.draw(user(f"q {n}")), three.draw(user(f"q {n}"))) for n in range(1000)}
    assert pairs == {(0, 0), (1, 1), (0, 2), (1, 2)}


def test_only_the_proportion_of_weights_counts() -> None:
    small, large = split(0.001, 0.003), split(1e9, 3e9)
    assert all(small.draw(user(f"q {n}")) == large.draw(user(f"q {n}")) for n in range(1000))


# --- conversations -------------------------------------------------------------------------------------


def test_a_conversation_stays_on_its_arm_while_it_grows() -> None:
    begin = [said("system", "be brief"), said("user", "hello")]
    grown = [*begin, said("assistant", "hi"), said("user", "and now?")]
    assert same(chat(*begin), chat(*grown))
    assert same(chat(begin[1]), chat(*grown[1:]))
    assert not same(chat(*begin), chat(begin[0], said("user", "another question")))


def test_a_conversation_of_anthropics_stays_while_its_cache_mark_moves_on() -> None:
    first = {"type": "text", "text": "hello"}
    marked = said("user", [first | {"cache_control": {"type": "ephemeral"}}])
    grown = chat(said("user", [first]), said("assistant", "hi"), said("user", "more"), system="be brief")
    assert same(chat(marked, system="be brief"), grown)
    assert same(chat(said("user", "hello"), system="be brief"), grown)
    marked_picture = _picture(1) | {"cache_control": {"type": "ephemeral"}}
    assert same(user([marked_picture]), user([_picture(1)]))


def test_what_differs_at_the_end_of_a_long_template_counts() -> None:
    template = "rule " * 100_000
    drawn = {HALVES.draw(user(f"{template} question {n}")) for n in range(200)}
    assert len(drawn) > 32
    drawn = {HALVES.draw(chat(said("system", f"{template} doc {n}"), said("user", "go"))) for n in range(200)}
    assert len(drawn) > 32


def test_what_is_deep_inside_a_long_message_is_not_looked_at() -> None:
    parts = [{"type": "text", "text": str(index) * 500} for index in range(60)]
    drawn = {
        HALVES.draw(user([*parts[:50], {"type": "text", "text": f"{n}"}, *parts[50:]])) for n in range(50)
    }
    assert len(drawn) == 1


@pytest.mark.parametrize(
    "vary",
    [
        lambda n: user([{"type": "text", "text": "what is this?"}, _picture(n)]),
        lambda n: user([{"type": "image", "source": {"type": "base64", "data": f"{'A' * 9000}{n}"}}]),
        lambda n: {"prompt": f"complete {n}"},
        lambda n: {"prompt": [1, 2, 3, n]},
        lambda n: {"input": [0] * 5000 + [n]},
        lambda n: {"input": ["a text", f"another {n}"]},
        lambda n: {"input": [said("user", f"question {n}")], "instructions": "be brief"},
        lambda n: {"input": "go", "instructions": f"about document {n}"},
        lambda n: {"messages": [said("user", "go")], "system": [{"type": "text", "text": f"document {n}"}]},
        lambda n: {"input": [{"type": "function_call_output", "call_id": f"call {n}", "output": "1"}]},
    ],
)
def test_conversations_of_every_api_are_told_apart(vary: Any) -> None:
    assert len({HALVES.draw(vary(n)) for n in range(200)}) > 32


def _picture(number: int) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"https://pictures.example/{number}"}}


DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP, DEEP]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"messages": None},
        {"messages": []},
        {"messages": 7},
        {"messages": [None, 1, "a", [], {}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": 5, "content": {"a": [1.5, None, True]}}]},
        {"messages": [{"content": DEEP}] * 10_000},
        {"messages": DEEP},
        {"prompt": DEEP, "system": DEEP},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"input": {"a": "b"}},
        {"input": [[]] * 100_000},
    ],
)
def test_any_body_falls_on_one_arm(document: dict[str, Any]) -> None:
    assert HALVES.draw(document) == HALVES.draw(document)
    assert split(1).draw(document) == 0
