"""The URL of Redis: what is taken, and that no message says anything of it."""

import pytest

from sidecar.config.redis_url import check_redis_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://:pw@redis.example:6379/0",
        "rediss://user:p%2Fw@redis.example:6380",
        "redis://[::1]:6379/3",
        "rediss://redis?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_a_redis_url_is_taken(url: str) -> None:
    check_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://:s3cret@redis",
        "unix:///tmp/s3cret",
        "redis://",
        "s3cret",
        "redis://:s3/cret@redis:6379",
        "redis://s3cret:12/3@redis",
        "redis://:s3#cret@redis",
        "redis://:s3?cret@redis",
        "redis://redis:s3cret",
        "redis://:s3cret@redis:99999",
        "redis://:s3cret@redis:0",
        "redis://:s3cret@redis/name",
        "redis://:s3cret@redis?socket_timeout=1",
        "redis://[::1:s3cret",
    ],
)
def test_anything_else_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="redis must be a URL such as") as refused:
        check_redis_url(url)
    assert "s3" not in str(refused.value)
    assert refused.value.__cause__ is None
