"""Listener addresses and endpoint URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.addresses import Address, Url


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("0.0.0.0:80", "0.0.0.0", 80),
    ],
)
def test_address_is_host_and_port(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.path) == (host, port, None)
    assert str(address) == text


def test_address_may_be_a_unix_socket() -> None:
    address = Address.parse("unix:/run/sidecar/admin.sock")
    assert address.path == "/run/sidecar/admin.sock"
    assert address.is_loopback
    assert str(address) == "unix:/run/sidecar/admin.sock"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (8080, "such as 127.0.0.1:8080"),
        (":8080", "write for example 127.0.0.1:8080$"),
        ("9901", "write for example 127.0.0.1:9901$"),
        ("127.0.0.1", "write for example 127.0.0.1:8080$"),
        ("localhost", "write for example localhost:8080$"),
        ("", "write for example 127.0.0.1:8080$"),
        ("no address", "write for example 127.0.0.1:8080$"),
        ("127.0.0.1:http", "number from 0 to 65535"),
        ("127.0.0.1:65536", "number from 0 to 65535"),
        ("::1:8080", r"IPv6 address stands in \[ \]"),
        ("[::x]:8080", "not an IPv6 address"),
        ("http://a:8080", "expected host:port"),
        ("unix:run.sock", "absolute path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Address.parse(raw)


@pytest.mark.parametrize(
    ("text", "is_loopback", "is_wildcard"),
    [
        ("127.8.0.1:80", True, False),
        ("localhost:80", True, False),
        ("[::1]:80", True, False),
        ("0.0.0.0:80", False, True),
        ("[::]:80", False, True),
        ("10.0.0.1:80", False, False),
        ("localhost.evil.example:80", False, False),
    ],
)
def test_address_knows_who_can_reach_it(text: str, is_loopback: bool, is_wildcard: bool) -> None:
    address = Address.parse(text)
    assert (address.is_loopback, address.is_wildcard) == (is_loopback, is_wildcard)


@pytest.mark.parametrize(
    ("text", "parts", "shown"),
    [
        ("https://API.example/v1/", ("https", "api.example", 443, "/v1"), "https://api.example/v1"),
        ("http://localhost:11434", ("http", "localhost", 11434, ""), "http://localhost:11434"),
        ("https://a.example:443", ("https", "a.example", 443, ""), "https://a.example"),
        ("http://[::1]:80/v1", ("http", "::1", 80, "/v1"), "http://[::1]/v1"),
    ],
)
def test_url_is_taken_apart(text: str, parts: tuple[str, str, int, str], shown: str) -> None:
    url = Url.parse(text)
    assert (url.scheme, url.host, url.port, url.prefix) == parts
    assert str(url) == shown
    assert Url.parse(shown) == url


def test_url_authority_has_the_port_only_where_it_is_not_the_default() -> None:
    assert Url.parse("https://a.example/v1").authority == "a.example"
    assert Url.parse("http://[::1]:8000").authority == "[::1]:8000"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("ftp://a.example", "begin with http:// or https://"),
        ("a.example/v1", "begin with http:// or https://"),
        ("https://", "has no host"),
        ("https:///v1", "has no host"),
        ("https://a.example?x=1", "query or a fragment"),
        ("https://a.example#", "query or a fragment"),
        ("https://a.example:0", "out of range"),
        ("https://a.example:99999", "number from 1 to 65535"),
        ("https://a.example:x", "number from 1 to 65535"),
        ("https://[::x]/", "expected a"),
        ("https://a b", "expected a URL"),
        ("https://a.example/v1\n", "expected a URL"),
        ("https://bücher.example", "expected a URL"),
        ("https://a.example/../b", "path segments"),
        ("https://a%20b/", "expected a host name"),
        (None, "expected a URL"),
    ],
)
def test_what_is_no_url_is_refused(raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Url.parse(raw)


def test_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="must not hold a user or password") as raised:
        Url.parse("https://user:hunter2@a.example/v1")
    assert "hunter2" not in str(raised.value)


def test_values_are_equal_by_their_parts_and_cannot_change() -> None:
    url = Url.parse("https://a.example/v1")
    assert url == Url("https", "a.example", 443, "/v1")
    assert len({url, Url.parse("https://A.example/v1/")}) == 1
    assert url != Address("a.example", 443)
    with pytest.raises(AttributeError, match="immutable"):
        url.port = 1
    with pytest.raises(AttributeError, match="immutable"):
        del url.port
    assert repr(url) == "Url('https://a.example/v1')"


@given(st.text(max_size=40) | st.from_regex(r"https?://[^\n]*", fullmatch=True))
def test_parsers_raise_only_value_errors(text: str) -> None:
    for parse in (Address.parse, Url.parse):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)
