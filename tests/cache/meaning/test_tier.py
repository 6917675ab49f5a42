"""What the tier counts of the questions that were nearest, for those who choose a threshold."""

from collections.abc import Callable

import pytest

from sidecar.cache.key import Key, Place
from sidecar.cache.meaning.embedding import EmbedderError
from sidecar.cache.meaning.sameness import features
from sidecar.cache.meaning.tier import SIMILARITIES, Question, SemanticTier
from sidecar.config.cache import Semantic

np = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'ai-sidecar[semantic]'")


class NoEmbedder:
    """The questions of these tests have their vectors already."""

    def embed(self, text: str) -> object:
        raise EmbedderError(text)


def key(name: str, text: str = "How do I boil an egg?") -> Key:
    return Key(Place(b"scope", "", "p/m"), b"partition", name.encode(), b"exact", text)


def question(*numbers: float, text: str = "How do I boil an egg?") -> Question:
    vector = np.array(numbers, np.float32)
    return Question(features(text), vector / np.linalg.norm(vector))


def tier_with(**questions: Question) -> SemanticTier:
    tier = SemanticTier(Semantic(), NoEmbedder())  # type: ignore[arg-type]
    for name, one in questions.items():
        tier.add(key(name), one)
    return tier


def find(tier: SemanticTier, asked: Question, holds: Callable[[bytes], bool] = lambda _: True) -> bytes:
    return tier.find(key("asked"), asked, 0.0, holds)


def counted(tier: SemanticTier) -> dict[float, int]:
    """By the bound under which they fell."""
    bounds = (*SIMILARITIES, float("inf"))
    return {bound: count for bound, count in zip(bounds, tier.stats.similarities, strict=True) if count}


NORTH, EAST, SOUTH = question(1, 0), question(0, 1), question(-1, 0.001)


def test_each_look_up_counts_once_by_how_near_the_nearest_was() -> None:
    tier = tier_with(north=NORTH)
    assert find(tier, NORTH) == b"north"
    assert find(tier, question(1, 0.5)) == b""
    assert counted(tier) == {1.0: 1, 0.9: 1}
    assert tier.stats.similarity_sum == pytest.approx(1 + 0.894, abs=1e-3)


def test_what_points_away_is_as_far_as_can_be() -> None:
    tier = tier_with(north=NORTH)
    find(tier, SOUTH)
    find(tier, EAST)
    assert counted(tier) == {0.5: 2}
    assert tier.stats.similarity_sum == 0.0


def test_nothing_to_compare_with_is_not_counted() -> None:
    tier = tier_with()
    assert find(tier, NORTH) == b""
    assert (counted(tier), tier.stats.looked_up) == ({}, 1)


def test_a_question_whose_answer_is_gone_does_not_count() -> None:
    tier = tier_with(gone=NORTH, there=question(1, 0.1))
    assert find(tier, NORTH, lambda digest: digest != b"gone") == b"there"
    assert counted(tier) == {1.0: 1}
    assert tier.stats.similarity_sum == pytest.approx(0.995, abs=1e-3)
    assert tier.entries == 1


def test_a_refused_one_counts_with_its_similarity_and_its_guard() -> None:
    tier = tier_with(rice=question(1, 0, text="How do I boil rice?"))
    assert find(tier, NORTH) == b""
    assert (counted(tier), tier.stats.refused) == ({1.0: 1}, {"word": 1})
