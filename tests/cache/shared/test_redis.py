"""aiocache's Redis, with real ones: no answer is another's, no value is read beyond what is wanted."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis import exceptions

from sidecar.cache.shared.redis import ANSWER_BYTES, Redis, is_late, is_refusal, reason_of
from sidecar.config.secrets import Secret
from tests.cache.shared.between import between
from tests.support.leaks import open_descriptors
from tests.support.redis import GARBAGE, lying_server, redis_server
from tests.support.waiting import until

MAX_BYTES = 1000


@asynccontextmanager
async def redis_at(url: str, *, timeout_s: float = 2.0, max_connections: int = 8) -> AsyncIterator[Redis]:
    redis = Redis(
        Secret(url), timeout_s=timeout_s, max_value_bytes=MAX_BYTES, max_connections=max_connections
    )
    try:
        yield redis
    finally:
        await redis.close()


async def failure(redis: Redis) -> Exception:
    """What a GET raises; all of them are errors that one may catch."""
    try:
        value = await redis.get("name")
    except Exception as error:
        return error
    raise AssertionError(f"it answered {value!r}")


async def test_bytes_come_back_as_they_were() -> None:
    value = bytes(range(256))
    with redis_server() as server:
        async with redis_at(server.url) as redis:
            assert await redis.get("name") is None
            await redis.set("name", value, ttl=60.0)
            assert await redis.get("name") == value
            assert 59_000 < int(server.admin.pttl("name")) <= 60_000
            assert server.admin.get("name") == value
            await redis.delete("name")
            assert await redis.get("name") is None


async def test_of_a_value_that_is_too_large_one_byte_more_is_read() -> None:
    with redis_server() as server:
        server.admin.set("name", b"x" * 50_000_000)
        async with redis_at(server.url) as redis:
            assert await redis.get("name") == b"x" * (MAX_BYTES + 1)


async def test_one_connection_is_used_again_and_again() -> None:
    with redis_server() as server:
        async with between(server.port) as proxy, redis_at(proxy.url) as redis:
            for _ in range(20):
                await redis.get("name")
            assert proxy.connections == 1


async def test_a_late_answer_is_nobodys_and_its_connection_is_closed() -> None:
    with redis_server() as server:
        for number in range(20):
            server.admin.set(f"name {number}", b"value %d" % number)
        async with between(server.port) as proxy, redis_at(proxy.url, timeout_s=0.1) as redis:
            assert await redis.get("name 0") == b"value 0"
            proxy.passes.clear()
            for number in range(1, 4):
                with pytest.raises(TimeoutError):
                    await redis.get(f"name {number}")
            proxy.passes.set()
            for number in range(20):
                assert await redis.get(f"name {number}") == b"value %d" % number
            await until(lambda: proxy.open == 1)


async def test_a_cancelled_command_leaves_nothing_for_the_next() -> None:
    draw = random.Random(11)
    with redis_server() as server:
        for number in range(100):
            server.admin.set(f"name {number}", b"value %d" % number)
        async with redis_at(server.url, timeout_s=5.0) as redis:
            cancelled = 0
            for number in range(300):
                call = asyncio.ensure_future(redis.get("name 99"))
                for _ in range(draw.randrange(16)):
                    await asyncio.sleep(0)
                cancelled += call.cancel()
                await asyncio.wait([call])
                assert await redis.get(f"name {number % 90}") == b"value %d" % (number % 90)
            assert cancelled > 30


async def test_commands_cut_off_among_others_do_not_mix_up_answers() -> None:
    draw = random.Random(3)

    async def ask(redis: Redis, number: int) -> None:
        call = asyncio.ensure_future(redis.get(f"name {number}"))
        if draw.random() < 0.4:
            for _ in range(draw.randrange(10)):
                await asyncio.sleep(0)
            call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            assert call.result() == b"value %d" % number

    with redis_server() as server:
        for number in range(40):
            server.admin.set(f"name {number}", b"value %d" % number)
        async with redis_at(server.url, timeout_s=5.0, max_connections=50) as redis:
            for _ in range(20):
                await asyncio.gather(*(ask(redis, number) for number in range(40)))
            # Every one of them can still be had: none was lost with a command.
            await asyncio.gather(*(redis.get("name 1") for _ in range(50)))


async def test_a_server_that_was_killed_is_found_again() -> None:
    with redis_server() as server:
        async with redis_at(server.url) as redis:
            assert await redis.get("name") is None
            server.kill()
            assert "cannot be reached" in reason_of(await failure(redis))
            server.start()
            assert await redis.get("name") is None


async def test_a_connection_that_the_server_closed_is_replaced_unseen() -> None:
    with redis_server() as server:
        async with redis_at(server.url) as redis:
            await redis.set("name", b"value", ttl=60.0)
            server.admin.client_kill_filter(skipme=True, _type="normal")
            await asyncio.sleep(0.01)  # until the end has come through the socket
            assert await redis.get("name") == b"value"


NO_ANSWER = GARBAGE | {
    "a number": b":1\r\n",
    "a value longer than an answer may be": b"$%d\r\n" % (MAX_BYTES + ANSWER_BYTES + 1),
    "many values longer than an answer may be": b"*100\r\n" + b"$100000\r\n%b\r\n" % (b"x" * 100_000) * 30,
    "an array": b"*1\r\n$1\r\nx\r\n",
}


@pytest.mark.parametrize("user", ["", ":s3cret@"], ids=["to the first", "to the password"])
@pytest.mark.parametrize("answer", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_is_no_redis_is_an_error_in_time_and_leaks_nothing(
    answer: bytes | None, user: str
) -> None:
    async with lying_server(answer) as url:
        before = open_descriptors()
        async with asyncio.timeout(5), redis_at(url.replace("//", f"//{user}"), timeout_s=0.1) as redis:
            reason = reason_of(await failure(redis))
        assert reason.startswith(("cannot be reached", "does not answer", "refuse"))
        assert "s3cret" not in reason
        await until(lambda: open_descriptors() <= before)


async def test_after_garbage_the_next_connection_is_a_clean_one() -> None:
    async with lying_server(b"*2\r\n:1\r\n", b"+fine\r\n") as url, redis_at(url, timeout_s=0.1) as redis:
        assert is_late(await failure(redis))
        assert await redis.get("name") == b"fine"


async def test_an_answer_too_long_is_given_up_before_it_is_read() -> None:
    """A server that promises more would be waited for otherwise."""
    promise = b"$%d\r\n" % (MAX_BYTES + ANSWER_BYTES + 1)
    async with lying_server(promise) as url, redis_at(url, timeout_s=60.0) as redis:
        assert isinstance(await failure(redis), exceptions.InvalidResponse)


async def test_a_value_that_is_no_string_is_refused() -> None:
    with redis_server() as server:
        server.admin.rpush("name", "x")
        async with redis_at(server.url) as redis:
            assert is_refusal(await failure(redis))


async def test_wrong_passwords_and_forbidden_commands_are_said_and_not_shown() -> None:
    with redis_server(password="another") as server:
        for url in (server.url.replace("another", "s3cret"), f"redis://127.0.0.1:{server.port}"):
            async with redis_at(url) as redis:
                reason = reason_of(await failure(redis))
                assert "password" in reason
                assert "s3cret" not in reason
        server.admin.acl_setuser("joe", enabled=True, nopass=True, commands=["+@all", "-getrange"])
        async with redis_at(f"redis://joe:x@127.0.0.1:{server.port}") as redis:
            error = await failure(redis)
            assert is_refusal(error)
            assert "ACL" in reason_of(error)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://joe:s3cret@redis.example", "redis.example:6379"),
        ("rediss://:s3cret@[::1]:7000/2", "[::1]:7000"),
    ],
)
async def test_its_place_is_host_and_port_alone(url: str, place: str) -> None:
    async with redis_at(url) as redis:
        assert redis.place == place


async def test_a_password_with_signs_and_a_database_are_used() -> None:
    with redis_server(password="pass/word") as server:
        url = server.url.replace("pass/word", "pass%2Fword").removesuffix("0") + "3"
        async with redis_at(url) as redis:
            await redis.set("name", b"value", ttl=60.0)
        assert server.admin.info("keyspace")["db3"]["keys"] == 1


async def test_tls_to_a_server_without_it_is_an_error() -> None:
    with redis_server() as server:
        async with redis_at(server.url.replace("redis://", "rediss://"), timeout_s=1.0) as redis:
            assert reason_of(await failure(redis))
