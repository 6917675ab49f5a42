"""Seals: what was changed in any way is no answer, and nothing small becomes large."""

import os
import struct
import zlib
from random import Random

import pytest

from sidecar.cache.shared import sealing
from sidecar.cache.shared.sealing import (
    HEAD_BYTES,
    MAX_ORDER_BYTES,
    MAX_RECORD_BYTES,
    Found,
    Seals,
    secret_of,
)

SEALS = Seals(b"secret of the fleet")
NAME = "sidecar:answers:fleet:form:scope:route:digest"
EXACT = b"exact___"
RECORD = b'[[["content",["Six minutes."]]],null,{},{},{}]'
LONG = b"".join(b'["content",["%d"]],' % Random(5).randrange(10**6) for _ in range(400))
NOW_S = 1_800_000_000.0


def seal(record: bytes = RECORD, name: str = NAME, seals: Seals = SEALS, *, has_usage: bool = True) -> bytes:
    times = {"written_s": NOW_S, "ttl_s": 3600.0, "took_s": 2.5}
    return seals.seal(name, record, EXACT, has_usage, **times)


def opened(value: bytes, name: str = NAME, now_s: float = NOW_S) -> Found | None:
    return SEALS.open(name, value, now_s)


@pytest.mark.parametrize(
    "record", [b"", RECORD, LONG, os.urandom(5000)], ids=["empty", "short", "long", "noise"]
)
@pytest.mark.parametrize("has_usage", [True, False])
def test_what_was_sealed_is_found(record: bytes, has_usage: bool) -> None:
    found = opened(seal(record, has_usage=has_usage), now_s=NOW_S + 10)
    assert found is not None
    assert (found.record, found.exact, found.has_usage) == (record, EXACT, has_usage)
    assert (found.written_s, found.age_s, found.ttl_s, found.took_s) == (NOW_S, 10.0, 3600.0, 2.5)


def test_a_long_record_is_compressed_and_noise_is_not() -> None:
    assert len(seal(LONG)) < HEAD_BYTES + len(LONG) / 2
    assert len(seal(noise := os.urandom(5000))) == HEAD_BYTES + len(noise)
    assert len(seal(RECORD)) == HEAD_BYTES + len(RECORD)


@pytest.mark.parametrize("record", [RECORD, LONG[:1500]], ids=["plain", "compressed"])
def test_no_bit_of_a_value_can_be_another(record: bytes) -> None:
    value = seal(record)
    for place in range(len(value)):
        for bit in range(8):
            changed = bytearray(value)
            changed[place] ^= 1 << bit
            assert opened(bytes(changed)) is None, (place, bit)


@pytest.mark.parametrize("record", [RECORD, LONG[:1500]], ids=["plain", "compressed"])
def test_a_value_cut_short_or_made_longer_is_none(record: bytes) -> None:
    value = seal(record)
    for length in range(len(value)):
        assert opened(value[:length]) is None
    for more in (b"\0", b"x", value):
        assert opened(value + more) is None
        assert opened(more + value) is None


def test_a_value_is_of_its_name_only() -> None:
    value = seal()
    parts = NAME.split(":")
    for place in range(len(parts)):
        other = ":".join([*parts[:place], "other", *parts[place + 1 :]])
        assert opened(value, other) is None, other


def test_a_value_is_of_its_secret_only() -> None:
    for secret in (b"another", b"secret of the flees", b"secret of the fleet\0", b"s" * 1000):
        assert opened(seal(seals=Seals(secret))) is None
    assert opened(seal(seals=Seals(b"secret of the fleet"))) is not None


def test_an_order_is_no_answer_and_an_answer_no_order() -> None:
    assert SEALS.open_order(seal()) is None
    assert opened(SEALS.seal_order(b"order")) is None
    assert SEALS.open_order(SEALS.seal_order(b"order")) == b"order"


def test_a_changed_order_is_none() -> None:
    value = SEALS.seal_order(b"[1,2]")
    for place in range(len(value)):
        changed = bytearray(value)
        changed[place] ^= 1
        assert SEALS.open_order(bytes(changed)) is None
        assert SEALS.open_order(value[:place]) is None
    assert SEALS.open_order(SEALS.seal_order(b"x" * MAX_ORDER_BYTES)) is None


def test_an_older_form_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(sealing, "_FORM", 0)
        value = seal()
        assert opened(value) is not None
    assert opened(value) is None
    # Nor does it help to say that it is of this form: the tag is over the form too.
    assert opened(b"\x01" + value[1:]) is None


def sealed_by_hand(data: bytes, length: int, *, is_compressed: bool) -> bytes:
    """A value whose seal is right and whose content is not, as a faulty version would leave it."""
    facts = struct.pack(">8sBQQII", EXACT, 2 if is_compressed else 0, 0, 1000, 0, length)
    return sealing._sealed(sealing._key_of(SEALS._answers, NAME), facts + data)


def test_the_seal_made_by_hand_is_a_right_one() -> None:
    assert opened(sealed_by_hand(b"abc", 3, is_compressed=False)) is not None
    assert opened(sealed_by_hand(zlib.compress(b"abc"), 3, is_compressed=True)) is not None


def test_a_bomb_is_none_and_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(MAX_RECORD_BYTES * 4), 9)
    assert len(bomb) < MAX_RECORD_BYTES / 200
    for length in (0, 10, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1, 2**32 - 1):
        assert opened(sealed_by_hand(bomb, length, is_compressed=True)) is None
    assert sealing._unpacked(bomb, 10) is None


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (zlib.compress(b"abc"), 2),
        (zlib.compress(b"abc"), 4),
        (zlib.compress(b"abc") + b"x", 3),
        (zlib.compress(b"abc")[:-1], 3),
        (b"no zlib", 7),
        (b"", 1),
    ],
)
def test_a_record_that_is_not_as_long_as_it_says_is_none(data: bytes, length: int) -> None:
    assert opened(sealed_by_hand(data, length, is_compressed=True)) is None


def test_facts_cut_short_are_none_though_sealed() -> None:
    key = sealing._key_of(SEALS._answers, NAME)
    for length in range(HEAD_BYTES - 33):
        assert opened(sealing._sealed(key, bytes(length))) is None


def test_what_a_clock_ahead_of_ours_wrote_has_no_age() -> None:
    found = opened(seal(), now_s=NOW_S - 500)
    assert found is not None
    assert found.age_s == 0.0


def test_a_time_that_is_out_of_all_bounds_is_cut() -> None:
    value = SEALS.seal(NAME, RECORD, EXACT, True, written_s=NOW_S, ttl_s=1.0, took_s=1e12)
    assert (found := opened(value)) is not None
    assert found.took_s == (2**32 - 1) / 1000


def test_the_secret_is_that_of_the_keys_in_any_order() -> None:
    assert secret_of([b"one", b"two"]) == secret_of(iter([b"two", b"one", b"two"]))
    assert len(secret_of([b"one"])) == 32
    others = [
        [b"one"],
        [b"onetwo"],
        [b"on", b"etwo"],
        [b"one", b"tw"],
        [b"3:one3:two"],
        [b"one", b"two", b""],
    ]
    secrets = {secret_of(keys) for keys in others}
    assert len(secrets) == len(others)
    assert secret_of([b"one", b"two"]) not in secrets


def test_no_keys_are_no_secret() -> None:
    with pytest.raises(ValueError, match="no provider has an api_key"):
        secret_of([])
    with pytest.raises(ValueError, match="empty"):
        Seals(b"")


def test_the_fleet_tells_secrets_apart_and_gives_none_away() -> None:
    assert Seals(b"one").fleet == Seals(b"one").fleet != Seals(b"two").fleet
    assert len(SEALS.fleet) == 8
