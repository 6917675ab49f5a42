"""Names: each answer has its own, and a purge's pattern finds what the purge reaches, and no more."""

import fnmatch
import itertools

from sidecar.cache.key import STAMP, Key, Place
from sidecar.cache.shared.names import Names
from sidecar.cache.shared.orders import Order, Purges

NAMES = Names("f1ee7000")
SCOPES = (b"scope___________", b"other___________")
ROUTES = ("auto", "a*o", "Pro/*", "a:b", "[a]uto", "größe")
DIGESTS = (b"digest__________", b"another_________")


def key(scope: bytes, route: str, digest: bytes) -> Key:
    return Key(Place(scope, route, "p/m"), b"partition", digest, b"exact___", "text")


KEYS = [key(*parts) for parts in itertools.product(SCOPES, ROUTES, DIGESTS)]


def test_each_key_has_a_name_of_its_own_of_plain_signs() -> None:
    names = {NAMES.of(key) for key in KEYS}
    assert len(names) == len(KEYS)
    assert all(name.isascii() and set(name) & set("*?[]\\ ") == set() for name in names)


def test_a_name_holds_the_form_of_records_and_of_questions() -> None:
    assert f":{STAMP.decode().replace(' ', '-')}:" in NAMES.of(KEYS[0])
    assert all(name.startswith("sidecar:answers:f1ee7000:") for name in (NAMES.purges, NAMES.pins))


def test_a_pattern_finds_what_its_purge_reaches() -> None:
    for scope, route, digest in itertools.product((None, *SCOPES), (None, *ROUTES), (None, *DIGESTS)):
        order = Order(1.0, scope=scope, route=route, digest=digest)
        purges = Purges()
        purges.note(order)
        pattern = NAMES.reached_by(order)
        for one in KEYS:
            assert fnmatch.fnmatchcase(NAMES.of(one), pattern) == purges.cover(one, 0.0)


def test_no_purge_reaches_the_logs_or_another_fleet() -> None:
    pattern = NAMES.reached_by(Order(1.0))
    assert not fnmatch.fnmatchcase(NAMES.purges, pattern)
    assert not fnmatch.fnmatchcase(NAMES.pins, pattern)
    assert not fnmatch.fnmatchcase(Names("0ther000").of(KEYS[0]), pattern)
