"""One connection to Redis: every answer belongs to its command, and every fault ends in words of ours."""

import asyncio
import random

import pytest

from sidecar.config.secrets import Secret
from sidecar.fleet.redis import Link, LinkError, Script
from sidecar.fleet.scripts import SETTLE
from tests.support.leaks import open_descriptors
from tests.support.redis import GARBAGE, lying_server, redis_server
from tests.support.waiting import until


async def settle_nothing(link: Link) -> None:
    """The script, with no limits and no totals."""
    await link.run(Script(SETTLE), ["sidecar:1:seen:x"], ["x", 1, 1, 1, 1, 0])


def link_to(url: str, patience_s: float = 1.0) -> Link:
    return Link(Secret(url), patience_s)


async def refusal(link: Link, *parts: str) -> str:
    """The message of a command that fails."""
    with pytest.raises(LinkError) as failed:
        await link.command(*(parts or ("PING",)))
    assert failed.value.__cause__ is None
    await link.close()
    return str(failed.value)


async def test_a_command_is_answered_and_the_connection_is_kept() -> None:
    with redis_server() as server:
        link = link_to(server.url)
        before = server.admin.info()["total_connections_received"]
        for number in range(20):
            assert await link.command("ECHO", number) == b"%d" % number
        assert server.admin.info()["total_connections_received"] == before + 1
        await link.close()


async def test_a_script_is_sent_once_and_again_only_after_the_server_forgot_it() -> None:
    script = Script("return ARGV[1]")
    with redis_server() as server:
        link = link_to(server.url)
        for number in range(3):
            assert await link.run(script, [], [number]) == b"%d" % number
        stats = server.admin.info("commandstats")
        assert stats["cmdstat_eval"]["calls"] == 1
        server.admin.script_flush()
        assert await link.run(script, [], ["again"]) == b"again"
        await link.close()


async def test_a_cancelled_command_leaves_nothing_for_the_next() -> None:
    draw = random.Random(7)
    with redis_server() as server:
        link = link_to(server.url)
        cancelled = 0
        for number in range(300):
            call = asyncio.ensure_future(link.command("ECHO", f"left behind {number}"))
            for _ in range(draw.randrange(12)):
                await asyncio.sleep(0)
            cancelled += call.cancel()
            await asyncio.wait([call])
            assert await link.command("ECHO", number) == b"%d" % number
        assert cancelled > 30
        await link.close()


async def test_a_late_answer_is_nobodys() -> None:
    with redis_server() as server:
        link = link_to(server.url, patience_s=0.1)
        assert await link.command("ECHO", "before") == b"before"
        server.pause()
        for number in range(3):
            with pytest.raises(LinkError, match=rf"^127\.0\.0\.1:{server.port} did not answer within 0\.1 s"):
                await link.command("ECHO", f"late {number}")
        server.resume()
        for number in range(50):
            assert await link.command("ECHO", number) == b"%d" % number
        await link.close()


async def test_a_server_that_sleeps_does_not_mix_up_answers() -> None:
    with redis_server() as server:
        link = link_to(server.url, patience_s=0.1)
        with pytest.raises(LinkError):
            await link.command("DEBUG", "SLEEP", "0.3")
        patient = link_to(server.url)
        assert await patient.command("ECHO", "mine") == b"mine"
        assert await link.command("ECHO", "next") == b"next"
        await link.close()
        await patient.close()


async def test_commands_at_the_same_time_have_connections_of_their_own() -> None:
    with redis_server() as server:
        link = link_to(server.url)
        answers = await asyncio.gather(*(link.command("ECHO", number) for number in range(20)))
        assert answers == [b"%d" % number for number in range(20)]
        await until(lambda: server.admin.info()["connected_clients"] == 2)
        await link.close()


async def test_a_server_that_was_killed_is_found_again() -> None:
    with redis_server() as server:
        link = link_to(server.url)
        assert await link.command("ECHO", "a") == b"a"
        server.kill()
        for _ in range(2):
            with pytest.raises(LinkError, match=rf"^127\.0\.0\.1:{server.port} cannot be reached"):
                await link.command("ECHO", "b")
        server.start()
        assert await link.command("ECHO", "c") == b"c"
        await link.close()


async def test_a_link_that_was_closed_in_the_middle_keeps_no_connection() -> None:
    with redis_server() as server:
        link = link_to(server.url)
        call = asyncio.ensure_future(link.command("DEBUG", "SLEEP", "0.1"))
        await asyncio.sleep(0.03)
        await link.close()
        await call
        await until(lambda: server.admin.info()["connected_clients"] == 1)


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_redis_is_an_error_in_time_and_leaks_nothing(answer: bytes | None) -> None:
    async with lying_server(answer) as url:
        before = open_descriptors()
        link = link_to(url, patience_s=0.1)
        async with asyncio.timeout(5):
            message = await refusal(link)
        assert message
        assert "xxx" not in message
        await until(lambda: open_descriptors() <= before)


async def test_after_garbage_the_next_connection_is_a_clean_one() -> None:
    async with lying_server(b"*2\r\n:1\r\n", b"+PONG\r\n") as url:
        link = link_to(url, patience_s=0.1)
        with pytest.raises(LinkError):
            await link.command("PING")
        assert await link.command("PING") == b"PONG"
        await link.close()


@pytest.mark.parametrize("url", ["redis://:s3cret@127.0.0.1:{}", "redis://joe:s3cret@127.0.0.1:{}", "{}"])
async def test_a_wrong_password_is_said_and_not_shown(url: str) -> None:
    with redis_server(password="another") as server:
        address = url.format(server.port) if ":" in url else f"redis://127.0.0.1:{server.port}"
        message = await refusal(link_to(address))
        assert "password" in message
        assert "s3cret" not in message


async def test_the_right_password_is_sent() -> None:
    with redis_server(password="pass/word") as server:
        link = link_to(server.url.replace("pass/word", "pass%2Fword"))
        assert await link.command("PING") == b"PONG"
        await link.close()


async def test_a_server_that_repeats_the_password_does_not_get_it_into_a_message() -> None:
    for answer in (b"-ERR you said s3cret\r\n", b"-S3CRET s3cret\r\n", b"+s3cret\r\n", b"-NOPERM s3cret\r\n"):
        async with lying_server(answer) as url:
            message = await refusal(link_to(url.replace("//", "//:s3cret@"), patience_s=0.1))
            assert "s3cret" not in message.lower()


async def test_a_read_only_replica_is_named() -> None:
    with redis_server() as server:
        server.admin.replicaof("127.0.0.1", "1")
        link = link_to(server.url)
        with pytest.raises(LinkError, match="read-only replica"):
            await settle_nothing(link)


async def test_a_server_that_forbids_scripts_is_named() -> None:
    refused = pytest.raises(LinkError, match="whether it allows scripts")
    with redis_server("--rename-command", "EVALSHA", "") as server, refused:
        await settle_nothing(link_to(server.url))
    with redis_server() as server:
        server.admin.acl_setuser(
            "default", nopass=True, enabled=True, commands=["+@all", "-evalsha", "-eval"]
        )
        with pytest.raises(LinkError, match="allow them in its ACL"):
            await settle_nothing(link_to(server.url))


async def test_a_host_that_does_not_exist_is_an_error() -> None:
    message = await refusal(link_to("redis://joe:s3cret@host.invalid", patience_s=4.0))
    assert message.startswith("host.invalid:6379 cannot be reached")
    assert "s3cret" not in message and "joe" not in message


@pytest.mark.parametrize("url", ["s3cret", "http://:s3cret@x", "redis://:s3/cret@x", "redis://x?s3cret=1"])
async def test_what_is_no_url_of_redis_is_an_error_and_not_shown(url: str) -> None:
    assert "s3" not in await refusal(link_to(url))


async def test_tls_to_a_server_without_it_is_an_error() -> None:
    with redis_server() as server:
        message = await refusal(link_to(server.url.replace("redis://", "rediss://"), patience_s=0.5))
        assert message
