"""What waits to be written is bounded, and the oldest goes first."""

from sidecar.cache.shared.backlog import MAX_BYTES, MAX_WRITES, Backlog, Write


def write(name: str, record: bytes = b"record") -> Write:
    return Write(name, b"exact___", record, True, took_s=1.0, written_s=0.0, ttl_s=60.0)


def names(backlog: Backlog) -> list[str]:
    return [backlog.take().name for _ in range(len(backlog))]


def test_first_in_is_first_out() -> None:
    backlog = Backlog()
    for name in "abc":
        backlog.put(write(name))
    assert (len(backlog), backlog.bytes) == (3, 18)
    assert names(backlog) == ["a", "b", "c"]
    assert (len(backlog), backlog.bytes, backlog.dropped) == (0, 0, 0)


def test_the_oldest_makes_room_for_one_too_many() -> None:
    backlog = Backlog()
    for number in range(MAX_WRITES + 3):
        backlog.put(write(str(number)))
    assert backlog.dropped == 3
    assert names(backlog)[0] == "3"


def test_as_many_as_it_takes_make_room_for_a_large_one() -> None:
    backlog = Backlog()
    for name in "abcd":
        backlog.put(write(name, bytes(MAX_BYTES // 4)))
    assert backlog.dropped == 0
    backlog.put(write("large", bytes(MAX_BYTES // 2 + 1)))
    assert (backlog.dropped, backlog.bytes) == (3, MAX_BYTES // 4 + MAX_BYTES // 2 + 1)
    assert names(backlog) == ["d", "large"]


def test_one_that_is_too_large_alone_is_dropped_itself() -> None:
    backlog = Backlog()
    backlog.put(write("a"))
    backlog.put(write("huge", bytes(MAX_BYTES + 1)))
    assert (len(backlog), backlog.bytes, backlog.dropped) == (0, 0, 2)
