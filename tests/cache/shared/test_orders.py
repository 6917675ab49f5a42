"""Orders: what a purge reaches, and until when."""

import pytest

from sidecar.cache.key import Key, Place
from sidecar.cache.shared.orders import MAX_PURGES, Order, Purges, read_order

SCOPE, OTHER = b"scope___________", b"other___________"
KEY = Key(Place(SCOPE, "auto", "p/m"), b"partition", b"digest__________", b"exact___", "text")


def purges(*orders: Order) -> Purges:
    noted = Purges()
    for order in orders:
        noted.note(order)
    return noted


def covers(order: Order, written_s: float = 50.0) -> bool:
    return purges(order).cover(KEY, written_s)


@pytest.mark.parametrize("digest", [None, KEY.digest])
@pytest.mark.parametrize("route", [None, "auto"])
@pytest.mark.parametrize("scope", [None, SCOPE])
def test_a_purge_reaches_what_has_all_that_it_names(
    digest: bytes | None, route: str | None, scope: bytes | None
) -> None:
    order = Order(100.0, digest=digest, route=route, scope=scope)
    assert covers(order, 99.9)
    assert covers(order, 100.0)
    assert not covers(order, 100.1)


def test_a_purge_reaches_nothing_else() -> None:
    assert not covers(Order(100.0, digest=b"another_________"))
    assert not covers(Order(100.0, route="manual"))
    assert not covers(Order(100.0, scope=OTHER))
    assert not covers(Order(100.0, digest=KEY.digest, route="auto", scope=OTHER))
    assert not Purges().cover(KEY, 0.0)


def test_the_latest_of_equal_purges_counts_in_whatever_order_they_come() -> None:
    for times in ((100.0, 200.0), (200.0, 100.0)):
        noted = purges(*(Order(at_s, route="auto") for at_s in times))
        assert noted.cover(KEY, 150.0)


def test_more_purges_than_can_be_remembered_bring_nothing_back() -> None:
    noted = purges(Order(100.0, digest=KEY.digest))
    for number in range(5 * MAX_PURGES):
        noted.note(Order(200.0 + number, route=f"route {number}"))
    assert len(noted._at_s) <= MAX_PURGES
    assert noted.cover(KEY, 100.0)
    # The price: what is as old as those that were forgotten is asked anew. What is younger is not.
    assert noted.cover(KEY, 150.0)
    assert not noted.cover(KEY, 200.0 + 5 * MAX_PURGES)


def test_orders_are_read_as_they_were_written() -> None:
    for order in (
        Order(1.5),
        Order(2.5, route="auto"),
        Order(3.5, scope=SCOPE, digest=KEY.digest),
        Order(4.5, digest=KEY.digest, is_pin=True),
    ):
        read = read_order(order.written("me"))
        assert read is not None
        sender, again = read
        assert sender == "me"
        for name in Order.__slots__:
            assert getattr(again, name) == getattr(order, name)


@pytest.mark.parametrize(
    "written",
    [
        *(b"", b"x", b"[]", b"{}", b"7", b'["me",1.5,false,null,null]'),
        b'["me",1.5,false,"no hex",null,null]',
        b'["me",1.5,false,7,null,null]',
        b'["me",1.5,true,null,null,null]',
        b'["me","noon",false,null,null,null]',
        b'["me",1.5,false,null,["auto"],null]',
    ],
)
def test_what_is_no_order_is_none(written: bytes) -> None:
    assert read_order(written) is None


def test_a_pin_is_of_a_digest() -> None:
    with pytest.raises(ValueError, match="digest"):
        Order(1.0, is_pin=True)
