"""The index: what is found, what is refused, what it forgets, and what it takes."""

import subprocess
import sys

import pytest

from sidecar.cache.meaning.sameness import features
from sidecar.cache.meaning.vectors import CANDIDATES, Vectors

np = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'ai-sidecar[semantic]'")

HERE, THERE = b"here", b"there"
EGG = features("How do I boil an egg?")
SAME = features("How can I boil an egg?")
RICE = features("How do I boil rice?")
TWO = features("How do I boil two eggs?")


def unit(*numbers: float):  # type: ignore[no-untyped-def]
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


NORTH, NEARLY, EAST = unit(1, 0, 0, 0), unit(1, 0.1, 0, 0), unit(0, 1, 0, 0)


def filled(*entries: tuple[bytes, object], partition: bytes = HERE, max_entries: int = 10_000) -> Vectors:
    vectors = Vectors(max_entries)
    for digest, vector in entries:
        vectors.add(partition, digest, EGG, vector)  # type: ignore[arg-type]
    return vectors


def digest(vectors: Vectors, vector: object, partition: bytes = HERE) -> bytes:
    return vectors.find(partition, EGG, vector, 0.9).digest  # type: ignore[arg-type]


def test_finds_the_nearest_above_the_threshold() -> None:
    vectors = filled((b"east", EAST), (b"nearly", NEARLY), (b"north", NORTH))
    found = vectors.find(HERE, SAME, NORTH, 0.95)
    assert (found.digest, found.refused) == (b"north", "")
    assert found.similarity == found.nearest == pytest.approx(1.0)


def test_below_the_threshold_there_is_no_hit_but_the_nearest_is_told() -> None:
    found = filled((b"nearly", NEARLY)).find(HERE, SAME, NORTH, 0.999)
    assert (found.digest, found.similarity, found.refused) == (b"", 0.0, "")
    assert found.nearest == pytest.approx(0.995, abs=1e-3)


def test_a_guard_forbids_the_nearest_and_the_next_is_served() -> None:
    vectors = filled((b"nearly", NEARLY))
    vectors.add(HERE, b"rice", RICE, NORTH)
    found = vectors.find(HERE, SAME, NORTH, 0.9)
    assert (found.digest, found.refused) == (b"nearly", "word")
    assert found.similarity == pytest.approx(0.995, abs=1e-3)
    assert found.nearest == pytest.approx(1.0)


def test_names_the_guard_of_the_nearest_when_all_are_forbidden() -> None:
    vectors = Vectors()
    vectors.add(HERE, b"two", TWO, NORTH)
    vectors.add(HERE, b"rice", RICE, NEARLY)
    found = vectors.find(HERE, SAME, NORTH, 0.9)
    assert (found.digest, found.similarity, found.refused) == (b"", 0.0, "number")
    assert found.nearest == pytest.approx(1.0)


def test_no_more_than_the_nearest_few_are_looked_at() -> None:
    vectors = Vectors()
    for index in range(CANDIDATES):
        vectors.add(HERE, b"rice %d" % index, RICE, NORTH)
    vectors.add(HERE, b"egg", EGG, NEARLY)
    assert digest(vectors, NORTH) == b""
    vectors.drop(b"rice 0")
    assert digest(vectors, NORTH) == b"egg"


def test_never_finds_what_is_in_another_partition() -> None:
    vectors = filled((b"north", NORTH), partition=THERE)
    found = vectors.find(HERE, EGG, NORTH, -1.0)
    assert (found.digest, found.nearest) == (b"", -1.0)
    assert digest(vectors, NORTH, THERE) == b"north"


def test_what_was_added_again_is_found_by_its_new_vector_and_place_only() -> None:
    vectors = filled((b"egg", NORTH), (b"egg", EAST))
    assert len(vectors) == 1
    assert digest(vectors, NORTH) == b""
    assert digest(vectors, EAST) == b"egg"
    vectors.add(THERE, b"egg", EGG, EAST)
    assert digest(vectors, EAST) == b""
    assert digest(vectors, EAST, THERE) == b"egg"


def test_a_dropped_one_is_gone_and_its_neighbours_stay() -> None:
    vectors = filled((b"north", NORTH), (b"east", EAST), (b"south", -NORTH))
    assert vectors.drop(b"north")
    assert not vectors.drop(b"north")
    assert not vectors.drop(b"unknown")
    assert [digest(vectors, vector) for vector in (NORTH, EAST, -NORTH)] == [b"", b"east", b"south"]
    assert vectors.drop(b"east")
    assert vectors.drop(b"south")
    assert (len(vectors), vectors.size_bytes) == (0, 0)


def test_at_the_bound_the_oldest_of_all_partitions_goes() -> None:
    vectors = filled((b"first", NORTH), max_entries=2)
    vectors.add(THERE, b"second", EGG, NORTH)
    vectors.add(THERE, b"third", EGG, EAST)
    assert len(vectors) == 2
    assert digest(vectors, NORTH) == b""
    vectors.add(THERE, b"second", EGG, NORTH)  # is the newest now
    vectors.add(HERE, b"fourth", EGG, NORTH)
    assert [digest(vectors, NORTH, THERE), digest(vectors, EAST, THERE)] == [b"second", b""]


@pytest.mark.parametrize(
    "bad",
    [
        [0, 0, 0, 0],
        [float("nan"), 0, 0, 1],
        [float("inf"), 0, 0, 0],
        [2, 0, 0, 0],
        [1, 0, 0],
        [[1, 0, 0, 0]],
        [],
    ],
)
def test_a_vector_without_sense_is_refused_and_finds_nothing(bad: list[float]) -> None:
    vectors, vector = filled((b"north", NORTH)), np.array(bad, np.float32)
    with pytest.raises(ValueError, match="a vector"):
        vectors.add(HERE, b"bad", EGG, vector)
    assert digest(vectors, vector) == b""
    assert len(vectors) == 1
    assert digest(vectors, NORTH) == b"north"


def test_a_refused_vector_leaves_the_one_under_its_digest() -> None:
    vectors = filled((b"north", NORTH))
    with pytest.raises(ValueError, match="length 1"):
        vectors.add(HERE, b"north", EGG, 3 * NORTH)
    assert digest(vectors, NORTH) == b"north"


def test_a_vector_that_is_changed_afterwards_is_kept_as_it_was() -> None:
    mine = NORTH.copy()
    vectors = filled((b"north", mine))
    mine[:] = EAST
    assert digest(vectors, NORTH) == b"north"


def test_many_small_partitions_take_a_row_each_and_a_large_one_at_most_twice_its_rows() -> None:
    small, large = Vectors(), Vectors()
    for index in range(100):
        small.add(b"%d" % index, b"%d" % index, EGG, NORTH)
        large.add(HERE, b"%d" % index, EGG, NORTH)
    row_bytes = NORTH.nbytes
    assert small.size_bytes == 100 * row_bytes
    assert large.size_bytes <= 200 * row_bytes
    for index in range(98):
        large.drop(b"%d" % index)
    assert large.size_bytes <= 8 * row_bytes
    assert len(large) == 2


def test_after_clear_nothing_is_found_and_it_goes_on() -> None:
    vectors = filled((b"north", NORTH))
    vectors.clear()
    assert (len(vectors), vectors.size_bytes, digest(vectors, NORTH)) == (0, 0, b"")
    vectors.add(HERE, b"north", EGG, NORTH)
    assert digest(vectors, NORTH) == b"north"


def test_does_what_a_plain_list_does_over_thousands_of_changes() -> None:
    random = np.random.default_rng(2026)
    pool = random.standard_normal((40, 8)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1)[:, None]
    vectors, listed = Vectors(max_entries=25), dict[bytes, tuple[bytes, int]]()
    for _ in range(3000):
        index, partition = int(random.integers(40)), b"p%d" % random.integers(3)
        name = b"%d" % random.integers(60)
        if random.random() < 0.3:
            assert vectors.drop(name) == (listed.pop(name, None) is not None)
        else:
            vectors.add(partition, name, EGG, pool[index])
            listed.pop(name, None)
            listed[name] = (partition, index)
            if len(listed) > 25:
                del listed[next(iter(listed))]
        assert len(vectors) == len(listed)
        wanted = {name for name, where in listed.items() if where == (partition, index)}
        found = vectors.find(partition, SAME, pool[index], 0.999).digest
        assert found in wanted if wanted else found == b""


def test_numpy_is_not_imported_with_the_cache() -> None:
    script = (
        "import sys, sidecar.cache.meaning.vectors, sidecar.cache.answers; sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
